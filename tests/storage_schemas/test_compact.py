"""Compaction reduces the number of fragments and changes no row or byte."""

from pathlib import Path
from typing import Any

import pytest

from opendimo.storage_schemas.lake import compact
from opendimo.storage_schemas.lake.lake import Lake
from tests.storage_schemas.upkeep_lake import fill, fragments, stored


def test_tiny_fragments_are_merged_and_nothing_else_changes(fragmented: str) -> None:
    before, lake = stored(fragmented), Lake(fragmented)
    merged = {done.table: done for done in compact.compact(lake)}
    assert (merged["clip_videos"].before, merged["clip_videos"].rows) == (64, 128)
    assert all(count == 1 for count in fragments(lake).values())
    assert stored(fragmented) == before
    assert compact.compact(lake) == []


def test_what_would_be_merged_is_told_without_doing_it(fragmented: str) -> None:
    lake = Lake(fragmented)
    before = fragments(lake)
    told = compact.compact(lake, dry_run=True)
    assert fragments(lake) == before
    assert compact.compact(lake) == told


def test_a_table_with_few_fragments_is_left_alone(tmp_path: Path) -> None:
    fill(str(tmp_path), 0, compact.ENOUGH - 1)
    lake = Lake(tmp_path)
    assert "clip_videos" not in {done.table for done in compact.compact(lake)}
    assert fragments(lake)["clip_videos"] == compact.ENOUGH - 1


def test_video_bytes_that_were_merged_once_are_not_written_again(fragmented: str) -> None:
    lake = Lake(fragmented)
    compact.compact(lake)
    [first] = lake.dataset("clip_videos").get_fragments()
    fill(fragmented, 64, 64 + compact.ENOUGH_BLOBS)
    compact.compact(lake)
    files = [f.data_files()[0].path for f in lake.dataset("clip_videos").get_fragments()]
    assert len(files) == 2
    assert first.data_files()[0].path in files


def test_a_merge_that_would_change_a_video_does_not_count(fragmented: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before, lake = stored(fragmented), Lake(fragmented)
    original = compact._pieces

    def one_wrong(dataset: Any, table: Any, own: Any) -> Any:
        for rows, digest in original(dataset, table, own):
            yield rows, digest if own is not None or not table.blobs else "other"

    monkeypatch.setattr(compact, "_pieces", one_wrong)
    with pytest.raises(RuntimeError, match="clip_videos would change rows: the table was left unchanged"):
        compact.compact(lake)
    assert stored(fragmented) == before
    assert fragments(lake)["clip_videos"] == 64
