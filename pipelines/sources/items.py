"""Shared by all adapters: building work items, opening video files, and building their rows."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from opendimo.pipelines.engine.stage import DataError, Work
from opendimo.pipelines.sources.signatures import VIDEO_SUFFIXES
from opendimo.storage_schemas.ids import sha256_bytes, sha256_file, stable_id, work_key

if TYPE_CHECKING:  # listing needs none of these, and they take seconds to import
    from opendimo.storage_schemas.media.video import VideoInfo
    from opendimo.storage_schemas.rows import Row

NAME = "sources"
VERSION = "3"
SAMPLE = 1 << 20  # bytes

Rows: TypeAlias = "dict[str, list[Row]]"


@dataclass(frozen=True, kw_only=True)
class Item:
    """Payload: a source item as it was listed; each adapter adds what it needs to read it.

    `uri`: where it is, without secrets. `extra`: further columns of its list, as JSON.
    """

    kind: str
    name: str
    uri: str
    licence: str | None = None
    attribution: str | None = None
    subject: str | None = None
    extra: str | None = None

    @property
    def file(self) -> str | None:
        """Path of the video that will be read; None if there is none on this machine yet."""
        return None


@dataclass(frozen=True, kw_only=True)
class UnusableItem(Item):
    """An item that the stage rejects: the `problem`, and its one-word `reason` for programs."""

    problem: str
    reason: str | None = None


@dataclass(frozen=True)
class VideoFile:
    """A readable video: SHA-256 of the file, size in bytes, probed container info, and hash of the video stream."""

    path: Path
    sha256: str
    size: int
    info: "VideoInfo"
    stream_sha256: str | None = None


def new_work(item: Item, content: Any) -> Work:
    """Return a piece of work for the sources stage. `content` must fingerprint every file that the item reads."""
    problem = item.problem if isinstance(item, UnusableItem) else None
    key = work_key([item.kind, item.uri, item.name, content, problem], NAME, VERSION, None)
    return Work(key, stable_id("item", item.kind, item.uri, item.name), item.name, item)


def fingerprint(path: Path) -> list[Any]:
    """Return path, size and modification time of a file, to detect changes without reading it."""
    try:
        facts = path.stat()
    except OSError:
        return [str(path)]
    return [str(path), facts.st_size, facts.st_mtime_ns]


def sample_sha256(path: Path) -> str:
    """Return the hash of the first `SAMPLE` bytes of a file, to tell takes apart.

    Raises `DataError` if the file cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return sha256_bytes(stream.read(SAMPLE))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}): copy it there again, or take it out") from error


def videos_in(folder: Path, *, recursive: bool) -> list[Path]:
    """Return the files with a video suffix, sorted, without hidden files and folders."""
    paths = folder.rglob("*") if recursive else folder.iterdir()
    return sorted(p for p in paths if p.suffix.lower() in VIDEO_SUFFIXES and p.is_file() and not hidden(p, folder))


def open_video(path: Path) -> VideoFile:
    """Probe and hash a video file. Raises the errors of `probe_safely`."""
    from opendimo.pipelines.sources.probing import probe_safely, stream_hash

    info = probe_safely(path)
    return VideoFile(path, sha256_file(path), path.stat().st_size, info, stream_hash(path))


def source_row(
    video: VideoFile,
    item: Item,
    *,
    capture_id: str,
    view: str,
    url: str | None = None,
    turn: int = 0,
    **columns: Any,
) -> "Row":
    """Return the `sources` row of a video.

    `url`: full URL of a download; the id depends on it, because names and uris leave out secrets and may coincide.
    `turn`: clockwise rotation in degrees, in addition to the container's. `columns`: further columns (cameras, truth).
    Raises `DataError` if a camera is given for a video that is shown mirrored: no camera gives a mirrored picture, and
    whether the camera holds for the stored or the shown pictures is unknown.
    """
    info = video.info
    if info.mirrored and columns.get("K") is not None:
        raise DataError(
            f"{video.path}: its display matrix mirrors the pictures, so they do not fit a camera: remove the matrix "
            "without re-encoding if the camera holds for the stored pictures, else re-encode them mirrored",
            reason="mirrored",
        )
    width, height = (info.height, info.width) if turn in (90, 270) else (info.width, info.height)
    address = [stable_id(url)] if url else []
    return {
        "source_id": stable_id("source", item.kind, video.sha256, capture_id, view, item.name, *address),
        "kind": item.kind,
        "uri": item.uri,
        "local_path": str(video.path),
        "name": item.name,
        "content_sha256": video.sha256,
        "stream_sha256": video.stream_sha256,
        "annotation_sha256": _annotation_sha256(columns),
        "size": video.size,
        "container": info.container,
        "codec": info.codec,
        "width": width,
        "height": height,
        "rotation": (info.rotation + turn) % 360,
        "mirrored": info.mirrored,
        "colour_transfer": info.transfer,
        "colour_primaries": info.primaries,
        "colour_range": info.range,
        "fps_num": info.fps.numerator,
        "fps_den": info.fps.denominator,
        "frames": info.frames,
        "capture_id": capture_id,
        "view": view,
        "subject": item.subject,
        "licence": item.licence,
        "attribution": item.attribution,
        "extra": item.extra,
        "fetched_at": time.time_ns(),
        **columns,
    }


def capture_row(
    item: Item,
    *,
    capture_id: str,
    take: str,
    views: list[str],
    sync_method: str,
    gravity_down: Sequence[float] | None,
) -> "Row":
    """Return the `captures` row. Uses only facts known at listing, so that every view of a take writes the same row."""
    import numpy as np

    return {
        "capture_id": capture_id,
        "kind": item.kind,
        "subject": item.subject,
        "take": take,
        "action": None,
        "views": views,
        "gravity_down": None if gravity_down is None else np.array(gravity_down, np.float32),
        "sync_method": sync_method,
    }


def _annotation_sha256(columns: dict[str, Any]) -> str:
    import numpy as np

    arrays = {name: np.asarray(value, np.float32) for name, value in columns.items() if value is not None}
    content = [(name, array.shape, sha256_bytes(array.tobytes())) for name, array in sorted(arrays.items())]
    return stable_id("annotation", content) if content else ""


def hidden(path: Path, folder: Path) -> bool:
    """Return whether a file below a folder, or one of the folders between them, is hidden."""
    return any(part.startswith(".") for part in path.relative_to(folder).parts)
