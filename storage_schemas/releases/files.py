"""Write and read the files of a release: its pairs as a separate dataset, and the list of all files it needs."""

import functools
import hashlib
from collections.abc import Iterator

import lance
import pyarrow as pa
import pyarrow.compute as pc

from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.lake.lock import Check
from opendimo.storage_schemas.releases.inventory import (
    Entries,
    OnProgress,
    read_inventory,
    release_folder,
    write_inventory,
)
from opendimo.storage_schemas.releases.pins import Pin
from opendimo.storage_schemas.releases.selection import Selection, column

BATCH = 1 << 16
ROWS_PER_FILE = 1 << 20


def open_pairs(lake: Lake, release_id: str) -> lance.LanceDataset:
    """Open the pairs of a release."""
    return lance.dataset(_pairs_uri(lake, release_id), version=1)


def releases_with(lake: Lake, clips: pa.Array) -> dict[str, int | None]:
    """Return the releases with pairs that use one of these clips, and the number of such pairs.

    The number is None if the pairs of a release cannot be read.
    """
    counts: dict[str, int | None] = {}
    for release_id in sorted(lake.column("releases", "release_id").to_pylist()):
        try:
            batches = open_pairs(lake, release_id).scanner(columns=["driving_clip_id", "target_clip_id"]).to_batches()
            count = sum(_hits(batch, clips) for batch in batches)
        except (ValueError, OSError):
            counts[release_id] = None
            continue
        if count:
            counts[release_id] = count
    return counts


def kept_pair_ids(pairs: lance.LanceDataset, chosen: Selection) -> pa.Array:
    """Return the sorted ids of the pairs that a selection keeps."""
    kept = column(pairs, "pair_id", chosen.where).filter(pa.array(chosen.kept))
    return kept.take(pc.sort_indices(kept))


def row_set_sha256(pair_ids: pa.Array) -> str:
    """Return the hash of sorted ids, joined with newlines."""
    digest = hashlib.sha256()
    for start in range(0, len(pair_ids), BATCH):
        part = pair_ids[start : start + BATCH]
        lines = pc.binary_join(pa.ListArray.from_arrays([0, len(part)], part), "\n")[0]
        digest.update((b"\n" if start else b"") + lines.as_buffer())
    return digest.hexdigest()


def write_release_files(
    lake: Lake,
    release_id: str,
    pair_ids: pa.Array,
    pins: list[Pin],
    on_progress: OnProgress = lambda *_: None,
    check: Check = lambda: None,
) -> str:
    """Write the pairs with these ids from the pinned table, and the list of all files; return the hash of the list.

    Replaces the files of a killed attempt. The caller must hold the lock `release`, whose `check` is called, and must
    add the row of the release afterwards. Raises `ValueError` if an id is not in the pinned table.
    """
    [version] = [pin["version"] for pin in pins if pin["table"] == "pairs"]
    pairs = lake.dataset("pairs", version)
    mask = pc.is_in(column(pairs, "pair_id"), value_set=pair_ids)
    if (count := pc.sum(mask).as_py() or 0) != len(pair_ids):
        raise ValueError(f"release {release_id}: only {count} of {len(pair_ids)} pairs are in the pinned table")
    check()
    for name in lake.store.sizes(f"{release_folder(release_id)}/pairs.lance"):
        lake.store.delete(name)
    reader = pa.RecordBatchReader.from_batches(pairs.schema, _masked(pairs, mask))
    lance.write_dataset(reader, _pairs_uri(lake, release_id), schema=pairs.schema, max_rows_per_file=ROWS_PER_FILE)
    return write_inventory(lake, release_id, pins, _known(lake), on_progress)


def _masked(pairs: lance.LanceDataset, mask: pa.BooleanArray) -> Iterator[pa.RecordBatch]:
    start = 0
    for batch in pairs.scanner(batch_size=BATCH).to_batches():
        part = mask[start : start + batch.num_rows]
        start += batch.num_rows
        if part.true_count:
            yield batch.filter(part)


def _hits(batch: pa.RecordBatch, values: pa.Array) -> int:
    """Count the rows that have one of the values in any column."""
    return int(functools.reduce(pc.or_, [pc.is_in(column, value_set=values) for column in batch.columns]).true_count)


def _known(lake: Lake) -> Entries:
    """Return the list of files of the newest release; empty if there is none or its list is damaged."""
    rows = lake.read("releases", ["release_id", "inventory_sha256", "created_at"])
    newest = max(rows, key=lambda row: row["created_at"], default=None)
    try:
        return read_inventory(lake, newest["release_id"], newest["inventory_sha256"]) if newest else {}
    except ValueError:  # the list is missing or was changed
        return {}


def _pairs_uri(lake: Lake, release_id: str) -> str:
    return f"{lake.uri}/{release_folder(release_id)}/pairs.lance"
