"""Read the clips of a release for export: video bytes, metadata and pose label of each, a few at a time."""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from opendimo.storage_schemas.caption_hash import COMPOSED_OF, caption_hashes
from opendimo.storage_schemas.ids import stable_id
from opendimo.storage_schemas.lake.ledger import newest_first
from opendimo.storage_schemas.releases.release import Release
from opendimo.storage_schemas.releases.selection import Codes, column, lookup
from opendimo.storage_schemas.rows import arrow_to_rows

CHUNK = 16  # clips in memory at once
FACTS = ("kind", "capture_id", "view", "subject", "attribution", "fps_num", "fps_den", "frames", "width", "height")
CAPTION = ("text", "camera_terms", "camera_sentence", "content_sentence", "captioner")
POSE = (
    "global_orient", "body_pose", "hand_pose", "transl", "betas", "joints_3d", "joints_2d", "landmarks_2d",
    "valid", "hand_valid", "confidence",
)  # fmt: skip
POSE_BYTES = 2100  # approximate size of the pose label of a frame


@dataclass(frozen=True)
class Sample:
    """One clip: file name (letters, digits, - and _), MP4 bytes, metadata, and pose label as .npz bytes."""

    name: str
    video: bytes
    facts: dict[str, Any]
    pose: bytes | None


@dataclass(frozen=True)
class Clips:
    """The clips of a release, one row each, sorted by id.

    Columns: `clip_id`, `split`, `licence`, `bytes` (approximate size), and row numbers in the tables of clips, captions
    and poses (`clip`, `caption`, `pose`; -1: none).
    """

    release: Release
    table: pa.Table

    def samples(self, rows: NDArray[np.int64]) -> Iterator[Sample]:
        """Read the clips with these row numbers."""
        for start in range(0, len(rows), CHUNK):
            chunk = self.table.take(pa.array(rows[start : start + CHUNK])).to_pylist()
            videos = self.release.blobs("clip_videos", "video", [row["clip_id"] for row in chunk])
            clips = self._rows("clips", ["clip_id", "source_id", *FACTS], [row["clip"] for row in chunk])
            captions = self._rows("captions", list(CAPTION), [row["caption"] for row in chunk])
            poses = self._rows("poses", ["estimator", "model_licence", "weight", *POSE], [row["pose"] for row in chunk])
            for row, video, clip, caption, pose in zip(chunk, videos, clips, captions, poses, strict=True):
                facts = {**(clip or {}), **(caption or {}), "split": row["split"], "licence": row["licence"]}
                facts |= {f"pose_{key}": pose[key] for key in ("estimator", "model_licence", "weight")} if pose else {}
                yield Sample(file_name(row["clip_id"]), video, facts, _npz(pose) if pose else None)

    def _rows(self, table: str, columns: list[str], indices: list[int]) -> list[dict[str, Any] | None]:
        """Return rows of a pinned table by row number; None for -1."""
        distinct = sorted({index for index in indices if index >= 0})
        pinned = self.release.dataset(table)
        stored = [name for name in columns if name in pinned.schema.names]  # an older version lacks newer columns
        rows = arrow_to_rows(pinned.take(distinct, columns=stored)) if distinct else []
        row_of = dict(zip(distinct, rows, strict=True))
        return [row_of.get(index) for index in indices]


def clips_of(release: Release) -> Clips:
    """Return the clips used by the pairs of a release. Raises `ValueError` if a clip has no video."""
    pairs, clips = release.dataset("pairs"), release.dataset("clips")
    ids = column(clips, "clip_id")
    driving, target = (lookup(column(pairs, f"{side}_clip_id"), ids) for side in ("driving", "target"))
    both, first = np.unique(np.concatenate([driving, target]), return_index=True)
    split = column(pairs, "split").take(pa.array(first % max(1, len(driving))))
    used = ids.take(pa.array(both))
    with_pose, first_pose = np.unique(driving, return_index=True)
    pose = np.full(len(ids), -1, np.int32)
    pose[with_pose] = lookup(
        column(pairs, "pose_id").take(pa.array(first_pose)), column(release.dataset("poses"), "pose_id")
    )
    sizes = release.dataset("clip_videos").to_table(columns=["clip_id", "video"])
    video_row = lookup(used, sizes["clip_id"].combine_chunks())
    if (video_row < 0).any():
        raise ValueError(f"release {release.id}: clip {used[int(np.argmin(video_row))]} has no video")
    video_bytes = pc.struct_field(sizes["video"].combine_chunks(), "size").take(pa.array(video_row))
    frames = column(clips, "frames").take(pa.array(both))
    table = pa.table(
        {
            "clip_id": used,
            "split": split,
            "licence": _licence(release, both),
            "bytes": pc.add(video_bytes.cast(pa.int64()), pc.multiply(frames, POSE_BYTES)),
            "clip": both,
            "caption": _captions(release, used),
            "pose": pose[both],
        }
    )
    return Clips(release, table.sort_by("clip_id"))


def file_name(clip_id: str) -> str:
    """Return a file name of letters, digits, - and _ for a clip: its id if it is valid, else a hash of it."""
    return clip_id if re.fullmatch(r"[A-Za-z0-9_-]{1,128}", clip_id) else stable_id("clip", clip_id)


def _licence(release: Release, clips: NDArray[Any]) -> pa.Array:
    """Return the licence of the source of each clip."""
    sources = release.dataset("sources").to_table(columns=["source_id", "licence"]).combine_chunks()
    source_row = lookup(
        column(release.dataset("clips"), "source_id").take(pa.array(clips)), sources["source_id"].combine_chunks()
    )
    return sources["licence"].combine_chunks().take(pa.array(source_row, mask=source_row < 0))


def _captions(release: Release, clip_ids: pa.Array) -> Codes:
    """Return [clips] the row of the caption: the one that the release's latents were encoded from, else the one
    committed last; -1 if there is none."""
    columns = ["clip_id", "text", "run_id", *COMPOSED_OF]
    captions = release.dataset("captions").to_table(columns=columns).combine_chunks()
    clip = lookup(captions["clip_id"].combine_chunks(), clip_ids)
    clip_of_latent, marks = _caption_marks(release)
    distinct = pc.unique(marks)

    def key(clips: Codes, values: pa.ChunkedArray) -> NDArray[np.int64]:
        mark = lookup(values.combine_chunks(), distinct)
        joined: NDArray[np.int64] = clips.astype(np.int64) * (len(distinct) + 1) + mark
        return joined

    encoded = key(lookup(clip_of_latent.combine_chunks(), clip_ids), marks)
    embedded = np.isin(key(clip, caption_hashes(captions)), encoded) | np.isin(key(clip, captions["text"]), encoded)
    version = newest_first(release.lake, "captions", captions["run_id"])[-1].to_numpy()
    order = np.lexsort((version, embedded, clip))
    last = np.append(clip[order][1:] != clip[order][:-1], True)[: len(order)] & (clip[order] >= 0)
    caption_row = np.full(len(clip_ids), -1, np.int32)
    caption_row[clip[order[last]]] = order[last]
    return caption_row


def _caption_marks(release: Release) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """Return for each row of latents that the release uses its clip and the value that identifies its caption: the hash
    of the caption, or in rows of schema 3 its text."""
    latents = release.dataset("latents")
    hashed = ["caption_hash"] if "caption_hash" in latents.schema.names else []
    rows = latents.to_table(columns=["latent_id", "clip_id", "text", *hashed])
    used = rows.filter(pc.is_in(rows["latent_id"], value_set=pc.unique(column(release.dataset("pairs"), "latent_id"))))
    return used["clip_id"], pc.coalesce(*(used[name] for name in (*hashed, "text")))


def _npz(pose: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    arrays: Any = {name: np.asarray(pose[name]) for name in POSE if pose.get(name) is not None}
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()
