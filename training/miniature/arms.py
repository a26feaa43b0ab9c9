"""Configure the arms of the miniature: training runs on one release and base model that differ in one setting."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from opendimo.model.config import DiMoConfig
from opendimo.model.encoder.config import AugmentConfig
from opendimo.training.config import FollowPolicy, TrainConfig
from opendimo.training.schedule import Schedule, StageConfig
from opendimo.training.variants import with_variant

Arm = Callable[[TrainConfig], TrainConfig]


@dataclass(frozen=True)
class Size:
    """Size of a miniature.

    The gate is a check before the arms: trained on poses alone for `gate_steps` steps, encoder and geometry head must
    predict held-out joints with an R2 of at least `gate_r2`.
    """

    takes: int
    gate_steps: int
    gate_r2: float
    encoder_steps: int  # encoder-only steps
    generator_steps: int
    batch: int  # batch size
    pairs: int  # pairs of a driver check


SIZES = {
    "smoke": Size(takes=150, gate_steps=400, gate_r2=0.1, encoder_steps=400, generator_steps=100, batch=16, pairs=32),
    "cpu": Size(takes=1200, gate_steps=900, gate_r2=0.6, encoder_steps=2400, generator_steps=3000, batch=16, pairs=64),
    "gpu": Size(
        takes=6000, gate_steps=3000, gate_r2=0.6, encoder_steps=3000, generator_steps=21_000, batch=64, pairs=192
    ),
}


def _only_kinds(*mix: tuple[str, float]) -> Arm:
    """Train all steps on one mix of kinds of pairs."""

    def changed(config: TrainConfig) -> TrainConfig:
        lr = config.schedule.stages[0].lr
        stage = StageConfig("only", config.schedule.steps, mix, lr)
        hold, end = config.schedule.hold_steps, config.schedule.geometry_steps
        return replace(config, schedule=replace(config.schedule, stages=(stage,), geometry_hold=hold, geometry_end=end))

    return changed


def _without_stage_3(config: TrainConfig) -> TrainConfig:
    """Replace stage 3 with further steps of stage 2."""
    first, second, third = config.schedule.stages
    longer = replace(second, steps=second.steps + third.steps)
    hold, end = config.schedule.hold_steps, config.schedule.geometry_steps
    return replace(
        config, schedule=replace(config.schedule, stages=(first, longer), geometry_hold=hold, geometry_end=end)
    )


def _without_encoder_steps(variant: str) -> Arm:
    """Select a variant and remove the encoder-only steps: it has no encoder that could learn poses first."""

    def changed(config: TrainConfig) -> TrainConfig:
        first, *others = config.schedule.stages
        first = replace(first, steps=first.steps - round(config.schedule.encoder_steps))
        schedule = replace(config.schedule, stages=(first, *others), encoder_steps=0.0, reading_steps=0.0)
        return with_variant(replace(config, schedule=schedule), variant)

    return changed


def _without_motion(config: TrainConfig) -> TrainConfig:
    """Always drop the motion."""
    config = _without_encoder_steps("full")(config)
    schedule = replace(config.schedule, geometry_weight=0.0, motion_dropout=1.0)
    return replace(config, model=replace(config.model, geometry=False), schedule=schedule)


ARMS: dict[str, Arm] = {
    "full": lambda config: config,
    "same_view_only": _only_kinds(("same_view", 1.0)),
    "stages12": _without_stage_3,
    "no_geometry": _without_encoder_steps("no_geometry"),
    "no_hands": lambda config: with_variant(config, "no_hands"),
    "channel_concat": lambda config: with_variant(config, "channel_concat"),
    "smpl_tokens": _without_encoder_steps("smpl_ctrl"),
    "pose2d": _without_encoder_steps("pose2d"),
    "no_motion": _without_motion,
}
"""`smpl_tokens` reads the true poses and is an upper bound; `no_motion` has no driver and is a lower bound."""
CLAIMS = ("full", "same_view_only", "no_geometry", "channel_concat")
"""Arms that test the claims of the paper."""


def arm_config(base: Path, size: Size, arm: str, seed: int) -> TrainConfig:
    """Return the training configuration of an arm. Raises `ValueError` for an unknown arm."""
    if arm not in ARMS:
        raise ValueError(f"no arm {arm!r}: choose one of {', '.join(ARMS)}")
    return replace(ARMS[arm](full(base, size)), variant=arm, seed=seed)


def full(base: Path, size: Size) -> TrainConfig:
    """Return the training configuration of the complete method, which the arms change in one setting."""
    encoder, generator = size.encoder_steps, size.generator_steps
    single, mixed = round(0.25 * generator), round(0.5 * generator)
    lr = 1e-2
    schedule = Schedule(
        stages=(
            StageConfig("single_view", encoder + single, (("same_view", 1.0),), lr),
            StageConfig("mixed_view", mixed, (("same_view", 0.5), ("cross_view", 0.5)), lr),
            StageConfig("multi_view", generator - single - mixed, (("cross_view", 0.5), ("moving_camera", 0.5)), lr),
        ),
        encoder_steps=encoder,
        reading_steps=round(0.7 * generator),
        warmup=min(50, generator // 4),
        final_lr=0.02,
        encoder_lr_alone=0.4,
        encoder_lr=0.1,
        hand_dropout=0.0,  # drivers of held-out pairs have all hands as well
        geometry_hold=encoder + round(0.8 * generator),
        geometry_end=encoder + round(0.92 * generator),
    )
    return TrainConfig(
        preset="miniature",
        base=str(base),
        model=replace(DiMoConfig.tiny(), augment=AugmentConfig(perspective=0.0, jitter=0.0)),
        schedule=schedule,
        batch_size=size.batch,
        shift=None,
        checkpoint_every=size.gate_steps,
        follow=FollowPolicy(every=max(200, generator // 4), pairs=size.pairs, from_step=encoder + generator),
        optimizer="muon",
        betas=(0.9, 0.98),
        reference_share=1.0,
    )
