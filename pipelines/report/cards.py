"""Collect the clips shown in the report: kept clips with their labels, and filtered clips by reason."""

import logging
from collections import defaultdict
from dataclasses import dataclass
from itertools import chain, zip_longest

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from opendimo.pipelines.engine.revisions import best_poses, by_column, newest
from opendimo.pipelines.report.judged import UNSHOWN
from opendimo.pipelines.report.media import Media
from opendimo.pipelines.report.paths import TopView, top_view
from opendimo.pipelines.report.sheets import contact_sheet
from opendimo.pipelines.report.thumbnails import Thumbnail, read_thumbnail, stored_video
from opendimo.pipelines.report.timeline import Span, lanes
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.rows import Row, arrow_to_rows, in_list

log = logging.getLogger(__name__)
MOST_KEPT = 60
MOST_FILTERED = 8  # per reason
CAPTION = ["clip_id", "run_id", "captioner", "camera_terms", "text", "content_sentence", "agreement"]
POSE = [
    "pose_id", "clip_id", "estimator", "joints_2d", "joints_3d", "valid", "hand_valid", "reprojection", "jitter",
    "foot_skate", "bone_drift", "cross_view", "weight",
]  # fmt: skip


@dataclass(frozen=True)
class Card:
    """A kept clip. `sheet`: link of its contact sheet; if None, `problem` gives the reason."""

    clip: Row
    sheet: str | None
    problem: str | None
    pose: Row | None
    caption: Row | None
    timeline: list[list[Span]]


@dataclass(frozen=True)
class Group:
    """The clips of one capture, shown side by side."""

    capture: Row
    cards: list[Card]
    top: TopView | None


@dataclass(frozen=True)
class Filtered:
    """The clips that were filtered for one reason."""

    reason: str
    count: int
    thumbnails: list[Thumbnail]


def kept_groups(lake: Lake, kept: pa.Table, media: Media) -> list[Group]:
    """Group a sample of the kept clips (columns `clip_id`, `capture_id`, `kind`) by capture.

    At most `MOST_KEPT` clips are shown, equally many of each kind of source as far as possible. Captures are chosen by
    their ids, which are hashes, so the sample is unbiased and stable.
    """
    shown = _sample(kept)
    if not shown:
        return []
    clips = lake.read("clips", where=in_list("clip_id", shown))
    labels = arrow_to_rows(best_poses(lake, POSE, in_list("clip_id", shown)))
    poses = {row["clip_id"]: _with_shares(row) for row in labels}
    captions = _newest_captions(lake, shown)
    of_captures = in_list("capture_id", sorted({clip["capture_id"] for clip in clips}))
    captures = {row["capture_id"]: row for row in lake.read("captures", where=of_captures)}
    by_capture: dict[str, list[Row]] = defaultdict(list)
    for clip in sorted(clips, key=lambda c: (c["view"], c["start_frame"])):
        by_capture[clip["capture_id"]].append(clip)
    groups = []
    for capture_id, members in by_capture.items():
        capture = captures.get(capture_id) or {"take": members[0]["name"], "gravity_down": None, "sync_method": ""}
        cards = [_card(lake, media, c, poses.get(c["clip_id"]), captions.get(c["clip_id"])) for c in members]
        top = top_view(members, poses, capture["gravity_down"])
        groups.append(Group(capture | {"kind": members[0]["kind"]}, cards, top))
    return sorted(groups, key=lambda g: (len(g.cards) == 1, g.capture["kind"], g.capture["take"]))


def filtered_clips(lake: Lake, judged: pa.Table, media: Media) -> list[Filtered]:
    """Return the filtered clips by reason, most frequent first, with a few thumbnails each.

    `judged`: table of verdicts with the columns `clip_id` and `reason`.
    """
    groups = []
    for entry in judged["reason"].drop_null().value_counts().to_pylist():
        reason, count = entry["values"], entry["counts"]
        ids = judged["clip_id"].filter(
            pc.equal(judged["reason"], reason)
        )  # ids are hashes, so the first ones are an unbiased sample
        shown = [] if reason in UNSHOWN else ids[:MOST_FILTERED].to_pylist()
        clips = lake.read("clips", where=in_list("clip_id", shown)) if shown else []
        groups.append(Filtered(reason, count, [read_thumbnail(lake, media, c, c["frames"] // 2) for c in clips]))
    return sorted(groups, key=lambda filtered: -filtered.count)


def _card(lake: Lake, media: Media, clip: Row, pose: Row | None, caption: Row | None) -> Card:
    sheet, problem = None, None
    content = ["sheet", clip["clip_id"], clip["video_sha256"], pose["pose_id"] if pose else None]
    try:
        sheet = media.picture(content, lambda: contact_sheet(stored_video(lake, clip), clip, pose))
    except (ValueError, KeyError) as error:
        problem = f"the stored video cannot be shown: {error}"
        log.warning("clip %s: %s", clip["name"], problem)
    timeline = lanes(caption["camera_terms"], clip["frames"]) if caption else []
    return Card(clip, sheet, problem, pose, caption, timeline)


def _sample(kept: pa.Table) -> list[str]:
    """Return the ids of the kept clips to show: complete captures as long as the limit allows."""
    captures: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))  # kind -> capture -> clips
    for kind in kept["kind"].unique().to_pylist():
        alike = kept.filter(pc.equal(kept["kind"], kind))
        order = [("capture_id", "ascending"), ("clip_id", "ascending")]
        for clip in alike.take(pc.select_k_unstable(alike, min(MOST_KEPT, alike.num_rows), order)).to_pylist():
            captures[kind][clip["capture_id"]].append(clip["clip_id"])
    in_turn = chain.from_iterable(zip_longest(*(captures[kind].values() for kind in sorted(captures)), fillvalue=[]))
    return [*chain.from_iterable(in_turn)][:MOST_KEPT]


def _newest_captions(lake: Lake, shown: list[str]) -> dict[str, Row]:
    """Return the newest caption of each clip."""
    columns = [name for name in CAPTION if name != "clip_id"]
    return by_column(newest(lake, "captions", ["clip_id"], columns, in_list("clip_id", shown)), "clip_id")


def _with_shares(pose: Row) -> Row:
    """Add the shares of frames in which body, left and right hand are valid to the label."""
    hands = np.asarray(pose["hand_valid"]) > 0
    return pose | {"valid_share": float(np.mean(pose["valid"])), "hand_shares": [float(v) for v in hands.mean(0)]}
