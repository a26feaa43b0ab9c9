"""Pairs of clips that show the same footage: which of the two is kept, and why one believes it."""

import logging
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.columns import distinct
from pipelines.duplicates.repeats import links
from pipelines.report.media import Media
from pipelines.report.sheets import thumbnail
from storage_schemas.lake import Lake, in_list

Row = dict[str, Any]
log = logging.getLogger(__name__)
MOST_PAIRS = 12
EVIDENCE = [
    "representative_id", "kind", "mirrored", "offset_frames", "start_frame", "end_frame", "share", "similarity",
    "distance",
]  # fmt: skip


@dataclass(frozen=True)
class Twin:
    """One clip of a pair; `picture` of the moment that both show, None where no bytes can be shown."""

    clip: Row
    picture: str | None


@dataclass(frozen=True)
class Pair:
    """`better` is kept rather than `worse`, which is `dropped` by the policy or not; `evidence` as in `duplicates`."""

    better: Twin
    worse: Twin
    dropped: bool
    evidence: Row


@dataclass(frozen=True)
class Duplicates:
    """How many pairs there are, how many clips are left out for them, and some of the pairs, dropped ones first."""

    count: int
    dropped: int
    pairs: list[Pair]


def read_duplicates(lake: Lake, clips: pa.Table, media: Media) -> Duplicates:
    """Pairs among `clips` (`clip_id`, `reason`)."""
    dropped = clips["clip_id"].filter(pc.fill_null(pc.equal(clips["reason"], "duplicate"), False))
    found = links(lake, clips["clip_id"], EVIDENCE)
    first = pc.equal(found["clip_id"], found["representative_id"])
    found = found.append_column("worse", pc.if_else(first, found["other_clip_id"], found["clip_id"]))
    found = distinct(found, ["worse", "representative_id"])  # both may have looked for the other
    found = found.append_column("dropped", pc.is_in(found["worse"], value_set=dropped))
    order = [("dropped", "descending"), ("worse", "ascending"), ("representative_id", "ascending")]
    shown = found.take(pc.select_k_unstable(found, min(MOST_PAIRS, found.num_rows), order)).to_pylist()
    ids = sorted({row[name] for row in shown for name in ("worse", "representative_id")})
    rows = {row["clip_id"]: row for row in lake.read("clips", where=in_list("clip_id", ids))} if ids else {}
    return Duplicates(found.num_rows, len(dropped), [_pair(lake, rows, row, media) for row in shown])


def _pair(lake: Lake, clips: dict[str, Row], found: Row, media: Media) -> Pair:
    worse, better = clips[found["worse"]], clips[found["representative_id"]]
    at = (found["start_frame"] + found["end_frame"]) // 2
    rates = [clip["fps_num"] / clip["fps_den"] for clip in (worse, better)]
    there = found["offset_frames"] + round(at * rates[1] / rates[0])
    return Pair(_twin(lake, better, there, media), _twin(lake, worse, at, media), found["dropped"], found)


def _twin(lake: Lake, clip: Row, frame: int, media: Media) -> Twin:
    frame = min(max(frame, 0), clip["frames"] - 1)
    try:
        (video,) = lake.blobs("clip_videos", "video", [clip["clip_id"]])
        content = ["thumbnail", clip["clip_id"], clip["video_sha256"], frame]
        return Twin(clip, media.picture(content, lambda: thumbnail(video, clip, frame)))
    except (ValueError, KeyError) as error:
        log.warning("clip %s: the stored video cannot be shown: %s", clip["name"], error)
        return Twin(clip, None)
