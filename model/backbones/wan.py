"""Generator on Wan: diffusers' Wan transformer with motion conditioning and a reference image.

The reference is a clean latent frame at timestep 0 inside the sequence, as in Wan2.2-TI2V-5B, which takes a timestep
per token. `prefix`: an extra frame is prepended that receives no motion and is dropped from the output, so that the
reference may show any pose. `first_frame`: the reference replaces latent frame 0, as in the training of TI2V-5B.
"""

import json
import logging
from pathlib import Path
from typing import Any, Self

import torch
from diffusers.configuration_utils import register_to_config
from diffusers.models.modeling_utils import ModelMixin  # noqa: F401  # pipelines look it up in this module
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel, WanTransformerBlock
from torch import Tensor
from torch.nn.functional import pad

from opendimo.model.backbones.inject import MotionContext, MotionCrossAttention
from opendimo.model.backbones.interface import BlockConditioning, Generator, unpatched
from opendimo.model.config import Attention, Reference
from opendimo.model.multiview.attention import ViewAttention, ViewContext

logger = logging.getLogger(__name__)
MOST_TEXT = 512
"""Maximum number of text tokens that Wan was trained with."""


class WanMotionBlock(WanTransformerBlock):
    """A Wan block with attention to motion and across views between its self-attention and text cross-attention."""

    motion: MotionCrossAttention

    def __init__(
        self,
        dim: int,
        ffn_dim: int,
        num_heads: int,
        *options: Any,
        motion_dim: int | None,
        motion_views: ViewAttention | None,
    ) -> None:
        """Build the base block, a motion cross-attention unless `motion_dim` is None, and attention across views."""
        super().__init__(dim, ffn_dim, num_heads, *options)
        self.motion_views = motion_views
        if motion_dim is not None:
            self.motion = MotionCrossAttention(dim, motion_dim, num_heads)

    def forward(  # type: ignore[override]  # the base's type of the rotary embedding is wrong
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        temb: Tensor,
        rotary_emb: tuple[Tensor, Tensor],
        motion: MotionContext | None = None,
        views: ViewContext | None = None,
    ) -> Tensor:
        """Run the base block plus views and motion.

        `temb`: six modulations per sample [B, 6, D] or per token [B, S, 6, D].
        """
        h, axis = hidden_states, temb.ndim - 2  # axis of the six modulations
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = (
            m.squeeze(axis) if axis == 2 else m for m in (self.scale_shift_table + temb.float()).chunk(6, dim=axis)
        )
        normed = (self.norm1(h.float()) * (1 + scale) + shift).type_as(h)
        h = (h.float() + self.attn1(normed, None, None, rotary_emb) * gate).type_as(h)

        if self.motion_views is not None and views is not None:
            h = h + self.motion_views(h, views)
        if motion is not None:
            h = h + self.motion(h, motion)

        h = h + self.attn2(self.norm2(h.float()).type_as(h), encoder_hidden_states, None, None)

        normed = (self.norm3(h.float()) * (1 + ffn_scale) + ffn_shift).type_as(h)
        return (h.float() + self.ffn(normed).float() * ffn_gate).type_as(h)


class WanMotionTransformer3DModel(Generator, WanTransformer3DModel):  # type: ignore[misc]  # diffusers
    """`WanTransformer3DModel` plus motion cross-attention; equals the base model without `motion` and `reference`."""

    base = WanTransformer3DModel
    keeps_first_frame = True
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
        motion_attention: Attention | None = "aligned",
        reference: Reference = "prefix",
        temporal_stride: int = 4,
        camera_rays: bool = False,
        view_attention: bool = False,
        text_length: int = 512,
    ) -> None:
        if image_dim is not None or in_channels != out_channels:
            raise ValueError(
                "only Wan bases that take a clean first frame (2.2 TI2V) are supported, not those with image "
                f"embeddings or condition channels: image_dim is {image_dim}, {in_channels} channels in, "
                f"{out_channels} out"
            )
        super().__init__(
            patch_size=patch_size,
            num_attention_heads=num_attention_heads,
            attention_head_dim=attention_head_dim,
            in_channels=in_channels,
            out_channels=out_channels,
            text_dim=text_dim,
            freq_dim=freq_dim,
            ffn_dim=ffn_dim,
            num_layers=0,  # blocks of our class follow
            cross_attn_norm=cross_attn_norm,
            qk_norm=qk_norm,
            eps=eps,
            image_dim=image_dim,
            added_kv_proj_dim=added_kv_proj_dim,
            rope_max_seq_len=rope_max_seq_len,
            pos_embed_seq_len=pos_embed_seq_len,
        )
        self.register_to_config(num_layers=num_layers)
        options = qk_norm, cross_attn_norm, eps, added_kv_proj_dim
        attended = None if motion_attention is None else motion_dim
        self.blocks.extend(
            WanMotionBlock(
                self.width,
                ffn_dim,
                num_attention_heads,
                *options,
                motion_dim=attended,
                motion_views=self.new_view_attention(block),
            )
            for block in range(num_layers)
        )
        self.motion_alignment, self.motion_rays = self.new_alignment(), self.new_ray_embedding()

    @classmethod
    def from_base(cls, path: Path, **settings: Any) -> Self:
        """Load as `Generator.from_base`; log a warning if the base was not trained with a timestep per token."""
        index = Path(path).parent / "model_index.json"
        if index.is_file() and not json.loads(index.read_text()).get("expand_timesteps"):
            logger.warning("%s was not trained with a clean reference in the sequence", path.parent)
        return super().from_base(path, **settings)

    def velocity(
        self,
        latents: Tensor,
        timestep: Tensor,
        text: Tensor,
        text_ok: Tensor,
        reference: Tensor | None,
        conditioning: BlockConditioning,
    ) -> Tensor:
        """Implement `Generator.velocity`. Pads text with zeros to `text_length`, as in the base's training."""
        if reference is not None:
            latents = torch.cat([reference, latents[:, :, 1 - conditioning.prefix :]], dim=2)
            timestep = self._token_timesteps(timestep, latents)

        rope = self.rope(latents)
        tokens = self.patch_embedding(latents).flatten(2).transpose(1, 2).contiguous()  # [B, S, D]
        temb, modulation, context, _ = self.condition_embedder(
            timestep.flatten(), self._padded(text, text_ok), None, tokens.shape[1] if timestep.ndim == 2 else None
        )
        modulation = modulation.unflatten(-1, (6, -1))  # [B, 6, D] or [B, S, 6, D]
        for block, control in zip(self.blocks, conditioning.modulations, strict=True):
            tokens = self.run_block(
                block, control, tokens, context, modulation, rope, conditioning.motion, conditioning.views
            )

        temb = temb if temb.ndim == 3 else temb[:, None]  # [B, S or 1, D]
        shift, scale = (self.scale_shift_table[0] + temb[..., None, :]).unbind(-2)
        out = self.proj_out((self.norm_out(tokens.float()) * (1 + scale) + shift).type_as(tokens))
        patches = out.unflatten(2, (self.patch, self.patch, -1)).movedim(-1, 2)  # [B, S, C, p, p]
        return unpatched(patches, self.grid(latents))

    def _padded(self, text: Tensor, text_ok: Tensor) -> Tensor:
        """Zero-pad text [B, n, D] to [B, max(n, text_length), D]. Raises `ValueError` if n is above `MOST_TEXT`."""
        length = text.shape[1]
        if length > MOST_TEXT:
            raise ValueError(f"the text has {length} tokens, at most {MOST_TEXT} are allowed: cut it before encoding")
        return pad(text * text_ok[..., None].to(text), (0, 0, 0, max(0, self.config["text_length"] - length)))

    def _token_timesteps(self, timestep: Tensor, latents: Tensor) -> Tensor:
        """Expand timesteps [B] to tokens [B, S]: zero for the first latent frame, `timestep` for the others."""
        frames, height, width, _ = self.grid(latents)
        per_frame = torch.cat([torch.zeros_like(timestep[:, None]), timestep[:, None].expand(-1, frames - 1)], dim=1)
        return per_frame.repeat_interleave(height * width, dim=1)
