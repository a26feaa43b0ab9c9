"""Group the videos of rigs into takes, and find the calibration of each take.

A folder of videos is a take, also as `<take>/videos/` (EasyMocap, Pose2Sim) or `<take>/hdVideos/` (Panoptic). AIST++
keeps all videos in one folder; there, names that differ only in the camera form a take. Videos below `calibration/`
show calibration boards and are ignored.
"""

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from opendimo.pipelines.engine.stage import DataError
from opendimo.pipelines.sources.items import videos_in
from opendimo.pipelines.sources.renders.text_files import read_text
from opendimo.pipelines.sources.signatures import VIDEO_SUFFIXES

if TYPE_CHECKING:  # the functions below import it: it takes seconds
    from opendimo.pipelines.sources.calibration import Calibration

AIST = re.compile(r"(g\w{2}_s\w{2})_(c\d{2})_(d\d{2}_m\w{2}\d_ch\d{2})")
NAMES = re.compile(
    r"(calib|camera|intri)[^/]*\.(json|toml|ya?ml|xml)|transforms(_train)?\.json|.*\.qca\.(txt|xml)", re.IGNORECASE
)
PLACES = ("", "calibration", "cameras", "sparse/0", "colmap/sparse/0")
"""Folders searched for calibrations, relative to the folder of the videos and its parents."""
BOARDS = ("charuco.toml",)
TIMES = ("timestamps.csv",)


@dataclass(frozen=True)
class Take:
    """A take. `name`: relative to the ingested path; `folder`: of the videos; `videos`: camera label by video path."""

    name: str
    folder: Path
    videos: dict[Path, str]


def takes_in(root: Path) -> list[Take]:
    """Return all takes at or below `root`, sorted. Raises `DataError` if there is no video."""
    takes: dict[tuple[Path, str], dict[Path, str]] = defaultdict(dict)
    for video in videos_in(root, recursive=True):
        if "calibration" in video.relative_to(root).parts[:-1]:
            continue
        aist = AIST.fullmatch(video.stem)
        take = f"{aist[1]}_cAll_{aist[3]}" if aist else ""
        takes[video.parent, take][video] = aist[2] if aist else video.stem
    if not takes:
        raise DataError(f"{root}: no videos below ({', '.join(sorted(VIDEO_SUFFIXES))}): a take is a folder of videos")
    return [Take(_name(folder, root, take), folder, videos) for (folder, take), videos in sorted(takes.items())]


def find_calibration(take: Take, root: Path, named: str | None) -> "Calibration":
    """Return the calibration named by the user, else the one beside the videos or in a parent folder up to `root`.

    Videos in `<session>/<take>/videos/` are calibrated in these three folders, even if `root` is one of them. Several
    files in one folder must agree. Raises `DataError` if there is no calibration, or they differ.
    """
    from opendimo.pipelines.sources.calibrations import read_calibration

    if named:
        return read_calibration(Path(named).absolute())
    within = [take.folder, *take.folder.parents]
    searched = within.index(root) + 1
    for folder in within[: max(searched, 3) if _only_media(take.folder) else searched]:
        for candidate in (folder / name for name in PLACES):
            if files := _candidates(candidate, take):
                return _agreed(candidate, files)
    raise DataError(
        f"{take.folder}: no calibration: put calib*.json, calib*.toml, *.qca.txt, intri.yml and extri.yml, a COLMAP "
        "model or transforms.json beside the videos, or name it with `calibration`"
    )


def beside(take: Take, names: tuple[str, ...]) -> Path | None:
    """Find a file of one of these names in the folder of the videos, or in its parent if it is called `videos`."""
    folders = [take.folder, *([take.folder.parent] if _only_media(take.folder) else [])]
    return next((path for folder in folders for name in names if (path := folder / name).is_file()), None)


def _name(folder: Path, root: Path, take: str) -> str:
    named = folder.parent if _only_media(folder) else folder
    below = named != root and named.is_relative_to(root)
    parts = [named.relative_to(root).as_posix()] if below else [] if take else [named.name]
    return "/".join([*parts, take] if take else parts)


def _only_media(folder: Path) -> bool:
    return folder.name in ("videos", "video")


def _candidates(folder: Path, take: Take) -> list[Path]:
    """Return the calibration files in a folder: of EasyMocap's two only the first, of AIST++ the take's setting."""
    from opendimo.pipelines.sources.calibrations.document import colmap_files

    if not folder.is_dir():
        return []
    if (mapping := folder / "mapping.txt").is_file():
        return [folder / f"{_setting(mapping, take)}.json"]
    model = [folder] if colmap_files(folder) else []
    return model + sorted(p for p in folder.iterdir() if NAMES.fullmatch(p.name) and p.is_file())


def _setting(mapping: Path, take: Take) -> str:
    name = take.name.rsplit("/", 1)[-1]
    lines = (line.split() for line in read_text(mapping).splitlines())
    setting = next((line[1] for line in lines if len(line) == 2 and line[0] == name), None)
    if setting is None or not re.fullmatch(r"\w+", setting):
        raise DataError(f"{mapping}: no line `{name} settingN`: add it")
    return setting


def _agreed(folder: Path, files: list[Path]) -> "Calibration":
    from opendimo.pipelines.sources.calibrations import read_calibration

    read = [read_calibration(file) for file in files]
    if not all(read[0].agrees(other) for other in read[1:]):
        names = ", ".join(file.name for file in files)
        raise DataError(
            f"{folder}: several calibrations ({names}) that differ: keep one, or name it with `calibration`"
        )
    return next((calibration for calibration in read if calibration.gravity_down is not None), read[0])
