"""Adapter for takes of calibrated rigs, and for videos of moving cameras with a known camera path.

Videos are matched to cameras by name: `cam01.mp4` to camera `cam01`, `hd_00_16.mp4` to camera `00_16`; a camera name
that is a number also matches the number at the end of the file name (`cam_0.mp4` to camera `0` or `port_0`);
`SourcesConfig.cameras` names the others. A take of one video and one moving camera needs no matching names. A static
camera has T = 1 in `K` and `world_to_camera`, for all frames.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from opendimo.pipelines.engine.stage import DataError, Work
from opendimo.pipelines.sources.calibration import OPENCV, Calibration, fit
from opendimo.pipelines.sources.calibrations import read_calibration
from opendimo.pipelines.sources.config import SourcesConfig
from opendimo.pipelines.sources.items import (
    Item,
    Rows,
    UnusableItem,
    capture_row,
    fingerprint,
    new_work,
    open_video,
    sample_sha256,
    source_row,
)
from opendimo.pipelines.sources.moving import on_frames
from opendimo.pipelines.sources.plausible import UNITS
from opendimo.pipelines.sources.takes import BOARDS, TIMES, Take, beside, find_calibration
from opendimo.pipelines.sources.times import read_times
from opendimo.pipelines.sources.turning import turned, turns_of
from opendimo.storage_schemas.ids import sha256_bytes, sha256_file, stable_id
from opendimo.storage_schemas.media.video import decode
from opendimo.storage_schemas.rows import Row

KIND = "multiview"
NUMBERED = re.compile(r"(?:cam(?:era)?|port|view)?[_\-]?(\d+)")
"""The name of a camera that is a number, perhaps after a word for a camera."""


@dataclass(frozen=True, kw_only=True)
class CalibratedView(Item):
    """A video and its camera in a calibration file.

    `views`: the cameras of the take. `gravity_down` [3]: unit vector, world axes. `board`, `times`: files beside the
    videos that describe the calibration board and the times of frames. `unit`: of lengths, None: that of the format.
    `files`: all files of the calibration. `content`: hashes of these and of a sample of the take's first video.
    """

    video: str
    camera: str
    calibration: str
    capture_id: str
    take: str
    views: list[str]
    gravity_down: list[float] | None
    board: str | None
    times: str | None
    unit: str | None = None
    files: list[str]
    content: list[str]

    @property
    def file(self) -> str | None:
        """Path of the video."""
        return self.video


def discover(root: Path, takes: list[Take], config: SourcesConfig) -> list[Work]:
    """List the views of the takes that `takes_in` found below `root`. Raises `DataError` for an unknown unit."""
    if config.unit not in (None, *UNITS):
        raise DataError(f"unit {config.unit!r}: use one of {', '.join(UNITS)}")
    return [work for take in takes for work in _take(take, root, config)]


def new_view(view: CalibratedView) -> Work:
    """Return the work of a view."""
    names = ("calibration", "capture_id", "take", "views", "gravity_down", "licence", "attribution", "board", "times")
    shared = {name: getattr(view, name) for name in (*names, *(["unit"] if view.unit else []))}
    read = [*view.files, *filter(None, (view.board, view.times))]
    return new_work(view, [fingerprint(Path(view.video)), [fingerprint(Path(path)) for path in read], shared])


def capture_id(take: str, content: list[str]) -> str:
    """Return the id of a capture, from the name of its take and the `content` of its views."""
    return stable_id(KIND, take, *content)


def rows(view: CalibratedView) -> Rows:
    """Return the rows of one view. Raises `DataError` if video or camera is unusable, or they do not match."""
    video = open_video(Path(view.video))
    camera = read_calibration(Path(view.calibration)).in_unit(view.unit).camera(view.camera)
    where = f"{view.calibration}, camera {view.camera}"
    if camera.lens != OPENCV:
        raise DataError(
            f"{where}: its lens is a {camera.lens}, which `sources` cannot store: undistort the video "
            "(pipelines/sources/lens.py) and give the pinhole camera"
        )
    info, (held, upright) = video.info, turns_of(camera, video.info)
    size = (info.width, info.height) if (info.rotation - held) % 180 == 0 else (info.height, info.width)
    try:
        K = fit(camera, size, lambda: decode(video.path, start=0, stop=1, rotation=held)[0])
        K, pose = on_frames(camera, K, info.frames)
        K, pose, distortion = turned(K, pose, camera.distortion, size, upright - held)
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    cameras: Row = {
        "world_to_camera": pose.astype(np.float32),  # [T or 1, 3, 4]
        "K": K.astype(np.float32),  # [T or 1, 3, 3]
        "distortion": distortion,
        "metric": camera.metric,
    }
    turn = (upright - info.rotation) % 360
    source = source_row(video, view, capture_id=view.capture_id, view=view.camera, turn=turn, **cameras)
    source |= _beside(view, video.info.frames, source["annotation_sha256"])
    capture = capture_row(
        view,
        capture_id=view.capture_id,
        take=view.take,
        views=view.views,
        sync_method="synchronised" if len(view.views) > 1 else "single",
        gravity_down=view.gravity_down,
    )
    return {"sources": [source], "captures": [capture]}


def _take(take: Take, root: Path, config: SourcesConfig) -> list[Work]:
    try:
        calibration = find_calibration(take, root, config.calibration).in_unit(config.unit)
        gravity = _gravity(calibration, config)
        content = _content(take, calibration)
    except DataError as error:
        return [_broken(take.name, label, video, str(error)) for video, label in take.videos.items()]

    names = list(calibration.cameras)
    given = _given(config)
    named = {video: given.get(video.name) or camera_of(label, names) for video, label in take.videos.items()}
    if len(named) == 1 and calibration.sole:
        named = {video: camera or calibration.sole for video, camera in named.items()}
    cameras = [camera for camera in named.values() if camera]
    views = sorted(camera for camera in set(cameras) if cameras.count(camera) == 1)
    try:
        calibration.check_spread(views)
    except DataError as error:
        return [_broken(take.name, label, video, str(error)) for video, label in take.videos.items()]

    files = {"board": beside(take, BOARDS), "times": beside(take, TIMES)}
    shared: dict[str, Any] = {
        "calibration": str(calibration.path),
        "capture_id": capture_id(take.name, content),
        "take": take.name,
        "views": views,
        "gravity_down": gravity,
        "licence": config.licence,
        "attribution": config.attribution,
        "unit": config.unit,
        "files": [str(path) for path in calibration.files],
        "content": content,
        **{name: None if path is None else str(path) for name, path in files.items()},
    }
    works = []
    free = sorted(set(names) - set(cameras))  # without a video
    for video, camera in named.items():
        label = take.videos[video]
        if camera not in names:
            listed = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
            left = f" (without a video: {', '.join(free[:20])})" if free else ""
            unlike = f"unknown camera name {camera or label!r}; {calibration.path} has {listed}{left}"
            problem = f"{video}: {unlike}: rename the one or the other, or give --camera NAME={video.name}"
            works.append(_broken(take.name, label, video, problem))
        elif camera not in views:
            problem = f"{video}: camera {camera} has several videos in {take.folder}: keep one"
            works.append(_broken(take.name, label, video, problem))
        else:
            name = f"{take.name}/{camera}"
            view = CalibratedView(kind=KIND, name=name, uri=str(video), video=str(video), camera=camera, **shared)
            works.append(new_view(view))
    unknown = any(camera not in names for camera in named.values())  # then these rejects name the free cameras
    for camera in () if calibration.partial or unknown else free:
        described = f"which {calibration.path} describes"
        problem = f"{take.folder}: no video of camera {camera}, {described}: add it, or take the camera out"
        works.append(_broken(take.name, camera, take.folder / camera, problem))
    return works


def _given(config: SourcesConfig) -> dict[str, str]:
    """Return the camera by file name that the user gave. Raises `DataError` if a pair is not NAME=FILE."""
    pairs = [pair.partition("=") for pair in config.cameras]
    if wrong := [name for name, _, file in pairs if not name or not file]:
        raise DataError(f"camera {wrong[0]!r}: write NAME=FILE, as in cam01=left.mp4")
    return {Path(file).name: name for name, _, file in pairs}


def camera_of(label: str, cameras: list[str]) -> str | None:
    """Return the camera that a video label refers to, or None: an equal name, else a name at its end, else its number.

    Upper and lower case do not matter, nor do the additions of Pose2Sim (`int_NAME_img`), FreeMoCap
    (`NAME_synchronized`) and anipose (`...camNAME`). Where cameras are numbered, the final number of the label counts:
    `cam_1` is `port_1` or `1`.
    """
    names = {camera: _core(camera) for camera in cameras}
    core = _core(label)
    if equal := [c for c in cameras if c == label] or [c for c, name in names.items() if name == core]:
        return equal[0] if len(equal) == 1 else None
    if ends := [
        c for c, name in names.items() if re.search(rf"(?:^|[_\-. ])(?:cam(?:era)?)?[_\-]?{re.escape(name)}$", core)
    ]:
        return max(ends, key=lambda c: len(names[c]))
    numbers = {c: int(found.group(1)) for c, name in names.items() if (found := NUMBERED.fullmatch(name))}
    number = re.search(r"\d+$", core)
    same = [c for c, value in numbers.items() if number and value == int(number.group())]
    return same[0] if len(same) == 1 else None


def _core(name: str) -> str:
    """Return a name in lower case without what tools add to it."""
    name = re.sub(r"_?(?:synchronized|synced|undistorted)$", "", name.lower())
    return re.sub(r"^int_(.+)_img$", r"\1", name)


def _beside(view: CalibratedView, frames: int | None, annotation: str) -> Row:
    """Return the columns from files beside the videos: frame times and the calibration board."""
    columns: Row = {"timestamps": None, "references": None}
    parts = [annotation]
    if view.times:
        times = read_times(Path(view.times), view.camera, frames)
        columns["timestamps"] = times.tolist()
        parts.append(sha256_bytes(times.tobytes()))
    if view.board:
        columns["references"] = [{"kind": "board", "path": view.board}]
        parts.append(sha256_file(view.board))
    return columns | {"annotation_sha256": annotation if len(parts) == 1 else stable_id("annotation", parts)}


def _gravity(calibration: Calibration, config: SourcesConfig) -> list[float] | None:
    given = calibration.gravity_down if config.gravity_down is None else config.gravity_down
    if given is None:
        return None
    try:
        down = np.array(given, np.float64).reshape(3)
    except (TypeError, ValueError):
        down = np.zeros(3)
    if not abs(np.linalg.norm(down) - 1) < 1e-3:
        raise DataError(f"{calibration.path}: gravity_down {given} should be a vector of length 1, as [0, 0, -1]")
    return [float(number) for number in down]


def _content(take: Take, calibration: Calibration) -> list[str]:
    """Return the hashes that identify a take: of its calibration and of a sample of its first video.

    The sample is needed because rigs reuse calibrations. The other videos are left out, so that they can be added or
    repaired later and still belong to the take.
    """
    first = sample_sha256(next(iter(take.videos)))
    return [*(sha256_file(path) for path in calibration.files), first]


def _broken(take: str, name: str, path: Path, problem: str) -> Work:
    item = UnusableItem(kind=KIND, name=f"{take}/{name}", uri=str(path), problem=problem)
    return new_work(item, fingerprint(path))
