"""In which numbers a run computes."""

import torch


def computing(device: torch.device, bf16: bool) -> torch.autocast:
    """bfloat16 where a run wants it, from weights in float32, in training and wherever a loss is measured.

    Weights are cast at each use: copies that are kept would be held through a whole forward.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=bf16, cache_enabled=False)
