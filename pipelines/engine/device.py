"""The device of a stage's models: what its workers ask the scheduler for, and what torch is given.

A stage must not look for a GPU by itself: it would load its models on a card that the scheduler gave to another worker.
"""

from typing import TYPE_CHECKING

from opendimo.pipelines.engine.stage import PermanentError

if TYPE_CHECKING:
    import torch


def gpus_for(device: str) -> float:
    """Return the number of GPUs that a worker needs for `device`, which is cpu or cuda.

    Raises `ValueError` for other devices: the scheduler decides which card a worker uses.
    """
    if device not in ("cpu", "cuda"):
        raise ValueError(f"the device is {device!r}: use cpu or cuda; the scheduler chooses the card")
    return float(device == "cuda")


def best_device() -> str:
    """Return cuda if this machine has a GPU, else cpu: the default of commands."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def torch_device(device: str) -> "torch.device":
    """Return the device for torch. Raises `PermanentError` if it is a GPU and this machine has none."""
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise PermanentError("no GPU found on this machine: set the device to cpu")
    return torch.device(device)
