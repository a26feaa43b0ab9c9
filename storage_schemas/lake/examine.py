"""Read every table of a lake to find damaged files."""

from collections.abc import Iterator
from dataclasses import dataclass

import lance

from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.lake.unreadable import UnreadableTable, reason
from opendimo.storage_schemas.tables import TABLES


@dataclass(frozen=True)
class TableState:
    """What reading a table showed. `damage`: a line per file, or for the table if it cannot be opened."""

    table: str
    rows: int
    damage: tuple[str, ...]


def examine(lake: Lake) -> Iterator[TableState]:
    """Read all rows of every table at its newest version, without videos and other blobs, and report what fails.

    `dimo release verify --deep` compares also the videos of a release with their hashes.
    """
    for table in TABLES.values():
        try:
            dataset = lake.dataset(table.name)
        except UnreadableTable as error:
            yield TableState(table.name, 0, (reason(error.__cause__ or error),))
            continue
        columns = [name for name in table.schema.names if name not in table.blobs]
        damage = [line for fragment in dataset.get_fragments() for line in _damage(fragment, columns)]
        yield TableState(table.name, dataset.count_rows(), tuple(damage))


def _damage(fragment: lance.LanceFragment, columns: list[str]) -> list[str]:
    """Read the rows of a fragment; return a line with its files if that fails."""
    try:
        for _ in fragment.to_batches(columns=columns):
            pass
    except (OSError, ValueError, RuntimeError) as error:
        return [f"{', '.join(file.path for file in fragment.data_files())}: {reason(error)}"]
    return []
