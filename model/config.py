"""Model configuration, apart from the base model. Does not import torch, so that commands start quickly."""

from dataclasses import dataclass, field
from typing import Any, Literal, Self

from opendimo.model.encoder.config import ENCODERS, AugmentConfig, EncoderConfig

Attention = Literal["aligned", "global"]
"""Which motion tokens a latent frame attends to: `aligned` = those of the frames it encodes, `global` = all."""
Reference = Literal["prefix", "first_frame"]
"""How the reference image is conditioned on. `prefix`: an extra clean latent frame is prepended, receives no motion and
is dropped from the output, so the reference may show any pose. `first_frame`: the reference is latent frame 0, as in
the base model's own image-to-video mode, which is closest to its pretraining."""


@dataclass(frozen=True)
class DiMoConfig:
    """Settings of a model that its base model does not determine.

    `control`: a name in `model.controls.CONTROLS`. `geometry`: train an auxiliary head that predicts poses from the
    motion tokens, if the control has any. `text_length`: number of tokens to which Wan pads shorter texts with zeros,
    as in its pretraining. `camera_rays`: the generator reads the target's camera, as rays added to its tokens.
    `view_attention`: views of one moment attend to each other, as in HVG.
    """

    control: str = "implicit"
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    motion_attention: Attention = "aligned"
    reference: Reference = "prefix"
    geometry: bool = True
    geometry_width: int = 1024
    text_length: int = 512
    camera_rays: bool = False
    view_attention: bool = False

    @property
    def sees_cameras(self) -> bool:
        """Whether the generator reads the target's camera."""
        return self.camera_rays or self.view_attention

    @classmethod
    def tiny(cls) -> Self:
        """Return a config for tests and demos on a CPU, for the base models of `model/tiny`."""
        return cls(encoder=ENCODERS["tiny"], geometry_width=128, text_length=64)

    @classmethod
    def of(cls, values: dict[str, Any]) -> Self:
        """Build a config from the output of `asdict`."""
        nested = {"encoder": EncoderConfig(**values["encoder"]), "augment": AugmentConfig(**values["augment"])}
        return cls(**values | nested)
