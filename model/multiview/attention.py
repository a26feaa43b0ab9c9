"""Attention across the views of one latent frame, zero-initialised, as HVG's view alignment (arXiv 2602.21188).

The paper names the mechanism and publishes no settings. Ours: half the generator's width, in every fourth block after
the self-attention, all tokens of all views of a latent frame; rays of the cameras are added to queries and keys only,
because they say where a token is, not what it shows.
"""

from typing import NamedTuple

from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.normalization import FP32LayerNorm
from torch import Tensor, nn

EVERY = 4
"""One of so many blocks attends across views, beginning with the first."""
RAY = 6
"""Width of a ray in Pluecker coordinates."""


class ViewContext(NamedTuple):
    """Input of the attention across views.

    `views`: every so many samples in a row are views of one moment. `frames`: latent frames, including a prepended
    reference. `rays` [B, S, 6] of all tokens.
    """

    views: int
    frames: int
    rays: Tensor


class ViewAttention(nn.Module):
    """Attention among the tokens of all views of a latent frame, with a zero-initialised output projection."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = max(1, heads // 2)
        inner = self.heads * dim // heads
        self.norm = FP32LayerNorm(dim, eps=1e-6)
        self.to_q = nn.Linear(dim, inner)
        self.to_k = nn.Linear(dim, inner)
        self.to_v = nn.Linear(dim, inner)
        self.rays = nn.Linear(RAY, inner, bias=False)
        self.norm_q = nn.RMSNorm(inner, eps=1e-6)
        self.norm_k = nn.RMSNorm(inner, eps=1e-6)
        self.to_out = nn.Linear(inner, dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise all parameters; the module then returns zeros, whatever its input."""
        for norm in (self.norm, self.norm_q, self.norm_k):
            nn.init.ones_(norm.weight)
        nn.init.zeros_(self.norm.bias)
        for linear in (self.to_q, self.to_k, self.to_v):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)
        for parameter in (self.rays.weight, self.to_out.weight, self.to_out.bias):
            nn.init.zeros_(parameter)

    def forward(self, hidden_states: Tensor, context: ViewContext) -> Tensor:
        """Return the residual for the video tokens: [B, S, D] -> [B, S, D], B = groups x views."""
        views, frames, rays = context
        normed, where = self.norm(hidden_states), self.rays(rays.to(self.rays.weight.dtype))
        q, k, v = self.norm_q(self.to_q(normed) + where), self.norm_k(self.to_k(normed) + where), self.to_v(normed)
        q, k, v = (self._by_moment(x, views, frames) for x in (q, k, v))
        out = dispatch_attention_fn(q, k, v).flatten(2)  # [groups F, V n, D']
        out = out.unflatten(1, (views, -1)).unflatten(0, (-1, frames)).transpose(1, 2)  # [groups, V, F, n, D']
        # under autocast it may be float32: cast back, or all later blocks would be, too
        return self.to_out(out.flatten(0, 1).flatten(1, 2)).to(hidden_states.dtype)

    def _by_moment(self, x: Tensor, views: int, frames: int) -> Tensor:
        """Group tokens by latent frame: [groups V, F n, D'] -> [groups F, V n, heads, D' / heads]."""
        x = x.unflatten(1, (frames, -1)).unflatten(0, (-1, views)).transpose(1, 2)  # [groups, F, V, n, D']
        return x.flatten(0, 1).flatten(1, 2).unflatten(2, (self.heads, -1))
