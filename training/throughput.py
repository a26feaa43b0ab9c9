"""Model FLOPs utilisation (MFU): the share of a GPU's peak rate that a training step of the model needs."""

import torch

from opendimo.training.budget import FULL_SIZE, budget
from opendimo.training.config import TrainConfig
from opendimo.training.latents import LatentFormat

PEAKS = {
    "B200": 2250e12, "H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12, "A10G": 70e12,
    "RTX 5090": 209e12, "RTX 4090": 165e12, "RTX 3090": 71e12,
}  # fmt: skip
"""Dense bfloat16 FLOP/s by a part of the device's name, from the data sheets; the first part that fits counts."""


class Throughput:
    """Measures steps of a full-size run on GPUs; of other runs, and on unknown GPUs, nothing is known."""

    def __init__(self, config: TrainConfig, device: str | None, processes: int) -> None:
        """`device`: name of the GPUs, None without any. `processes`: number of GPUs."""
        peak = next((peak for name, peak in PEAKS.items() if device and name in device), None)
        self._rate = None if peak is None else peak * processes
        cost = budget(config) if peak and config.preset in FULL_SIZE else None
        self._flops = cost.flops if cost else None
        self._size = FULL_SIZE.get(config.preset)

    def mfu(self, samples: int, seconds: float, latents: LatentFormat) -> dict[str, float]:
        """Return `mfu` of a step of so many samples of a bucket; empty if it is unknown.

        FLOPs are those of the model without recomputation (`budget.py`), in proportion to the tokens of the bucket.
        """
        if self._rate is None or self._flops is None or self._size is None:
            return {}
        tokens = self._size.geometry.tokens
        share = tokens(latents.num_frames, latents.height, latents.width) / tokens(*self._size.video)
        return {"mfu": round(samples * share * self._flops / (seconds * self._rate), 4)}


def device_name(device: torch.device) -> str | None:
    """Return the name of a GPU; None for another device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else None
