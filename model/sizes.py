"""Which sizes and lengths a model can make, and in which windows."""

from typing import Any

from model.backbones.interface import Generator
from model.vae import VAE, strides
from model.windows import Span, windows


def check_size(vae: VAE, transformer: Any, height: int, width: int) -> None:
    """Raise `ValueError`, with the nearest size that can be, where pixels do not make whole patches of latents."""
    patch = transformer.config["patch_size"]  # of height and width, or of time, height and width
    unit = strides(vae).space * (patch if isinstance(patch, int) else patch[-1])
    for name, size in (("height", height), ("width", width)):
        if size < unit or size % unit:
            raise ValueError(f"{name} is {size}, not a multiple of {unit}: take {max(unit, round(size / unit) * unit)}")


def latent_windows(vae: VAE, transformer: Generator, num_frames: int, trained: int, overlap: int | None) -> list[Span]:
    """The windows of a video of `num_frames`, none longer than the `trained` frames, which overlap by a third or by
    `overlap` latent frames. Raises `ValueError` for a number of frames that cannot be made, with those that can."""
    stride = strides(vae).time
    if num_frames < 1 or (num_frames - 1) % stride:
        below = max(1, (num_frames - 1) // stride * stride + 1)
        raise ValueError(f"num_frames is {num_frames}, not {stride} k + 1: take {below} or {below + stride}")
    if num_frames > trained and transformer.first_frame_is_given:
        raise ValueError(
            f"num_frames is {num_frames}, more than the {trained} of training, and the reference is the first frame: "
            "ask for fewer, or train with reference 'prefix'"
        )
    size = (trained - 1) // stride + 1
    return windows((num_frames - 1) // stride + 1, size, max(1, size // 3) if overlap is None else overlap)
