"""The arms of the miniature: each a training run of the product, with one thing changed, on one release and base."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from opendimo.model.config import DiMoConfig
from opendimo.model.encoder.config import AugmentConfig
from opendimo.training.config import FollowPolicy, TrainConfig
from opendimo.training.miniature.lake import WorldConfig
from opendimo.training.stages import Schedule, StageConfig
from opendimo.training.variants import with_variant

Arm = Callable[[TrainConfig], TrainConfig]


class Size:
    """How large a miniature is: takes of the world, encoder's steps, steps in all, samples of a batch."""

    def __init__(self, takes: int, encoder_steps: int, steps: int, batch: int, pairs: int) -> None:
        self.world = WorldConfig(takes)
        self.encoder_steps, self.steps, self.batch, self.pairs = encoder_steps, steps, batch, pairs


SIZES = {
    "smoke": Size(takes=150, encoder_steps=400, steps=500, batch=16, pairs=32),
    "cpu": Size(takes=1200, encoder_steps=900, steps=3900, batch=16, pairs=64),
    "gpu": Size(takes=6000, encoder_steps=3000, steps=24_000, batch=64, pairs=192),
}


def _only_kinds(*mix: tuple[str, float]) -> Arm:
    """All steps with one mix of kinds."""

    def changed(config: TrainConfig) -> TrainConfig:
        lr = config.schedule.stages[0].lr
        stage = StageConfig("only", config.schedule.steps, mix, lr)
        hold, end = config.schedule.hold_steps, config.schedule.geometry_steps
        return replace(config, schedule=replace(config.schedule, stages=(stage,), geometry_hold=hold, geometry_end=end))

    return changed


def _without_stage_3(config: TrainConfig) -> TrainConfig:
    """Stage 2 goes on in the place of stage 3."""
    first, second, third = config.schedule.stages
    longer = replace(second, steps=second.steps + third.steps)
    hold, end = config.schedule.hold_steps, config.schedule.geometry_steps
    return replace(
        config, schedule=replace(config.schedule, stages=(first, longer), geometry_hold=hold, geometry_end=end)
    )


def _without_motion(config: TrainConfig) -> TrainConfig:
    config = with_variant(config, "no_geometry")
    return replace(config, schedule=replace(config.schedule, motion_dropout=1.0))


ARMS: dict[str, Arm] = {
    "full": lambda config: config,
    "same_view_only": _only_kinds(("same_view", 1.0)),
    "stages12": _without_stage_3,
    "no_geometry": lambda config: with_variant(config, "no_geometry"),
    "no_hands": lambda config: with_variant(config, "no_hands"),
    "channel_concat": lambda config: with_variant(config, "channel_concat"),
    "smpl_tokens": lambda config: with_variant(config, "smpl_ctrl"),
    "pose2d": lambda config: with_variant(config, "pose2d"),
    "no_motion": _without_motion,
}
"""`smpl_tokens` are given the true poses: an upper reference; `no_motion` has no driver: the lower one."""
CLAIMS = ("full", "same_view_only", "no_geometry", "channel_concat")
"""The arms that carry the paper's claims, trained with several seeds."""


def arm_config(base: Path, size: Size, arm: str, seed: int) -> TrainConfig:
    """Return the training run of an arm. Raises `ValueError` for an unknown one."""
    if arm not in ARMS:
        raise ValueError(f"no arm {arm!r}: there are {', '.join(ARMS)}")
    return replace(ARMS[arm](full(base, size)), variant=arm, seed=seed)


def full(base: Path, size: Size) -> TrainConfig:
    """The training run of the whole method; the arms change one thing in it."""
    joint = size.steps - size.encoder_steps
    single, mixed = size.encoder_steps + round(0.25 * joint), round(0.5 * joint)
    lr = 1e-2
    schedule = Schedule(
        stages=(
            StageConfig("single_view", single, (("same_view", 1.0),), lr),
            StageConfig("mixed_view", mixed, (("same_view", 0.5), ("cross_view", 0.5)), lr),
            StageConfig("multi_view", size.steps - single - mixed, (("cross_view", 0.5), ("moving_camera", 0.5)), lr),
        ),
        encoder_steps=size.encoder_steps,
        reading_steps=round(0.65 * joint),
        warmup=min(50, size.steps // 20),
        final_lr=0.02,
        encoder_lr_alone=0.4,
        encoder_lr=0.1,
        geometry_hold=size.encoder_steps + round(0.8 * joint),
        geometry_end=size.encoder_steps + round(0.92 * joint),
    )
    return TrainConfig(
        preset="miniature",
        base=str(base),
        model=replace(DiMoConfig.tiny(), augment=AugmentConfig(perspective=0.0, jitter=0.0)),
        schedule=schedule,
        batch_size=size.batch,
        shift=None,
        checkpoint_every=size.encoder_steps,
        follow=FollowPolicy(every=max(200, size.steps // 5), pairs=size.pairs, from_step=size.steps),
        optimizer="muon",
        betas=(0.9, 0.98),
        reference_share=1.0,
    )
