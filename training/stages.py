"""The schedule: which pairs, rates and weights hold at a step. A pure function of the step, so it resumes for free.

3DiMo, section 3.4: stage 1 learns self-reconstruction from single views, stage 2 adds cross-view reproduction in equal
parts, stage 3 is multi-view and moving-camera only; the geometric loss is annealed to zero in early stage 2.
"""

import math
from dataclasses import dataclass, replace
from typing import Self

ALL_SOURCES = ("internet", "unreal", "multiview")


@dataclass(frozen=True)
class StageConfig:
    """One stage: optimizer steps, shares of the kinds of pairs (summing to 1), sources, learning rate.

    `source_shares`: (source, share) of the draws of a kind; empty: by their numbers of target windows.
    """

    name: str
    steps: int
    mix: tuple[tuple[str, float], ...]
    lr: float
    sources: tuple[str, ...] = ALL_SOURCES
    source_shares: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        if self.steps < 1 or abs(sum(share for _, share in self.mix) - 1) > 1e-6:
            raise ValueError(f"stage {self.name}: steps must be positive and the shares of `mix` must sum to 1")


@dataclass(frozen=True)
class Schedule:
    """All stages, and what changes within them. Fields in steps are fractional where a schedule was rescaled.

    `encoder_steps`: the first steps, in which the motion encoder and the geometry head alone are trained on poses; the
    generator waits until motion tokens mean something.
    `warmup`: steps over which the learning rate rises, at the start and again when the generator joins in.
    `final_lr`: share of the learning rate at the last step, reached along a cosine; 1 keeps it constant.
    `motion_lr`: learning rate of the generator's new modules, which read motion tokens, over that of the stage.
    `encoder_lr_alone`, `encoder_lr`: learning rate of control and geometry head over that of the stage, in those first
    steps and afterwards.
    `reading_steps`: the steps after those, in which motion tokens stay as they are and the generator learns to read
    them; then all is trained jointly.
    `geometry_weight`: held until step `geometry_hold` (None: the end of stage 1), then falls linearly to 0 at step
    `geometry_end` (None: a third into stage 2).
    `perspective_start`, `perspective_full`: steps between which perspective augmentation grows from none to all of its
    strength; equal: all of it from that step on.
    `text_dropout`, `motion_dropout`: shares of samples without, for classifier-free guidance.
    """

    stages: tuple[StageConfig, ...]
    encoder_steps: float = 0.0
    reading_steps: float = 0.0
    warmup: float = 0.0
    final_lr: float = 1.0
    motion_lr: float = 1.0
    encoder_lr_alone: float = 1.0
    encoder_lr: float = 1.0
    geometry_weight: float = 1.0
    geometry_hold: float | None = None
    geometry_end: float | None = None
    perspective_start: float = 0.0
    perspective_full: float = 0.0
    text_dropout: float = 0.1
    motion_dropout: float = 0.1

    @property
    def stage_steps(self) -> tuple[int, ...]:
        """Optimizer steps of each stage."""
        return tuple(stage.steps for stage in self.stages)

    @property
    def steps(self) -> int:
        """Optimizer steps of all stages together."""
        return sum(self.stage_steps)

    @property
    def hold_steps(self) -> float:
        """The step until which the geometry weight is held."""
        return self.stages[0].steps if self.geometry_hold is None else self.geometry_hold

    @property
    def geometry_steps(self) -> float:
        """The step from which the geometry weight is 0."""
        if self.geometry_end is not None:
            return self.geometry_end
        return self.stages[0].steps + (self.stages[1].steps / 3 if len(self.stages) > 1 else 0)

    def in_steps(self, steps: int) -> Self:
        """Return the same stages in the same proportions, in about so many steps."""
        share = steps / self.steps
        stages = tuple(replace(s, steps=max(1, round(share * s.steps))) for s in self.stages)

        def scaled(value: float | None) -> float | None:
            return None if value is None else share * value

        return replace(
            self,
            stages=stages,
            encoder_steps=share * self.encoder_steps,
            reading_steps=share * self.reading_steps,
            warmup=share * self.warmup,
            geometry_hold=scaled(self.geometry_hold),
            geometry_end=scaled(self.geometry_end),
            perspective_start=share * self.perspective_start,
            perspective_full=share * self.perspective_full,
        )

    def first(self, count: int) -> Self:
        """Return the first stages alone; the geometry weight falls at the same steps."""
        return replace(
            self,
            stages=self.stages[:count],
            geometry_hold=self.hold_steps,
            geometry_end=self.geometry_steps,
        )

    def without_geometry(self) -> Self:
        """Return the same without a geometric loss: the generator trains from the first step on."""
        return replace(self, encoder_steps=0.0, reading_steps=0.0, geometry_weight=0.0)


@dataclass(frozen=True)
class StagePoint:
    """What holds at one step: `index` of the stage (from 1), its span [start, end) in steps, and the rest.

    `trains_generator`: False while encoder and geometry head are trained alone; `trains_encoder`: False where the
    encoder's tokens are read as they are. `perspective`: share of the strength of
    perspective augmentation.
    """

    index: int
    name: str
    start: int
    end: int
    mix: dict[str, float]
    sources: tuple[str, ...]
    source_shares: tuple[tuple[str, float], ...]
    trains_generator: bool
    trains_encoder: bool
    lr: float
    motion_lr: float
    encoder_lr: float
    geometry_weight: float
    perspective: float
    text_dropout: float
    motion_dropout: float


def stage_at(step: int, schedule: Schedule) -> StagePoint:
    """Return what holds at `step` (0-based). Raises `ValueError` outside [0, schedule.steps)."""
    start = 0
    for index, stage in enumerate(schedule.stages, start=1):
        if start <= step < start + stage.steps:
            joint = step >= schedule.encoder_steps
            trains_encoder = not joint or step >= schedule.encoder_steps + schedule.reading_steps
            scaffold = _falling(step, schedule.hold_steps, schedule.geometry_steps) if trains_encoder else 0.0
            lr = stage.lr * _pace(step, schedule)
            return StagePoint(
                index=index,
                name=stage.name,
                start=start,
                end=start + stage.steps,
                mix=dict(stage.mix),
                sources=stage.sources,
                source_shares=stage.source_shares,
                trains_generator=joint,
                trains_encoder=trains_encoder,
                lr=lr,
                motion_lr=lr * schedule.motion_lr,
                encoder_lr=lr * (schedule.encoder_lr if joint else schedule.encoder_lr_alone),
                geometry_weight=schedule.geometry_weight * scaffold,
                perspective=1 - _falling(step, schedule.perspective_start, schedule.perspective_full),
                text_dropout=schedule.text_dropout,
                motion_dropout=schedule.motion_dropout,
            )
        start += stage.steps
    raise ValueError(f"step {step} is outside the schedule's {schedule.steps} steps")


def _pace(step: int, schedule: Schedule) -> float:
    """Share of the learning rate: a warm-up and a cosine for the encoder's own steps, and the same for the others."""
    own = step < schedule.encoder_steps
    start, stop = (0.0, schedule.encoder_steps) if own else (schedule.encoder_steps, float(schedule.steps))
    rising = min(1.0, (step + 1 - start) / schedule.warmup) if schedule.warmup > 0 else 1.0
    cosine = 0.5 + 0.5 * math.cos(math.pi * (step - start) / (stop - start))
    return rising * (schedule.final_lr + (1 - schedule.final_lr) * cosine)


def _falling(step: int, hold: float, end: float) -> float:
    """1 until `hold`, then linearly to 0 at `end`."""
    if step >= end:
        return 0.0
    return 1.0 if step <= hold else (end - step) / (end - hold)


def three_stages(steps: tuple[int, int, int], lr: float) -> Schedule:
    """Return the three stages of the paper with these numbers of steps."""
    return Schedule(
        (
            StageConfig("single_view", steps[0], (("same_view", 1.0),), lr),
            StageConfig("mixed_view", steps[1], (("same_view", 0.5), ("cross_view", 0.5)), lr),
            StageConfig(
                "multi_view", steps[2], (("cross_view", 0.5), ("moving_camera", 0.5)), lr, ("unreal", "multiview")
            ),
        )
    )
