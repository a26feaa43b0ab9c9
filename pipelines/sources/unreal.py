"""Adapter for renders with exact ground truth: BEDLAM, BEDLAM2, MultiCamVideo, and the render manifest for any engine.

Each layout is a module of `renders` that locates and reads its files; this module holds the common part. Renders of the
same performance become views of one capture, also across jobs.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opendimo.pipelines.engine.stage import DataError, Work
from opendimo.pipelines.sources.config import SourcesConfig
from opendimo.pipelines.sources.items import (
    Item,
    Rows,
    UnusableItem,
    VideoFile,
    capture_row,
    new_work,
    open_video,
    source_row,
)
from opendimo.pipelines.sources.renders import bedlam, manifest, multicamvideo, truth_checks, unreal_axes
from opendimo.pipelines.sources.renders.cameras import Cameras
from opendimo.pipelines.sources.renders.motion import Truth
from opendimo.pipelines.sources.renders.shot import Shot, sequence_of
from opendimo.storage_schemas.media import video as videos
from opendimo.storage_schemas.media.image_sequence import is_pattern
from opendimo.storage_schemas.media.video import VideoInfo
from opendimo.storage_schemas.rows import Row

Array = NDArray[np.float64]
KIND = "unreal"
LAYOUTS: dict[str, Any] = {layout.LAYOUT: layout for layout in (bedlam, multicamvideo, manifest)}
PARAMETERS = ("global_orient", "body_pose", "hand_pose", "transl")


@dataclass(frozen=True, kw_only=True)
class RenderedView(Item):
    """A view of a render. `views`: names of all views of the performance. `others`: layout and facts of the other ones,
    whose cameras may show the bodies that this one does not."""

    shot: Shot
    views: list[str]
    others: list[tuple[str, dict[str, Any]]]

    @property
    def file(self) -> str | None:
        """Path of the video, or the pattern of its numbered pictures."""
        return self.shot.pictures


def discover(root: Path, jobs: list[tuple[str, Path]], config: SourcesConfig) -> list[Work]:
    """List the views of the render jobs that `jobs_in` found below `root`."""
    folders = [path if path.is_dir() else path.parent for _, path in jobs]
    names = Counter(folder.name for folder in set(folders))
    shots: list[Shot] = []
    for (layout, path), folder in zip(jobs, folders, strict=True):
        unique = names[folder.name] == 1 or folder == root
        shots += LAYOUTS[layout].shots(folder.name if unique else folder.relative_to(root).as_posix(), path, config)
    captures: dict[str, list[Shot]] = defaultdict(list)
    for shot in shots:
        if not shot.problem:
            captures[shot.capture_id].append(shot)
    return [_work(shot, captures[shot.capture_id], config) for shot in shots]


def rows(view: RenderedView) -> Rows:
    """Return the rows of one view. Raises `DataError` if pictures, cameras and bodies do not match."""
    shot = view.shot
    layout, where = LAYOUTS[shot.layout], shot.pictures
    cameras: Cameras = layout.cameras(shot.facts)
    video, numbers, rate = _open(shot, cameras)
    frames = _frames(video)
    if numbers is not None:
        cameras = cameras.at(numbers, where)
    truth_checks.check_frames(frames, cameras, shot.frames, where)
    numbers = numbers or range(frames)
    size, turn = _upright(video.info, shot)
    bodies = layout.bodies(shot.facts, numbers, float(rate))
    columns: Row = {
        "world_to_camera": cameras.world_to_camera,
        "K": cameras.intrinsics(size),
        "distortion": [],
        "metric": True,
        **_truth(bodies),
    }
    labels = [f"{number} ({name})" for number, name in enumerate(shot.bodies)]
    _check(view, cameras, dict(zip(labels, columns.get("truth_joints", []), strict=True)), numbers)
    with np.errstate(over="ignore"):  # `check_numbers` reports overflows
        columns = {k: v.astype(np.float32) if isinstance(v, np.ndarray) else v for k, v in columns.items()}
    truth_checks.check_numbers(columns, where)
    references = [{"kind": kind, "path": path} for kind, path in shot.references]
    source = source_row(video, view, capture_id=shot.capture_id, view=shot.view, turn=turn, **columns)
    capture = capture_row(
        view,
        capture_id=shot.capture_id,
        take=shot.take,
        views=view.views,
        sync_method="rendered",
        gravity_down=unreal_axes.GRAVITY_DOWN,
    )
    return {
        "sources": [source | {"references": references or None}],
        "captures": [capture | {"action": shot.action}],
    }


def _work(shot: Shot, capture: list[Shot], config: SourcesConfig) -> Work:
    content = [shot.content, config.licence, config.attribution]
    uri = str(shot.uri)
    if shot.problem:
        return new_work(UnusableItem(kind=KIND, name=shot.view, uri=uri, problem=shot.problem), content)
    view = RenderedView(
        kind=KIND,
        name=shot.view,
        uri=uri,
        licence=shot.licence or config.licence,
        attribution=shot.attribution or config.attribution,
        subject=shot.subject,
        shot=replace(shot, content=None),
        views=sorted(other.view for other in capture),
        others=[(other.layout, other.facts) for other in capture if other is not shot],
    )
    return new_work(view, content)


def _open(shot: Shot, cameras: Cameras) -> tuple[VideoFile, range | None, Fraction]:
    """Open the pictures of a view.

    Returns the video or picture sequence; the render's frame numbers of its frames, None if unknown; and the frame rate
    of the render.
    """
    path = shot.pictures
    if not is_pattern(path):
        video = open_video(Path(path))
        stated = Fraction(shot.fps) if shot.fps and not shot.numbered else video.info.fps
        if abs(video.info.fps - stated) > stated / 100:
            raise DataError(f"{path}: has {float(video.info.fps):g} frames per second, {float(stated):g} were stated")
        step = cameras.numbers.step if cameras.numbers else 1
        return video, cameras.numbers, video.info.fps * step
    sequence, rate = sequence_of(path), Fraction(shot.fps or 0)
    try:
        codec, width, height = sequence.facts()
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error
    numbers = sequence.numbers if shot.numbered else None
    fps = rate / numbers.step if numbers else rate
    info = VideoInfo("image2", codec, width, height, 0, fps, len(sequence.paths))
    return VideoFile(Path(path), sequence.sha256(), sequence.size(), info), numbers, rate


def _frames(video: VideoFile) -> int:
    """Return the number of frames stated by the container, or counted if it states none."""
    if video.info.frames is not None:
        return video.info.frames
    try:
        return sum(1 for _ in videos.frames(video.path))
    except ValueError as error:
        raise DataError(f"{video.path}: {error}") from error


def _upright(info: VideoInfo, shot: Shot) -> tuple[tuple[int, int], int]:
    """Return (width, height) of the upright pictures, and the clockwise rotation that decoded pictures need for it."""
    turn = shot.turn
    if shot.portrait:
        turn = 90 if info.width > info.height else 0
    size = (info.height, info.width) if turn in (90, 270) else (info.width, info.height)
    return size, turn


def _truth(bodies: list[Truth | Array]) -> Row:
    """Return the joints of all bodies, and the SMPL-X parameters if every body has them."""
    if not bodies:
        return {}
    joints = [body.joints if isinstance(body, Truth) else body for body in bodies]
    least = min(body.shape[1] for body in joints)
    columns: Row = {"truth_joints": np.stack([body[:, :least] for body in joints])}
    full = [body for body in bodies if isinstance(body, Truth)]
    if len(full) == len(bodies):
        columns |= {f"truth_{name}": np.stack([getattr(body, name) for body in full]) for name in PARAMETERS}
        shape = max(len(body.betas) for body in full)  # pad with zeros, which leave the body shape unchanged
        columns["truth_betas"] = np.stack([np.pad(body.betas, (0, shape - len(body.betas))) for body in full])
    return columns


def _check(view: RenderedView, cameras: Cameras, joints: dict[str, Array], numbers: range) -> None:
    """Check cameras and bodies for plausibility. Raises `DataError` if they are of different renders, or wrong."""
    where = view.name
    truth_checks.check_bodies(joints, where)
    truth_checks.check_ground(cameras, joints, view.shot.ground, where)
    unseen = truth_checks.unseen(cameras, joints)
    for layout, facts in view.others:
        if not unseen:
            return
        try:
            other = LAYOUTS[layout].cameras(facts)
        except DataError:
            continue  # that view gets its own reject
        shared = [i for i, number in enumerate(numbers) if other.numbers is None or number in other.numbers]
        if shared:
            shared_cameras = other.pick([numbers[i] for i in shared])
            unseen = truth_checks.unseen(shared_cameras, {name: body[shared] for name, body in unseen.items()})
    if unseen:
        views = f"any of the {1 + len(view.others)} views" if view.others else "the picture"
        raise DataError(
            f"{where}: body {', '.join(unseen)} is never in {views}: its motion, start frame or position is wrong, "
            "or the cameras are of another render; correct it, or remove the body"
        )
