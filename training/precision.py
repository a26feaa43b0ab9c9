"""Numerical precision of a run."""

import torch


def computing(device: torch.device, bf16: bool) -> torch.autocast:
    """Return the autocast context of training and loss measurements: bfloat16 if `bf16`, with float32 weights.

    Weights are cast at each use, without autocast's cache, which would hold copies during a whole forward pass.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=bf16, cache_enabled=False)
