"""Convert rows (dicts with numpy arrays, and bytes or objects with `__bytes__`) to Arrow tables and back."""

import io
from typing import Any

import lance
import numpy as np
import pyarrow as pa

from opendimo.storage_schemas.tables import TABLES, TENSOR, Table

Row = dict[str, Any]


def filled_row(table: str, frames: int = 1, /, **values: Any) -> Row:
    """Return a row of `table` with `values`, and an empty default in every other column that must not be null.

    Missing arrays are filled with zeros; `frames` is the length of their time axes.
    """
    empty = {pa.string(): "", pa.int64(): 0, pa.float64(): 0.0, pa.bool_(): False}
    row = dict(values)
    for field in TABLES[table].schema:
        if field.nullable or field.name in values or field.name == "run_id":
            continue
        if field.type == TENSOR:
            dims = field.metadata[b"dims"].decode().split()
            row[field.name] = np.zeros([frames if d == "T" else 10 if d == "B" else int(d) for d in dims], np.float32)
        else:
            row[field.name] = empty.get(field.type, [])
    return row


def rows_to_arrow(table: Table, rows: list[Row]) -> pa.Table:
    """Convert rows to an Arrow table with the full schema.

    Raises `ValueError`, naming table, row and column, if a column is unknown, missing, or has a wrong shape.
    """
    known = set(table.schema.names)
    for row in rows:
        if unknown := set(row) - known:
            raise ValueError(f"{table.name} {row.get(table.key)}: no such column: {', '.join(sorted(unknown))}")
        _check(table, row)
    columns = [_column(field, [row.get(field.name) for row in rows]) for field in table.schema]
    return pa.Table.from_arrays(columns, schema=table.schema)


def rows_to_batches(table: Table, rows: list[Row]) -> pa.RecordBatchReader:
    """Like `rows_to_arrow`, but convert rows lazily one by one, so that not all blobs are in memory at once."""
    batches = (batch for row in rows for batch in rows_to_arrow(table, [row]).to_batches())
    return pa.RecordBatchReader.from_batches(table.schema, batches)


def arrow_to_rows(data: pa.Table) -> list[Row]:
    """Convert an Arrow table to rows; arrays become float32 numpy arrays with their original shape."""
    columns = {
        name: _arrays(data[name]) if data.schema.field(name).type == TENSOR else data[name].to_pylist()
        for name in data.column_names
    }
    return [{name: values[i] for name, values in columns.items()} for i in range(data.num_rows)]


def arrow_bytes(data: pa.Table) -> bytes:
    """Serialise an Arrow table in the Arrow file format."""
    buffer = io.BytesIO()
    with pa.ipc.new_file(buffer, data.schema) as writer:
        writer.write_table(data)
    return buffer.getvalue()


def _column(field: pa.Field, values: list[Any]) -> pa.Array:
    if field.type == TENSOR:
        shapes = pa.array([None if v is None else list(np.shape(v)) for v in values], TENSOR.field("shape").type)
        flat = [None if v is None else np.asarray(v, np.float32).ravel() for v in values]
        data = pa.array(flat, TENSOR.field("data").type)
        return pa.StructArray.from_arrays([shapes, data], fields=list(TENSOR), mask=shapes.is_null())
    if isinstance(field.type, pa.ExtensionType):  # a Lance blob
        return lance.blob_array([None if value is None else bytes(value) for value in values])
    return pa.array(values, field.type)


def _arrays(column: pa.ChunkedArray) -> list[np.ndarray | None]:
    arrays: list[np.ndarray | None] = []
    for chunk in column.chunks:
        shapes, data = chunk.field("shape").to_pylist(), chunk.field("data")
        values, offsets = data.values.to_numpy(zero_copy_only=False), data.offsets.to_numpy()
        for i, present in enumerate(chunk.is_valid().to_pylist()):
            block = values[offsets[i] : offsets[i + 1]]
            arrays.append(block.reshape(shapes[i]).astype(np.float32) if present else None)
    return arrays


def _check(table: Table, row: Row) -> None:
    sizes: dict[str, int] = {}
    for field in table.schema:
        value = row.get(field.name)
        where = f"{table.name}.{field.name} of {row.get(table.key)}"
        if value is None:
            if not field.nullable:
                raise ValueError(f"{where}: missing")
        elif field.type == TENSOR:
            _check_shape(where, np.shape(value), field.metadata[b"dims"].decode().split(), sizes)


def _check_shape(where: str, shape: tuple[int, ...], dims: list[str], sizes: dict[str, int]) -> None:
    """Check the shape of an array; `sizes` collects the size of each named axis within the row.

    Axes with a number must have that size; axes with the same letter must have the same size in the whole row. A time
    axis of length 1 is also accepted, for example for a camera that never moves. Raises `ValueError` otherwise.
    """
    fits = len(shape) == len(dims)
    for size, dim in zip(shape, dims, strict=False):
        expected = int(dim) if dim.isdigit() else sizes.setdefault(dim, size)
        if dim == "T" and 1 in (size, expected):
            sizes[dim] = max(size, expected)
        elif size != expected:
            fits = False
    if not fits:
        raise ValueError(f"{where}: shape {shape} does not fit [{' '.join(dims)}] with {sizes}")


def in_list(column: str, values: list[Any]) -> str:
    """Return the SQL condition that a string column has one of `values`."""
    listed = ", ".join("'" + str(value).replace("'", "''") + "'" for value in values)
    return f"{column} IN ({listed})"
