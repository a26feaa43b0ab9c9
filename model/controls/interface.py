"""The interface of controls: driving clips in, a `Signal` for the generator out."""

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
    """What a control is built for: the encoder, if it has one (`encoder.dim` is that of motion tokens in any case), the
    width of the generator's video tokens, and how many frames a latent frame stands for."""

    encoder: EncoderConfig
    width: int
    temporal_stride: int = 4


class Control(ModelMixin, ConfigMixin):  # type: ignore[misc]  # as all models of diffusers
    """A diffusers model (config.json, safetensors). At the first step its signal must change nothing."""

    _supports_gradient_checkpointing = True
    reads_poses: ClassVar[bool]
    """Whether it reads pose labels of the driver (and so cannot use a pair without) rather than the pixels."""
    sends_motion: ClassVar[bool]
    """Whether `Signal.motion` is there, so that the generator needs cross-attentions to hear it."""
    has_features: ClassVar[bool]
    """Whether `Signal.features` are there for the geometry head to read."""
    draws: ClassVar[bool] = False
    """Whether it draws poses, which takes as many operations as there is to draw."""

    @classmethod
    @abstractmethod
    def fresh(cls, shapes: Shapes) -> Self:
        """A new one with random weights."""

    @abstractmethod
    def forward(self, driving: Driving, present: Tensor, grid: Grid) -> Signal:
        """The signal of driving clips for video tokens laid out as `grid`. `present` [B] bool: False where the sample
        learns, or is asked, to do without motion."""
