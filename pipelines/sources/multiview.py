"""Takes of calibrated rigs: a folder of synchronised videos and a calibration file, or a folder of such folders.

A video belongs to the camera of its name: `cam01.mp4` to camera `cam01`; a bare number in the calibration also
matches the number at the end of the file's name (`cam_0.mp4` to camera `0`). Cameras are static: `K` and
`world_to_camera` are stored with T = 1, which stands for every frame.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.sources.calibration import Calibration, fit, read_calibration
from pipelines.sources.config import SourcesConfig
from pipelines.sources.items import (
    VIDEO_SUFFIXES,
    Row,
    Rows,
    VideoFile,
    capture_row,
    fingerprint,
    new_work,
    open_video,
    source_row,
    videos_in,
)
from pipelines.stage import DataError, Work
from storage_schemas.ids import sha256_bytes, stable_id
from storage_schemas.video import decode

KIND = "multiview"
CALIBRATION_NAME = re.compile(r"(calib|camera).*\.(json|toml)", re.IGNORECASE)
SAMPLE = 1 << 20  # bytes


def discover(root: Path, config: SourcesConfig) -> list[Work]:
    """List the views of one take, or of every take below `root`: a folder with videos in it is a take.

    Raises `DataError` where there is no video at all.
    """
    takes = sorted({video.parent for video in videos_in(root, recursive=True)})
    if not takes:
        raise DataError(f"{root}: no videos below ({', '.join(sorted(VIDEO_SUFFIXES))}): a take is a folder of videos")
    return [work for take in takes for work in _take(take, root, config)]


def rows(payload: dict[str, Any]) -> Rows:
    """The rows of one view. Raises `DataError` where video and camera are unusable or do not fit together."""
    video = open_video(Path(payload["video"]))
    camera = read_calibration(Path(payload["calibration"])).camera(payload["camera"])
    size = (video.info.width, video.info.height)
    K = camera.K if size == camera.size else fit(camera, size, _first_frame(video))
    cameras: Row = {
        "world_to_camera": camera.world_to_camera[None].astype(np.float32),  # [1, 3, 4]: the same for every frame
        "K": K[None].astype(np.float32),  # [1, 3, 3]
        "distortion": camera.distortion,
        "metric": True,
    }
    source = source_row(video, payload, capture_id=payload["capture_id"], view=payload["camera"], **cameras)
    capture = capture_row(
        payload,
        capture_id=payload["capture_id"],
        take=payload["take"],
        views=payload["views"],
        sync_method="synchronised",
        gravity_down=payload["gravity_down"],
    )
    return {"sources": [source], "captures": [capture]}


def _take(folder: Path, root: Path, config: SourcesConfig) -> list[Work]:
    videos = videos_in(folder, recursive=False)
    take = folder.name if folder == root else folder.relative_to(root).as_posix()
    try:
        path = _find_calibration(folder, root, config)
        calibration = read_calibration(path)
        gravity = _gravity(calibration, config)
    except DataError as error:
        return [_broken(take, video.stem, video, str(error)) for video in videos]

    named = {video: camera_of(video.stem, list(calibration.entries)) for video in videos}
    cameras = [camera for camera in named.values() if camera]
    views = sorted(camera for camera in set(cameras) if cameras.count(camera) == 1)
    shared = {
        "calibration": str(path),
        "capture_id": _capture_id(take, path, videos[0]),
        "take": take,
        "views": views,
        "gravity_down": gravity,
        "licence": config.licence,
        "attribution": config.attribution,
    }
    works = []
    for video, camera in named.items():
        known = ", ".join(calibration.entries)
        if camera is None:
            problem = f"{video}: unknown camera name {video.stem!r}; {path} has {known}: rename the one or the other"
            works.append(_broken(take, video.stem, video, problem))
        elif camera not in views:
            problem = f"{video}: camera {camera} has several videos in {folder}: keep one"
            works.append(_broken(take, video.stem, video, problem))
        else:
            payload = {**shared, "video": str(video), "camera": camera}
            content = [fingerprint(video), fingerprint(path), shared]
            works.append(new_work(KIND, f"{take}/{camera}", str(video), content, payload))
    for camera in sorted(set(calibration.entries) - set(cameras)):
        problem = f"{folder}: no video of camera {camera}, which {path} describes: add it, or take the camera out"
        works.append(_broken(take, camera, folder / camera, problem))
    return works


def camera_of(stem: str, cameras: list[str]) -> str | None:
    """The camera a video's name means, if any: the same name, or else the same number at its end."""
    if stem in cameras:
        return stem
    number = re.search(r"\d+$", stem)
    if number is None:
        return None
    return next((c for c in cameras if c.isdecimal() and int(c) == int(number.group())), None)


def _find_calibration(folder: Path, root: Path, config: SourcesConfig) -> Path:
    """The file the user named, else the one in the take's folder, else in the folders above it up to `root`."""
    if config.calibration:
        return Path(config.calibration).absolute()
    for place in (folder, *folder.parents):
        found = sorted(p for p in place.iterdir() if CALIBRATION_NAME.fullmatch(p.name))
        if len(found) > 1:
            names = ", ".join(p.name for p in found)
            raise DataError(f"{place}: several calibrations ({names}): keep one, or say which with `calibration`")
        if found:
            return found[0]
        if place == root:
            break
    raise DataError(
        f"{folder}: no calibration: put calib*.json, calib*.toml or camera*.toml beside the videos, "
        "or name it with `calibration`"
    )


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


def _capture_id(take: str, calibration: Path, video: Path) -> str:
    """One take: its name, its calibration, and a sample of one of its videos, as rigs repeat the other two.

    The other videos are left out so that one of them can be added or repaired later and still belong to the take.
    """
    with video.open("rb") as stream:
        sample = stream.read(SAMPLE)
    return stable_id(KIND, take, sha256_bytes(calibration.read_bytes()), sha256_bytes(sample))


def _broken(take: str, name: str, path: Path, problem: str) -> Work:
    return new_work(KIND, f"{take}/{name}", str(path), fingerprint(path), problem=problem)


def _first_frame(video: VideoFile) -> np.ndarray:
    return decode(video.path, start=0, stop=1, rotation=video.info.rotation)[0]
