"""Helpers for planning on Arrow columns: JSON texts for work keys, membership tests, look-ups, one row per group.

They work on whole columns and create no Python object per row, so that ten million rows fit in memory.
"""

import json
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Column: TypeAlias = "pa.Array | pa.ChunkedArray"
PLAIN = r"^[ !#-\[\]-~]*$"  # characters that JSON does not escape


def json_strings(column: Column) -> Column:
    """Return each value of a text column as JSON: quoted and escaped, or `null` for null."""
    if pc.all(pc.match_substring_regex(column, PLAIN)).as_py() is False:
        return pa.array([json.dumps(value) for value in column.to_pylist()], pa.string())
    return pc.fill_null(pc.binary_join_element_wise('"', column, '"', ""), "null")


def json_lists(*parts: Column) -> Column:
    """Return one JSON list per row; each of `parts` is a column of JSON texts and gives one element."""
    return pc.binary_join_element_wise("[", pc.binary_join_element_wise(*parts, ","), "]", "")


def among(values: Column, column: Column) -> Column:
    """Return a mask: whether each of `values` occurs in `column`."""
    if 8 * len(values) < len(column):  # build the hash table from the smaller side
        column = pc.unique(column.filter(pc.is_in(column, value_set=values)))
    return pc.is_in(values, value_set=column)


def look_up(keys: Column, table: pa.Table, key: str, column: str) -> Column:
    """Return `column` of the row of `table` whose column `key` holds each of `keys`; null if there is no such row."""
    return table[column].take(pc.index_in(keys, value_set=table[key]))


def distinct(data: pa.Table, by: list[str]) -> pa.Table:
    """Deduplicate: return the first row of each group with equal values in the columns `by`."""
    _, first = np.unique(_groups(data, by), return_index=True)
    return data if len(first) == data.num_rows else data.take(pa.array(np.sort(first)))


def last_of(data: pa.Table, by: list[str], order: Callable[[pa.Table], list[Any]]) -> pa.Table:
    """Return the last row of each group with equal values in the columns `by`.

    `order` returns the sort keys, most important first. It is called only with the rows whose group has several rows,
    which usually are few.
    """
    groups = _groups(data, by)
    shared = np.bincount(groups)[groups] > 1 if len(groups) else np.zeros(0, bool)
    if not shared.any():
        return data
    shared_rows = data.filter(pa.array(shared))
    keys = {str(k): column for k, column in enumerate([groups[shared], *order(shared_rows)])}
    ranks = pc.sort_indices(pa.table(keys), [(name, "ascending") for name in keys])
    group = groups[shared][ranks.to_numpy()]
    last = np.append(group[1:] != group[:-1], True)
    return pa.concat_tables([data.filter(pa.array(~shared)), shared_rows.take(ranks.filter(pa.array(last)))])


def _groups(data: pa.Table, by: list[str]) -> np.ndarray:
    """Return a group number per row: rows with equal values in the columns `by` get the same number."""
    groups = np.zeros(data.num_rows, np.int64)
    for name in by:
        encoded = pa.chunked_array(data[name]).dictionary_encode(null_encoding="encode")
        codes = np.concatenate([np.zeros(0, np.int64), *(chunk.indices.to_numpy() for chunk in encoded.chunks)])
        groups = groups * (int(codes.max(initial=0)) + 1) + codes
        if len(by) > 1:
            _, groups = np.unique(groups, return_inverse=True)
    return groups
