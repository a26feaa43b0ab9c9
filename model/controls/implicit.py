"""3DiMo: implicit motion tokens of body and hands, encoded from pixels and injected through cross-attention."""

from dataclasses import asdict
from typing import Self

from diffusers.configuration_utils import register_to_config
from diffusers.models.modeling_utils import ModelMixin  # noqa: F401  # pipelines look it up in this module
from torch import Tensor

from opendimo.model.batch import Driving
from opendimo.model.controls.interface import Control, Shapes
from opendimo.model.encoder.config import EncoderConfig
from opendimo.model.encoder.tokens import MotionEncoder
from opendimo.model.signal import Grid, MotionTokens, Signal


class ImplicitControl(Control):
    """The motion encoder of 3DiMo, section 3.2, as a control."""

    reads_poses = False
    sends_motion = True
    has_features = True

    @register_to_config
    def __init__(self, encoder: dict[str, int | bool]) -> None:
        super().__init__()
        self.motion_encoder = MotionEncoder(EncoderConfig(**encoder))  # type: ignore[arg-type]

    @classmethod
    def fresh(cls, shapes: Shapes) -> Self:
        """Return a new control with random weights."""
        return cls(asdict(shapes.encoder))

    def forward(self, driving: Driving, present: Tensor, grid: Grid) -> Signal:
        """Return motion tokens [B, T, N, d] of every driving frame."""
        tokens = self.motion_encoder(driving.body, driving.hands, driving.hand_ok)
        return Signal(motion=MotionTokens(tokens, present), features=tokens)
