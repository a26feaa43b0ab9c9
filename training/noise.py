"""Counter-based random numbers, without state: the same for any number of processes, and on any device to rounding.

Philox4x32-10 of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011), in integer operations of torch.
A sample's numbers depend only on its key, so that they can be drawn on the device that needs them.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
INCREMENTS = 0x9E3779B9, 0xBB67AE85
ROUNDS = 10
WORD = 0xFFFFFFFF


def philox(counters: tuple[Tensor, Tensor, Tensor, Tensor], keys: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    """Return four words for each counter of four words and key of two; words are int64 in [0, 2^32), of one shape."""
    c0, c1, c2, c3 = counters
    k0, k1 = keys
    for _ in range(ROUNDS):
        first, second = MULTIPLIERS[0] * c0, MULTIPLIERS[1] * c2  # 64 bits, which int64 holds as a negative number
        c0, c1, c2, c3 = (
            (second >> 32 & WORD) ^ c1 ^ k0,
            second & WORD,
            (first >> 32 & WORD) ^ c3 ^ k1,
            first & WORD,
        )
        k0, k1 = k0 + INCREMENTS[0] & WORD, k1 + INCREMENTS[1] & WORD
    return c0, c1, c2, c3


def normal(keys: Sequence[int], shape: Sequence[int], device: torch.device | str) -> Tensor:
    """Return standard normal numbers [B, *shape], float32, of which those of sample i depend on `keys[i]` only.

    `keys`: integers in [0, 2^63). Devices agree up to the rounding of logarithm, sine and cosine (Box-Muller).
    """
    count = math.prod(shape)
    index = torch.arange(-(-count // 4), device=device)[None]  # [1, N], a counter for four numbers
    zero = torch.zeros_like(index)
    low, high = (torch.tensor([key >> shift & WORD for key in keys], device=device)[:, None] for shift in (0, 32))
    words = philox((index & WORD, index >> 32, zero, zero), (low, high))  # four times [B, N]
    pairs = [_box_muller(words[0], words[1]), _box_muller(words[2], words[3])]
    numbers = torch.stack([number for pair in pairs for number in pair], dim=-1)  # [B, N, 4]
    return numbers.flatten(1)[:, :count].reshape(len(keys), *shape)


def _box_muller(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Return two normal numbers for each two words. The upper 24 bits are used, which float32 holds exactly."""
    radius = torch.sqrt(-2 * torch.log(((first >> 8) + 1).float() / (1 << 24)))  # of (0, 1]
    angle = (2 * math.pi / (1 << 24)) * (second >> 8).float()
    return radius * torch.cos(angle), radius * torch.sin(angle)
