"""Create lakes for tests of compaction and cleaning: one of many small runs, and one for a release."""

import random
from datetime import timedelta
from typing import Any

from lance.fragment import write_fragments

from opendimo.storage_schemas.lake import compact
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.lake.maintain import clean, overview
from opendimo.storage_schemas.rows import rows_to_arrow
from opendimo.storage_schemas.tables import TABLES
from tests.rows import capture, clip, clip_video, pair, source

NOW = timedelta(0)


def content(number: int) -> bytes:
    """Return video bytes that are too large to be stored inline."""
    return random.Random(number).randbytes(20_000)


def batch(number: int) -> dict[str, Any]:
    """Return two videos, one stored inline and one outside the rows, and a row that every batch replaces."""
    videos = [clip_video(f"v{number:03d}-small", b"few"), clip_video(f"v{number:03d}", content(number))]
    return {"clip_videos": videos, "captures": [capture(f"k{number:03d}"), capture("all", take=str(number))]}


def fill(home: str, first: int, last: int) -> None:
    """Commit one run for each number in [first, last)."""
    lake = Lake(home)
    for number in range(first, last):
        lake.append(f"run-{number}", batch(number))


def stored(home: str) -> dict[str, Any]:
    """Return all data of a filled lake except time stamps."""
    lake = Lake(home)
    videos = lake.read("clip_videos")
    ledger = lake.read("ledger", ["table_name", "run_id", "rows", "replaced", "version"])
    return {
        "captures": lake.read("captures"),
        "videos": videos,
        "bytes": lake.blobs("clip_videos", "video", [row["clip_id"] for row in videos]),
        "ledger": sorted(ledger, key=lambda row: (row["run_id"], row["table_name"])),
    }


def fragments(lake: Lake) -> dict[str, int]:
    """Return the number of fragments of each table that has any."""
    return {row["table"]: row["fragments"] for row in overview(lake) if row["fragments"]}


def orphan(lake: Lake) -> None:
    """Write fragments that no version references, like a worker that was killed after writing them."""
    data = rows_to_arrow(TABLES["clip_videos"], [clip_video("lost", b"x" * 100_000, run_id="lost")])
    write_fragments(data, lake.table_uri("clip_videos"), mode="append", enable_stable_row_ids=True)


def upkeep(home: str) -> None:
    """Compact and clean a lake."""
    lake = Lake(home)
    compact.compact(lake)
    clean(lake, NOW)


def small_lake(home: str) -> Lake:
    """Create a lake with three sources, each with a clip of 20 KB of video and a pair, without labels."""
    lake = Lake(home)
    lake.append("sources", {"sources": [source(name) for name in "abc"]})
    videos = [clip_video(name, name.encode() * 20_000) for name in "abc"]
    lake.append("clips", {"clips": [clip(name) for name in "abc"], "clip_videos": videos})
    lake.append("pairs", {"pairs": [pair(name, pose_id=None) for name in "abc"]})
    return lake
