"""Renders that are ingested again by another folder stay the same sources."""

from pathlib import Path
from typing import Any

import pytest

from opendimo.pipelines.engine.loop import run_stage
from opendimo.pipelines.sources import SourcesConfig, SourcesStage
from opendimo.pipelines.sources.stage import plan
from opendimo.storage_schemas.lake.lake import Lake
from tests.pipelines.render_jobs import only, writable


@pytest.fixture
def days(data: Path, tmp_path: Path) -> Path:
    """A folder with two jobs of the same name, which filmed one performance."""
    for day, job, sequence in (("monday", "mini_bedlam1", "seq_000000"), ("tuesday", "mini_bedlam2", "seq_000002")):
        only(writable(data / "ue5" / job, tmp_path / "days" / day / "job"), sequence)
    return tmp_path / "days"


def ingest(lake: Lake, path: Path) -> dict[str, dict[str, Any]]:
    """Ingest renders; return the rows of `sources` by id."""
    stage = SourcesStage(lake.uri, SourcesConfig())
    run_stage(lake, stage, plan(lake, stage, "unreal", path))
    return {row["source_id"]: row for row in lake.read("sources")}


def test_jobs_of_one_name_reached_by_their_own_folders_are_the_same_sources(days: Path, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    first = ingest(lake, days)
    names = {row["name"] for row in first.values()}
    assert names == {"monday/job/seq_000000", "tuesday/job/seq_000002"}
    for folder in (days / "monday", days / "tuesday" / "job"):
        again = ingest(lake, folder)
        assert again.keys() == first.keys() and {row["name"] for row in again.values()} == names
    [capture] = lake.read("captures")
    assert set(capture["views"]) <= names


def test_the_folder_above_is_the_same_source_as_well(days: Path, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    first = ingest(lake, days / "monday")
    assert [row["view"] for row in first.values()] == ["job/seq_000000"]
    both = ingest(lake, days)
    assert {row["view"] for row in both.values()} == {"job/seq_000000", "tuesday/job/seq_000002"}
    [capture] = lake.read("captures")
    assert capture["views"] == ["job/seq_000000", "tuesday/job/seq_000002"]


def test_a_link_to_a_job_is_the_job(days: Path, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    first = ingest(lake, days / "monday" / "job")
    (tmp_path / "elsewhere").symlink_to(days / "monday" / "job", target_is_directory=True)
    assert ingest(lake, tmp_path / "elsewhere").keys() == first.keys()
