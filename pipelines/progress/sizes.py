"""How large a piece of work is, in what its time grows with, and of which sort: a rate holds for one sort.

The weights within a unit were fitted once (ingest of the test data, H.264 on two processors) and only say what grows
with what; how fast it is here is measured.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from opendimo.pipelines.engine.columns import Column, distinct, look_up
from opendimo.pipelines.engine.planned import Planned
from opendimo.pipelines.engine.work_status import ITEM
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.rows import in_list

DOWNLOAD = "download"
FILE_START, DOWNLOAD_START = 30e6, 2e6  # bytes in the time of which a file is probed, a connection is opened
DECODED = 250.0  # frames, each with a megapixel more, that are decoded and encoded while a second is looked at


@dataclass(frozen=True)
class Sizes:
    """Of pieces of work: `sorts`, and how large they are: `units`; nan where that is not known."""

    sorts: np.ndarray
    units: np.ndarray

    def __len__(self) -> int:
        return len(self.units)


def sizes_of(lake: Lake, stage: str, planned: Planned, places: np.ndarray) -> Sizes:
    """The sizes of chosen pieces of work of a plan.

    sources: bytes, and the start of each file; clips: seconds in which people are looked for, frames and pixels to
    decode; poses, captions and latents: frames of the clip; rigs: views; else all are alike.
    """
    if stage == "sources":
        files = [_planned_file(work.payload) for work in planned.works(places.tolist())]
        return _files([sort for sort, _ in files], np.array([size for _, size in files], float))
    return _items(lake, stage, planned.items.take(pa.array(places)))


def stored_sizes(lake: Lake, stage: str, items: Lake, keys: list[str]) -> tuple[list[str], Sizes]:
    """Those of the work keys that are done in `lake`, and their sizes; what they are about is in the lake `items`."""
    where = in_list("work_key", keys)
    if stage == "sources":
        rows = lake.dataset(stage).to_table(columns=["work_key", "kind", "uri", "size"], filter=where)
        remote = pc.match_substring(rows["uri"], "://")
        sorts = pc.if_else(remote, DOWNLOAD, rows["kind"]).to_pylist()
        return rows["work_key"].to_pylist(), _files(sorts, rows["size"].to_numpy().astype(float))
    item = ITEM.get(stage, "work_key")
    rows = distinct(lake.dataset(stage).to_table(columns=list({"work_key", item}), filter=where), ["work_key"])
    return rows["work_key"].to_pylist(), _items(items, stage, rows[item])


def _items(lake: Lake, stage: str, items: Column) -> Sizes:
    match stage:
        case "clips":
            columns = ["source_id", "kind", "frames", "width", "height", "fps_num", "fps_den"]
            return _videos(_rows(lake, "sources", columns, items))
        case "poses" | "captions" | "latents":
            found = _rows(lake, "clips", ["clip_id", "kind", "frames"], items)
            return Sizes(_sorts(found), _floats(found, "frames"))
        case "rigs":
            found = _rows(lake, "captures", ["capture_id", "kind", "views"], items)
            return Sizes(_sorts(found), pc.list_value_length(found["views"]).to_numpy().astype(float))
        case _:
            return Sizes(np.full(len(items), "", object), np.ones(len(items)))


def _videos(rows: pa.Table) -> Sizes:
    """Renders say themselves where people are."""
    frames, sorts = _floats(rows, "frames"), _sorts(rows)
    seconds = np.where(sorts == "unreal", 0.0, frames * _floats(rows, "fps_den") / _floats(rows, "fps_num"))
    megapixels = _floats(rows, "width") * _floats(rows, "height") / 1e6
    return Sizes(sorts, seconds + frames * (1 + megapixels) / DECODED)


def _rows(lake: Lake, table: str, columns: list[str], items: Column) -> pa.Table:
    """The row of each item, of which `columns` names the key first; nulls where there is none."""
    data = lake.dataset(table).to_table(columns=columns)
    return pa.table({name: look_up(items, data, columns[0], name) for name in columns[1:]})


def _sorts(rows: pa.Table) -> np.ndarray:
    return np.array(pc.fill_null(rows["kind"], "").to_pylist(), object)


def _floats(rows: pa.Table, column: str) -> np.ndarray:
    return rows[column].cast(pa.float64()).to_numpy()


def _files(sorts: list[str], sizes: np.ndarray) -> Sizes:
    start = np.where(np.array(sorts, object) == DOWNLOAD, DOWNLOAD_START, FILE_START)
    return Sizes(np.array(sorts, object), sizes + start)


def _planned_file(payload: dict[str, Any]) -> tuple[str, float]:
    """The sort of a source item that was not read yet, and its bytes: those of a URL nobody knows."""
    if payload.get("url"):
        return DOWNLOAD, np.nan
    try:
        return payload["kind"], float(Path(payload.get("video") or payload["pictures"]).stat().st_size)
    except (KeyError, OSError):  # numbered pictures, or what is rejected at once
        return payload["kind"], np.nan
