"""Compute the size and the sort of a piece of work. Its duration is proportional to its size, at a rate per sort.

The weights within a unit were fitted once (ingest of the test data, H.264 on two processors). They only relate inputs
to each other; seconds per unit are measured on the current machine.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from opendimo.pipelines.engine.columns import Column, distinct, look_up
from opendimo.pipelines.engine.planned import Planned
from opendimo.pipelines.engine.work_status import ITEM
from opendimo.pipelines.sources.internet import RemoteVideo
from opendimo.pipelines.sources.items import Item
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.rows import in_list

DOWNLOAD = "download"
FILE_START, DOWNLOAD_START = 30e6, 2e6  # overhead of probing a file, of opening a connection, in equivalent bytes
DECODED = 250.0  # (1 + megapixels) x frames decoded and encoded in the time of detecting people in 1 s of video


@dataclass(frozen=True)
class Sizes:
    """Sizes of pieces of work: the `sorts`, and the sizes in `units`; nan if unknown."""

    sorts: np.ndarray
    units: np.ndarray

    def __len__(self) -> int:
        return len(self.units)


def sizes_of(lake: Lake, stage: str, planned: Planned, places: np.ndarray) -> Sizes:
    """Return the sizes of the works of a plan with the indices `places`.

    Units by stage: sources: bytes plus an overhead per file. clips: seconds of person detection, plus frames and pixels
    to decode. hands, poses, captions and latents: frames of the clip. rigs: views. Others: 1 each.
    """
    if stage == "sources":
        files = [_planned_file(work.payload) for work in planned.works(places.tolist())]
        return _files([sort for sort, _ in files], np.array([size for _, size in files], float))
    return _items(lake, stage, planned.items.take(pa.array(places)))


def stored_sizes(lake: Lake, stage: str, items: Lake, keys: list[str]) -> tuple[list[str], Sizes]:
    """Return those of `keys` that are done in `lake`, and their sizes, computed from the items in the lake `items`."""
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
        case "hands" | "poses" | "captions" | "latents":
            rows = _rows(lake, "clips", ["clip_id", "kind", "frames"], items)
            return Sizes(_sorts(rows), _floats(rows, "frames"))
        case "rigs":
            rows = _rows(lake, "captures", ["capture_id", "kind", "views"], items)
            return Sizes(_sorts(rows), pc.list_value_length(rows["views"]).to_numpy().astype(float))
        case _:
            return Sizes(np.full(len(items), "", object), np.ones(len(items)))


def _videos(rows: pa.Table) -> Sizes:
    """Return the sizes of videos to cut; renders have true people, so detection costs nothing."""
    frames, sorts = _floats(rows, "frames"), _sorts(rows)
    seconds = np.where(sorts == "unreal", 0.0, frames * _floats(rows, "fps_den") / _floats(rows, "fps_num"))
    megapixels = _floats(rows, "width") * _floats(rows, "height") / 1e6
    return Sizes(sorts, seconds + frames * (1 + megapixels) / DECODED)


def _rows(lake: Lake, table: str, columns: list[str], items: Column) -> pa.Table:
    """Return the row of each item, null if there is none; the first of `columns` is the key and is not returned."""
    data = lake.dataset(table).to_table(columns=columns)
    return pa.table({name: look_up(items, data, columns[0], name) for name in columns[1:]})


def _sorts(rows: pa.Table) -> np.ndarray:
    return np.array(pc.fill_null(rows["kind"], "").to_pylist(), object)


def _floats(rows: pa.Table, column: str) -> np.ndarray:
    return rows[column].cast(pa.float64()).to_numpy()


def _files(sorts: list[str], sizes: np.ndarray) -> Sizes:
    start = np.where(np.array(sorts, object) == DOWNLOAD, DOWNLOAD_START, FILE_START)
    return Sizes(np.array(sorts, object), sizes + start)


def _planned_file(item: Item) -> tuple[str, float]:
    """Return the sort and the bytes of a source item that was not read yet; nan bytes for a URL."""
    if isinstance(item, RemoteVideo):
        return DOWNLOAD, np.nan
    try:
        return item.kind, float(Path(item.file).stat().st_size) if item.file else np.nan
    except OSError:  # numbered pictures
        return item.kind, np.nan
