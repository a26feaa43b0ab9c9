"""Vector quantisation with an EMA codebook (van den Oord et al. 2017, appendix A.1)."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

DECAY = 0.99
DEAD = 0.03
"""Average number of vectors per step below which a code is considered dead."""


class Quantised(NamedTuple):
    """Quantised `vectors` in the shape of the input, `indices` of their codes, and `commitment` losses [...]."""

    vectors: Tensor
    indices: Tensor
    commitment: Tensor


class Quantiser(nn.Module):
    """A codebook whose codes are exponential moving averages of the vectors nearest to them, in training mode.

    Dead codes are reset to random vectors of the batch, as are all codes at the first step. Gradients pass straight
    through to the input.
    """

    codes: Tensor
    counts: Tensor
    sums: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("codes", torch.randn(size, dim))
        self.register_buffer("counts", torch.zeros(size))
        self.register_buffer("sums", torch.zeros(size, dim))

    def forward(self, vectors: Tensor, ok: Tensor) -> Quantised:
        """Quantise vectors [..., dim]; only those that are `ok` [...] update the codes."""
        if self.training:
            self._reset_dead_codes(vectors[ok].detach().float())
        indices = self._nearest(vectors.detach())
        if self.training:
            self._update_codes(vectors[ok].detach().float(), indices[ok])
        codes = self.codes[indices].to(vectors.dtype)
        commitment = (vectors - codes).float().square().mean(-1)
        return Quantised(vectors + (codes - vectors).detach(), indices, commitment)

    def _nearest(self, vectors: Tensor) -> Tensor:
        """Return the index of the nearest code [...]."""
        return torch.cdist(vectors.flatten(0, -2).float(), self.codes.float()).argmin(-1).view(vectors.shape[:-1])

    @torch.no_grad()
    def _update_codes(self, vectors: Tensor, indices: Tensor) -> None:
        """Update the codes towards the means of the vectors [n, dim] that are assigned to them."""
        counts = torch.zeros_like(self.counts).index_add_(0, indices, torch.ones_like(indices, dtype=torch.float32))
        sums = torch.zeros_like(self.sums).index_add_(0, indices, vectors)
        self.counts.lerp_(counts, 1 - DECAY)
        self.sums.lerp_(sums, 1 - DECAY)
        assigned = counts > 0
        self.codes[assigned] = self.sums[assigned] / self.counts[assigned, None]

    @torch.no_grad()
    def _reset_dead_codes(self, vectors: Tensor) -> None:
        """Replace dead codes by random vectors of the batch."""
        dead = self.counts < DEAD
        if len(vectors) and dead.any():
            chosen = torch.randint(len(vectors), (int(dead.sum()),), device=vectors.device)
            self.codes[dead], self.sums[dead], self.counts[dead] = vectors[chosen], vectors[chosen], 1.0
