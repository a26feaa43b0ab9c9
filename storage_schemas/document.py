"""Generate README.md, which documents every table, from the schemas: `python -m opendimo.storage_schemas.document`."""

from pathlib import Path

import pyarrow as pa

from opendimo.storage_schemas.tables import SCHEMA_VERSION, TABLES, TENSOR, Table

PAGE = Path(__file__).with_name("README.md")
INTRO = """# storage_schemas: tables, commits and releases

A *lake* is a folder, or a prefix of an object store, with one [Lance](https://lance.org) table per section below. The
Arrow schemas in `tables.py` are authoritative. This page is generated from them
(`python -m opendimo.storage_schemas.document`); a test checks that it is up to date.

| file | contents |
|---|---|
| `tables.py`, `rows.py` | schemas with meaning, unit and shape in each field's metadata; rows to Arrow and back |
| `ids.py`, `conventions.py` | content-derived ids and work keys; conventions for cameras, time and rotations |
| `settings.py`, `log_buffer.py` | settings and policies from TOML files; log lines of a worker for its driver |
| `caption_hash.py` | hash of the caption fields that the window texts are composed from; matches latents to captions |
| `lake/lake.py`, `store.py`, `lock.py` | reading a lake; small files; locks on a disk and on an object store |
| `lake/commit.py`, `ledger.py`, `snapshot.py` | exactly-once writes; log of committed runs; reads by key |
| `lake/compact.py`, `maintain.py`, `migrate.py` | merging fragments, freeing space, migrating older lakes |
| `lake/takedown.py` | takedowns: excluding sources from future releases |
| `releases/` | immutable releases: policy, pins, list of files, approval, `verify`, `diff`, export |
| `media/` | all code that depends on a codec: opening, decoding to a constant frame rate, encoding, copying |
| `media/image_sequence.py`, `spool.py` | numbered image files as one source; temporary storage for encoded clips |

```python
from opendimo.storage_schemas.lake.lake import Lake

lake = Lake("demo-out/lake")  # or s3://bucket/lake
for clip in lake.read("clips", ["clip_id", "name", "track"], "person_height > 0.5"):
    print(clip["name"], clip["track"].shape)  # arrays come back as float32 numpy arrays
[video] = lake.blobs("clip_videos", "video", [clip["clip_id"]])  # blobs are read by key
head = lake.open_blob("clip_videos", "video", clip["clip_id"]).read(4096)  # reads a part of one blob
```

**Conventions.** Cameras have OpenCV axes (x right, y down, z forward), `x_cam = R X_world + t`, metres and pixels.
Pixel coordinates start at the corner of the image: the centre of the top left pixel is (0.5, 0.5), half a pixel more
than in `cv2`. The world is right-handed; gravity is stored per capture. Frame numbers are 0-based, spans half-open,
frame rates rational. Rotations are axis-angle in radians. Bodies are SMPL-X: Y up, facing +Z, +X to the body's left.
Arrays are stored as `{shape, data}`; axes: T frames, P people, J joints, B shape coefficients.

## Writing

```
plan.json ── workers stage shards ──────────── one committer, under the lock `commit`
  once        rows: Arrow files                 commit.json       the planned commit, written first
              blobs: Lance fragments            a transaction     at most one per table and run
              NNNNNN.json: manifest, last       ledger, then committed.json
```

The id of a run is a hash of its request. Repeating a request resumes the same run: shards that have a manifest are not
recomputed, and tables that already contain rows of the run are not written again. Workers never commit. If a key is
already stored, the first row is kept, even when runs overlap; in `sources` and `captures`, which describe the outside
world, the newer row replaces it. Labels have separate tables, so adding or replacing them never touches video bytes.

A lock is held by one process across all machines. On a disk it is a file lock, which the system releases when its
holder exits. On an object store it is a lease, which the holder renews; a waiting process takes it over after 30 s
without renewal (`OPENDIMO_LEASE_SECONDS`), measured on its own clock. Each process that takes the lock `commit` first
completes any commit that a killed process left unfinished. Two further safeguards exist: rows are written by an upsert
on the declared key, which Lance refuses to run twice concurrently; and if a process that was suspended and lost its
lock appends videos a second time, the duplicates are deleted and the first copies are kept.

**On an object store** pass `--lake s3://bucket/lake` (or `gs://`, `az://`). Credentials, region and endpoint come from
the usual environment variables (`AWS_ACCESS_KEY_ID`, `AWS_REGION`, `AWS_ENDPOINT_URL`, and `AWS_ALLOW_HTTP=true` for an
endpoint without TLS); Ray workers need them as well. A store that ignores conditional writes is rejected. Local state
(downloads, Prefect's database) is then kept in `~/.cache/opendimo/lakes`.

## Releases

A release is an immutable set of training pairs, named `NAME@VERSION`. It tags a version of every table, writes its
pairs to `releases/NAME/VERSION/pairs.lance`, and lists every file with size and hash in `files.json`. Training reads
only releases, and rejects a release that is unpinned, not approved, withdrawn or changed.

```
dimo release create dance --policy release.toml --lake lake     the newest pairs that pass the policy and takedowns
dimo release show | list | diff dance@1 dance@2                 counts, label quality, licences; what changed, and why
dimo release approve dance@1 --by ann --lake lake               if the policy requires approval
dimo release reject dance@1 --by ann --reason "no consent" --lake lake   turn down or withdraw; nothing is deleted
dimo release verify dance@1 --deep --lake lake                  reads and hashes every file
dimo release rollback dance --by ann --reason "bad hands" --lake lake
dimo release export dance@1 --format webdataset|huggingface --out DIR --lake lake
```

A policy is a TOML file; keys that are not set exclude nothing:

```toml
licences = ["CC-BY-4.0", "CC0-1.0"]   # allowed licences, by exact name
unknown_licence = false               # whether to include sources without a licence
approval = true                       # whether a person must approve the release before training uses it

[floors]                              # minimum values of columns of clips, hands, poses; [ceilings]: maximum values
"poses.weight" = 0.3
"hands.hands_visible" = 0.5
"clips.sharpness" = 20

[counts]                              # minimum number of pairs, by kind and by split
cross_view = 1000
test = 100
```

The train and test splits never share a subject, a capture or a file: pairs that share one form a group
(`pairs.split_group`), each group is in one split, and `create` checks this again. `held_out` in the manifest counts the
held-out pairs of each kind. For a kind without any it gives the reason: no pair of this kind exists, only one group has
any, each group is the last one that can train some kind, or the policy filtered them.

If nothing changed, `create` returns the existing release. A takedown does not change existing releases; `verify`
reports the affected ones.
"""


def page() -> str:
    """Return the whole page as Markdown."""
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
