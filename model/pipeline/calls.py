"""The state of a call, which callbacks may read and change, and checks of its arguments, as in diffusers."""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers.callbacks import MultiPipelineCallbacks, SDCFGCutoffCallback
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor


class CallState:
    """State of the newest call. Callbacks may set `_guidance_scale`, `_motion_guidance_scale` and `_interrupt`."""

    _guidance_scale: float
    _motion_guidance_scale: float
    _attention_kwargs: dict[str, Any] | None
    _num_timesteps: int
    _interrupt: bool

    @property
    def guidance_scale(self) -> float:
        """Classifier-free guidance scale for the text; 1 disables it."""
        return self._guidance_scale

    @property
    def motion_guidance_scale(self) -> float:
        """Classifier-free guidance scale for the motion; 1 disables it."""
        return self._motion_guidance_scale

    @property
    def attention_kwargs(self) -> dict[str, Any] | None:
        """Arguments for the transformer: `scale`, the strength of a LoRA."""
        return self._attention_kwargs

    @property
    def num_timesteps(self) -> int:
        """Number of denoising steps."""
        return self._num_timesteps

    @property
    def interrupt(self) -> bool:
        """Whether the remaining steps are skipped."""
        return self._interrupt


def check_callback(callback: Any, inputs: Sequence[str], known: Sequence[str]) -> None:
    """Raise `ValueError` if a callback asks for unknown tensors, or relies on another meaning of `guidance_scale`."""
    if unknown := set(inputs) - set(known):
        raise ValueError(f"callbacks can receive {list(known)}, not {sorted(unknown)}")
    each = callback.callbacks if isinstance(callback, MultiPipelineCallbacks) else [callback]
    if any(isinstance(one, SDCFGCutoffCallback) for one in each):
        raise ValueError(
            "SDCFGCutoffCallback sets the guidance scale to 0, which here means: without text; set "
            "pipeline._guidance_scale = 1 in a callback of your own"
        )


def check_numbers(**numbers: int) -> None:
    """Raise `ValueError` for a number below 1."""
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"{name} is {number}: take 1 or more")


def initial_latents(
    shape: tuple[int, ...],
    generator: torch.Generator | list[torch.Generator] | None,
    latents: Tensor | None,
    device: torch.device,
) -> Tensor:
    """Return given latents, or new noise, float32. Raises `ValueError` for a wrong shape or number of generators."""
    if latents is not None and latents.shape != shape:
        raise ValueError(f"latents must have shape {list(shape)}, not {list(latents.shape)}")
    if isinstance(generator, list) and len(generator) != shape[0]:
        raise ValueError(f"{len(generator)} generators for {shape[0]} videos: give one or as many")
    latents = randn_tensor(shape, generator, device, torch.float32) if latents is None else latents
    return latents.to(device, torch.float32)
