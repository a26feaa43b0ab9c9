"""Create a small lake for releases: two takes for training, one for testing, with labels and videos."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from opendimo.storage_schemas.lake.lake import Lake
from tests.rows import caption, clip, clip_video, latent, pair, pose, source

LONG = 5_000_000  # bytes; Lance stores a blob of this size in a separate file
NAMES = {"a": "train", "b": "train", "c": "test"}
MAKERS = {"sources": source, "clips": clip, "poses": pose, "captions": caption, "latents": latent}


def video(name: str) -> bytes:
    """Return random bytes instead of a video; Lance stores small, medium and large blobs in different ways."""
    size = {"a": 500, "b": 150_000, "c": LONG}.get(name, 1000)
    return np.random.default_rng(list(name.encode())).bytes(size)


def everything(names: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
    """Return source, clip, video and labels for each name."""
    rows = {table: [make(name) for name in names] for table, make in MAKERS.items()}
    return rows | {"clip_videos": [clip_video(name, video(name)) for name in names]}


def small_lake(home: str | Path) -> Lake:
    """Create a lake with sources, clips, videos and labels of `NAMES`, and a first set of pairs."""
    lake = Lake(home)
    lake.append("filled", everything(NAMES))
    lake.append("paired", {"pairs": [pair(name, split) for name, split in NAMES.items()]})
    return lake


def add(lake: Lake, run_id: str, name: str) -> None:
    """Add a clip with source, video and labels, but without a pair."""
    lake.append(run_id, everything([name]))
