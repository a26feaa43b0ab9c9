"""Migrate a lake of schema 1, as written by the code of that version, to the current schema."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
import pytest
from lance.fragment import write_fragments

from opendimo.storage_schemas.lake import runs
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.lake.migrate import migrate, plan_migration
from opendimo.storage_schemas.lake.takedown import reasons, taken_down
from opendimo.storage_schemas.releases.pins import PINNED
from opendimo.storage_schemas.releases.release import create_release, open_release
from opendimo.storage_schemas.releases.verify import verify
from opendimo.storage_schemas.rows import rows_to_arrow
from opendimo.storage_schemas.tables import SCHEMA_VERSION, TABLES, Table
from tests.rows import clip, clip_video, pair, source
from tests.storage_schemas.killing import killed

KEY = {"lance-schema:unenforced-primary-key": "true"}


def _sources_1() -> pa.Schema:
    """Return the schema of `sources` in schema 1, which had a flag for takedowns."""
    schema = TABLES["sources"].schema
    flag = pa.field("tombstone", pa.bool_(), False, {"about": "taken down: the next release leaves it out"})
    return schema.insert(schema.get_field_index("attribution") + 1, flag)


PIN_1 = pa.struct(
    {
        "table": pa.string(),
        "tag": pa.string(),
        "version": pa.int64(),
        "rows": pa.int64(),
        "fragments_sha256": pa.string(),
    }
)
RELEASES_1 = pa.schema(
    [
        pa.field("release_id", pa.string(), False, KEY | {"about": "NAME@VERSION"}),
        pa.field("name", pa.string(), False, {"about": "name"}),
        pa.field("version", pa.int64(), False, {"about": "1, 2, ..."}),
        pa.field("parent", pa.string(), True, {"about": "the release before it of the same name"}),
        pa.field("pins", pa.list_(PIN_1), False, {"about": "pinned version of every table"}),
        pa.field("pair_ids", pa.list_(pa.string()), False, {"about": "the pairs, sorted"}),
        pa.field("row_set_sha256", pa.string(), False, {"about": "hash of the sorted pair ids"}),
        pa.field("manifest", pa.string(), False, {"about": "counts by kind, source, licence and split: JSON"}),
        pa.field("approver", pa.string(), True, {"about": "who approved; null: no approval was required"}),
        pa.field("created_at", pa.int64(), False, {"about": "nanoseconds since 1970 UTC", "unit": "ns"}),
        pa.field("run_id", pa.string(), False, {"about": "the run that committed this row"}),
    ]
)
NEW = ("decisions", "tombstones")


def table_1(name: str) -> Table:
    schema = {"sources": _sources_1(), "releases": RELEASES_1}.get(name, TABLES[name].schema)
    return Table(name, "", TABLES[name].key, schema)


def put(root: Path, name: str, rows: list[dict[str, Any]], run_id: str) -> None:
    data = rows_to_arrow(table_1(name), [{**row, "run_id": run_id} for row in rows])
    lance.write_dataset(data, str(root / f"tables/{name}.lance"), mode="append", enable_stable_row_ids=True)


def ledger_row(run_id: str, table: str, rows: int, version: int) -> dict[str, Any]:
    texts = {"entry_id": f"{run_id}-{table}", "stage": table, "table_name": table, "config": "{}", "counts": "{}"}
    numbers = {"rows": rows, "replaced": 0, "version": version, "committed_at": 1, "seconds": 1.0}
    return texts | numbers | {"code_version": "0.1.0"}


def release_row(root: Path, version: int, approver: str | None) -> dict[str, Any]:
    """Return a release as created by `create_release` of schema 1, and create its tags."""
    pins = []
    for table in PINNED:
        dataset = lance.dataset(str(root / f"tables/{table}.lance"))
        dataset.tags.create(f"release.demo.{version}", dataset.version)
        files = [
            [f.fragment_id, sorted(d.path for d in f.data_files()), f.count_rows()] for f in dataset.get_fragments()
        ]
        digest = hashlib.sha256(json.dumps(sorted(files)).encode()).hexdigest()
        pins.append(
            {"table": table, "tag": f"release.demo.{version}", "version": dataset.version}
            | {"rows": dataset.count_rows(), "fragments_sha256": digest}
        )
    ids = ["pair-a", "pair-b"]
    return {
        "release_id": f"demo@{version}",
        "name": "demo",
        "version": version,
        "parent": f"demo@{version - 1}" if version > 1 else None,
        "pins": pins,
        "pair_ids": ids,
        "row_set_sha256": hashlib.sha256("\n".join(ids).encode()).hexdigest(),
        "manifest": json.dumps({"pairs": 2}),
        "approver": approver,
        "created_at": version,
    }


def lake_1(root: Path) -> Path:
    """Create a lake with three sources (one taken down), their clips and pairs, two releases and two killed runs."""
    for name in TABLES:
        if name not in NEW:
            schema = table_1(name).schema
            uri = str(root / f"tables/{name}.lance")
            lance.write_dataset(schema.empty_table(), uri, schema=schema, enable_stable_row_ids=True)
    put(root, "sources", [source(name, tombstone=name == "c") for name in "abc"], "r-sources")
    put(root, "clips", [clip(name) for name in "abc"], "r-clips")
    put(root, "clip_videos", [clip_video(name, name.encode() * 300_000) for name in "abc"], "r-clips")
    put(root, "pairs", [pair(name) for name in "ab"], "r-pairs")
    entries = [
        ("r-sources", "sources", 3),
        ("r-clips", "clips", 3),
        ("r-clips", "clip_videos", 3),
        ("r-pairs", "pairs", 2),
    ]
    for run_id, table, rows in entries:
        put(root, "ledger", [ledger_row(run_id, table, rows, 2)], run_id)
    put(root, "releases", [release_row(root, 1, None)], "r-release-1")
    put(root, "releases", [release_row(root, 2, "ann")], "r-release-2")
    killed_around_its_commit(root)
    write(
        root / "runs/begun/plan.json", {"shards": 2, "stage": "clips", "run_id": "begun", "started_ns": 1, "bases": {}}
    )
    write(root / "runs/begun/staged/000000.json", {"shard": 0, "tables": {}, "note": {}})
    write(root / "lake.json", {"schema_version": 1})
    return root


def killed_around_its_commit(root: Path) -> None:
    """Add a run with a source and a clip that was killed after committing the source, before the clip and ledger."""
    rows = {
        "sources": [source("d", tombstone=False)],
        "clips": [clip("d")],
        "clip_videos": [clip_video("d", b"d" * 300_000)],
    }
    staged, parts = root / "runs/killed/staged", {}
    for name, own in rows.items():
        data = rows_to_arrow(table_1(name), [{**row, "run_id": "killed"} for row in own])
        if name == "clip_videos":
            written = write_fragments(
                data, str(root / f"tables/{name}.lance"), mode="append", enable_stable_row_ids=True
            )
            parts[name] = {"fragments": [f.to_json() for f in written], "keys": ["d"]}
        else:
            staged.mkdir(parents=True, exist_ok=True)
            with pa.ipc.new_file(str(staged / f"000000.{name}.arrow"), data.schema) as writer:
                writer.write_table(data)
            parts[name] = {"file": f"000000.{name}.arrow"}
    put(root, "sources", rows["sources"], "killed")
    note = {"done": 1, "rejected": {"data": 2}}
    write(staged / "000000.json", {"shard": 0, "tables": parts, "note": note})
    plan = {"shards": 1, "stage": "clips", "config": {"version": "1"}, "fresh": 3, "keys": [["w-d"]]}
    write(root / "runs/killed/plan.json", plan | {"run_id": "killed", "started_ns": 1, "bases": {}})


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def migrated(root: Path) -> Lake:
    migrate(Lake(root, migrating=True))
    return Lake(root)


def files(root: Path, folder: str) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((root / folder).rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return lake_1(tmp_path / "lake")


def test_an_older_lake_says_what_to_run(old: Path) -> None:
    with pytest.raises(ValueError, match="run `dimo migrate"):
        Lake(old)


def test_a_newer_lake_is_refused_by_the_migration_as_well(tmp_path: Path) -> None:
    Lake(tmp_path)
    write(tmp_path / "lake.json", {"schema_version": 99})
    with pytest.raises(ValueError, match="upgrade opendimo"):
        Lake(tmp_path, migrating=True)


def test_a_lake_of_this_schema_is_left_as_it_is(tmp_path: Path) -> None:
    before = Lake(tmp_path).store.sizes("")
    assert migrate(Lake(tmp_path, migrating=True)) == []
    assert Lake(tmp_path).store.sizes("") == before


def test_what_is_told_is_what_is_done(old: Path) -> None:
    told = plan_migration(Lake(old, migrating=True))
    assert "tombstones" in told[0]
    assert migrate(Lake(old, migrating=True)) == told
    assert plan_migration(Lake(old)) == []


def test_all_rows_are_there_with_their_work_keys(old: Path) -> None:
    before = {
        name: lance.dataset(str(old / f"tables/{name}.lance")).to_table(
            columns=[TABLES[name].key, "work_key", "run_id"]
        )
        for name in ("sources", "clips", "pairs", "clip_videos")
    }
    lake = migrated(old)
    for name, rows in before.items():
        now = lake.dataset(name).to_table(columns=rows.column_names, filter=f"{TABLES[name].key} NOT IN ('d')")
        assert now == rows.filter(pa.compute.not_equal(rows[TABLES[name].key], "d")), name
    names = [field.name for field in lake.dataset("sources").schema]
    assert names == TABLES["sources"].schema.names


def test_tables_have_the_schema_of_a_new_lake(old: Path, tmp_path: Path) -> None:
    fresh, lake = Lake(tmp_path / "fresh"), migrated(old)
    for name in TABLES:
        assert lake.dataset(name).schema.equals(fresh.dataset(name).schema, check_metadata=True), name


def test_video_bytes_are_not_touched(old: Path) -> None:
    before = files(old, "tables/clip_videos.lance/data")
    lake = migrated(old)
    assert files(old, "tables/clip_videos.lance/data") == before
    assert lake.blobs("clip_videos", "video", ["a", "c"]) == [b"a" * 300_000, b"c" * 300_000]


def test_the_flag_of_a_source_becomes_a_tombstone(old: Path) -> None:
    lake = migrated(old)
    assert taken_down(lake).to_pylist() == ["s-c"]
    assert reasons(lake)[0]["reason"] == "taken down before reasons were kept"
    lake.append("again", {"sources": [source("c", uri="elsewhere")]})
    assert taken_down(lake).to_pylist() == ["s-c"]


def test_old_releases_open_and_verify(old: Path) -> None:
    lake = migrated(old)
    for release_id in ("demo@1", "demo@2"):
        release = open_release(str(old), release_id)
        assert release.scan("pairs", ["pair_id"])["pair_id"].to_pylist() == ["pair-a", "pair-b"]
        assert release.blobs("clip_videos", "video", ["b"]) == [b"b" * 300_000]
        assert len(release.read("sources")) == 3
        assert not verify(lake, release_id, deep=False).damaged
    [decision] = lake.read("decisions")
    assert (decision["release_id"], decision["decision"], decision["by"]) == ("demo@2", "approved", "ann")


def test_the_next_release_follows_the_old_ones(old: Path) -> None:
    lake = migrated(old)
    lake.append("more", {"pairs": [pair("a") | {"pair_id": "pair-more"}]})
    assert create_release(lake, "demo")["parent"] == "demo@2"


def test_runs_that_were_killed_are_completed_or_dropped(old: Path) -> None:
    lake = migrated(old)
    assert runs.unfinished(lake) == []
    assert lake.blobs("clip_videos", "video", ["d"]) == [b"d" * 300_000]
    assert len(lake.read("clips", where="clip_id = 'd'")) == len(lake.read("sources", where="source_id = 's-d'")) == 1
    entries = lake.read("ledger", ["table_name", "rows", "counts", "stage"], "run_id = 'killed'")
    assert {(row["table_name"], row["rows"]) for row in entries} == {("sources", 1), ("clips", 1), ("clip_videos", 1)}
    assert json.loads(entries[0]["counts"]) == {"in": 3, "done": 1, "rejected": {"data": 2}}
    assert lake.store.sizes("runs/begun") == {}


def everything(root: Path) -> dict[str, Any]:
    lake, skipped = Lake(root), {"committed_at", "seconds", "inventory_sha256", "created_at", "pins"}
    rows = {
        name: [{k: str(v) for k, v in row.items() if k not in skipped} for row in lake.read(name)] for name in TABLES
    }
    return rows | {"runs": sorted(lake.store.sizes("runs"))}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_before_any_change_and_run_again(tmp_path: Path) -> None:
    undisturbed = lake_1(tmp_path / "undisturbed")
    migrated(undisturbed)
    expected, old, step, died = everything(undisturbed), lake_1(tmp_path / "old"), 0, True
    while died:
        root = Path(shutil.copytree(old, tmp_path / f"killed-{step}"))
        died = killed(step, migrated, root)
        reached = json.loads((root / "lake.json").read_text())["schema_version"]
        assert reached < SCHEMA_VERSION if died else reached == SCHEMA_VERSION
        assert everything(Path(migrated(root).uri) if died else root) == expected, step
        assert not verify(Lake(root), "demo@1").damaged
        step += 1
    assert step > 20
