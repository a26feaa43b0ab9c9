"""Create Arrow fields with meaning, unit and axes in their metadata; see `storage_schemas/tables.py`."""

import lance
import pyarrow as pa

TENSOR = pa.struct([pa.field("shape", pa.list_(pa.int32())), pa.field("data", pa.list_(pa.float32()))])
"""The Arrow type of an array of any rank."""


def field(name: str, kind: pa.DataType, about: str, *, null: bool = False, unit: str = "", dims: str = "") -> pa.Field:
    """Return a field of any type. `dims` gives names (letters) or sizes (numbers) of an array's axes."""
    meta = {"about": about} | ({"unit": unit} if unit else {}) | ({"dims": dims} if dims else {})
    return pa.field(name, kind, nullable=null, metadata=meta)


def key(name: str, about: str) -> pa.Field:
    """Return the primary key field of a table."""
    # Lance refuses concurrent upserts of the same key only if the key is declared like this
    meta = {"about": about, "lance-schema:unenforced-primary-key": "true"}
    return pa.field(name, pa.string(), nullable=False, metadata=meta)


def text(name: str, about: str, null: bool = False) -> pa.Field:
    """Return a string field."""
    return field(name, pa.string(), about, null=null)


def integer(name: str, about: str, null: bool = False, unit: str = "") -> pa.Field:
    """Return an int64 field."""
    return field(name, pa.int64(), about, null=null, unit=unit)


def real(name: str, about: str, null: bool = False, unit: str = "") -> pa.Field:
    """Return a float64 field."""
    return field(name, pa.float64(), about, null=null, unit=unit)


def array(name: str, about: str, dims: str, unit: str = "", null: bool = False) -> pa.Field:
    """Return a field for a float32 array."""
    return field(name, TENSOR, about, null=null, unit=unit, dims=dims)


def flags(name: str, about: str, null: bool = False) -> pa.Field:
    """Return a field with one boolean per frame."""
    return field(name, pa.list_(pa.bool_()), about, null=null, dims="T")


def words(name: str, about: str, null: bool = False) -> pa.Field:
    """Return a field for a list of strings."""
    return field(name, pa.list_(pa.string()), about, null=null)


def blob(name: str, about: str) -> pa.Field:
    """Return a blob field: its bytes are stored outside the rows and read one by one."""
    blob_field = lance.blob_field(name)
    return blob_field.with_metadata({**(blob_field.metadata or {}), b"about": about.encode(), b"blob": b"true"})
