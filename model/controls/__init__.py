"""Controls of the generator: 3DiMo's implicit motion, its ablations and its baselines, one file each, one interface."""

from opendimo.model.controls.channel_concat import ChannelConcatControl
from opendimo.model.controls.hvg import HVG2DControl, HVGPoseControl
from opendimo.model.controls.implicit import ImplicitControl
from opendimo.model.controls.interface import Control
from opendimo.model.controls.mimicmotion import MimicMotionControl
from opendimo.model.controls.pose2d import Pose2DControl
from opendimo.model.controls.smpl_render import SMPLRenderControl
from opendimo.model.controls.smpl_tokens import SMPLTokensControl
from opendimo.model.controls.smpl_vq import SMPLVQControl

CONTROLS: dict[str, type[Control]] = {
    "implicit": ImplicitControl,
    "smpl_tokens": SMPLTokensControl,
    "channel_concat": ChannelConcatControl,
    "pose2d": Pose2DControl,
    "mimicmotion": MimicMotionControl,
    "smpl_render": SMPLRenderControl,
    "smpl_vq": SMPLVQControl,
    "hvg_pose": HVGPoseControl,
    "hvg_2d": HVG2DControl,
}
"""Control classes by the name used in configs."""


def control_class(name: str) -> type[Control]:
    """Return a control class by its name. Raises `ValueError` if the name is unknown."""
    if name not in CONTROLS:
        raise ValueError(f"unknown control {name!r}; choose one of {', '.join(CONTROLS)}")
    return CONTROLS[name]
