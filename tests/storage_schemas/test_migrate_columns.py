"""Migrate lakes of schema 2 to 7: columns and tables are added or dropped, and no stored data is rewritten."""

import json
import tarfile
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pytest

from opendimo.storage_schemas.lake import commit, runs
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.lake.migrate import migrate
from opendimo.storage_schemas.releases.diff import diff
from opendimo.storage_schemas.releases.export import export
from opendimo.storage_schemas.releases.pins import PINNED
from opendimo.storage_schemas.releases.policy import ReleasePolicy
from opendimo.storage_schemas.releases.release import create_release, open_release
from opendimo.storage_schemas.releases.verify import verify
from opendimo.storage_schemas.tables import SCHEMA_VERSION, TABLES, Table
from tests.rows import caption, clip, clip_video, latent, pair, source
from tests.storage_schemas.test_migrate import files, migrated, write


def tables_of(version: int) -> dict[str, Table]:
    """Return the tables of an older schema version."""
    columns: dict[str, list[str]] = json.loads(Path(__file__).with_name(f"schema_{version}.json").read_text())
    return {
        name: Table(name, "", TABLES[name].key, pa.schema([field_of(name, column) for column in stored]))
        for name, stored in columns.items()
    }


def field_of(table: str, column: str) -> pa.Field:
    """Return a column of today, or the score that schema 6 dropped."""
    known = TABLES[table].schema
    return known.field(column) if column in known.names else pa.field(column, pa.float64())


@pytest.fixture(params=[2, 3, 4, 5, 6, 7])
def version(request: pytest.FixtureRequest) -> int:
    """The schema version of the older lake."""
    return int(request.param)


@pytest.fixture
def old(version: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lake of an older schema with a release of two clips, and a run that was killed before its commit."""
    root, tables = tmp_path / "lake", tables_of(version)
    for name, table in tables.items():
        uri = str(root / f"tables/{name}.lance")
        lance.write_dataset(table.schema.empty_table(), uri, schema=table.schema, enable_stable_row_ids=True)
    for module in ("lake.commit", "lake.runs", "releases.policy"):
        monkeypatch.setattr(f"opendimo.storage_schemas.{module}.TABLES", tables)
    monkeypatch.setattr("opendimo.storage_schemas.releases.pins.PINNED", [name for name in PINNED if name in tables])
    write(root / "lake.json", {"schema_version": SCHEMA_VERSION})
    lake = Lake(root)
    videos = [clip_video(name, name.encode() * 300_000) for name in "ab"]
    lake.append("sources", {"sources": [source(name) for name in "ab"]})
    lake.append("clips", {"clips": [clip(name) for name in "ab"], "clip_videos": videos})
    labels = {"captions": [caption(name) for name in "ab"], "latents": [latent(name) for name in "ab"]}
    lake.append("labels", labels)
    lake.append("pairs", {"pairs": [pair(name) for name in "ab"]})
    former = {"clips.hands_visible": 0.5} if 2 < version < 6 else {}  # null passes
    create_release(lake, "demo", ReleasePolicy(floors=former))
    runs.begin(lake, "begun", {"shards": 1})
    runs.stage_shard(lake, "begun", 0, {"clips": [clip("c")]}, {})
    monkeypatch.undo()
    write(root / "lake.json", {"schema_version": version})
    return root


def test_every_table_has_all_columns_of_today(old: Path, tmp_path: Path) -> None:
    fresh, lake = Lake(tmp_path / "fresh"), migrated(old)
    for name in TABLES:
        by_name = [sorted(of.dataset(name).schema, key=lambda field: field.name) for of in (lake, fresh)]
        assert [(f.name, f.type, f.nullable, f.metadata) for f in by_name[0]] == [
            (f.name, f.type, f.nullable, f.metadata) for f in by_name[1]
        ], name


def test_no_file_of_data_is_written_or_changed(old: Path, version: int) -> None:
    before = {name: files(old, f"tables/{name}.lance/data") for name in tables_of(version)}
    migrate(Lake(old, migrating=True))
    assert {name: files(old, f"tables/{name}.lance/data") for name in before} == before


def test_latents_and_pairs_of_before_say_nothing_of_captions_and_groups(old: Path) -> None:
    lake = migrated(old)
    lake.append("new", {"latents": [latent("b", "new", caption_hash="of b")], "pairs": [pair("c", split_group="c")]})
    assert {row["latent_id"]: row["caption_hash"] for row in lake.read("latents")} == {
        "latent-a": None, "latent-b": None, "new": "of b",
    }  # fmt: skip
    assert [row["split_group"] for row in lake.read("pairs")] == [None, None, "c"]
    assert lake.blobs("latents", "latents", ["latent-a", "new"]) == [b"l" * 64] * 2


@pytest.mark.parametrize("version", [2])
def test_old_rows_are_null_there_and_new_ones_are_stored(old: Path) -> None:
    lake = migrated(old)
    tracks = np.zeros((2, 3, 4), np.float32)
    lake.append("new", {"clips": [clip("d") | {"body_visible": 0.5, "region": [0, 2, 64, 46], "tracks": tracks}]})
    rows: dict[str, Any] = {row["clip_id"]: row for row in lake.read("clips")}
    assert rows["a"]["body_visible"] is None and rows["a"]["tracks"] is None and rows["a"]["region"] is None
    assert rows["d"]["body_visible"] == 0.5 and rows["d"]["tracks"].shape == (2, 3, 4)


def test_the_former_estimate_of_hands_makes_room_for_the_measurement(old: Path) -> None:
    lake = migrated(old)
    assert "hands_visible" not in lake.dataset("clips").schema.names
    lake.append("measured", {"hands": [{"clip_id": "a", "hands_visible": 0.5, "work_key": "w"}]})
    assert [row["hands_visible"] for row in lake.read("hands")] == [0.5]


def test_a_release_from_before_opens_and_verifies(old: Path) -> None:
    lake = migrated(old)
    release = open_release(str(old), "demo@1")
    assert not verify(lake, "demo@1", deep=False).damaged
    assert {row["clip_id"] for row in release.read("clips")} == {"a", "b"}
    assert release.blobs("clip_videos", "video", ["b"]) == [b"b" * 300_000]
    assert export(release, old.parent / "out", "webdataset") == 2
    assert json.loads(tar_member(old.parent / "out" / "train-000000.tar", "a.json"))["text"] == "The camera is static."


@pytest.mark.parametrize("version", [2])
def test_columns_that_a_release_from_before_does_not_have_are_null(old: Path) -> None:
    migrated(old)
    release = open_release(str(old), "demo@1")
    assert release.rows("clips", ["a"], ["clip_id", "body_visible"]) == [{"clip_id": "a", "body_visible": None}]


def tar_member(path: Path, name: str) -> bytes:
    """Return the content of a file in an archive."""
    with tarfile.open(path) as archive:
        return archive.extractfile(name).read()


def test_releases_of_before_and_after_are_compared(old: Path) -> None:
    lake = migrated(old)
    lake.append("new set", {"pairs": [pair("a", pair_id="new a"), pair("b", "test", pair_id="new b", split_group="b")]})
    create_release(lake, "demo")
    assert diff(lake, "demo@1", "demo@2").splits == {"train to test": 1}


def test_a_run_that_was_staged_before_goes_on(old: Path) -> None:
    lake = migrated(old)
    commit.commit(lake, "begun")
    [row] = lake.read("clips", where="clip_id = 'c'")
    assert row["run_id"] == "begun" and row["body_visible"] is None


def test_run_again_it_changes_nothing(old: Path, version: int) -> None:
    migrate(Lake(old, migrating=True))
    versions = {name: Lake(old).dataset(name).version for name in TABLES}
    write(old / "lake.json", {"schema_version": version})  # killed right before the marker was written
    assert migrate(Lake(old, migrating=True))
    assert {name: Lake(old).dataset(name).version for name in TABLES} == versions
