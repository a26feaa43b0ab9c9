"""One version of a table with its keys in memory: rows and blobs by key without a scan for each.

A scan of the key column costs 7 ms at 3000 rows and 70 ms at 500 thousand; here it is paid once, with 45 bytes a row.
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
    """Access by primary key to `dataset`, a version of `table`. Methods raise `KeyError` naming what is missing."""

    def __init__(self, dataset: lance.LanceDataset, table: str) -> None:
        self.dataset, self.table = dataset, table

    def rows(self, keys: list[str], columns: list[str]) -> list[Row]:
        """Rows as dicts, in the order asked."""
        return arrow_to_rows(self.dataset.take(self._places(keys), columns=columns))

    def blobs(self, column: str, keys: list[str]) -> list[bytes]:
        """Bytes of a blob column, in the order asked."""
        places = self._places(keys)
        distinct = sorted(set(places))  # reads in storage order are several times faster
        read = self.dataset.read_blobs(column, indices=distinct, preserve_order=True)
        bytes_at = {place: blob or b"" for place, (_, blob) in zip(distinct, read, strict=True)}
        return [bytes_at[place] for place in places]

    def open_blob(self, column: str, key: str) -> BinaryIO:
        """One blob as a seekable file: only the ranges that are read are fetched."""
        [file] = self.dataset.take_blobs(column, indices=self._places([key]))
        return cast(BinaryIO, file)

    @cached_property
    def _index(self) -> tuple[pa.StringArray, NDArray[np.uint64]]:
        """All keys in order, and the place of each in the table."""
        key = TABLES[self.table].key
        keys = self.dataset.to_table(columns=[key])[key].combine_chunks()
        order = pc.sort_indices(keys)
        return keys.take(order), order.to_numpy()

    def _places(self, keys: list[str]) -> list[int]:
        known, order = self._index
        found, missing = [], []
        for key in keys:
            at = bisect_left(known, key, key=pa.StringScalar.as_py)
            if at < len(known) and known[at].as_py() == key:
                found.append(int(order[at]))
            else:
                missing.append(key)
        if missing:
            more = f" and {len(missing) - 1} more" if missing[1:] else ""
            raise KeyError(f"{self.table} has no row {missing[0]}{more}")
        return found
