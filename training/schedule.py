"""The training schedule: pairs, learning rates and loss weights as a pure function of the step.

So resuming needs no schedule state. Stages follow 3DiMo, section 3.4: stage 1 learns self-reconstruction from single
views, stage 2 adds cross-view reproduction in equal parts, stage 3 uses only multi-view and moving-camera pairs; the
geometric loss is annealed to zero early in stage 2.
"""

import math
from dataclasses import dataclass, fields, replace
from typing import Self

ALL_SOURCES = ("internet", "unreal", "multiview")


@dataclass(frozen=True)
class StageConfig:
    """One training stage. Raises `ValueError` for a value outside its range, or if the shares of `mix` do not sum to 1.

    `mix`: (kind of pair, share of the samples). `sources`: kinds of sources to draw from. `lr`: learning rate.
    `source_shares`: (source, share) within each kind of pair; empty: in proportion to the target windows of each.
    `views`: samples in a row that show one moment from different cameras (HVG); `mix` is that of their first ones.
    """

    name: str
    steps: int
    mix: tuple[tuple[str, float], ...]
    lr: float
    sources: tuple[str, ...] = ALL_SOURCES
    source_shares: tuple[tuple[str, float], ...] = ()
    views: int = 1

    def __post_init__(self) -> None:
        if self.steps < 1 or self.lr < 0 or self.views < 1:
            raise ValueError(f"stage {self.name}: steps and views must be 1 or more, and lr 0 or more")
        for name, shares in (("mix", self.mix), ("source_shares", self.source_shares)):
            if any(share < 0 for _, share in shares):
                raise ValueError(f"stage {self.name}: the shares of {name} must be 0 or more")
        if abs(sum(share for _, share in self.mix) - 1) > 1e-6:
            raise ValueError(f"stage {self.name}: the shares of mix must sum to 1")


@dataclass(frozen=True)
class Schedule:
    """All stages, and what changes within them. Fields that count steps are fractional after rescaling.

    Raises `ValueError` if there is no stage, a number is negative, or a dropout is above 1.

    `encoder_steps`: initial steps that train only the motion encoder and the geometry head, on pose labels, so that
    the motion tokens are informative before the generator reads them.
    `reading_steps`: steps after those, with the motion encoder frozen while the generator learns to read its tokens;
    after them all parts are trained jointly.
    `warmup`: steps of linear learning rate warm-up, at step 0 and again when the generator starts training.
    `final_lr`: learning rate at the last step as a share of the initial one, reached by cosine decay; 1: constant.
    `motion_lr`: learning rate of the added motion modules of the generator, relative to that of the stage.
    `encoder_lr_alone`, `encoder_lr`: learning rate of control and geometry head relative to that of the stage, during
    `encoder_steps` and afterwards.
    `geometry_weight`: weight of the geometric loss, constant until step `geometry_hold` (None: the end of stage 1),
    then decreasing linearly to 0 at step `geometry_end` (None: a third into stage 2).
    `perspective_start`, `perspective_full`: steps between which the strength of perspective augmentation grows
    linearly from 0 to full; equal values: full strength from that step on.
    `text_dropout`, `motion_dropout`: shares of samples without text or motion, for classifier-free guidance.
    `hand_dropout`: share of samples that lose a random share of their visible hands, because renders label every hand,
    and inference detects few.
    `view_dropout`: share of the batches of several views in which these do not attend to each other, so that the model
    can also generate a single view.
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
    hand_dropout: float = 0.5
    view_dropout: float = 0.2

    def __post_init__(self) -> None:
        if not self.stages:
            raise ValueError("the schedule has no stages")
        numbers = [f.name for f in fields(self) if f.name != "stages" and (getattr(self, f.name) or 0) < 0]
        if numbers:
            raise ValueError(f"the schedule's {', '.join(numbers)} must be 0 or more")
        if max(self.text_dropout, self.motion_dropout, self.hand_dropout, self.view_dropout) > 1:
            raise ValueError("text_dropout, motion_dropout, hand_dropout and view_dropout must be at most 1")

    @property
    def stage_steps(self) -> tuple[int, ...]:
        """Return the optimizer steps of each stage."""
        return tuple(stage.steps for stage in self.stages)

    @property
    def steps(self) -> int:
        """Return the optimizer steps of all stages together."""
        return sum(self.stage_steps)

    @property
    def hold_steps(self) -> float:
        """Return the step until which the geometry weight is constant."""
        return self.stages[0].steps if self.geometry_hold is None else self.geometry_hold

    @property
    def geometry_steps(self) -> float:
        """Return the step from which the geometry weight is 0."""
        if self.geometry_end is not None:
            return self.geometry_end
        return self.stages[0].steps + (self.stages[1].steps / 3 if len(self.stages) > 1 else 0)

    def in_steps(self, steps: int) -> Self:
        """Return the schedule rescaled to about `steps` steps, with the same proportions."""
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
        """Return the schedule of the first `count` stages; the geometry weight decreases at the same steps."""
        return replace(
            self,
            stages=self.stages[:count],
            geometry_hold=self.hold_steps,
            geometry_end=self.geometry_steps,
        )

    def without_geometry(self) -> Self:
        """Return the schedule without geometric loss; the generator then trains from step 0."""
        return replace(self, encoder_steps=0.0, reading_steps=0.0, geometry_weight=0.0)


@dataclass(frozen=True)
class StagePoint:
    """State of the schedule at one step.

    `index`: 1-based number of the stage, which spans steps [start, end). `trains_generator`: False while only encoder
    and geometry head are trained. `trains_encoder`: False while the encoder is frozen. `perspective`: strength of
    perspective augmentation, 0 to 1.
    """

    index: int
    name: str
    start: int
    end: int
    mix: dict[str, float]
    sources: tuple[str, ...]
    source_shares: tuple[tuple[str, float], ...]
    views: int
    trains_generator: bool
    trains_encoder: bool
    lr: float
    motion_lr: float
    encoder_lr: float
    geometry_weight: float
    perspective: float
    text_dropout: float
    motion_dropout: float
    hand_dropout: float
    view_dropout: float


def stage_at(step: int, schedule: Schedule) -> StagePoint:
    """Return the state of the schedule at `step` (0-based). Raises `ValueError` outside [0, schedule.steps)."""
    start = 0
    for index, stage in enumerate(schedule.stages, start=1):
        if start <= step < start + stage.steps:
            joint = step >= schedule.encoder_steps
            trains_encoder = not joint or step >= schedule.encoder_steps + schedule.reading_steps
            geometry_share = _decay(step, schedule.hold_steps, schedule.geometry_steps) if trains_encoder else 0.0
            lr = stage.lr * _lr_factor(step, schedule)
            return StagePoint(
                index=index,
                name=stage.name,
                start=start,
                end=start + stage.steps,
                mix=dict(stage.mix),
                sources=stage.sources,
                source_shares=stage.source_shares,
                views=stage.views,
                trains_generator=joint,
                trains_encoder=trains_encoder,
                lr=lr,
                motion_lr=lr * schedule.motion_lr,
                encoder_lr=lr * (schedule.encoder_lr if joint else schedule.encoder_lr_alone),
                geometry_weight=schedule.geometry_weight * geometry_share,
                perspective=1 - _decay(step, schedule.perspective_start, schedule.perspective_full),
                text_dropout=schedule.text_dropout,
                motion_dropout=schedule.motion_dropout,
                hand_dropout=schedule.hand_dropout,
                view_dropout=schedule.view_dropout,
            )
        start += stage.steps
    raise ValueError(f"step {step} is outside the schedule's {schedule.steps} steps")


def _lr_factor(step: int, schedule: Schedule) -> float:
    """Return the learning rate factor: warm-up and cosine decay, once over `encoder_steps` and once over the rest."""
    encoder_alone = step < schedule.encoder_steps
    start, stop = (0.0, schedule.encoder_steps) if encoder_alone else (schedule.encoder_steps, float(schedule.steps))
    warmup = min(1.0, (step + 1 - start) / schedule.warmup) if schedule.warmup > 0 else 1.0
    cosine = 0.5 + 0.5 * math.cos(math.pi * (step - start) / (stop - start))
    return warmup * (schedule.final_lr + (1 - schedule.final_lr) * cosine)


def _decay(step: int, hold: float, end: float) -> float:
    """Return 1 until step `hold`, then decrease linearly to 0 at step `end`."""
    if step >= end:
        return 0.0
    return 1.0 if step <= hold else (end - step) / (end - hold)


def three_stages(steps: tuple[int, int, int], lr: float) -> Schedule:
    """Return the three stages of the paper, with the given steps per stage and one learning rate."""
    return Schedule(
        (
            StageConfig("single_view", steps[0], (("same_view", 1.0),), lr),
            StageConfig("mixed_view", steps[1], (("same_view", 0.5), ("cross_view", 0.5)), lr),
            StageConfig(
                "multi_view", steps[2], (("cross_view", 0.5), ("moving_camera", 0.5)), lr, ("unreal", "multiview")
            ),
        )
    )
