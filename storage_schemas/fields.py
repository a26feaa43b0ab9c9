"""Fields of Arrow schemas with their meaning, unit and axes in the metadata; see `storage_schemas/tables.py`."""

import lance
import pyarrow as pa

TENSOR = pa.struct([pa.field("shape", pa.list_(pa.int32())), pa.field("data", pa.list_(pa.float32()))])
"""An array of any rank."""


def field(name: str, kind: pa.DataType, about: str, *, null: bool = False, unit: str = "", dims: str = "") -> pa.Field:
    """A field of any type. `dims`: names (letters) or sizes (numbers) of the axes of an array."""
    meta = {"about": about} | ({"unit": unit} if unit else {}) | ({"dims": dims} if dims else {})
    return pa.field(name, kind, nullable=null, metadata=meta)


def key(name: str, about: str) -> pa.Field:
    """The primary key of a table."""
    # lance refuses concurrent upserts of one key only where the key is declared like this
    meta = {"about": about, "lance-schema:unenforced-primary-key": "true"}
    return pa.field(name, pa.string(), nullable=False, metadata=meta)


def text(name: str, about: str, null: bool = False) -> pa.Field:
    """A text."""
    return field(name, pa.string(), about, null=null)


def integer(name: str, about: str, null: bool = False, unit: str = "") -> pa.Field:
    """A whole number."""
    return field(name, pa.int64(), about, null=null, unit=unit)


def real(name: str, about: str, null: bool = False, unit: str = "") -> pa.Field:
    """A number."""
    return field(name, pa.float64(), about, null=null, unit=unit)


def array(name: str, about: str, dims: str, unit: str = "", null: bool = False) -> pa.Field:
    """An array of float32."""
    return field(name, TENSOR, about, null=null, unit=unit, dims=dims)


def flags(name: str, about: str, null: bool = False) -> pa.Field:
    """Yes or no per frame."""
    return field(name, pa.list_(pa.bool_()), about, null=null, dims="T")


def words(name: str, about: str, null: bool = False) -> pa.Field:
    """A list of texts."""
    return field(name, pa.list_(pa.string()), about, null=null)


def blob(name: str, about: str) -> pa.Field:
    """Bytes that are stored outside the rows and read one by one."""
    made = lance.blob_field(name)
    return made.with_metadata({**(made.metadata or {}), b"about": about.encode(), b"blob": b"true"})
