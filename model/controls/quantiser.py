"""Vector quantisation with a codebook that follows the data (van den Oord et al. 2017, appendix A.1)."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

DECAY = 0.99
DEAD = 0.03
"""A code that stands for fewer vectors a step than this, on average, is dead."""


class Quantised(NamedTuple):
    """`vectors` like the input, each one a code; `indices` of the codes; `commitment` of the input to them, [...]."""

    vectors: Tensor
    indices: Tensor
    commitment: Tensor


class Quantiser(nn.Module):
    """Codes are the moving averages of the vectors nearest to them, in training mode; dead ones start anew as one of
    the vectors at hand, as all of them do at the first step. Gradients pass to the input as if nothing had happened."""

    codes: Tensor
    counts: Tensor
    sums: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("codes", torch.randn(size, dim))
        self.register_buffer("counts", torch.zeros(size))
        self.register_buffer("sums", torch.zeros(size, dim))

    def forward(self, vectors: Tensor, ok: Tensor) -> Quantised:
        """[..., dim]; codes follow those that are `ok` [...] only."""
        if self.training:
            self._start_dead_ones(vectors[ok].detach().float())
        indices = self._nearest(vectors.detach())
        if self.training:
            self._follow(vectors[ok].detach().float(), indices[ok])
        codes = self.codes[indices].to(vectors.dtype)
        commitment = (vectors - codes).float().square().mean(-1)
        return Quantised(vectors + (codes - vectors).detach(), indices, commitment)

    def _nearest(self, vectors: Tensor) -> Tensor:
        """Index of the nearest code [...]."""
        return torch.cdist(vectors.flatten(0, -2).float(), self.codes.float()).argmin(-1).view(vectors.shape[:-1])

    @torch.no_grad()
    def _follow(self, vectors: Tensor, indices: Tensor) -> None:
        """Move the codes to the mean of the vectors [n, dim] that they stand for."""
        counts = torch.zeros_like(self.counts).index_add_(0, indices, torch.ones_like(indices, dtype=torch.float32))
        sums = torch.zeros_like(self.sums).index_add_(0, indices, vectors)
        self.counts.lerp_(counts, 1 - DECAY)
        self.sums.lerp_(sums, 1 - DECAY)
        followed = counts > 0
        self.codes[followed] = self.sums[followed] / self.counts[followed, None]

    @torch.no_grad()
    def _start_dead_ones(self, vectors: Tensor) -> None:
        dead = self.counts < DEAD
        if len(vectors) and dead.any():
            chosen = torch.randint(len(vectors), (int(dead.sum()),), device=vectors.device)
            self.codes[dead], self.sums[dead], self.counts[dead] = vectors[chosen], vectors[chosen], 1.0
