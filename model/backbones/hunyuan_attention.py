"""Attention of HunyuanVideo-1.5 without dense masks: padded text is masked as keys, not as queries.

The outputs at padded text positions are never attended to, so the video tokens are unchanged. Masks are
[B, 1, 1, keys], which all attention backends of diffusers that take masks accept.
"""

from typing import Any

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.embeddings import apply_rotary_emb
from diffusers.models.transformers.transformer_hunyuan_video15 import (
    HunyuanVideo15AttnProcessor2_0,
    HunyuanVideo15IndividualTokenRefiner,
)
from torch import Tensor


def without_padding(text: Tensor, text_ok: Tensor) -> tuple[Tensor, Tensor | None]:
    """Cut text [B, n, D] to the longest in the batch; return it and its mask (True = text), None if nothing is padded.

    This is the only device synchronisation; it happens before the blocks.
    """
    lengths = text_ok.sum(1).tolist()
    text, text_ok = text[:, : max(lengths)], text_ok[:, : max(lengths)]
    return text, None if min(lengths) == max(lengths) else text_ok


class JointAttention(HunyuanVideo15AttnProcessor2_0):
    """The base's joint attention of video and text, with an optional mask of keys."""

    def __call__(  # type: ignore[override]  # video and text are both required
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None,
        image_rotary_emb: tuple[Tensor, Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Attend jointly over video [B, S, D] and text [B, n, D]; returns the same shapes.

        `attention_mask` [B, 1, 1, S + n] bool, True = attended to. `attn` is diffusers' `Attention`.
        """
        video, text = hidden_states, encoder_hidden_states
        q, k, v = (layer(video).unflatten(2, (attn.heads, -1)) for layer in (attn.to_q, attn.to_k, attn.to_v))
        q, k = _rotated(attn.norm_q(q), image_rotary_emb), _rotated(attn.norm_k(k), image_rotary_emb)
        added = (attn.add_q_proj, attn.add_k_proj, attn.add_v_proj)
        text_q, text_k, text_v = (layer(text).unflatten(2, (attn.heads, -1)) for layer in added)
        out = dispatch_attention_fn(
            torch.cat([q, attn.norm_added_q(text_q)], dim=1),
            torch.cat([k, attn.norm_added_k(text_k)], dim=1),
            torch.cat([v, text_v], dim=1),
            attn_mask=attention_mask,
            backend=self._attention_backend,
            parallel_config=self._parallel_config,
        )
        video, text = out.flatten(2).type_as(q).split([video.shape[1], text.shape[1]], dim=1)
        return attn.to_out[1](attn.to_out[0](video)), attn.to_add_out(text)


def _rotated(x: Tensor, rope: Any) -> Any:
    """Apply rotary embeddings to [B, S, heads, D / heads]."""
    return apply_rotary_emb(x, rope, sequence_dim=1)


class KeyMaskedRefiner(HunyuanVideo15IndividualTokenRefiner):
    """The blocks of the base's text refiner, with a mask of keys instead of a dense mask."""

    def forward(  # type: ignore[override]  # the base annotates None
        self, hidden_states: Tensor, temb: Tensor, attention_mask: Tensor | None = None
    ) -> Tensor:
        """Refine text [B, n, D]; `attention_mask` [B, n] bool, True = attended to."""
        keys = None if attention_mask is None else attention_mask[:, None, None]  # [B, 1, 1, n]
        for block in self.refiner_blocks:
            hidden_states = block(hidden_states, temb, keys)
        return hidden_states
