"""Motion conditioning of the generator: a cross-attention after each self-attention of the video transformer.

Only video tokens are queries; the text path is unchanged (3DiMo, section 3.2). Motion is passed through the blocks as
an argument. If it were held in an attribute or a closure, two forwards before one backward would silently give wrong
gradients under gradient checkpointing, because the first forward would be recomputed with the tokens of the second.
"""

from typing import NamedTuple

import torch
from diffusers.models.attention import AttentionModuleMixin
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.embeddings import apply_rotary_emb, get_1d_rotary_pos_embed
from diffusers.models.normalization import FP32LayerNorm
from torch import Tensor, nn
from torch.nn.functional import pad

from opendimo.model.config import Attention
from opendimo.model.folding import by_latent_frame
from opendimo.model.signal import MotionTokens


class MotionContext(NamedTuple):
    """Motion input of the blocks.

    `keys`: [B, L, n, d] in aligned mode, separate keys for each latent frame; [B, M, d] in global mode, shared keys.
    `prefix`: number of latent frames before the L frames; they are the reference, whose tokens get no motion.
    `query_rope`, `key_rope`: cosines and sines [L, head_dim] and [M, head_dim] of the times, in global mode only.
    """

    keys: Tensor
    latent_frames: int
    prefix: int
    query_rope: tuple[Tensor, Tensor] | None = None
    key_rope: tuple[Tensor, Tensor] | None = None


class MotionAlignment(nn.Module):
    """Align the motion of T = stride k + 1 frames with the k + 1 latent frames of a causal video VAE.

    Latent frame 0 encodes frame 0, latent frame t encodes frames stride (t - 1) + 1 .. stride t. `aligned`: a latent
    frame attends only to the motion of its frames, each with a learned embedding of its slot. `global`: it attends to
    all motion, with rotary embeddings of time in frames. If motion is dropped, all tokens are replaced by one learned
    null token, for classifier-free guidance.
    """

    def __init__(self, mode: Attention, stride: int, dim: int, head_dim: int) -> None:
        super().__init__()
        if mode not in ("aligned", "global"):
            raise ValueError(f"motion attention must be 'aligned' or 'global', not {mode!r}")
        self.mode, self.stride, self.head_dim = mode, stride, head_dim
        self.slots = nn.Parameter(torch.empty(stride, 1, dim)) if mode == "aligned" else None
        self.null = nn.Parameter(torch.empty(dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.null, std=0.02)
        if self.slots is not None:  # similar in scale to token differences, so that attention can distinguish frames
            nn.init.normal_(self.slots, std=0.5)

    def forward(self, motion: MotionTokens, latent_frames: int, prefix: int) -> MotionContext:
        """Return the context for `prefix` reference frames without motion, followed by `latent_frames` with motion.

        Raises `ValueError` if the motion does not have stride (latent_frames - 1) + 1 frames.
        """
        tokens, present = motion
        t, n = tokens.shape[1:3]
        tokens = torch.where(present[:, None, None, None], tokens, self.null.to(tokens.dtype))
        if self.slots is not None:
            grid = by_latent_frame(tokens, latent_frames, self.stride) + self.slots
            return MotionContext(grid.flatten(2, 3), latent_frames, prefix)  # [B, L, stride N, d]

        times = torch.arange(t, device=tokens.device, dtype=torch.float32)
        middles = by_latent_frame(times[None], latent_frames, self.stride)[0].mean(1)
        key_rope = self._rope(times.repeat_interleave(n))
        return MotionContext(tokens.flatten(1, 2), latent_frames, prefix, self._rope(middles), key_rope)

    def _rope(self, times: Tensor) -> tuple[Tensor, Tensor]:
        cos, sin = get_1d_rotary_pos_embed(self.head_dim, times, use_real=True)  # type: ignore[arg-type]
        return cos, sin


class MotionAttnProcessor:
    """Compute a `MotionCrossAttention` with the attention backend that is chosen in diffusers."""

    _attention_backend = None
    _parallel_config = None

    def __call__(self, attn: "MotionCrossAttention", hidden_states: Tensor, motion: MotionContext) -> Tensor:
        """Return the residual for the video tokens: [B, S, D] -> [B, S, D], S = (prefix + L) x (tokens per frame)."""
        frames, per_frame = motion.latent_frames, hidden_states.shape[1] // (motion.prefix + motion.latent_frames)
        without_motion = motion.prefix * per_frame
        q = attn.norm_q(attn.to_q(attn.norm(hidden_states[:, without_motion:])))
        k = attn.norm_k(attn.to_k(motion.keys))
        v = attn.to_v(motion.keys)
        if motion.query_rope is None or motion.key_rope is None:  # aligned: latent frames attend separately
            q, k, v = q.unflatten(1, (frames, -1)).flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1)  # [B L, ., D]
        q, k, v = (x.unflatten(2, (attn.heads, -1)) for x in (q, k, v))  # [., ., heads, D / heads]
        if motion.query_rope is not None and motion.key_rope is not None:
            query_rope = tuple(table.repeat_interleave(per_frame, dim=0) for table in motion.query_rope)
            q = apply_rotary_emb(q, query_rope, sequence_dim=1)  # type: ignore[arg-type]
            k = apply_rotary_emb(k, motion.key_rope, sequence_dim=1)  # type: ignore[arg-type]
        out = dispatch_attention_fn(q, k, v, backend=self._attention_backend, parallel_config=self._parallel_config)
        # [B, L x tokens per frame, D]; under autocast it may be float32: cast back, or all later blocks would be, too
        out = (
            attn.to_out(out.flatten(2)).reshape(len(hidden_states), -1, hidden_states.shape[2]).to(hidden_states.dtype)
        )
        return pad(out, (0, 0, without_motion, 0)) if without_motion else out


class MotionCrossAttention(nn.Module, AttentionModuleMixin):
    """Cross-attention from video tokens to motion tokens, with a zero-initialised output projection.

    At step 0 it therefore outputs zero and the base model is unchanged.
    """

    _supports_qkv_fusion = False
    processor: MotionAttnProcessor  # type: ignore[assignment]  # diffusers lists its own

    def __init__(self, dim: int, motion_dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = FP32LayerNorm(dim, eps=1e-6)
        self.to_q = nn.Linear(dim, dim)
        self.to_k = nn.Linear(motion_dim, dim)
        self.to_v = nn.Linear(motion_dim, dim)
        self.norm_q = nn.RMSNorm(dim, eps=1e-6)
        self.norm_k = nn.RMSNorm(dim, eps=1e-6)
        self.to_out = nn.Linear(dim, dim)
        self.set_processor(MotionAttnProcessor())  # type: ignore[arg-type]
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for norm in (self.norm, self.norm_q, self.norm_k):
            nn.init.ones_(norm.weight)
        nn.init.zeros_(self.norm.bias)
        for linear in (self.to_q, self.to_k, self.to_v):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)
        nn.init.zeros_(self.to_out.weight)
        nn.init.zeros_(self.to_out.bias)

    def forward(self, hidden_states: Tensor, motion: MotionContext) -> Tensor:
        """Return the residual for the video tokens: [B, S, D] -> [B, S, D], S = (prefix + L) x (tokens per frame)."""
        return self.processor(self, hidden_states, motion)
