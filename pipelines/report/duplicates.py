"""Collect pairs of clips that show the same footage: which one is kept, and the evidence."""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from opendimo.pipelines.engine.columns import distinct
from opendimo.pipelines.quality.repeats import links
from opendimo.pipelines.report.media import Media
from opendimo.pipelines.report.thumbnails import Thumbnail, read_thumbnail
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.rows import Row, in_list

MOST_PAIRS = 12
EVIDENCE = [
    "representative_id", "kind", "mirrored", "offset_frames", "start_frame", "end_frame", "share", "similarity",
    "distance",
]  # fmt: skip


@dataclass(frozen=True)
class Pair:
    """A pair of clips, each at the moment that both show. `better` is preferred over `worse`; `dropped`: whether the
    policy drops `worse`; `evidence`: row of `duplicates`."""

    better: Thumbnail
    worse: Thumbnail
    dropped: bool
    evidence: Row


@dataclass(frozen=True)
class Duplicates:
    """Number of pairs, number of clips dropped as duplicates, and some of the pairs, dropped ones first."""

    count: int
    dropped: int
    pairs: list[Pair]


def read_duplicates(lake: Lake, clips: pa.Table, media: Media) -> Duplicates:
    """Read the pairs among `clips` (columns `clip_id`, `reason`)."""
    dropped = clips["clip_id"].filter(pc.fill_null(pc.equal(clips["reason"], "duplicate"), False))
    pairs = links(lake, clips["clip_id"], EVIDENCE)
    first = pc.equal(pairs["clip_id"], pairs["representative_id"])
    pairs = pairs.append_column("worse", pc.if_else(first, pairs["other_clip_id"], pairs["clip_id"]))
    pairs = distinct(pairs, ["worse", "representative_id"])  # each clip may have a link to the other
    pairs = pairs.append_column("dropped", pc.is_in(pairs["worse"], value_set=dropped))
    order = [("dropped", "descending"), ("worse", "ascending"), ("representative_id", "ascending")]
    shown = pairs.take(pc.select_k_unstable(pairs, min(MOST_PAIRS, pairs.num_rows), order)).to_pylist()
    ids = sorted({row[name] for row in shown for name in ("worse", "representative_id")})
    rows = {row["clip_id"]: row for row in lake.read("clips", where=in_list("clip_id", ids))} if ids else {}
    return Duplicates(pairs.num_rows, len(dropped), [_pair(lake, rows, row, media) for row in shown])


def _pair(lake: Lake, clips: dict[str, Row], evidence: Row, media: Media) -> Pair:
    worse, better = clips[evidence["worse"]], clips[evidence["representative_id"]]
    frame_in_worse = (evidence["start_frame"] + evidence["end_frame"]) // 2
    rates = [clip["fps_num"] / clip["fps_den"] for clip in (worse, better)]
    frame_in_better = evidence["offset_frames"] + round(frame_in_worse * rates[1] / rates[0])
    kept, copy = (
        read_thumbnail(lake, media, better, frame_in_better),
        read_thumbnail(lake, media, worse, frame_in_worse),
    )
    return Pair(kept, copy, evidence["dropped"], evidence)
