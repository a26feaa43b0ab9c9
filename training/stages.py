"""The schedule: which pairs, losses and rates hold at a step. A pure function of the step, so it resumes for free.

3DiMo, section 3.4: stage 1 learns self-reconstruction from single views, stage 2 adds cross-view reproduction in equal
parts, stage 3 is multi-view and moving-camera only; the geometric loss is annealed to zero in early stage 2.
"""

from dataclasses import dataclass, replace
from typing import Self

ALL_SOURCES = ("internet", "unreal", "multiview")


@dataclass(frozen=True)
class StageConfig:
    """One stage: optimizer steps, shares of the kinds of pairs (summing to 1), sources, learning rate.

    `source_shares`: of the sources within each kind of pair; (): in proportion to their numbers of target windows."""

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
    """All stages. The geometry weight falls linearly from `geometry_weight` at step 0 to 0 at step `geometry_end`,
    None: a third into stage 2 [ours, as are the dropouts]."""

    stages: tuple[StageConfig, ...]
    geometry_weight: float = 0.1
    text_dropout: float = 0.1
    motion_dropout: float = 0.1
    geometry_end: float | None = None

    @property
    def stage_steps(self) -> tuple[int, ...]:
        """Optimizer steps of each stage."""
        return tuple(stage.steps for stage in self.stages)

    @property
    def steps(self) -> int:
        """Optimizer steps of all stages together."""
        return sum(self.stage_steps)

    def in_steps(self, steps: int) -> Self:
        """The same stages in the same proportions, in about so many steps."""
        share = steps / self.steps
        stages = tuple(replace(s, steps=max(1, round(share * s.steps))) for s in self.stages)
        end = None if self.geometry_end is None else share * self.geometry_end
        return replace(self, stages=stages, geometry_end=end)

    def first(self, count: int) -> Self:
        """The first stages alone, every step of them as it was: the geometry weight falls as fast."""
        return replace(self, stages=self.stages[:count], geometry_end=self.geometry_steps)

    @property
    def geometry_steps(self) -> float:
        """The step from which the geometry weight is 0."""
        if self.geometry_end is not None:
            return self.geometry_end
        return self.stages[0].steps + (self.stages[1].steps / 3 if len(self.stages) > 1 else 0)


@dataclass(frozen=True)
class StagePoint:
    """What holds at one step: `index` of the stage (from 1), its span [start, end) in steps, and the rest."""

    index: int
    name: str
    start: int
    end: int
    mix: dict[str, float]
    sources: tuple[str, ...]
    geometry_weight: float
    lr: float
    text_dropout: float
    motion_dropout: float
    source_shares: tuple[tuple[str, float], ...] = ()


def stage_at(step: int, schedule: Schedule) -> StagePoint:
    """What holds at `step` (0-based). Raises `ValueError` outside [0, schedule.steps)."""
    start = 0
    for index, stage in enumerate(schedule.stages, start=1):
        if start <= step < start + stage.steps:
            return StagePoint(
                index,
                stage.name,
                start,
                start + stage.steps,
                dict(stage.mix),
                stage.sources,
                schedule.geometry_weight * max(0.0, 1 - step / schedule.geometry_steps),
                stage.lr,
                schedule.text_dropout,
                schedule.motion_dropout,
                stage.source_shares,
            )
        start += stage.steps
    raise ValueError(f"step {step} is outside the schedule's {schedule.steps} steps")


def three_stages(steps: tuple[int, int, int], lr: float) -> Schedule:
    """The three stages of the paper with these numbers of steps."""
    return Schedule(
        (
            StageConfig("single_view", steps[0], (("same_view", 1.0),), lr),
            StageConfig("mixed_view", steps[1], (("same_view", 0.5), ("cross_view", 0.5)), lr),
            StageConfig(
                "multi_view", steps[2], (("cross_view", 0.5), ("moving_camera", 0.5)), lr, ("unreal", "multiview")
            ),
        )
    )
