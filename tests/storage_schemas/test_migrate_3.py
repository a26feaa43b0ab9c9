"""A lake of schema 2 gets the columns and tables that came later: nothing stored is rewritten."""

import json
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pytest

from storage_schemas import commit
from storage_schemas.lake import Lake
from storage_schemas.migrate import migrate
from storage_schemas.releases.release import create_release, open_release
from storage_schemas.releases.verify import verify
from storage_schemas.tables import TABLES, Table
from tests.rows import clip, clip_video, pair, source
from tests.storage_schemas.test_migrate import files, migrated, write

COLUMNS_2: dict[str, list[str]] = json.loads(Path(__file__).with_name("schema_2.json").read_text())


def table_2(name: str) -> Table:
    schema = TABLES[name].schema
    return Table(name, "", TABLES[name].key, pa.schema([schema.field(column) for column in COLUMNS_2[name]]))


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two clips in a release, and a run that was killed before its commit."""
    root = tmp_path / "lake"
    for name in COLUMNS_2:
        schema = table_2(name).schema
        uri = str(root / f"tables/{name}.lance")
        lance.write_dataset(schema.empty_table(), uri, schema=schema, enable_stable_row_ids=True)
    monkeypatch.setattr("storage_schemas.commit.TABLES", {name: table_2(name) for name in COLUMNS_2})
    write(root / "lake.json", {"schema_version": 3})
    lake = Lake(root)
    videos = [clip_video(name, name.encode() * 300_000) for name in "ab"]
    lake.append("sources", {"sources": [source(name) for name in "ab"]})
    lake.append("clips", {"clips": [clip(name) for name in "ab"], "clip_videos": videos})
    lake.append("pairs", {"pairs": [pair(name) for name in "ab"]})
    create_release(lake, "demo")
    commit.begin(lake, "begun", {"shards": 1})
    commit.stage_shard(lake, "begun", 0, {"clips": [clip("c")]}, {})
    monkeypatch.undo()
    write(root / "lake.json", {"schema_version": 2})
    return root


def test_every_table_has_all_columns_of_today(old: Path, tmp_path: Path) -> None:
    fresh, lake = Lake(tmp_path / "fresh"), migrated(old)
    for name in TABLES:
        by_name = [sorted(of.dataset(name).schema, key=lambda field: field.name) for of in (lake, fresh)]
        assert [(f.name, f.type, f.nullable, f.metadata) for f in by_name[0]] == [
            (f.name, f.type, f.nullable, f.metadata) for f in by_name[1]
        ], name


def test_no_file_of_data_is_written_or_changed(old: Path) -> None:
    before = {name: files(old, f"tables/{name}.lance/data") for name in COLUMNS_2}
    migrate(Lake(old, migrating=True))
    assert {name: files(old, f"tables/{name}.lance/data") for name in COLUMNS_2} == before


def test_old_rows_are_null_there_and_new_ones_are_stored(old: Path) -> None:
    lake = migrated(old)
    tracks = np.zeros((2, 3, 4), np.float32)
    lake.append("new", {"clips": [clip("d") | {"hands_visible": 0.5, "region": [0, 2, 64, 46], "tracks": tracks}]})
    rows: dict[str, Any] = {row["clip_id"]: row for row in lake.read("clips")}
    assert rows["a"]["hands_visible"] is None and rows["a"]["tracks"] is None and rows["a"]["region"] is None
    assert rows["d"]["hands_visible"] == 0.5 and rows["d"]["tracks"].shape == (2, 3, 4)


def test_a_release_from_before_opens_and_verifies(old: Path) -> None:
    lake = migrated(old)
    release = open_release(str(old), "demo@1")
    assert not verify(lake, "demo@1", deep=False).damaged
    assert {row["clip_id"] for row in release.read("clips")} == {"a", "b"}
    assert release.blobs("clip_videos", "video", ["b"]) == [b"b" * 300_000]


def test_a_run_that_was_staged_before_goes_on(old: Path) -> None:
    lake = migrated(old)
    commit.commit(lake, "begun")
    [row] = lake.read("clips", where="clip_id = 'c'")
    assert row["run_id"] == "begun" and row["hands_visible"] is None


def test_run_again_it_changes_nothing(old: Path) -> None:
    migrate(Lake(old, migrating=True))
    versions = {name: Lake(old).dataset(name).version for name in TABLES}
    write(old / "lake.json", {"schema_version": 2})  # killed right before the marker was written
    assert migrate(Lake(old, migrating=True))
    assert {name: Lake(old).dataset(name).version for name in TABLES} == versions
