"""Pin the table versions that a release reads by tags. The tags of an existing release are never moved."""

import hashlib
import json
from typing import Any

import lance

from opendimo.storage_schemas.lake.commit import exclusive
from opendimo.storage_schemas.lake.lake import Lake

PINNED = ("sources", "captures", "clips", "clip_videos", "hands", "poses", "captions", "latents", "pairs")

Pin = dict[str, Any]  # table, tag, version, rows, fragments_sha256
Pinned = dict[str, lance.LanceDataset]


def pin_tables(lake: Lake, tag: str) -> list[Pin]:
    """Tag the newest version of every table of `PINNED`, without a commit in between.

    An existing tag with this name is from an attempt that was killed before its release existed, so it is replaced.
    """
    unpin_tables(lake, tag)
    with exclusive(lake):  # cleaning takes this lock, too, so it cannot delete the versions that are tagged here
        for table in PINNED:
            dataset = lake.dataset(table)
            dataset.tags.create(tag, dataset.version)
    return [_facts(lake, table, tag) for table in PINNED]


def unpin_tables(lake: Lake, tag: str) -> None:
    """Remove the tags of an attempt that did not result in a release."""
    for table in PINNED:
        dataset = lake.dataset(table)
        if tag in dataset.tags.list():
            dataset.tags.delete(tag)


def pinned(lake: Lake, pins: list[Pin]) -> Pinned:
    """Open the pinned tables."""
    return {pin["table"]: lake.dataset(pin["table"], pin["version"]) for pin in pins}


def check_pins(lake: Lake, release_id: str, pins: list[Pin]) -> None:
    """Raise `ValueError`, naming the table, if a table differs from what was pinned."""
    for pin in pins:
        try:
            facts = _facts(lake, pin["table"], pin["tag"])
        except (ValueError, OSError, RuntimeError) as error:
            raise ValueError(
                f"release {release_id}: the pinned version of {pin['table']} is missing ({error})"
            ) from error
        if facts != pin:
            raise ValueError(
                f"release {release_id}: table {pin['table']} differs from what was pinned; create a new release"
            )


def unchanged(lake: Lake, older: list[Pin], newer: list[Pin]) -> bool:
    """Return whether two sets of pins have the same rows: no run committed rows between them. Compaction is no run."""
    rows = {pin["table"]: (pin["version"], pin["rows"]) for pin in older}  # a table that was added since: no rows
    if any(rows.get(pin["table"], (0, 0))[1] != pin["rows"] for pin in newer):
        return False
    later = lake.read("ledger", ["table_name", "version"], "rows > 0")
    newest = {pin["table"]: pin["version"] for pin in newer}
    return not any(
        rows[run["table_name"]][0] < run["version"] <= newest[run["table_name"]]
        for run in later
        if run["table_name"] in newest
    )


def _facts(lake: Lake, table: str, tag: str) -> Pin:
    dataset = lake.dataset(table, tag)
    return {
        "table": table,
        "tag": tag,
        "version": dataset.version,
        "rows": dataset.count_rows(),
        "fragments_sha256": _fragments_sha256(dataset),
    }


def _fragments_sha256(dataset: lance.LanceDataset) -> str:
    files = [[f.fragment_id, sorted(d.path for d in f.data_files()), f.count_rows()] for f in dataset.get_fragments()]
    return hashlib.sha256(json.dumps(sorted(files)).encode()).hexdigest()
