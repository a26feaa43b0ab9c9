"""Driving in any form that a user has it, and windows of it as controls read them, cropped as in training."""

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
"""A video file; RGB images; RGB frames [T, H, W, 3] uint8; RGB frames [T, 3, H, W] in [0, 1]; or what controls read."""

FindPerson = Callable[[Frames, float, bool], Mapping[str, NDArray[Any]]]
"""(frames [T, H, W, 3] RGB, frames a second, whether poses are needed) -> `Person`; `ValueError` for nobody, or where
poses are needed and there are none. Hands are cropped around `joints_2d`, which in training are joints of a body."""
ReadVideo = Callable[[Path, int, float | None], tuple[Frames, Fraction]]
"""(file, number of frames, about how many of them a second, None as it likes) -> the first such frames and how many are
a second; `ValueError` where it cannot."""


class Footage(Protocol):
    """A driving clip, of which windows are asked for."""

    @property
    def fps(self) -> Fraction:
        """Of the frames that `window` counts."""

    def window(self, frames: slice) -> Driving:
        """What controls read of these frames, one sample [1, T, ...]."""


@dataclass(frozen=True)
class Prepared:
    """What controls read, given by the user [1, T, ...]."""

    driving: Driving
    fps: Fraction

    def window(self, frames: slice) -> Driving:
        """As `Footage`."""
        return self.driving.map(lambda x: x[:, frames])


@dataclass(frozen=True)
class Filmed:
    """Frames and the person in them, who is cropped anew in each window. `size` (width, height) of the target."""

    frames: Frames
    person: Person
    fps: Fraction
    encoder: EncoderConfig
    size: tuple[int, int]

    def window(self, frames: slice) -> Driving:
        """As `Footage`."""
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
    """The first `count` driving frames: of a video file about `rate` a second, or where that is None every
    `frame_step`-th one; of anything else each.

    `fps`: of what is no file. `poses`: the control reads them. `read_video`, `find_person`: None for those installed.
    Raises `ValueError` for what is no video, is too short, or shows nobody.
    """
    if isinstance(given, Driving):
        if (found := tuple(given.body.shape[:2]))[0] != 1 or found[1] < count:
            raise ValueError(f"a Driving of one sample and {count} frames is needed, not of [B, T] = {list(found)}")
        return Prepared(given.map(lambda x: x[:, :count]), fps)
    step, name = 1, "the driving frames"
    if isinstance(given, (str, Path)):
        read = read_video or installed(READERS, "read_video")
        step, name = 1 if rate else frame_step, str(given)
        frames, fps = read(Path(given), (count - 1) * step + 1, rate)
    else:
        frames = frames_of(given)[:count]
    if len(frames) < (needed := (count - 1) * step + 1):
        raise ValueError(f"{name}: {needed} are needed, there are {len(frames)}; give more, or lower num_frames")
    find = find_person or installed(FINDERS, "find_person")
    try:
        person = cast(Person, find(frames, float(fps), poses))
    except ValueError as error:
        raise ValueError(f"{name}: {error}; choose another driving video") from error
    person = at_frames(person, np.arange(0, len(frames), step))
    return Filmed(frames[::step], person, fps / step, encoder, size)


def frames_of(given: list[Image.Image] | Frames | Tensor) -> Frames:
    """Frames in any form -> [T, H, W, 3] uint8. Raises `ValueError` for other shapes and values."""
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
