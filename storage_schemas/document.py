"""The page that documents every table, generated from the schemas: `python -m storage_schemas.document`."""

from pathlib import Path

import pyarrow as pa

from storage_schemas.tables import SCHEMA_VERSION, TABLES, TENSOR, Table

PAGE = Path(__file__).with_name("README.md")
INTRO = """# storage_schemas: what is stored

A *lake* is a folder with one [Lance](https://lance.org) table per section below. The Arrow schemas in `tables.py` are
the truth; this page is generated from them (`python -m storage_schemas.document`), and a test keeps it so.

| file | what it is |
|---|---|
| `tables.py` | the schema of every table, with meaning, unit and shape in each field's metadata |
| `ids.py`, `conventions.py` | content-derived ids and work keys; cameras, time, rotations |
| `rows.py`, `lake.py` | rows (dicts, numpy arrays, bytes) to Arrow and back; reading a lake |
| `commit.py` | exactly-once writes: plan, stage, commit; killed anywhere and run again, the tables come out the same |
| `releases.py` | immutable releases: tagged versions of every table, checked when opened |
| `video.py` | the one place where a codec is named |

```python
from storage_schemas.lake import Lake

lake = Lake("demo-out/lake")
for clip in lake.read("clips", ["clip_id", "name", "track"], "person_height > 0.5"):
    print(clip["name"], clip["track"].shape)  # arrays come back as float32 numpy arrays
[video] = lake.blobs("clip_videos", "video", [clip["clip_id"]])  # bytes are read one by one, by key
```

**Conventions.** Cameras have OpenCV axes (x right, y down, z forward), `x_cam = R X_world + t`, metres and pixels.
Pixels are counted from the corner of the image: the centre of the top left pixel is (0.5, 0.5), half a pixel more than
`cv2` counts. The world is right-handed; gravity is stored per capture. Frames are 0-based, spans half-open, frame rates
rational. Rotations are axis-angle in radians. Bodies are SMPL-X: Y up, facing +Z, +X to the body's left. Arrays are
stored as `{shape, data}`; axes: T frames, P people, J joints, B shape coefficients.

**Writing.** Workers stage rows and never commit; one committer at a time makes at most one transaction per table and
run, found again in the table's history or the ledger after a crash. On this version the lake is a local folder.
"""


def page() -> str:
    """The whole page."""
    tables = "\n".join(_section(table) for table in TABLES.values())
    return f"{INTRO}\n## Tables (schema version {SCHEMA_VERSION})\n\n{tables}"


def _section(table: Table) -> str:
    rows = "\n".join(_row(field, table) for field in table.schema)
    head = f"### {table.name}\n\nA row is {table.about}."
    return f"{head}\n\n| column | type | null | meaning |\n|---|---|---|---|\n{rows}\n"


def _row(field: pa.Field, table: Table) -> str:
    meta = {k.decode(): v.decode() for k, v in (field.metadata or {}).items()}
    kind = (
        "bytes (blob)"
        if field.name in table.blobs
        else f"[{meta['dims']}]"
        if field.type == TENSOR
        else _type(field.type)
    )
    unit = f" ({meta['unit']})" if "unit" in meta else ""
    name = f"**{field.name}**" if field.name == table.key else field.name
    return f"| {name} | {kind} | {'yes' if field.nullable else ''} | {meta['about']}{unit} |"


def _type(kind: pa.DataType) -> str:
    if pa.types.is_list(kind):
        return f"list of {_type(kind.value_type)}"
    if pa.types.is_struct(kind):
        return "{" + ", ".join(f.name for f in kind) + "}"
    return str(kind)


if __name__ == "__main__":
    PAGE.write_text(page())
