"""What planning does with Arrow columns: JSON texts of them for work keys, and one row of each group of alike ones.

Nothing here makes Python objects of rows, so that ten million of them fit.
"""

import json
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Column: TypeAlias = "pa.Array | pa.ChunkedArray"
PLAIN = r"^[ !#-\[\]-~]*$"  # what JSON writes as it is


def json_strings(column: Column) -> Column:
    """The JSON text of each value of a text column: in quotes, escaped; null where null."""
    if pc.all(pc.match_substring_regex(column, PLAIN)).as_py() is False:
        return pa.array([json.dumps(value) for value in column.to_pylist()], pa.string())
    return pc.fill_null(pc.binary_join_element_wise('"', column, '"', ""), "null")


def json_lists(*parts: Column) -> Column:
    """The JSON text of one list per row, of JSON texts."""
    return pc.binary_join_element_wise("[", pc.binary_join_element_wise(*parts, ","), "]", "")


def among(values: Column, column: Column) -> Column:
    """Whether each of `values` is in `column`."""
    if 8 * len(values) < len(column):  # the smaller side is the one to remember
        column = pc.unique(column.filter(pc.is_in(column, value_set=values)))
    return pc.is_in(values, value_set=column)


def look_up(keys: Column, table: pa.Table, key: str, wanted: str) -> Column:
    """`wanted` of the row of `table` that has each key; null where none has."""
    return table[wanted].take(pc.index_in(keys, value_set=table[key]))


def distinct(data: pa.Table, by: list[str]) -> pa.Table:
    """One row of each group that agrees in the columns `by`."""
    _, first = np.unique(_groups(data, by), return_index=True)
    return data if len(first) == data.num_rows else data.take(pa.array(np.sort(first)))


def last_of(data: pa.Table, by: list[str], order: Callable[[pa.Table], list[Any]]) -> pa.Table:
    """The last row of each group that agrees in the columns `by`.

    `order` gives sort keys, the most important first, of the rows that share their group with others: few, as a rule.
    """
    groups = _groups(data, by)
    shared = np.bincount(groups)[groups] > 1 if len(groups) else np.zeros(0, bool)
    if not shared.any():
        return data
    several = data.filter(pa.array(shared))
    keys = {str(k): column for k, column in enumerate([groups[shared], *order(several)])}
    ranks = pc.sort_indices(pa.table(keys), [(name, "ascending") for name in keys])
    group = groups[shared][ranks.to_numpy()]
    last = np.append(group[1:] != group[:-1], True)
    return pa.concat_tables([data.filter(pa.array(~shared)), several.take(ranks.filter(pa.array(last)))])


def _groups(data: pa.Table, by: list[str]) -> np.ndarray:
    """A number per row, equal where the columns `by` are."""
    groups = np.zeros(data.num_rows, np.int64)
    for name in by:
        encoded = pa.chunked_array(data[name]).dictionary_encode(null_encoding="encode")
        codes = np.concatenate([np.zeros(0, np.int64), *(chunk.indices.to_numpy() for chunk in encoded.chunks)])
        groups = groups * (int(codes.max(initial=0)) + 1) + codes
        if len(by) > 1:
            _, groups = np.unique(groups, return_inverse=True)
    return groups
