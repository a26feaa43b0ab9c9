"""Pairs of clips that show the same footage: which of the two is kept, and why one believes it."""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from opendimo.pipelines.engine.columns import distinct
from opendimo.pipelines.quality.repeats import links
from opendimo.pipelines.report.media import Media
from opendimo.pipelines.report.thumbnails import Thumbnail, read_thumbnail
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.rows import in_list

Row = dict[str, Any]
MOST_PAIRS = 12
EVIDENCE = [
    "representative_id", "kind", "mirrored", "offset_frames", "start_frame", "end_frame", "share", "similarity",
    "distance",
]  # fmt: skip


@dataclass(frozen=True)
class Pair:
    """`better` is kept rather than `worse`, which is `dropped` by the policy or not, both at the moment that both show;
    `evidence` as in `duplicates`."""

    better: Thumbnail
    worse: Thumbnail
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
    kept, copy = read_thumbnail(lake, media, better, there), read_thumbnail(lake, media, worse, at)
    return Pair(kept, copy, found["dropped"], found)
