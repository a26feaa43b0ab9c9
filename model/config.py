"""What 3DiMo is, apart from its base model. Without torch, so that who only starts a training starts at once."""

from dataclasses import dataclass, field
from typing import Any, Literal, Self

from opendimo.model.encoder.config import ENCODERS, AugmentConfig, EncoderConfig

Attention = Literal["aligned", "global"]
"""Which motion a latent frame may see: that of the frames that it stands for, or all of it."""
Reference = Literal["prefix", "first_frame"]
"""How the reference image enters: as an extra clean latent frame in front that gets no motion and is dropped from the
output, so that it may show any pose; or as latent frame 0 in the base model's own way, closest to its weights."""


@dataclass(frozen=True)
class DiMoConfig:
    """What the base model does not decide. `control`: one of `model.controls.CONTROLS`. `geometry`: train the scaffold
    that reads poses off the motion tokens, where the control has any. `text_length`: tokens up to which Wan pads
    shorter texts with zeros, as it was trained."""

    control: str = "implicit"
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    motion_attention: Attention = "aligned"
    reference: Reference = "prefix"
    geometry: bool = True
    geometry_width: int = 1024
    text_length: int = 512

    @classmethod
    def tiny(cls) -> Self:
        """For tests and demos on a CPU, with the bases of `model/tiny`."""
        return cls(encoder=ENCODERS["tiny"], geometry_width=128, text_length=64)

    @classmethod
    def of(cls, values: dict[str, Any]) -> Self:
        """From `asdict`."""
        nested = {"encoder": EncoderConfig(**values["encoder"]), "augment": AugmentConfig(**values["augment"])}
        return cls(**values | nested)
