"""Accept driving clips in any form, and cut them into windows of control inputs, cropped as in training."""

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from opendimo.model.batch import Driving
from opendimo.model.driving.framing import Framing
from opendimo.model.driving.person import Person, at_frames, driving_of
from opendimo.model.encoder.config import EncoderConfig
from opendimo.model.multiview.cameras import person_at
from opendimo.model.pipeline.plugs import FINDERS, READERS, installed

Frames = NDArray[np.uint8]
DrivingInput = str | Path | list[Image.Image] | Frames | Tensor | Driving
"""A video file; RGB images; RGB frames [T, H, W, 3] uint8; RGB frames [T, 3, H, W] in [0, 1]; or prepared inputs."""

FindPerson = Callable[[Frames, float, bool], Mapping[str, NDArray[Any]]]
"""(frames [T, H, W, 3] RGB, frames per second, whether poses are needed) -> `Person`. Raises `ValueError` if nobody is
found, or poses are needed and cannot be estimated. Hands are cropped around `joints_2d`, which in training are the
joints of a fitted body."""
ReadVideo = Callable[..., tuple[Frames, Fraction]]
"""(file, number of frames, approximate frame rate or None for the file's own[, start in seconds]) -> the first frames
at that rate, and their exact rate in frames per second. `start` is passed only if it is not 0. Raises `ValueError` if
the file cannot be read."""
LATE = 0.25
"""A person who is seen within this time, in seconds, is there from the start: detectors look a few times per second."""
SEARCHED = 30.0
"""Duration of a driving clip that is searched for a person, in seconds."""
SCALES = 1.5
"""Factor between the sizes of two people from which the output is likely to differ in size from the driving clip."""
PELVIS, NECK = 0, 12

logger = logging.getLogger(__name__)


class Footage(Protocol):
    """A driving clip that can be cut into windows."""

    @property
    def start(self) -> float:
        """Time of the first frame in the driving clip, in seconds."""

    @property
    def fps(self) -> Fraction:
        """Frame rate of the frames that `window` indexes, in frames per second."""

    @property
    def person_at(self) -> NDArray[np.float64]:
        """Mean position [3] of the person in the driver's camera, metres."""

    def window(self, frames: slice) -> Driving:
        """Return the control inputs of these frames as one sample [1, T, ...]."""


@dataclass(frozen=True)
class Prepared:
    """Footage whose control inputs [1, T, ...] were given by the user."""

    driving: Driving
    fps: Fraction
    start: float = 0.0

    @property
    def person_at(self) -> NDArray[np.float64]:
        """Implement `Footage.person_at`."""
        return person_at(self.driving.joints_3d[0].cpu().numpy(), self.driving.pose_ok[0].cpu().numpy())

    def window(self, frames: slice) -> Driving:
        """Implement `Footage.window`."""
        return self.driving.map(lambda x: x[:, frames])


@dataclass(frozen=True)
class Filmed:
    """Footage of frames and the tracked person, cropped anew for each window. `size`: (width, height) of the target;
    `start`: time of the first frame in the driving clip, in seconds."""

    frames: Frames
    person: Person
    fps: Fraction
    encoder: EncoderConfig
    size: tuple[int, int]
    start: float = 0.0

    @property
    def enters(self) -> float:
        """Time from the first frame until the person is visible, in seconds."""
        return int(np.isfinite(self.person["track"]).all(axis=1).argmax()) / float(self.fps)

    @property
    def torso(self) -> float | None:
        """Median length from pelvis to neck in the target's pixels; None if no body is labelled."""
        valid = np.asarray(self.person["valid"], bool)
        if not valid.any():
            return None
        height, width = self.frames.shape[1:3]
        points = Framing.of((width, height), self.size).points(self.person["joints_2d"][valid][..., :2]) * self.size
        return float(np.median(np.linalg.norm(points[:, NECK] - points[:, PELVIS], axis=-1)))

    @property
    def person_at(self) -> NDArray[np.float64]:
        """Implement `Footage.person_at`."""
        return person_at(self.person["joints_3d"], np.asarray(self.person["valid"], bool))

    def window(self, frames: slice) -> Driving:
        """Implement `Footage.window`."""
        person = at_frames(self.person, np.arange(len(self.frames))[frames])
        height, width = self.frames.shape[1:3]
        driving = driving_of(self.frames[frames], (width, height), person, self.encoder, self.size)
        return driving.as_floats().map(lambda x: x[None])


def open_footage(
    given: DrivingInput,
    count: int,
    *,
    start: float | None = None,
    fps: Fraction,
    frame_step: int,
    rate: float | None,
    encoder: EncoderConfig,
    size: tuple[int, int],
    poses: bool,
    read_video: ReadVideo | None,
    find_person: FindPerson | None,
) -> Prepared | Filmed:
    """Return `count` driving frames as `Footage`, from `start` on (seconds).

    Without `start` they begin where a person is seen first, as far as enough frames follow; a warning says so if that
    is not the beginning. A video file is sampled at about `rate` frames per second, or, if `rate` is None, at every
    `frame_step`-th frame. All other inputs are used frame by frame, and `fps` is their frame rate. `poses`: whether the
    control reads poses. `read_video`, `find_person`: None = the installed entry points.

    Raises `ValueError` for an input that is not a video, is too short, or shows nobody.
    """
    if start is not None and not (start >= 0 and math.isfinite(start)):
        raise ValueError(f"start is {start}: give the seconds from the beginning of the driving clip, 0 or more")
    if isinstance(given, Driving):
        first = round((start or 0) * fps)
        if (shape := tuple(given.body.shape[:2]))[0] != 1 or shape[1] < first + count:
            raise ValueError(
                f"a Driving of one sample and {first + count} frames is needed, not of [B, T] = {list(shape)}"
            )
        return Prepared(given.map(lambda x: x[:, first : first + count]), fps, float(first / fps))
    step, name = 1, "the driving frames"
    if isinstance(given, (str, Path)):
        reader = read_video or installed(READERS, "read_video")
        step, name = 1 if rate else frame_step, str(given)
    needed = (count - 1) * step + 1
    frames = None if isinstance(given, (str, Path)) else frames_of(given)

    def read(start: float) -> tuple[Frames, Fraction]:
        if frames is None:
            part, its_fps = reader(Path(str(given)), needed, rate, *([start] if start else []))
        else:
            part, its_fps = frames[(first := round(start * fps)) : first + needed], fps
        if len(part) < needed:
            raise ValueError(
                f"{name}: {needed} frames are needed{f' from {start:g} s on' if start else ''}, but there are "
                f"{len(part)}; give more, or lower num_frames"
            )
        return part, its_fps

    find = find_person or installed(FINDERS, "find_person")

    def label(start: float, part: Frames, its_fps: Fraction) -> Filmed:
        try:
            person = cast(Person, find(part, float(its_fps), poses))
        except ValueError as error:
            raise ValueError(f"{name}: {error}; choose another driving video, or another start") from error
        person = at_frames(person, np.arange(0, needed, step))
        return Filmed(part[::step], person, its_fps / step, encoder, size, start)

    return label(start, *read(start)) if start is not None else _first_seen(read, label, name)


def _first_seen(
    read: Callable[[float], tuple[Frames, Fraction]], label: Callable[[float, Frames, Fraction], Filmed], name: str
) -> Filmed:
    """Return the first footage with a person from its beginning on, or, if too few frames follow, with a person at all.

    `read` and `label` raise `ValueError` at the end of the clip and if nobody is seen.
    """
    start = 0.0
    nobody: ValueError | None = None
    while True:
        try:
            part = read(start)
        except ValueError as error:
            raise nobody or error from None
        try:
            seen = label(start, *part)
            break
        except ValueError as error:
            nobody = nobody or error
            start += len(part[0]) / float(part[1])
            if start > SEARCHED:
                raise nobody from None
    if seen.enters > (LATE if start == 0 else 0):
        enters = start + seen.enters
        try:
            seen = label(enters, *read(enters))
        except ValueError:
            logger.warning("%s: the person is not seen before %.2f s, and too few frames follow", name, enters)
    if seen.start:
        logger.warning(
            "%s: the motion begins at %.2f s, where a person is first seen; start=0 takes all", name, seen.start
        )
    return seen


def scale_of(footage: Prepared | Filmed, reference: Image.Image, find_person: FindPerson | None) -> float | None:
    """Return how large the person of the driving clip is in the target, relative to the one of the reference image.

    Compared are lengths from pelvis to neck, which cropping does not change as it does heights. None if either is
    unknown. A warning is logged if the factor exceeds `SCALES`.
    """
    if not isinstance(footage, Filmed) or not (driver := footage.torso):
        return None
    still = np.stack([np.asarray(reference)] * 2)  # a finder may not trust a single frame
    find = find_person or installed(FINDERS, "find_person")
    try:
        person = cast(Person, find(still, 1.0, True))
    except ValueError:  # a drawing, or a face only
        return None
    if not (torso := replace(footage, frames=still, person=person).torso):
        return None
    factor = driver / torso
    if not 1 / SCALES <= factor <= SCALES:
        logger.warning(
            "the person of the driving clip is %.2f times as large in the picture as that of the reference, so the "
            "output may be of another size than the reference: crop either to the same size",
            factor,
        )
    return factor


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
