"""Generator on HunyuanVideo-1.5: diffusers' transformer with motion conditioning and a reference image.

Text and video share one joint attention. Of the base's three conditioning streams only Qwen2.5-VL text is used: there
is no glyph text, so no ByT5 tokens; and no SigLIP image tokens, because the reference is given as latents. The base
masks padded text with a dense [B, 1, S, S] mask in each block; here common padding is cut off and the rest is masked
as keys only.

Noisy latents are concatenated with condition channels and their mask, as in the base's image-to-video pipeline.
`first_frame`: the reference is the condition of latent frame 0, and that frame is still predicted. `prefix`: an extra
frame is prepended that holds the clean reference in both the noisy and the condition channels, receives no motion and
is dropped from the output.
"""

import torch
from diffusers.configuration_utils import register_to_config
from diffusers.models.modeling_utils import ModelMixin  # noqa: F401  # pipelines look it up in this module
from diffusers.models.transformers.transformer_hunyuan_video15 import (
    HunyuanVideo15Transformer3DModel,
    HunyuanVideo15TransformerBlock,
)
from torch import Tensor
from torch.nn.functional import pad

from opendimo.model.backbones.hunyuan_attention import JointAttention, KeyMaskedRefiner, without_padding
from opendimo.model.backbones.inject import MotionContext, MotionCrossAttention
from opendimo.model.backbones.interface import BlockConditioning, Generator, unpatched
from opendimo.model.config import Attention, Reference
from opendimo.model.multiview.attention import ViewAttention, ViewContext


class HunyuanMotionBlock(HunyuanVideo15TransformerBlock):
    """A HunyuanVideo-1.5 block with attention of the video tokens across views and to motion after the joint one."""

    motion: MotionCrossAttention

    def __init__(
        self,
        heads: int,
        head_dim: int,
        mlp_ratio: float,
        qk_norm: str,
        motion_dim: int | None,
        motion_views: ViewAttention | None,
    ) -> None:
        """Build the base block, a motion cross-attention unless `motion_dim` is None, and attention across views."""
        super().__init__(heads, head_dim, mlp_ratio, qk_norm)
        self.motion_views = motion_views
        self.attn.set_processor(JointAttention())  # type: ignore[arg-type]  # diffusers lists its own
        if motion_dim is not None:
            self.motion = MotionCrossAttention(heads * head_dim, motion_dim, heads)

    def forward(  # type: ignore[override]  # motion replaces unused arguments
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        temb: Tensor,
        attention_mask: Tensor | None,
        freqs_cis: tuple[Tensor, Tensor],
        motion: MotionContext | None = None,
        views: ViewContext | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Run the base block plus views and motion. Video [B, S, D], text [B, n, D], mask [B, 1, 1, S + n] of keys."""
        video, text = hidden_states, encoder_hidden_states
        normed, gate, ff_shift, ff_scale, ff_gate = self.norm1(video, emb=temb)
        text_normed, text_gate, text_ff_shift, text_ff_scale, text_ff_gate = self.norm1_context(text, emb=temb)
        attended, text_attended = self.attn(
            hidden_states=normed,
            encoder_hidden_states=text_normed,
            attention_mask=attention_mask,
            image_rotary_emb=freqs_cis,
        )
        video = video + attended * gate[:, None]
        text = text + text_attended * text_gate[:, None]

        if self.motion_views is not None and views is not None:
            video = video + self.motion_views(video, views)
        if motion is not None:
            video = video + self.motion(video, motion)

        normed = self.norm2(video) * (1 + ff_scale[:, None]) + ff_shift[:, None]
        text_normed = self.norm2_context(text) * (1 + text_ff_scale[:, None]) + text_ff_shift[:, None]
        video = video + ff_gate[:, None] * self.ff(normed)
        text = text + text_ff_gate[:, None] * self.ff_context(text_normed)
        return video, text


class HunyuanMotionTransformer3DModel(Generator, HunyuanVideo15Transformer3DModel):  # type: ignore[misc]  # diffusers
    """`HunyuanVideo15Transformer3DModel` plus motion cross-attention.

    Without `motion` and `reference` it equals the base model with text conditioning only.
    """

    base = HunyuanVideo15Transformer3DModel
    keeps_first_frame = False
    _no_split_modules = ["HunyuanMotionBlock", "HunyuanVideo15PatchEmbed", "HunyuanVideo15TokenRefiner"]  # noqa: RUF012
    _repeated_blocks = ["HunyuanMotionBlock"]  # noqa: RUF012

    @register_to_config
    def __init__(
        self,
        in_channels: int = 65,
        out_channels: int = 32,
        num_attention_heads: int = 16,
        attention_head_dim: int = 128,
        num_layers: int = 54,
        num_refiner_layers: int = 2,
        mlp_ratio: float = 4.0,
        patch_size: int = 1,
        patch_size_t: int = 1,
        qk_norm: str = "rms_norm",
        text_embed_dim: int = 3584,
        text_embed_2_dim: int = 1472,
        image_embed_dim: int = 1152,
        rope_theta: float = 256.0,
        rope_axes_dim: tuple[int, ...] = (16, 56, 56),
        target_size: int = 640,
        task_type: str = "i2v",
        use_meanflow: bool = False,
        motion_dim: int = 768,
        motion_attention: Attention | None = "aligned",
        reference: Reference = "prefix",
        temporal_stride: int = 4,
        camera_rays: bool = False,
        view_attention: bool = False,
    ) -> None:
        if use_meanflow or in_channels != 2 * out_channels + 1:
            raise ValueError(
                "only HunyuanVideo-1.5 bases that take noisy latents, a condition and its mask are supported, "
                f"not use_meanflow={use_meanflow}, {in_channels} channels in and {out_channels} out"
            )
        super().__init__(
            in_channels=in_channels,
            out_channels=out_channels,
            num_attention_heads=num_attention_heads,
            attention_head_dim=attention_head_dim,
            num_layers=0,  # blocks of our classes follow
            num_refiner_layers=0,
            mlp_ratio=mlp_ratio,
            patch_size=patch_size,
            patch_size_t=patch_size_t,
            qk_norm=qk_norm,
            text_embed_dim=text_embed_dim,
            text_embed_2_dim=text_embed_2_dim,
            image_embed_dim=image_embed_dim,
            rope_theta=rope_theta,
            rope_axes_dim=rope_axes_dim,
            target_size=target_size,
            task_type=task_type,
            use_meanflow=use_meanflow,
        )
        self.register_to_config(num_layers=num_layers, num_refiner_layers=num_refiner_layers)
        dims = num_attention_heads, attention_head_dim
        attended = None if motion_attention is None else motion_dim
        self.context_embedder.token_refiner = KeyMaskedRefiner(*dims, num_refiner_layers)
        self.transformer_blocks.extend(
            HunyuanMotionBlock(*dims, mlp_ratio, qk_norm, attended, self.new_view_attention(block))
            for block in range(num_layers)
        )
        self.motion_alignment, self.motion_rays = self.new_alignment(), self.new_ray_embedding()

    def velocity(
        self,
        latents: Tensor,
        timestep: Tensor,
        text: Tensor,
        text_ok: Tensor,
        reference: Tensor | None,
        conditioning: BlockConditioning,
    ) -> Tensor:
        """Implement `Generator.velocity`."""
        conditioned = self._conditioned(latents, reference, conditioning.prefix)
        text, padding = without_padding(text, text_ok)

        rope = self.rope(conditioned)
        # like the base's embedder, but without rounding the timestep to half precision
        temb = self.time_embed.timestep_embedder(self.time_embed.time_proj(timestep).to(latents.dtype))
        tokens = self.x_embedder(conditioned)  # [B, S, D]
        text = self.context_embedder(text, timestep, padding)
        text = text + self.cond_type_embed(torch.zeros_like(text[..., 0], dtype=torch.long))  # [B, n, D]
        keys = None  # or a mask [B, 1, 1, S + n]
        if padding is not None:
            keys = pad(padding, (tokens.shape[1], 0), value=True)[:, None, None]
        for block, control in zip(self.transformer_blocks, conditioning.modulations, strict=True):
            tokens, text = self.run_block(
                block, control, tokens, text, temb, keys, rope, conditioning.motion, conditioning.views
            )

        out = self.proj_out(self.norm_out(tokens, temb))
        return unpatched(out.unflatten(2, (-1, self.patch, self.patch)), self.grid(conditioned))

    @staticmethod
    def _conditioned(latents: Tensor, reference: Tensor | None, prefix: int) -> Tensor:
        """Concatenate condition channels and mask: latents [B, C, L, h, w] -> [B, 2C + 1, prefix + L, h, w]."""
        if reference is None:
            return torch.cat([latents, torch.zeros_like(latents), torch.zeros_like(latents[:, :1])], dim=1)
        noisy = torch.cat([reference, latents], dim=2) if prefix else latents
        condition = torch.cat([reference, torch.ones_like(reference[:, :1])], dim=1)  # [B, C + 1, 1, h, w]
        return torch.cat([noisy, pad(condition, (0, 0, 0, 0, 0, noisy.shape[2] - 1))], dim=1)
