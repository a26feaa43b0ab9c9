"""The formats of pose results that are read, and where their files lie."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from opendimo.pipelines.engine.stage import DataError
from opendimo.pipelines.poses.imports import frames, tracks
from opendimo.pipelines.poses.imports.result import Result

NON_COMMERCIAL = "for non-commercial research (the SMPL body models' licence, and the tool's)"
AROUND = re.compile(r"^demo_|_(poses|stageii|results|X3D)$")
"""What tools add to the name of a video."""
LEVELS = 3
"""Number of folders above a file that may have the name of the video."""


@dataclass(frozen=True)
class Format:
    """A format. `pattern`: of its files or folders below the given folder. `read`: (path, upright size of the video)
    to the people in it. `beside`: further files that it reads. `licence`: of what the tool estimates, as published.
    `videos`: names of the videos in one file that holds many; None: the name of the file or of a folder above it.
    `of_take`: in the world of a calibration, for all views of a take."""

    name: str
    pattern: str
    read: Callable[[Path, tuple[float, float]], list[Result]]
    licence: str = NON_COMMERCIAL
    beside: tuple[str, ...] = ()
    videos: Callable[[Path], list[str]] | None = None
    of_take: bool = False


FORMATS = {
    f.name: f
    for f in (
        Format("gvhmr", "hmr4d_results.pt", tracks.gvhmr),
        Format("wham", "wham_output.pkl", tracks.wham),
        Format("tram", "hps", tracks.tram, beside=("camera.npy",)),
        Format("prompthmr", "results.pkl", tracks.prompthmr),
        Format("4dhumans", "*.pkl", tracks.phalp),
        Format("camerahmr", "*.npz", frames.bedlam, videos=frames.bedlam_videos),
        Format("bedlam", "*.npz", frames.bedlam, videos=frames.bedlam_videos),
        Format("multihmr", "humans", frames.multihmr, "CC-BY-NC-SA-4.0, and the SMPL-X body model's licence"),
        Format("amass", "*.npz", tracks.amass, "AMASS: for non-commercial research", of_take=True),
        Format("easymocap", "smpl*", frames.easymocap, of_take=True),
        Format(
            "easymocap_points",
            "keypoints3d",
            frames.easymocap_points,
            "as OpenPose's landmarks: non-commercial",
            of_take=True,
        ),
        Format("motionbert", "X3D.npy", frames.motionbert, "Apache-2.0; trained on Human3.6M: for research"),
    )
}


@dataclass(frozen=True)
class Unit:
    """The result of one video: a file or folder `path`, and `video`, the name of the video if the file names it."""

    path: Path
    video: str | None = None

    def names(self) -> list[str]:
        """Return possible names of the video, the nearest first."""
        if self.video is not None:
            return [self.video]
        near = [self.path.stem, *(folder.name for folder in self.path.parents[:LEVELS])]
        return list(dict.fromkeys(name for text in near for name in (text, AROUND.sub("", text)) if name))


def format_of(name: str) -> Format:
    """Return a format by name. Raises `ValueError` for others."""
    if name not in FORMATS:
        raise ValueError(f"unknown format of pose results {name!r}: one of {', '.join(FORMATS)}")
    return FORMATS[name]


def units(folder: Path, form: Format) -> list[Unit]:
    """Return the results below a folder, in order of their paths. Raises `ValueError` if there are none.

    Raises `DataError` if a file that names its videos cannot be read.
    """
    paths = sorted(path for path in folder.rglob(form.pattern) if not path.is_symlink())
    if not paths:
        raise ValueError(f"{folder}: has no results of {form.name}: no {form.pattern} in it or below")
    found: list[Unit] = []
    for path in paths:
        found += [Unit(path)] if form.videos is None else [Unit(path, name) for name in form.videos(path)]
    return found


def read(unit: Unit, form: Format, size: tuple[float, float]) -> list[Result]:
    """Return the people in a result. Raises `DataError` if there are none, or if it cannot be read."""
    own = form.videos is None
    people = form.read(unit.path, size) if own else frames.bedlam(unit.path, size, unit.video)
    if not people:
        raise DataError(f"{unit.path}: has no person in it")
    return people


def files_of(unit: Unit, form: Format) -> list[Path]:
    """Return the files that a result consists of."""
    own = sorted(p for p in unit.path.iterdir() if p.is_file()) if unit.path.is_dir() else [unit.path]
    return [*own, *(unit.path.parent / name for name in form.beside)]
