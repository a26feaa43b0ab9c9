"""The generator: diffusers' Wan transformer with motion and a reference image.

The reference is a clean latent frame at timestep 0 inside the sequence, as in Wan2.2-TI2V-5B, which takes a timestep
per token. `prefix`: an extra frame in front that hears no motion and is dropped from the output, so that the reference
may show any pose. `first_frame`: it takes the place of latent frame 0, closest to the pretrained weights.
"""

from pathlib import Path
from typing import Self

import torch
from accelerate import init_empty_weights
from diffusers.configuration_utils import register_to_config
from diffusers.models.modeling_utils import ModelMixin  # noqa: F401  # pipelines look it up in this module
from diffusers.models.transformers.transformer_wan import (
    WanTimeTextImageEmbedding,
    WanTransformer3DModel,
    WanTransformerBlock,
)
from torch import Tensor
from torch.nn.functional import pad

from model.backbones.interface import Reference
from model.inject import Attention, BlockContext, MotionAlignment, MotionCrossAttention
from model.signal import Grid, Signal


class ConditionEmbedding(WanTimeTextImageEmbedding):
    """Wan's embedding of timestep and text; motion rides along to the blocks in the place of an image embedding."""

    def forward(  # type: ignore[override]  # the context is a pair here
        self,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        encoder_hidden_states_image: BlockContext | None = None,
        timestep_seq_len: int | None = None,
    ) -> tuple[Tensor, Tensor, tuple[Tensor, BlockContext | None], None]:
        temb, modulation, text, _ = super().forward(timestep, encoder_hidden_states, None, timestep_seq_len)
        return temb, modulation, (text, encoder_hidden_states_image), None


class WanMotionBlock(WanTransformerBlock):
    """A Wan block with a motion cross-attention between its self-attention and its text cross-attention."""

    motion: MotionCrossAttention
    index: int

    def forward(  # type: ignore[override]  # the context is a pair here
        self,
        hidden_states: Tensor,
        encoder_hidden_states: tuple[Tensor, BlockContext | None],
        temb: Tensor,
        rotary_emb: tuple[Tensor, Tensor],
    ) -> Tensor:
        """As the base block; `encoder_hidden_states` is the pair (text, context). `temb` [B, 6, D] or [B, S, 6, D]."""
        text, context = encoder_hidden_states
        axis = temb.ndim - 2  # of the six modulations; one set a sample, or one a token
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = (
            m.squeeze(axis) if axis == 2 else m for m in (self.scale_shift_table + temb.float()).chunk(6, dim=axis)
        )
        h = hidden_states if context is None else context.added(self.index, hidden_states)

        normed = (self.norm1(h.float()) * (1 + scale) + shift).type_as(h)
        h = (h.float() + self.attn1(normed, None, None, rotary_emb) * gate).type_as(h)

        if context is not None and context.motion is not None:
            h = h + self.motion(h, context.motion)

        h = h + self.attn2(self.norm2(h.float()).type_as(h), text, None, None)

        normed = (self.norm3(h.float()) * (1 + ffn_scale) + ffn_shift).type_as(h)
        return (h.float() + self.ffn(normed).float() * ffn_gate).type_as(h)


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
        for index, block in enumerate(self.blocks):
            block.__class__ = WanMotionBlock
            block.index = index
            block.motion = MotionCrossAttention(width, motion_dim, num_attention_heads)
        self.motion_alignment = MotionAlignment(motion_attention, temporal_stride, motion_dim, attention_head_dim)

    @classmethod
    def from_base(cls, path: Path, *, motion_dim: int, motion_attention: Attention, reference: Reference) -> Self:
        """The weights of a base `transformer` folder with new, silent motion modules.

        Raises ValueError when the folder lacks a weight of the base model or holds others.
        """
        base, info = WanTransformer3DModel.from_pretrained(path, output_loading_info=True)
        if wrong := info["missing_keys"] + info["unexpected_keys"]:
            raise ValueError(f"{path} is not a whole Wan transformer: missing or unknown weights {sorted(wrong)[:5]}")
        ours = {"motion_dim": motion_dim, "motion_attention": motion_attention, "reference": reference}
        config = cls.extract_init_dict(base.config, **ours)[0]
        with init_empty_weights():
            model = cls(**config)
        model.load_state_dict(base.state_dict(), strict=False, assign=True)
        for module in model.modules():
            if isinstance(module, (MotionAlignment, MotionCrossAttention)):
                module.to_empty(device=base.device).reset_parameters()
        return model

    def grid(self, latents: Tensor) -> Grid:
        """The video tokens that stand for latents [B, C, L, h, w], the reference's not counted."""
        _, p_h, p_w = self.config["patch_size"]
        frames, height, width = latents.shape[2:]
        return Grid(frames, height // p_h, width // p_w, self.width)

    @property
    def width(self) -> int:
        """Of the video tokens."""
        return int(self.config["num_attention_heads"] * self.config["attention_head_dim"])

    @property
    def temporal_stride(self) -> int:
        """Frames that a latent frame after the first stands for."""
        return int(self.config["temporal_stride"])

    @property
    def first_frame_is_given(self) -> bool:
        """Whether latent frame 0 is the reference itself, so that its velocity is not predicted."""
        return bool(self.config["reference"] == "first_frame")

    def forward(  # type: ignore[override]  # as `Generator`
        self,
        latents: Tensor,
        timestep: Tensor,
        text: Tensor,
        text_ok: Tensor,
        signal: Signal | None = None,
        reference: Tensor | None = None,
    ) -> Tensor:
        """As `Generator.__call__`. Text is padded here with zeros to `text_length`, as the base was trained."""
        given, length = text.shape[1], self.config["text_length"]
        if given > length:
            raise ValueError(f"the text has {given} tokens, at most {length} are allowed: cut it before encoding")
        text = pad(text * text_ok[..., None], (0, 0, 0, length - given))

        frames, prefix = latents.shape[2], 0
        if reference is not None:
            prefix = int(self.config["reference"] == "prefix")
            latents = torch.cat([reference, latents[:, :, 1 - prefix :]], dim=2)
            timestep = self._token_timesteps(timestep, latents)
        context = None if signal is None else self.motion_alignment.blocks_hear(signal, frames, prefix)
        velocity = super().forward(latents, timestep, text, context, return_dict=False)[0]
        return velocity[:, :, prefix:]

    def _token_timesteps(self, timestep: Tensor, latents: Tensor) -> Tensor:
        """[B] -> [B, S]: zero for the tokens of the first latent frame, `timestep` for the others."""
        frames, height, width = latents.shape[2:]
        _, p_h, p_w = self.config["patch_size"]
        per_frame = torch.cat([torch.zeros_like(timestep[:, None]), timestep[:, None].expand(-1, frames - 1)], dim=1)
        return per_frame.repeat_interleave((height // p_h) * (width // p_w), dim=1)
