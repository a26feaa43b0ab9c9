"""3DiMo as one module for training: motion encoder, generator, geometry head (arXiv 2602.03796, section 3)."""

import json
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from model.augment import augment
from model.backbone import Reference, WanMotionTransformer3DModel
from model.batch import Batch, Prediction
from model.flow import TIMESTEPS, noisy, per_sample
from model.geometry import GeometryHead
from model.inject import Attention, MotionTokens
from model.tokens import MotionEncoder

__all__ = ["Batch", "DiMo", "DiMoConfig", "Prediction"]


@dataclass(frozen=True)
class DiMoConfig:
    """What the base model does not decide. The defaults are for Wan2.2-TI2V-5B; the paper gives the 5 tokens only."""

    body_size: int = 256
    hand_size: int = 128
    body_patch: int = 16
    hand_patch: int = 16
    encoder_width: int = 768
    encoder_depth: int = 12
    encoder_heads: int = 12
    body_tokens: int = 5
    hand_tokens: int = 5
    motion_dim: int = 768
    motion_attention: Attention = "aligned"
    reference: Reference = "prefix"
    text_length: int = 512
    geometry_width: int = 1024
    perspective: float = 0.3
    jitter: float = 0.3

    @classmethod
    def tiny(cls) -> Self:
        """For tests and demos on a CPU, with the base of `model/tiny.py`."""
        return cls(
            body_size=64,
            hand_size=32,
            body_patch=8,
            hand_patch=8,
            encoder_width=64,
            encoder_depth=2,
            encoder_heads=4,
            motion_dim=64,
            text_length=64,
            geometry_width=128,
        )


class DiMo(nn.Module):
    """The jointly trained model. `geometry` may be set to None once its loss is annealed to zero."""

    geometry: GeometryHead | None

    def __init__(
        self,
        config: DiMoConfig,
        transformer: WanMotionTransformer3DModel,
        motion_encoder: MotionEncoder,
        geometry: GeometryHead | None,
    ) -> None:
        super().__init__()
        self.config = config
        self.transformer = transformer
        self.motion_encoder = motion_encoder
        self.geometry = geometry

    @classmethod
    def from_base(cls, base_dir: Path, config: DiMoConfig) -> Self:
        """A pretrained generator (`base_dir/transformer`, diffusers layout) with a fresh encoder and silent motion."""
        transformer = WanMotionTransformer3DModel.from_base(
            Path(base_dir) / "transformer",
            motion_dim=config.motion_dim,
            motion_attention=config.motion_attention,
            reference=config.reference,
            text_length=config.text_length,
        )
        encoder = MotionEncoder(
            body_size=config.body_size,
            hand_size=config.hand_size,
            body_patch=config.body_patch,
            hand_patch=config.hand_patch,
            width=config.encoder_width,
            depth=config.encoder_depth,
            heads=config.encoder_heads,
            body_tokens=config.body_tokens,
            hand_tokens=config.hand_tokens,
            dim=config.motion_dim,
        )
        head = GeometryHead(config.body_tokens, config.hand_tokens, config.motion_dim, config.geometry_width)
        return cls(config, transformer, encoder, head).train()

    def save(self, directory: Path) -> None:
        """Writes `dimo.json` and a diffusers folder (config.json, safetensors) for each part."""
        directory = Path(directory)
        self.transformer.save_pretrained(directory / "transformer")
        self.motion_encoder.save_pretrained(directory / "motion_encoder")
        if self.geometry is not None:
            self.geometry.save_pretrained(directory / "geometry")
        parts = {"config": asdict(self.config), "geometry": self.geometry is not None}
        (directory / "dimo.json").write_text(json.dumps(parts, indent=2) + "\n")

    @classmethod
    def load(cls, directory: Path) -> Self:
        """What `save` wrote, in training mode; ValueError where there is nothing of the kind."""
        directory = Path(directory)
        if not (directory / "dimo.json").is_file():
            raise ValueError(f"{directory} holds no 3DiMo model: dimo.json is missing")
        parts = json.loads((directory / "dimo.json").read_text())
        return cls(
            DiMoConfig(**parts["config"]),
            WanMotionTransformer3DModel.from_pretrained(directory / "transformer"),
            MotionEncoder.from_pretrained(directory / "motion_encoder"),
            GeometryHead.from_pretrained(directory / "geometry") if parts["geometry"] else None,
        ).train()

    def encode_motion(self, body: Tensor, hands: Tensor, hand_ok: Tensor) -> MotionTokens:
        """Tokens [B, T, N, d] of driving crops [B, T, 3, S, S], [B, T, 2, 3, s, s] and the mask [B, T, 2]."""
        tokens = self.motion_encoder(body, hands, hand_ok)
        return MotionTokens(tokens, torch.ones(len(tokens), dtype=torch.bool, device=tokens.device))

    def forward(
        self,
        batch: Batch,
        *,
        sigma: Tensor,
        noise: Tensor,
        drop_text: Tensor,
        drop_motion: Tensor,
        augment_seed: int | None,
    ) -> Prediction:
        """Velocity at noise level `sigma` [B] along the path from `batch.target` to `noise` (of the same shape).

        `drop_text`, `drop_motion` [B] bool: samples that learn to do without, for classifier-free guidance; dropped
        text is zeros, dropped motion leaves every block as in the base model. `augment_seed`: None = no augmentation.
        In `first_frame` mode latent frame 0 is given, and its velocity is the one that leads to the reference.
        """
        body, hands = batch.body, batch.hands
        if augment_seed is not None:
            generator = torch.Generator().manual_seed(augment_seed)
            change = partial(
                augment, perspective=self.config.perspective, jitter=self.config.jitter, generator=generator
            )
            body = change(body)
            hands = change(hands.flatten(1, 2)).view_as(hands)
        tokens = self.encode_motion(body, hands, batch.hand_ok).tokens

        velocity = self.transformer(
            noisy(batch.target, noise, sigma),
            sigma * TIMESTEPS,
            batch.text * ~per_sample(drop_text, batch.text),
            MotionTokens(tokens, ~drop_motion),
            batch.reference,
        )
        if self.config.reference == "first_frame":
            velocity = torch.cat([noise[:, :, :1] - batch.reference, velocity[:, :, 1:]], dim=2)
        poses = (None, None) if self.geometry is None else self.geometry(tokens)
        return Prediction(velocity, *poses)
