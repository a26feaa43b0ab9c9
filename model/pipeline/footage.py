"""Accept driving clips in any form, and cut them into windows of control inputs, cropped as in training."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from opendimo.model.batch import Driving
from opendimo.model.driving.person import Person, at_frames, driving_of
from opendimo.model.encoder.config import EncoderConfig
from opendimo.model.pipeline.plugs import FINDERS, READERS, installed

Frames = NDArray[np.uint8]
DrivingInput = str | Path | list[Image.Image] | Frames | Tensor | Driving
"""A video file; RGB images; RGB frames [T, H, W, 3] uint8; RGB frames [T, 3, H, W] in [0, 1]; or prepared inputs."""

FindPerson = Callable[[Frames, float, bool], Mapping[str, NDArray[Any]]]
"""(frames [T, H, W, 3] RGB, frames per second, whether poses are needed) -> `Person`. Raises `ValueError` if nobody is
found, or poses are needed and cannot be estimated. Hands are cropped around `joints_2d`, which in training are the
joints of a fitted body."""
ReadVideo = Callable[[Path, int, float | None], tuple[Frames, Fraction]]
"""(file, number of frames, approximate frame rate or None for the file's own) -> the first frames at that rate, and
their exact rate in frames per second. Raises `ValueError` if the file cannot be read."""


class Footage(Protocol):
    """A driving clip that can be cut into windows."""

    @property
    def fps(self) -> Fraction:
        """Frame rate of the frames that `window` indexes, in frames per second."""

    def window(self, frames: slice) -> Driving:
        """Return the control inputs of these frames as one sample [1, T, ...]."""


@dataclass(frozen=True)
class Prepared:
    """Footage whose control inputs [1, T, ...] were given by the user."""

    driving: Driving
    fps: Fraction

    def window(self, frames: slice) -> Driving:
        """Implement `Footage.window`."""
        return self.driving.map(lambda x: x[:, frames])


@dataclass(frozen=True)
class Filmed:
    """Footage of frames and the tracked person, cropped anew for each window. `size`: (width, height) of the target."""

    frames: Frames
    person: Person
    fps: Fraction
    encoder: EncoderConfig
    size: tuple[int, int]

    def window(self, frames: slice) -> Driving:
        """Implement `Footage.window`."""
        person = at_frames(self.person, np.arange(len(self.frames))[frames])
        return driving_of(self.frames[frames], person, self.encoder, self.size).map(lambda x: x[None])


def open_footage(
    given: DrivingInput,
    count: int,
    *,
    fps: Fraction,
    frame_step: int,
    rate: float | None,
    encoder: EncoderConfig,
    size: tuple[int, int],
    poses: bool,
    read_video: ReadVideo | None,
    find_person: FindPerson | None,
) -> Footage:
    """Return the first `count` driving frames as `Footage`.

    A video file is sampled at about `rate` frames per second, or, if `rate` is None, at every `frame_step`-th frame.
    All other inputs are used frame by frame, and `fps` is their frame rate. `poses`: whether the control reads poses.
    `read_video`, `find_person`: None = the installed entry points.

    Raises `ValueError` for an input that is not a video, is too short, or shows nobody.
    """
    if isinstance(given, Driving):
        if (shape := tuple(given.body.shape[:2]))[0] != 1 or shape[1] < count:
            raise ValueError(f"a Driving of one sample and {count} frames is needed, not of [B, T] = {list(shape)}")
        return Prepared(given.map(lambda x: x[:, :count]), fps)
    step, name = 1, "the driving frames"
    if isinstance(given, (str, Path)):
        read = read_video or installed(READERS, "read_video")
        step, name = 1 if rate else frame_step, str(given)
        frames, fps = read(Path(given), (count - 1) * step + 1, rate)
    else:
        frames = frames_of(given)[:count]
    if len(frames) < (needed := (count - 1) * step + 1):
        raise ValueError(
            f"{name}: {needed} frames are needed, but there are {len(frames)}; give more, or lower num_frames"
        )
    find = find_person or installed(FINDERS, "find_person")
    try:
        person = cast(Person, find(frames, float(fps), poses))
    except ValueError as error:
        raise ValueError(f"{name}: {error}; choose another driving video") from error
    person = at_frames(person, np.arange(0, len(frames), step))
    return Filmed(frames[::step], person, fps / step, encoder, size)


def frames_of(given: list[Image.Image] | Frames | Tensor) -> Frames:
    """Convert frames in any accepted form to [T, H, W, 3] uint8. Raises `ValueError` for other shapes and values."""
    if isinstance(given, list) and given and all(isinstance(image, Image.Image) for image in given):
        if len(sizes := {image.size for image in given}) > 1:
            raise ValueError(f"the driving images are of sizes {sorted(sizes)}: give images of one size")
        return np.stack([np.asarray(image.convert("RGB")) for image in given])
    if isinstance(given, Tensor) and given.ndim == 4 and given.shape[1] == 3 and given.is_floating_point():
        if given.min() < 0 or given.max() > 1:
            raise ValueError(f"driving tensors must be in [0, 1], not {given.min():.3g} to {given.max():.3g}: scale it")
        return (255 * given.float()).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    if isinstance(given, np.ndarray) and given.ndim == 4 and given.shape[3] == 3 and given.dtype == np.uint8:
        return given
    raise ValueError(
        "driving must be a video file, a list of images, an array [T, H, W, 3] of uint8, a tensor [T, 3, H, W] of "
        f"numbers in [0, 1] or a Driving, not {_described(given)}"
    )


def _described(given: Any) -> str:
    if isinstance(given, (Tensor, np.ndarray)):
        return f"{type(given).__name__} {list(given.shape)} of {given.dtype}"
    return type(given).__name__
