"""A small lake with everything that a release needs: two takes to train on, one to test on, labels and videos."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from opendimo.storage_schemas.lake.lake import Lake
from tests.rows import caption, clip, clip_video, latent, pair, pose, source

LONG = 5_000_000  # bytes: Lance gives such a blob a file of its own
NAMES = {"a": "train", "b": "train", "c": "test"}
MAKERS = {"sources": source, "clips": clip, "poses": pose, "captions": caption, "latents": latent}


def video(name: str) -> bytes:
    """Bytes that stand for a video: small, middle and large ones are stored in different ways."""
    size = {"a": 500, "b": 150_000, "c": LONG}.get(name, 1000)
    return np.random.default_rng(list(name.encode())).bytes(size)


def everything(names: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
    """Source, clip, video and labels by each name."""
    rows = {table: [make(name) for name in names] for table, make in MAKERS.items()}
    return rows | {"clip_videos": [clip_video(name, video(name)) for name in names]}


def small_lake(home: str | Path) -> Lake:
    """Sources, clips, videos and labels of `NAMES`, and a first set of pairs."""
    lake = Lake(home)
    lake.append("filled", everything(NAMES))
    lake.append("paired", {"pairs": [pair(name, split) for name, split in NAMES.items()]})
    return lake


def add(lake: Lake, run_id: str, name: str) -> None:
    """One more clip with everything, without a pair."""
    lake.append(run_id, everything([name]))
