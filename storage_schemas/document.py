"""The page that documents every table, generated from the schemas: `python -m opendimo.storage_schemas.document`."""

from pathlib import Path

import pyarrow as pa

from opendimo.storage_schemas.tables import SCHEMA_VERSION, TABLES, TENSOR, Table

PAGE = Path(__file__).with_name("README.md")
INTRO = """# storage_schemas: what is stored

A *lake* is a folder, or a prefix of an object store, with one [Lance](https://lance.org) table per section below. The
Arrow schemas in `tables.py` are the truth; this page is generated from them
(`python -m opendimo.storage_schemas.document`), and a test keeps it so.

| file | what it is |
|---|---|
| `tables.py`, `rows.py` | schemas, with meaning, unit and shape in each field's metadata; rows to Arrow and back |
| `ids.py`, `conventions.py` | content-derived ids and work keys; cameras, time, rotations |
| `caption_hash.py` | a hash of what the texts of windows are composed of: tells which latents are of which caption |
| `lake/lake.py`, `store.py`, `lock.py` | reading a lake; small files; locks on a disk and on an object store |
| `lake/commit.py`, `ledger.py`, `snapshot.py` | exactly-once writes; what was committed and asked for |
| `lake/compact.py`, `maintain.py`, `migrate.py` | merging fragments, freeing space, older lakes |
| `lake/takedown.py` | what must not be used any more |
| `releases/` | immutable releases: policy, pins, list of files, approval, `verify`, `diff`, export |
| `media/` | the one place where a codec is named: opening, decoding to a constant rate, encoding, copying |
| `media/image_sequence.py`, `spool.py` | numbered pictures as one source; bytes that wait on disk to be stored |

```python
from opendimo.storage_schemas.lake.lake import Lake

lake = Lake("demo-out/lake")  # or s3://bucket/lake
for clip in lake.read("clips", ["clip_id", "name", "track"], "person_height > 0.5"):
    print(clip["name"], clip["track"].shape)  # arrays come back as float32 numpy arrays
[video] = lake.blobs("clip_videos", "video", [clip["clip_id"]])  # bytes are read one by one, by key
head = lake.open_blob("clip_videos", "video", clip["clip_id"]).read(4096)  # or a part of them
```

**Conventions.** Cameras have OpenCV axes (x right, y down, z forward), `x_cam = R X_world + t`, metres and pixels.
Pixels are counted from the corner of the image: the centre of the top left pixel is (0.5, 0.5), half a pixel more than
`cv2` counts. The world is right-handed; gravity is stored per capture. Frames are 0-based, spans half-open, frame rates
rational. Rotations are axis-angle in radians. Bodies are SMPL-X: Y up, facing +Z, +X to the body's left. Arrays are
stored as `{shape, data}`; axes: T frames, P people, J joints, B shape coefficients.

## Writing

```
plan.json ── workers stage shards ──────────── one committer, under the lock `commit`
  once        rows: Arrow files                 commit.json       what is about to be done, decided once
              blobs: Lance fragments            a transaction     at most one per table and run
              NNNNNN.json: manifest, last       ledger, then committed.json
```

The id of a run is a hash of its request, so the same request is the same run, and it goes on where it was killed: a
shard with a manifest is not made again, a table with rows of the run is not written again. Workers never commit. Of a
key that is stored already the first row stays, whatever runs overlap; facts about the outside world (`sources`,
`captures`) are replaced. Labels are tables of their own, so adding or replacing them never touches video bytes.

Locks are held by one process on all machines. On a disk they are file locks, which end with their holder; on an object
store leases, which the holder renews and which are taken over after 30 s without a sign of life
(`OPENDIMO_LEASE_SECONDS`), by the clock of whoever waits. Whoever takes the lock `commit` first completes what a killed
process left half done. The lock is not the only guard: rows go through an upsert on the declared key, which Lance
refuses to do twice at once, and of videos that a sleeping process appends a second time the first stay.

**On an object store** give `--lake s3://bucket/lake` (or `gs://`, `az://`); credentials, region and endpoint come from
the usual variables (`AWS_ACCESS_KEY_ID`, `AWS_REGION`, `AWS_ENDPOINT_URL`, with `AWS_ALLOW_HTTP=true` for one without
TLS), which Ray workers need as well. A store that ignores conditional writes is refused. State of this machine
(downloads, Prefect's database) then lies in `~/.cache/opendimo/lakes`.

## Releases

A release is a set of training pairs that never changes: `NAME@VERSION`. It tags a version of every table, writes its
pairs to `releases/NAME/VERSION/pairs.lance`, and lists every file with size and hash in `files.json`. Training reads
releases and nothing else, and refuses one that is unpinned, not approved, withdrawn or changed.

```
dimo release create dance --policy release.toml --lake lake     the newest pairs, less what policy and takedowns drop
dimo release show | list | diff dance@1 dance@2                 counts, label quality, licences; what changed, and why
dimo release approve dance@1 --by ann --lake lake               where the policy asks for it
dimo release verify dance@1 --deep --lake lake                  every byte again
dimo release rollback dance --by ann --reason "bad hands" --lake lake
dimo release export dance@1 --format webdataset|huggingface --out DIR --lake lake
```

A policy is a TOML file; what it leaves out lets everything in:

```toml
licences = ["CC-BY-4.0", "CC0-1.0"]   # allowed ones, by exact name
unknown_licence = false               # whether a source without a licence may be in
approval = true                       # somebody has to approve it before anything trains on it

[floors]                              # least values of columns of clips and poses; [ceilings]: greatest
"poses.weight" = 0.3
"clips.sharpness" = 20

[counts]                              # least numbers of pairs, by kind and by split
cross_view = 1000
test = 100
```

Splits never share a subject, a capture or a file: what is linked is one group (`pairs.split_group`), on one side, and
`create` checks it again. `held_out` in the manifest counts the held-out pairs of each kind, and says of every other
kind why it has none: no such pair, one group only, groups that are each the last to train some kind, or the policy.

Without new content `create` gives the release that is there. A takedown changes no release that is made; `verify` names
it.
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
