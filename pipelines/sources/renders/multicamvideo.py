"""The layout of MultiCamVideo (ReCamMaster): scenes filmed by ten cameras at once, without ground truth of bodies.

`f<focal length>_aperture<n>/scene<n>/videos/cam<nn>.mp4` with `cameras/camera_extrinsics.json` beside `videos`. Poses
are row vectors as text: the camera's forward, right and up axes in Unreal's world, then its position in cm.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opendimo.pipelines.engine.stage import DataError
from opendimo.pipelines.sources.config import SourcesConfig
from opendimo.pipelines.sources.items import fingerprint, sample_sha256, videos_in
from opendimo.pipelines.sources.renders import jobs
from opendimo.pipelines.sources.renders.cameras import Cameras, finite_numbers, unit_intrinsics
from opendimo.pipelines.sources.renders.shot import Shot, broken
from opendimo.pipelines.sources.renders.text_files import read_object
from opendimo.pipelines.sources.renders.unreal_axes import point
from opendimo.storage_schemas.ids import sha256_bytes, stable_id

Array = NDArray[np.float64]
LAYOUT = jobs.MULTICAMVIDEO
FOCAL = re.compile(r"f(\d+(?:\.\d+)?)(?:mm)?_aperture.*", re.IGNORECASE)
SENSOR = 23.76  # mm, square
ROW = r"\[\s*" + r"\s+".join([r"([^\s\[\]]+)"] * 4) + r"\s*\]"
ROWS = re.compile(r"\s*".join([ROW] * 4))
ORTHOGONAL = 1e-3


def shots(name: str, folder: Path, config: SourcesConfig) -> list[Shot]:
    """List the cameras of one scene, called `name`."""
    name = name if "/" in name else f"{folder.parent.name}/{name}"  # scene names repeat for every focal length
    path = folder / jobs.EXTRINSICS
    videos = {p.stem: p for p in videos_in(folder / "videos", recursive=False)} if (folder / "videos").is_dir() else {}
    try:
        focal, poses = _focal(folder), read_extrinsics(path)
        capture_id = _capture_id(folder, path, list(videos.values()))
    except DataError as error:
        return [broken(LAYOUT, f"{name}/{camera}", video, str(error)) for camera, video in videos.items()] or [
            broken(LAYOUT, f"{name}/cameras", path, str(error))
        ]
    listed = []
    for camera in sorted({*videos, *poses}):
        view, video = f"{name}/{camera}", videos.get(camera)
        if video is None:
            problem = f"no video of camera {camera} in {folder / 'videos'}, which {path} describes: copy it there"
            listed.append(broken(LAYOUT, view, folder / "videos" / camera, problem))
        elif camera not in poses:
            listed.append(
                broken(LAYOUT, view, video, f"{video}: {path} has no camera {camera}, only {', '.join(poses)}")
            )
        else:
            facts = {"extrinsics": str(path), "camera": camera, "focal": focal}
            content = [fingerprint(video), stable_id(poses[camera].tolist()), facts]
            listed.append(
                Shot(LAYOUT, view, video, str(video), capture_id=capture_id, take=name, facts=facts, content=content)
            )
    return listed


def cameras(facts: dict[str, Any]) -> Cameras:
    """Read the cameras of a shot. Raises `DataError` if they cannot be read."""
    pose = read_extrinsics(Path(facts["extrinsics"])).get(facts["camera"])
    if pose is None:
        raise DataError(f"{facts['extrinsics']}: camera {facts['camera']} is no longer in the file; ingest again")
    K = unit_intrinsics(np.full(len(pose), facts["focal"]), np.full((len(pose), 2), SENSOR))
    return Cameras(pose, K, range(len(pose)))


def bodies(facts: dict[str, Any], numbers: range, fps: float) -> list[Any]:
    """Return no bodies: the data set has no ground truth of bodies."""
    return []


def read_extrinsics(path: Path) -> dict[str, Array]:
    """Read world to camera [T, 3, 4] of every camera, with OpenCV axes in metres, in the world of `unreal_axes`.

    Raises `DataError` if the file is malformed, frames are missing, or axes are not at right angles.
    """
    frames = read_object(path)
    cameras = sorted({name for frame in frames.values() if isinstance(frame, dict) for name in frame})
    if not cameras:
        raise DataError(f'{path}: no cameras: expected {{"frame0": {{"cam01": "[...] [...] [...] [...]"}}}}')
    table: dict[str, list[list[str]]] = {name: [] for name in cameras}
    for number in range(len(frames)):
        frame = frames.get(f"frame{number}")
        if not isinstance(frame, dict):
            raise DataError(f"{path}: frame{number} is missing of {len(frames)} frames")
        for name in cameras:
            match = ROWS.fullmatch(str(frame.get(name)).strip())
            if match is None:
                raise DataError(f"{path}: frame{number} {name}: not four rows of four numbers in brackets")
            table[name].append(list(match.groups()))
    return {name: _poses(f"{path} {name}", rows) for name, rows in table.items()}


def _poses(where: str, rows: list[list[str]]) -> Array:
    matrices = finite_numbers(where, rows, 16).reshape(-1, 4, 4)
    axes = matrices[:, :3, :3]  # rows: forward, right, up
    off = abs(axes @ axes.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2))
    if (off > ORTHOGONAL).any() or (np.linalg.det(axes) < 0).any() or (matrices[:, :, 3] != [0, 0, 0, 1]).any():
        raise DataError(f"{where}: frame{int(off.argmax())}: rows should be forward, right, up and position")
    forward, right, up = 100 * point(axes).transpose(1, 0, 2)  # directions [T, 3], in our world
    rotation = np.stack([right, -up, forward], axis=1)
    translation = -np.einsum("tij,tj->ti", rotation, point(matrices[:, 3, :3]))
    return np.concatenate([rotation, translation[..., None]], axis=-1)


def _focal(folder: Path) -> float:
    for name in (folder.name, *(parent.name for parent in folder.parents)):
        if match := FOCAL.fullmatch(name):
            return float(match[1])
    raise DataError(f"{folder}: no focal length: it should lie in a folder like f24_aperture5")


def _capture_id(folder: Path, extrinsics: Path, videos: list[Path]) -> str:
    """Return the id of a scene, from its name, cameras and a sample of a video, as names and camera paths repeat."""
    first = sample_sha256(videos[0]) if videos else sha256_bytes(b"")
    return stable_id("unreal", LAYOUT, folder.name, sha256_bytes(extrinsics.read_bytes()), first)
