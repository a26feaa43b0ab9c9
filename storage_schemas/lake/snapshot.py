"""Read rows and blobs of one table version by key, with all keys in memory.

A scan of the key column takes 7 ms at 3000 rows and 70 ms at 500 thousand. A snapshot scans it once and needs 45 bytes
per row.
"""

from bisect import bisect_left
from functools import cached_property
from typing import BinaryIO, cast

import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from opendimo.storage_schemas.rows import Row, arrow_to_rows
from opendimo.storage_schemas.tables import TABLES


class Snapshot:
    """Access to `dataset`, a version of `table`, by primary key. Methods raise `KeyError`, naming a missing key."""

    def __init__(self, dataset: lance.LanceDataset, table: str) -> None:
        self.dataset, self.table = dataset, table

    def rows(self, keys: list[str], columns: list[str]) -> list[Row]:
        """Return rows as dicts, in the order of `keys`. Columns that this version does not have yet are None."""
        stored = [name for name in columns if name in self.dataset.schema.names]
        rows = arrow_to_rows(self.dataset.take(self._row_indices(keys), columns=stored))
        return [dict.fromkeys(columns) | row for row in rows]

    def blobs(self, column: str, keys: list[str]) -> list[bytes]:
        """Return the bytes of a blob column, in the order of `keys`."""
        indices = self._row_indices(keys)
        distinct = sorted(set(indices))  # reads in storage order are several times faster
        blobs = self.dataset.read_blobs(column, indices=distinct, preserve_order=True)
        bytes_at = {index: blob or b"" for index, (_, blob) in zip(distinct, blobs, strict=True)}
        return [bytes_at[index] for index in indices]

    def open_blob(self, column: str, key: str) -> BinaryIO:
        """Open one blob as a seekable file that fetches only the ranges read."""
        [file] = self.dataset.take_blobs(column, indices=self._row_indices([key]))
        return cast(BinaryIO, file)

    @cached_property
    def _index(self) -> tuple[pa.StringArray, NDArray[np.uint64]]:
        """All keys, sorted, and the row index of each in the table."""
        key = TABLES[self.table].key
        keys = self.dataset.to_table(columns=[key])[key].combine_chunks()
        order = pc.sort_indices(keys)
        return keys.take(order), order.to_numpy()

    def _row_indices(self, keys: list[str]) -> list[int]:
        sorted_keys, order = self._index
        indices, missing = [], []
        for key in keys:
            position = bisect_left(sorted_keys, key, key=pa.StringScalar.as_py)
            if position < len(sorted_keys) and sorted_keys[position].as_py() == key:
                indices.append(int(order[position]))
            else:
                missing.append(key)
        if missing:
            more = f" and {len(missing) - 1} more" if missing[1:] else ""
            raise KeyError(f"{self.table} has no row {missing[0]}{more}")
        return indices
