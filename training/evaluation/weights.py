"""Load metric weights from user-provided files. Pickles are restricted to tensors."""

import pickle
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor


def usual_device() -> str:
    """Return "cuda" if PyTorch sees a GPU, else "cpu"."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def state_dict(path: Path) -> dict[str, Tensor]:
    """Load tensors by name from a .safetensors or `torch.save` file. Raises `ValueError` for other files."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, SafetensorError, pickle.UnpicklingError, EOFError) as error:
        raise ValueError(f"{path}: not a readable state dict ({_first_line(error)})") from error
    if not isinstance(loaded, dict) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise ValueError(f"{path}: not a state dict of tensors")
    return cast(dict[str, Tensor], loaded)


def script(path: Path) -> torch.jit.ScriptModule:
    """Load a TorchScript module for inference. Raises `ValueError` for other files."""
    try:
        module = cast(torch.jit.ScriptModule, torch.jit.load(str(path), map_location=usual_device()))
    except (OSError, RuntimeError, ValueError) as error:
        raise ValueError(f"{path}: not a TorchScript module ({_first_line(error)})") from error
    return module.eval()


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
