"""The interface of controls, which map driving clips to a `Signal` for the generator."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Self

from diffusers.configuration_utils import ConfigMixin
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor

from opendimo.model.batch import Driving
from opendimo.model.encoder.config import EncoderConfig
from opendimo.model.signal import Grid, Signal


@dataclass(frozen=True)
class Shapes:
    """Dimensions a control is built for.

    `encoder`: the motion encoder's config; `encoder.dim` is the width of motion tokens even for controls without an
    encoder. `width`, `blocks`: width of the generator's video tokens, number of its blocks. `temporal_stride`: frames
    per latent frame. Defaults are those of Wan2.2-TI2V-5B.
    """

    encoder: EncoderConfig
    width: int
    temporal_stride: int = 4
    blocks: int = 30


class Control(ModelMixin, ConfigMixin):  # type: ignore[misc]  # as all models of diffusers
    """Base class of controls, a diffusers model (config.json, safetensors).

    The signal of a new control must not change the generator's output.
    """

    _supports_gradient_checkpointing = True
    reads_poses: ClassVar[bool]
    """Whether the control reads the driver's pose labels rather than pixels; it then cannot use unlabelled pairs."""
    sends_motion: ClassVar[bool]
    """Whether `Signal.motion` is set, so that the generator needs motion cross-attention."""
    has_features: ClassVar[bool]
    """Whether `Signal.features` is set, the input of the geometry head."""
    whole_windows: ClassVar[bool] = False
    """Whether the control needs all frames of a window, not any of them."""
    draws: ClassVar[bool] = False
    """Whether the control draws poses, so that its number of operations depends on the data."""
    sees_cameras: ClassVar[bool] = False
    """Whether the control reads the target's camera; it then cannot use pairs of views whose cameras are unknown."""

    @classmethod
    @abstractmethod
    def fresh(cls, shapes: Shapes) -> Self:
        """Return a new control with random weights."""

    @abstractmethod
    def forward(self, driving: Driving, present: Tensor, grid: Grid) -> Signal:
        """Return the signal of driving clips for video tokens with the layout `grid`.

        `present` [B] bool: False for samples whose motion is dropped (classifier-free guidance).
        """
