"""Group the per-image cameras of structure from motion into moving cameras of videos.

Images in a named folder (`cam01/00012.jpg`) belong to the camera of that name; images in no folder, or in a generic one
(`images/`), to one camera called `camera`. Images are ordered by the number at the end of their names. In addition,
every image is a static camera under its own name, for rigs reconstructed from one image per view.
"""

import re
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opendimo.pipelines.sources.calibration import Calibration, Camera, make_camera

Array = NDArray[np.float64]
PLAIN_FOLDERS = {"", ".", "images", "image", "frames", "input", "rgb"}
MOVING = "camera"


@dataclass(frozen=True)
class Lens:
    """Lens of images: `size` (width, height), `K` [3, 3] counted from the image corner, `distortion` and `model`.

    Without a size, K is that of `Camera.unsized`.
    """

    size: tuple[int, int] | None
    K: Array
    distortion: tuple[float, ...]
    model: str


@dataclass(frozen=True)
class Shot:
    """One image: its path within the reconstruction, its lens, `R` [3, 3] and `t` [3] of `x_cam = R X + t`."""

    name: str
    lens: Lens
    R: Array
    t: Array


def gather(files: tuple[Path, ...], form: str, shots: list[Shot], metric: bool, gravity_down: Any) -> Calibration:
    """Build the calibration from these images."""
    moving: dict[str, dict[int, Shot]] = defaultdict(dict)
    stills: dict[str, Shot] = {}
    for shot in sorted(shots, key=lambda shot: shot.name):
        path = PurePosixPath(shot.name.replace("\\", "/"))
        number = re.search(r"\d+$", path.stem)
        stills[path.stem] = shot
        if number is not None:
            folder = path.parent.name
            moving[MOVING if folder in PLAIN_FOLDERS or folder.startswith("images_") else folder][int(number[0])] = shot
    cameras = {name: partial(_camera, {0: shot}, False, metric) for name, shot in stills.items()}
    paths = {name: partial(_camera, images, True, metric) for name, images in moving.items() if len(images) > 1}
    return Calibration(files, form, cameras | paths, gravity_down, partial=True, moving=tuple(paths))


def _camera(shots: dict[int, Shot], moves: bool, metric: bool) -> Camera:
    ordered = [shots[number] for number in sorted(shots)]
    lens = ordered[0].lens
    if any((s.lens.size, s.lens.distortion, s.lens.model) != (lens.size, lens.distortion, lens.model) for s in ordered):
        raise ValueError("its images have lenses of different sizes or distortions: reconstruct with one shared lens")
    return make_camera(
        size=lens.size,
        K=np.stack([shot.lens.K for shot in ordered]),
        R=np.stack([shot.R for shot in ordered]),
        t=np.stack([shot.t for shot in ordered]),
        distortion=lens.distortion,
        lens=lens.model,
        metric=metric,
        from_corner=True,
        numbers=tuple(sorted(shots)) if moves else None,
        unsized=lens.size is None,
    )
