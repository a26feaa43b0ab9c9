"""The accounts of a lake, counted from its tables."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from opendimo.pipelines.engine.planned import Planned
from opendimo.pipelines.engine.planning import account, finish, prepare, stage_outcome
from opendimo.pipelines.engine.rejects import rejects
from opendimo.pipelines.engine.stage import Work
from opendimo.pipelines.engine.work_status import without_result
from opendimo.pipelines.progress.status import funnel
from opendimo.pipelines.quality.policy import Policy
from opendimo.pipelines.sources import SourcesConfig, SourcesStage, discover
from opendimo.storage_schemas.lake import commit
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.media.video import encode
from opendimo.storage_schemas.rows import filled_row
from opendimo.storage_schemas.tables import Table
from tests.pipelines.cheap_stage import CheapStage


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two videos, and a text file with the name of a video."""
    root = tmp_path / "clips"
    root.mkdir()
    for k, name in enumerate(("a.mp4", "b.mp4")):
        (root / name).write_bytes(encode([np.full((32, 32, 3), 90 * k, np.uint8)] * 5, Fraction(24)))
    (root / "text.mp4").write_text("this is no video")
    return root


def ingest(lake: Lake, folder: Path, licence: str | None = None) -> int:
    stage = SourcesStage(lake.uri, SourcesConfig(licence=licence))
    planned = Planned.of(discover("internet", folder, stage.config))
    with prepare(lake, stage, planned, shard_size=2) as run:
        for k, shard in enumerate(run.shards):
            stage_outcome(lake, run.shard(k), stage, stage.run(shard))
        if run.shards:
            finish(lake, run)
        return run.size


def test_every_input_is_counted_once(folder: Path, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    assert [ingest(lake, folder), ingest(lake, folder)] == [3, 0]
    counted = funnel(lake, Policy())[0]
    assert (counted.stage, counted.inputs, counted.done, counted.rejected) == ("sources", 3, 2, {"data": 1})
    [reject] = rejects(lake).to_pylist()
    assert reject["name"] == "text.mp4"
    assert "not a readable video" in reject["message"]


def test_labels_without_a_valid_frame_are_filtered(tmp_path: Path) -> None:
    """A work of several views counts as done if one of its labels has a valid frame."""
    lake = Lake(tmp_path / "lake")
    labels = {"alone": [[0, 0]], "views": [[0, 0], [0, 1]], "none": [[0, 0], [0, 0]], "doubtful": [[0, 1]]}
    weights = {"views": [0.0, 0.4]}
    rows = [
        filled_row(
            "poses", 2, pose_id=f"{key}{k}", clip_id=f"{key}{k}", work_key=key, valid=[bool(v) for v in valid],
            weight=weights.get(key, [0.0, 0.0])[k],
        )
        for key, views in labels.items()
        for k, valid in enumerate(views)
    ]  # fmt: skip
    lake.append("run", {"poses": rows})
    assert sorted(without_result(lake, "poses")["no_valid_frame"].to_pylist()) == ["alone", "none"]
    stage = CheapStage()
    stage.name = "poses"
    counted = account(lake, stage, Planned.of([Work(key, key, key) for key in labels]))
    assert (counted.inputs, counted.done, counted.filtered) == (4, 2, {"no_valid_frame": 2})


def test_a_corrected_licence_replaces_the_source(folder: Path, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    ingest(lake, folder)
    ingest(lake, folder, licence="CC-BY-4.0")
    assert {row["licence"] for row in lake.read("sources")} == {"CC-BY-4.0"}
    assert funnel(lake, Policy())[0].done == 2


def test_a_licence_may_change_and_change_back(folder: Path, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    for licence in ("CC-BY-4.0", "MIT", "CC-BY-4.0"):
        ingest(lake, folder, licence)
    assert {row["licence"] for row in lake.read("sources")} == {"CC-BY-4.0"}
    assert funnel(lake, Policy())[0].done == 2


@pytest.mark.parametrize(("survivor", "left"), [("sources", 0), ("captures", 3)])
def test_a_run_killed_between_two_tables_is_finished_by_the_next(
    folder: Path, tmp_path: Path, survivor: str, left: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake(tmp_path / "lake")
    commit_table = commit._commit_table

    def dies(lake: Lake, table: Table, *rest: Any) -> Any:
        entry = commit_table(lake, table, *rest)
        if table.name == survivor:
            raise KeyboardInterrupt
        return entry

    monkeypatch.setattr(commit, "_commit_table", dies)
    with pytest.raises(KeyboardInterrupt):
        ingest(lake, folder)
    monkeypatch.setattr(commit, "_commit_table", commit_table)
    assert ingest(lake, folder) == left
    assert (lake.dataset("sources").count_rows(), lake.dataset("captures").count_rows()) == (2, 2)
    counted = funnel(lake, Policy())[0]
    assert (counted.inputs, counted.done) == (3, 2)


def test_a_touched_file_is_looked_at_again_and_still_counted_once(folder: Path, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    ingest(lake, folder)
    (folder / "a.mp4").touch()
    assert ingest(lake, folder) == 1
    counted = funnel(lake, Policy())[0]
    assert (counted.inputs, counted.done) == (3, 2)
