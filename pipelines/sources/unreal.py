"""Render jobs of Unreal Engine in the layouts of BEDLAM and BEDLAM2.

A job is a folder with `be_seq.csv`, `mp4/<sequence>.mp4`, the true camera of every frame in `ground_truth/camera` (v1)
or `ground_truth/meta_exr_csv` (v2), and optionally `motions_npz`. Sequences that show the same bodies with the same
motions from the same start frame at the same places are views of one capture, also across jobs.
"""

import logging
from collections import defaultdict
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.sources import motion, unreal_axes
from pipelines.sources.be_seq import PlacedBody, Sequence, read_cameras, read_sequences
from pipelines.sources.config import SourcesConfig
from pipelines.sources.items import Row, Rows, capture_row, fingerprint, new_work, open_video, source_row, videos_in
from pipelines.stage import DataError, Work
from storage_schemas.ids import stable_id
from storage_schemas.video import VideoInfo

log = logging.getLogger(__name__)
KIND = "unreal"


@dataclass(frozen=True)
class _Item:
    """A sequence of a job, and the problem that keeps it out, if any."""

    job: "_Job"
    sequence: Sequence
    capture_id: str
    problem: str | None

    @property
    def view(self) -> str:
        return f"{self.job.folder.name}/{self.sequence.name}"


@dataclass(frozen=True)
class _Job:
    folder: Path
    motions: Path | None

    @property
    def cameras(self) -> Path:
        second = self.folder / "ground_truth" / "meta_exr_csv"
        return second if second.is_dir() else self.folder / "ground_truth" / "camera"

    @property
    def portrait(self) -> bool:
        """Portrait jobs are rendered lying on their side: "closeup" in BEDLAM, "portrait" in BEDLAM2 (which has
        upright closeups)."""
        name = self.folder.name.lower()
        return "portrait" in name or ("closeup" in name and self.cameras.name == "camera")

    def video(self, sequence: str) -> Path:
        return self.folder / "mp4" / f"{sequence}.mp4"

    def camera(self, sequence: str) -> Path:
        return self.cameras / f"{sequence}_camera.csv"


def discover(root: Path, config: SourcesConfig) -> list[Work]:
    """List the sequences of one render job, or of every job below `root`.

    Raises `DataError` where there is none.
    """
    folders = sorted({p.parent for p in root.rglob("be_seq.csv")} | {p.parent for p in root.rglob("mp4") if p.is_dir()})
    if not folders:
        raise DataError(f"{root}: no render job below: a job is a folder with be_seq.csv, mp4/ and ground_truth/")
    works: list[Work] = []
    items: list[_Item] = []
    for folder in folders:
        job = _Job(folder, _motions(folder, config))
        try:
            items += _items(job)
        except DataError as error:
            works.append(_broken(job, "be_seq.csv", folder / "be_seq.csv", str(error)))
            continue
        works += _strays(job, {item.sequence.name for item in items if item.job is job})
    views: dict[str, list[str]] = defaultdict(list)
    for item in items:
        if not item.problem:
            views[item.capture_id].append(item.view)
    return works + [_work(item, sorted(views[item.capture_id]), config) for item in items]


def rows(payload: dict[str, Any]) -> Rows:
    """The rows of one sequence. Raises `DataError` where video, cameras and motions do not go together."""
    video = open_video(Path(payload["video"]))
    cameras = read_cameras(Path(payload["camera"]))
    info, frames = video.info, len(cameras)
    if info.frames is not None and info.frames != frames:
        raise DataError(f"{payload['video']}: {info.frames} frames, but {frames} rows in {payload['camera']}")
    size, turned = _stored_size(info, payload["portrait"])
    columns: Row = {
        "world_to_camera": unreal_axes.world_to_camera(cameras[:, :3], cameras[:, 3:6], turned=payload["portrait"]),
        "K": unreal_axes.intrinsics(cameras[:, 6], cameras[:, 7:9], size, turned=payload["portrait"]),
        "distortion": [],
        "metric": True,
    }
    if payload["motions"]:
        columns |= _truth(payload, frames, float(info.fps))
    columns = {k: v.astype(np.float32) if isinstance(v, np.ndarray) else v for k, v in columns.items()}
    capture_id = payload["capture_id"]
    source = source_row(
        video, payload, capture_id=capture_id, view=payload["view"], turn=90 if turned else 0, **columns
    )
    capture = capture_row(
        payload,
        capture_id=capture_id,
        take=payload["take"],
        views=payload["views"],
        sync_method="rendered",
        gravity_down=unreal_axes.GRAVITY_DOWN,
    )
    return {"sources": [source], "captures": [capture]}


def _items(job: _Job) -> list[_Item]:
    path = job.folder / "be_seq.csv"
    if not path.is_file():
        raise DataError(f"no {path}: the job's scene definition is missing; copy it from the render folder")
    return [
        _Item(job, sequence, _capture_id(job, sequence), sequence.problem or _missing(job, sequence))
        for sequence in read_sequences(path)
    ]


def _missing(job: _Job, sequence: Sequence) -> str | None:
    if not job.video(sequence.name).is_file():
        return f"no video {job.video(sequence.name)} for a sequence of be_seq.csv: copy it there, or drop the sequence"
    if not job.camera(sequence.name).is_file():
        return f"no camera file {job.camera(sequence.name)}: copy the job's ground_truth folder beside its videos"
    return None


def _strays(job: _Job, known: set[str]) -> list[Work]:
    """Videos that be_seq.csv does not name."""
    folder = job.folder / "mp4"
    strays = [p for p in videos_in(folder, recursive=False) if p.stem not in known] if folder.is_dir() else []
    text = "{}: be_seq.csv has no such sequence: add its rows, or move the video away"
    return [_broken(job, path.stem, path, text.format(path)) for path in strays]


def _broken(job: _Job, name: str, path: Path, problem: str) -> Work:
    return new_work(KIND, f"{job.folder.name}/{name}", str(path), fingerprint(path), problem=problem)


def _work(item: _Item, views: list[str], config: SourcesConfig) -> Work:
    job, sequence = item.job, item.sequence
    video, camera = job.video(sequence.name), job.camera(sequence.name)
    motions = [str(_motion_file(job.motions, body)) for body in sequence.bodies] if job.motions else []
    read = [video, camera, *map(Path, motions)]
    payload = {
        "video": str(video),
        "camera": str(camera),
        "portrait": job.portrait,
        "bodies": [asdict(body) for body in sequence.bodies],
        "motions": motions,
        "body_model": str(Path(config.body_model).absolute()) if config.body_model else None,
        "capture_id": item.capture_id,
        "view": item.view,
        "views": views,
        "take": " + ".join(f"{body.name}@{body.start_frame}" for body in sequence.bodies),
        "subject": "+".join(sorted({body.subject for body in sequence.bodies})) or None,
        "licence": config.licence,
        "attribution": config.attribution,
    }
    bodies_model = fingerprint(Path(config.body_model)) if config.body_model else None
    rights = [config.licence, config.attribution]
    content = [[fingerprint(path) for path in read], payload["bodies"], bodies_model, rights]
    return new_work(KIND, item.view, str(video), content, payload, item.problem)


def _motions(folder: Path, config: SourcesConfig) -> Path | None:
    if config.motions:
        return Path(config.motions).absolute()
    if (folder / "motions_npz").is_dir():
        return folder / "motions_npz"
    log.warning("%s: no motions_npz and no `motions` folder given: ingested without ground truth of bodies", folder)
    return None


def _motion_file(motions: Path, body: PlacedBody) -> Path:
    """BEDLAM2 keeps `<body>.npz`, BEDLAM `<subject>/<animation>/motion_seq.npz`."""
    first = motions / body.subject / body.animation / "motion_seq.npz"
    return first if first.is_file() else motions / f"{body.name}.npz"


def _capture_id(job: _Job, sequence: Sequence) -> str:
    """One performance: who, which motion (by content, as names recur between data sets), from when, where."""
    files = [_motion_file(job.motions, body) if job.motions else None for body in sequence.bodies]
    motions = [_motion_hash(*fingerprint(file)) if file else None for file in files]
    return stable_id(KIND, [[asdict(body), sha256] for body, sha256 in zip(sequence.bodies, motions, strict=True)])


@cache
def _motion_hash(path: str, *_size_and_time: int) -> str | None:
    return motion.motion_hash(Path(path))


def _stored_size(info: VideoInfo, portrait: bool) -> tuple[tuple[int, int], bool]:
    """(width, height) as rendered, and whether the decoded frames still have to be turned by 90 degrees."""
    upright = info.height > info.width
    if portrait and upright:
        return (info.height, info.width), False
    return (info.width, info.height), portrait


def _truth(payload: dict[str, Any], frames: int, fps: float) -> Row:
    bodies = [
        motion.truth(Path(path), body["start_frame"], frames, body["position"], body["yaw"], fps, payload["body_model"])
        for path, body in zip(payload["motions"], payload["bodies"], strict=True)
    ]
    joints = min(body.joints.shape[1] for body in bodies)
    shape = max(len(body.betas) for body in bodies)  # a coefficient of zero changes nothing
    return {
        "truth_joints": np.stack([body.joints[:, :joints] for body in bodies]),
        "truth_global_orient": np.stack([body.global_orient for body in bodies]),
        "truth_body_pose": np.stack([body.body_pose for body in bodies]),
        "truth_hand_pose": np.stack([body.hand_pose for body in bodies]),
        "truth_transl": np.stack([body.transl for body in bodies]),
        "truth_betas": np.stack([np.pad(body.betas, (0, shape - len(body.betas))) for body in bodies]),
    }
