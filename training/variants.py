"""Variants for the ablation and comparison tables: each changes one setting; data, base model and seeds are shared."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from opendimo.model.encoder.config import AugmentConfig
from opendimo.training.config import TrainConfig

Change = Callable[[TrainConfig], TrainConfig]


def _with_model(**changes: Any) -> Change:
    return lambda config: replace(config, model=replace(config.model, **changes))


def _first_stages(count: int) -> Change:
    return lambda config: replace(config, schedule=config.schedule.first(count))


def _without_geometry(config: TrainConfig) -> TrainConfig:
    config = replace(config, schedule=config.schedule.without_geometry())
    return _with_model(geometry=False)(config)


def _without_hands(config: TrainConfig) -> TrainConfig:
    return _with_model(encoder=replace(config.model.encoder, hands=False))(config)


def _in_views(count: int, **changes: Any) -> Change:
    """Train on groups of views from the second stage on."""

    def change(config: TrainConfig) -> TrainConfig:
        first, *others = config.schedule.stages
        stages = (first, *(replace(stage, views=count) for stage in others))
        at_once = config.micro_batch and max(1, config.micro_batch // count) * count
        config = replace(config, schedule=replace(config.schedule, stages=stages), micro_batch=at_once)
        return _with_model(**changes)(config)

    return change


def _without_augmentation(config: TrainConfig) -> TrainConfig:
    return _with_model(augment=AugmentConfig(perspective=0, jitter=0))(config)


VARIANTS: dict[str, Change] = {
    # the paper's ablation table
    "full": lambda config: config,
    "smpl_ctrl": _with_model(control="smpl_tokens"),
    "channel_concat": _with_model(control="channel_concat"),
    "no_geometry": _without_geometry,
    "no_hands": _without_hands,
    "stage1_only": _first_stages(1),
    "stages12": _first_stages(2),
    # the paper's comparison table
    "pose2d": _with_model(control="pose2d"),
    "mimicmotion": _with_model(control="mimicmotion"),
    "smpl_render": _with_model(control="smpl_render"),
    "smpl_vq": _with_model(control="smpl_vq"),
    # HVG: bone maps and attention across views; without that attention; bone maps alone; without their 3-D half
    "hvg": _in_views(2, control="hvg_pose", view_attention=True),
    "hvg_no_view": _in_views(2, control="hvg_pose"),
    "hvg_pose": _with_model(control="hvg_pose"),
    "hvg_2d": _with_model(control="hvg_2d"),
    # 3DiMo that also reads the target's camera
    "camera": _with_model(camera_rays=True),
    # choices that the paper leaves open
    "global_attention": _with_model(motion_attention="global"),
    "first_frame": _with_model(reference="first_frame"),
    "no_augmentation": _without_augmentation,
}
"""Change of each variant, by its name in `dimo train --variant`."""


def with_variant(config: TrainConfig, name: str) -> TrainConfig:
    """Return the config of variant `name`. Raises `ValueError` for an unknown name."""
    if name not in VARIANTS:
        raise ValueError(f"no variant {name!r}: choose one of {', '.join(VARIANTS)}")
    return replace(VARIANTS[name](config), variant=name)
