"""Renders with exact truth: render jobs of BEDLAM and BEDLAM2, MultiCamVideo, and our manifest for any engine.

A layout (a module of `renders`) says what lies where; what all have in common is here. What shows the same performance
becomes views of one capture, also across jobs.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opendimo.pipelines.engine.stage import DataError, Work
from opendimo.pipelines.sources.config import SourcesConfig
from opendimo.pipelines.sources.items import Row, Rows, VideoFile, capture_row, new_work, open_video, source_row
from opendimo.pipelines.sources.renders import bedlam, door, manifest, multicamvideo, unreal_axes
from opendimo.pipelines.sources.renders.cameras import Cameras
from opendimo.pipelines.sources.renders.motion import Truth
from opendimo.pipelines.sources.renders.shot import Shot, sequence_of
from opendimo.storage_schemas.media import video as videos
from opendimo.storage_schemas.media.image_sequence import is_pattern
from opendimo.storage_schemas.media.video import VideoInfo

Array = NDArray[np.float64]
KIND = "unreal"
LAYOUTS: dict[str, Any] = {layout.LAYOUT: layout for layout in (bedlam, multicamvideo, manifest)}
MEDIA = {"mp4", "png", "depth", "masks", "ground_truth", "motions_npz", "videos", "cameras"}
"""Folders of a job in which no other job is looked for: they may hold millions of pictures."""
PARAMETERS = ("global_orient", "body_pose", "hand_pose", "transl")


def discover(root: Path, config: SourcesConfig) -> list[Work]:
    """List the views of one render job, or of every job below `root`.

    Raises `DataError` where there is none.
    """
    jobs = list(_jobs(root))
    if not jobs:
        raise DataError(
            f"{root}: no render job below: a job is a folder with be_seq.csv, mp4/ and ground_truth/, "
            f"with {multicamvideo.EXTRINSICS}, or with a {manifest.SUFFIX}"
        )
    folders = [path if path.is_dir() else path.parent for _, path in jobs]
    names = Counter(folder.name for folder in set(folders))
    shots: list[Shot] = []
    for (layout, path), folder in zip(jobs, folders, strict=True):
        alone = names[folder.name] == 1 or folder == root
        shots += layout.shots(folder.name if alone else folder.relative_to(root).as_posix(), path, config)
    captures: dict[str, list[Shot]] = defaultdict(list)
    for shot in shots:
        if not shot.problem:
            captures[shot.capture_id].append(shot)
    return [_work(shot, captures[shot.capture_id], config) for shot in shots]


def rows(payload: dict[str, Any]) -> Rows:
    """The rows of one view. Raises `DataError` where pictures, cameras and bodies do not go together."""
    layout, where = LAYOUTS[payload["layout"]], payload["pictures"]
    cameras: Cameras = layout.cameras(payload["facts"])
    video, numbers, rate = _open(payload, cameras)
    frames = _frames(video)
    if numbers is not None:
        cameras = cameras.at(numbers, where)
    door.check_frames(frames, cameras, payload["frames"], where)
    numbers = numbers or range(frames)
    size, turn = _upright(video.info, payload)
    bodies = layout.bodies(payload["facts"], numbers, float(rate))
    columns: Row = {
        "world_to_camera": cameras.world_to_camera,
        "K": cameras.intrinsics(size),
        "distortion": [],
        "metric": True,
        **_truth(bodies),
    }
    named = [f"{number} ({name})" for number, name in enumerate(payload["bodies"])]
    _check(payload, cameras, dict(zip(named, columns.get("truth_joints", []), strict=True)), numbers)
    with np.errstate(over="ignore"):  # what overflows is told below
        columns = {k: v.astype(np.float32) if isinstance(v, np.ndarray) else v for k, v in columns.items()}
    door.check_numbers(columns, where)
    references = [{"kind": kind, "path": path} for kind, path in payload["references"]]
    capture_id = payload["capture_id"]
    source = source_row(video, payload, capture_id=capture_id, view=payload["name"], turn=turn, **columns)
    capture = capture_row(
        payload,
        capture_id=capture_id,
        take=payload["take"],
        views=payload["views"],
        sync_method="rendered",
        gravity_down=unreal_axes.GRAVITY_DOWN,
    )
    return {
        "sources": [source | {"references": references or None}],
        "captures": [capture | {"action": payload["action"]}],
    }


def _jobs(root: Path) -> Iterator[tuple[Any, Path]]:
    """Every job below `root`: its layout, and its folder (or the file that is a manifest)."""
    for place, folders, files in os.walk(root):
        folder = Path(place)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if manifests := sorted(filter(manifest.is_manifest, files)):
            yield from ((manifest, folder / name) for name in manifests)
        elif multicamvideo.is_scene(folder, folders):
            yield multicamvideo, folder
        elif bedlam.is_job(folders, files):
            yield bedlam, folder
        else:
            continue
        folders[:] = [name for name in folders if name not in MEDIA]


def _work(shot: Shot, capture: list[Shot], config: SourcesConfig) -> Work:
    facts = asdict(shot)
    content = [facts.pop("content"), config.licence, config.attribution]
    uri, name, problem = str(facts.pop("uri")), facts.pop("view"), facts.pop("problem")
    facts |= {
        "views": sorted(other.view for other in capture),
        "others": [[other.layout, other.facts] for other in capture if other is not shot],
        "licence": shot.licence or config.licence,
        "attribution": shot.attribution or config.attribution,
    }
    return new_work(KIND, name, uri, content, facts, problem)


def _open(payload: dict[str, Any], cameras: Cameras) -> tuple[VideoFile, range | None, Fraction]:
    """The pictures of a view; which frames of the render they are, where that is told; the rate that these count."""
    path = payload["pictures"]
    if not is_pattern(path):
        video = open_video(Path(path))
        stated = Fraction(payload["fps"]) if payload["fps"] and not payload["numbered"] else video.info.fps
        if abs(video.info.fps - stated) > stated / 100:
            raise DataError(f"{path}: has {float(video.info.fps):g} frames per second, {float(stated):g} were stated")
        step = cameras.numbers.step if cameras.numbers else 1
        return video, cameras.numbers, video.info.fps * step
    sequence, rate = sequence_of(path), Fraction(payload["fps"])
    try:
        codec, width, height = sequence.facts()
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error
    numbers = sequence.numbers if payload["numbered"] else None
    fps = rate / numbers.step if numbers else rate
    info = VideoInfo("image2", codec, width, height, 0, fps, len(sequence.paths))
    return VideoFile(Path(path), sequence.sha256(), sequence.size(), info), numbers, rate


def _frames(video: VideoFile) -> int:
    """Frames by the container's word, or counted where it says nothing."""
    if video.info.frames is not None:
        return video.info.frames
    try:
        return sum(1 for _ in videos.frames(video.path))
    except ValueError as error:
        raise DataError(f"{video.path}: {error}") from error


def _upright(info: VideoInfo, payload: dict[str, Any]) -> tuple[tuple[int, int], int]:
    """(width, height) of upright pictures, and the clockwise turn that the decoded ones still need."""
    turn: int = payload["turn"]
    if payload["portrait"]:
        turn = 90 if info.width > info.height else 0
    size = (info.height, info.width) if turn in (90, 270) else (info.width, info.height)
    return size, turn


def _truth(bodies: list[Truth | Array]) -> Row:
    """Joints of all bodies, and their parameters where every body has them."""
    if not bodies:
        return {}
    joints = [body.joints if isinstance(body, Truth) else body for body in bodies]
    least = min(body.shape[1] for body in joints)
    columns: Row = {"truth_joints": np.stack([body[:, :least] for body in joints])}
    full = [body for body in bodies if isinstance(body, Truth)]
    if len(full) == len(bodies):
        columns |= {f"truth_{name}": np.stack([getattr(body, name) for body in full]) for name in PARAMETERS}
        shape = max(len(body.betas) for body in full)  # a coefficient of zero changes nothing
        columns["truth_betas"] = np.stack([np.pad(body.betas, (0, shape - len(body.betas))) for body in full])
    return columns


def _check(payload: dict[str, Any], cameras: Cameras, joints: dict[str, Array], numbers: range) -> None:
    """Whether cameras and bodies can be true together. Raises `DataError` where not."""
    where = payload["name"]
    door.check_bodies(joints, where)
    door.check_ground(cameras, joints, payload["ground"], where)
    lost = door.unseen(cameras, joints)
    for layout, facts in payload["others"]:
        if not lost:
            return
        try:
            other = LAYOUTS[layout].cameras(facts)
        except DataError:
            continue  # that view is rejected by itself
        shared = [i for i, number in enumerate(numbers) if other.numbers is None or number in other.numbers]
        if shared:
            seen_by = other.pick([numbers[i] for i in shared])
            lost = door.unseen(seen_by, {name: body[shared] for name, body in lost.items()})
    if lost:
        views = f"any of the {1 + len(payload['others'])} views" if payload["others"] else "the picture"
        raise DataError(
            f"{where}: body {', '.join(lost)} is never in {views}: its motion, start frame or place is wrong, "
            "or the cameras are of another render; correct it, or take the body out"
        )
