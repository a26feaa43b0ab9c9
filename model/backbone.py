"""The generator: diffusers' Wan transformer with motion and a reference image.

The reference is a clean latent frame at timestep 0 inside the sequence, as in Wan2.2-TI2V-5B, which takes a timestep
per token. `prefix`: an extra frame in front that hears no motion and is dropped from the output, so that the reference
may show any pose. `first_frame`: it takes the place of latent frame 0, closest to the pretrained weights.
"""

from pathlib import Path
from typing import Literal, Self

import torch
from accelerate import init_empty_weights
from diffusers.configuration_utils import register_to_config
from diffusers.models.modeling_utils import ModelMixin  # noqa: F401  # pipelines look it up in this module
from diffusers.models.transformers.transformer_wan import WanTimeTextImageEmbedding, WanTransformer3DModel
from torch import Tensor
from torch.nn.functional import pad

from model.inject import Attention, MotionAlignment, MotionContext, MotionCrossAttention, MotionTokens, WanMotionBlock

Reference = Literal["prefix", "first_frame"]


class ConditionEmbedding(WanTimeTextImageEmbedding):
    """Wan's embedding of timestep and text; motion rides along to the blocks in the place of an image embedding."""

    def forward(  # type: ignore[override]  # the context is a pair here
        self,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        encoder_hidden_states_image: MotionContext | None = None,
        timestep_seq_len: int | None = None,
    ) -> tuple[Tensor, Tensor, tuple[Tensor, MotionContext | None], None]:
        temb, modulation, text, _ = super().forward(timestep, encoder_hidden_states, None, timestep_seq_len)
        return temb, modulation, (text, encoder_hidden_states_image), None


class WanMotionTransformer3DModel(WanTransformer3DModel):
    """`WanTransformer3DModel` plus motion cross-attentions; without `motion` and `reference` it is the base model."""

    _no_split_modules = ["WanMotionBlock"]  # noqa: RUF012
    _repeated_blocks = ["WanMotionBlock"]  # noqa: RUF012

    @register_to_config
    def __init__(
        self,
        patch_size: tuple[int, ...] = (1, 2, 2),
        num_attention_heads: int = 24,
        attention_head_dim: int = 128,
        in_channels: int = 48,
        out_channels: int = 48,
        text_dim: int = 4096,
        freq_dim: int = 256,
        ffn_dim: int = 14336,
        num_layers: int = 30,
        cross_attn_norm: bool = True,
        qk_norm: str | None = "rms_norm_across_heads",
        eps: float = 1e-6,
        image_dim: int | None = None,
        added_kv_proj_dim: int | None = None,
        rope_max_seq_len: int = 1024,
        pos_embed_seq_len: int | None = None,
        motion_dim: int = 768,
        motion_attention: Attention = "aligned",
        reference: Reference = "prefix",
        temporal_stride: int = 4,
        text_length: int = 512,
    ) -> None:
        super().__init__(
            patch_size=patch_size,
            num_attention_heads=num_attention_heads,
            attention_head_dim=attention_head_dim,
            in_channels=in_channels,
            out_channels=out_channels,
            text_dim=text_dim,
            freq_dim=freq_dim,
            ffn_dim=ffn_dim,
            num_layers=num_layers,
            cross_attn_norm=cross_attn_norm,
            qk_norm=qk_norm,
            eps=eps,
            image_dim=image_dim,
            added_kv_proj_dim=added_kv_proj_dim,
            rope_max_seq_len=rope_max_seq_len,
            pos_embed_seq_len=pos_embed_seq_len,
        )
        if image_dim is not None:
            raise ValueError("Wan bases with CLIP image embeddings (2.1 image-to-video) are not supported")
        if reference not in ("prefix", "first_frame"):
            raise ValueError(f"reference must be 'prefix' or 'first_frame', not {reference!r}")
        width = num_attention_heads * attention_head_dim
        # the modules that the base class has built keep their weights' names and change only their forward
        self.condition_embedder.__class__ = ConditionEmbedding
        for block in self.blocks:
            block.__class__ = WanMotionBlock
            block.motion = MotionCrossAttention(width, motion_dim, num_attention_heads)
        self.motion_alignment = MotionAlignment(motion_attention, temporal_stride, motion_dim, attention_head_dim)

    @classmethod
    def from_base(
        cls, path: Path, *, motion_dim: int, motion_attention: Attention, reference: Reference, text_length: int
    ) -> Self:
        """The weights of a base `transformer` folder with new, silent motion modules.

        Raises ValueError when the folder lacks a weight of the base model or holds others.
        """
        base, info = WanTransformer3DModel.from_pretrained(path, output_loading_info=True)
        if wrong := info["missing_keys"] + info["unexpected_keys"]:
            raise ValueError(f"{path} is not a whole Wan transformer: missing or unknown weights {sorted(wrong)[:5]}")
        config = cls.extract_init_dict(
            base.config,
            motion_dim=motion_dim,
            motion_attention=motion_attention,
            reference=reference,
            text_length=text_length,
        )[0]
        with init_empty_weights():
            model = cls(**config)
        model.load_state_dict(base.state_dict(), strict=False, assign=True)
        for module in model.modules():
            if isinstance(module, (MotionAlignment, MotionCrossAttention)):
                module.to_empty(device=base.device).reset_parameters()
        return model

    def forward(
        self,
        hidden_states: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        motion: MotionTokens | None = None,
        reference: Tensor | None = None,
    ) -> Tensor:
        """Velocity [B, C, L, h, w] of noisy latents of that shape.

        `timestep` [B] in 0..1000, `encoder_hidden_states` text [B, n, D] (padded here with zeros to `text_length`, as
        the base was trained), `reference` a clean latent frame [B, C, 1, h, w]. In `first_frame` mode the velocity of
        latent frame 0 means nothing: that frame is given.
        """
        given, length = encoder_hidden_states.shape[1], self.config["text_length"]
        if given > length:
            raise ValueError(f"the text has {given} tokens, at most {length} are allowed: cut it before encoding")
        text = pad(encoder_hidden_states, (0, 0, 0, length - given))

        frames, prefix = hidden_states.shape[2], 0
        if reference is not None:
            prefix = int(self.config["reference"] == "prefix")
            hidden_states = torch.cat([reference, hidden_states[:, :, 1 - prefix :]], dim=2)
            timestep = self._token_timesteps(timestep, hidden_states)
        context = None if motion is None else self.motion_alignment(motion, frames, prefix)
        velocity = super().forward(hidden_states, timestep, text, context, return_dict=False)[0]
        return velocity[:, :, prefix:]

    def _token_timesteps(self, timestep: Tensor, latents: Tensor) -> Tensor:
        """[B] -> [B, S]: zero for the tokens of the first latent frame, `timestep` for the others."""
        frames, height, width = latents.shape[2:]
        _, p_h, p_w = self.config["patch_size"]
        per_frame = torch.cat([torch.zeros_like(timestep[:, None]), timestep[:, None].expand(-1, frames - 1)], dim=1)
        return per_frame.repeat_interleave((height // p_h) * (width // p_w), dim=1)
