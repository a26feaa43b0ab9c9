"""The layouts of BEDLAM and BEDLAM2.

A job is a folder with `be_seq.csv`, videos (`mp4/<sequence>.mp4`) or pictures (`png/<sequence>/`), the true cameras in
`ground_truth/`, and optionally `motions_npz/`, `masks/` and `depth/`.
"""

import logging
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from opendimo.pipelines.engine.stage import DataError
from opendimo.pipelines.sources.config import SourcesConfig
from opendimo.pipelines.sources.items import fingerprint, videos_in
from opendimo.pipelines.sources.renders import bedlam_cameras, jobs, motion
from opendimo.pipelines.sources.renders.be_seq import PlacedBody, Sequence, read_sequences
from opendimo.pipelines.sources.renders.cameras import Cameras
from opendimo.pipelines.sources.renders.shot import Shot, broken, picture_prints
from opendimo.pipelines.sources.renders.text_files import read_object
from opendimo.storage_schemas.ids import stable_id
from opendimo.storage_schemas.media.image_sequence import pattern_of

log = logging.getLogger(__name__)
LAYOUT = jobs.BEDLAM
FPS = "30"  # frame rate at which picture numbers count, in both data sets
ANIMATIONS = "be_camera_animations.json"
NUMBERED = re.compile(r"(\d{4,})(_(?P<what>[A-Za-z0-9_]+))?\.(png|exr)")


@dataclass(frozen=True)
class _Job:
    name: str
    folder: Path
    motions: Path | None

    @property
    def first_version(self) -> bool:
        later = (ANIMATIONS, "ground_truth/meta_exr_csv", "ground_truth/meta_exr")
        return not any((self.folder / name).exists() for name in later)

    @property
    def portrait(self) -> bool:
        """Whether the job is rendered rotated by 90 degrees: "closeup" in BEDLAM, "portrait" in BEDLAM2 (whose closeups
        are upright)."""
        name = self.folder.name.lower()
        return "portrait" in name or ("closeup" in name and self.first_version)

    @cached_property
    def animations(self) -> dict[str, Any]:
        """BEDLAM2's camera keyframes by sequence; empty if the job has none."""
        path = self.folder / ANIMATIONS
        return read_object(path) if path.is_file() else {}

    @property
    def fps(self) -> str:
        info = self.animations.get("info")
        fps = info.get("fps", FPS) if isinstance(info, dict) else FPS
        if not (isinstance(fps, int) and 0 < fps <= 1000) and fps != FPS:
            raise DataError(f"{self.folder / ANIMATIONS}: info.fps {fps!r} should be a whole number of frames a second")
        return str(fps)


def shots(name: str, folder: Path, config: SourcesConfig) -> list[Shot]:
    """List the sequences of one job, called `name`."""
    job = _Job(name, folder, _motions(folder, config))
    path = folder / "be_seq.csv"
    try:
        if not path.is_file():
            raise DataError(f"no {path}: the job's scene definition is missing; copy it from the render folder")
        sequences, _ = read_sequences(path), job.fps
    except DataError as error:
        return [broken(LAYOUT, f"{name}/be_seq.csv", path, str(error))]
    names = {sequence.name for sequence in sequences}
    text = "{}: be_seq.csv has no such sequence: add its rows, or move it away"
    strays = [broken(LAYOUT, f"{name}/{p.stem}", p, text.format(p)) for p in _strays(folder, names)]
    return [_shot(job, sequence, config) for sequence in sequences] + strays


def cameras(facts: dict[str, Any]) -> Cameras:
    """Read the cameras of a shot. Raises `DataError` if they cannot be read."""
    return bedlam_cameras.read_cameras(facts["camera"], turned=facts["portrait"])


def bodies(facts: dict[str, Any], numbers: range, fps: float) -> list[motion.Truth]:
    """Read the bodies of a shot in frames `numbers` at rate `fps`. Raises `DataError` if they cannot be read."""
    return [
        motion.truth(
            Path(path), body["start_frame"] + numbers.start, len(numbers), body["position"], body["yaw"], fps,
            facts["body_model"], numbers.step,
        )
        for path, body in zip(facts["motions"], facts["bodies"], strict=False)  # empty without motions
    ]  # fmt: skip


def _shot(job: _Job, sequence: Sequence, config: SourcesConfig) -> Shot:
    view = f"{job.name}/{sequence.name}"
    try:
        if sequence.problem:
            raise DataError(sequence.problem)
        pictures, camera = _pictures(job.folder, sequence.name), _camera(job, sequence)
    except DataError as error:
        return broken(LAYOUT, view, job.folder / "mp4" / f"{sequence.name}.mp4", str(error))
    motions = [str(_motion_file(job.motions, body)) for body in sequence.bodies] if job.motions else []
    references = list(_references(job.folder, sequence.name))
    facts = {
        "camera": camera,
        "portrait": job.portrait,
        "bodies": [asdict(body) for body in sequence.bodies],
        "motions": motions,
        "body_model": str(Path(config.body_model).absolute()) if config.body_model else None,
    }
    inputs = [Path(path) for path in (camera["path"], *motions, config.body_model) if path]
    content = [
        picture_prints(pictures),
        [fingerprint(path) for path in inputs],
        facts,
        sequence.frames,
        sequence.ground,
        references,
    ]
    return Shot(
        LAYOUT, view, Path(pictures), pictures, job.fps,
        portrait=job.portrait,
        numbered=True,
        capture_id=_capture_id(job, sequence),
        take=" + ".join(f"{body.name}@{body.start_frame}" for body in sequence.bodies),
        subject="+".join(sorted({body.subject for body in sequence.bodies})) or None,
        frames=sequence.frames,
        ground=None if sequence.ground is None else sequence.ground / 100,
        bodies=[body.name for body in sequence.bodies] if motions else [],
        facts=facts,
        content=content,
        references=references,
    )  # fmt: skip


def _pictures(folder: Path, name: str) -> str:
    """Return the video of a sequence, or else the pattern of its pictures."""
    video, pictures = folder / "mp4" / f"{name}.mp4", folder / "png" / name
    if video.is_file():
        return str(video)
    try:
        pattern = pattern_of(pictures) if pictures.is_dir() else None
    except ValueError as error:
        raise DataError(str(error)) from error
    if pattern is None:
        raise DataError(f"no video {video} and no pictures in {pictures}: copy the one or the other, or drop the rows")
    return str(pattern)


def _camera(job: _Job, sequence: Sequence) -> dict[str, Any]:
    """Return which file the cameras of a sequence are read from, best source first (see `bedlam_cameras`)."""
    truth, name = job.folder / "ground_truth", sequence.name
    meta = truth / "meta_exr" / name
    for table in (truth / "meta_exr_csv" / f"{name}_camera.csv", truth / "camera" / f"{name}_camera.csv"):
        if table.is_file():
            return {"kind": "csv", "path": str(table), "meta": str(meta) if meta.is_dir() else None}
    if meta.is_dir():
        return {"kind": "meta", "path": str(meta)}
    animation = {"path": str(job.folder / ANIMATIONS), "sequence": name, "frames": sequence.frames}
    if name in job.animations:
        return {"kind": "animation", **animation}
    if "static" in job.folder.name.lower() and sequence.static and not job.animations:
        path = str(job.folder / "be_seq.csv")
        return {"kind": "static", "path": path, "static": sequence.static, "frames": sequence.frames}
    raise DataError(
        f"no camera file {name}_camera.csv in {truth}: copy the job's ground_truth folder beside its videos"
    )


def _strays(folder: Path, known: set[str]) -> Iterator[Path]:
    """Yield videos and picture folders that be_seq.csv does not list."""
    mp4, png = folder / "mp4", folder / "png"
    if mp4.is_dir():
        yield from (path for path in videos_in(mp4, recursive=False) if path.stem not in known)
    if png.is_dir():
        yield from (path for path in sorted(png.iterdir()) if path.is_dir() and path.name not in known)


def _references(folder: Path, name: str) -> Iterator[tuple[str, str]]:
    """Yield (kind, path) of depth and masks of a sequence, as a pattern per kind, and of the camera label files."""
    for kind in ("depth", "masks"):
        pictures = folder / kind / name
        files = sorted(p.name for p in pictures.iterdir()) if pictures.is_dir() else []
        kinds = {m["what"] or "": m for m in (NUMBERED.fullmatch(n.removeprefix(f"{name}_")) for n in files) if m}
        for what, match in sorted(kinds.items()):
            ending = f"_{what}.{match[4]}" if what else f".{match[4]}"
            label = kind if what in ("", kind) else f"{kind}_{what}"
            yield label, str(pictures / f"{name}_%0{len(match[1])}d{ending}")
    for file in ("camera_labels.json", ANIMATIONS):
        if (folder / file).is_file():
            yield Path(file).stem, str(folder / file)


def _motions(folder: Path, config: SourcesConfig) -> Path | None:
    if config.motions:
        return Path(config.motions).absolute()
    if (folder / "motions_npz").is_dir():
        return folder / "motions_npz"
    log.warning("%s: no motions_npz and no `motions` folder given: ingested without ground truth of bodies", folder)
    return None


def _motion_file(motions: Path, body: PlacedBody) -> Path:
    """Return the motion file of a body: `<subject>/<animation>/motion_seq.npz` (BEDLAM) or `<body>.npz` (BEDLAM2)."""
    first = motions / body.subject / body.animation / "motion_seq.npz"
    return first if first.is_file() else motions / f"{body.name}.npz"


def _capture_id(job: _Job, sequence: Sequence) -> str:
    """Return the id of a performance, from each body's name, motion, start frame and placement.

    Motions are compared by content, as their names recur between data sets.
    """
    files = [_motion_file(job.motions, body) if job.motions else None for body in sequence.bodies]
    motions = [_motion_hash(*fingerprint(file)) if file else None for file in files]
    return stable_id("unreal", [[asdict(body), sha256] for body, sha256 in zip(sequence.bodies, motions, strict=True)])


@cache
def _motion_hash(path: str, *_size_and_time: int) -> str | None:
    return motion.motion_hash(Path(path))
