"""Stages run in a loop in this process, without Ray and Prefect."""

from pathlib import Path

import pytest

from opendimo.pipelines.engine.loop import run_stage
from opendimo.storage_schemas.lake.lake import Lake
from tests.pipelines.cheap_stage import CheapConfig, CheapStage

ITEMS = [f"item-{k}" for k in range(8)]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def test_all_work_is_done_once_and_accounted_for(lake: Lake) -> None:
    stage, shown = CheapStage(CheapConfig()), list[tuple[int, int]]()
    counted = run_stage(lake, stage, stage.plan(ITEMS), lambda done, total: shown.append((done, total)))
    assert (counted.inputs, counted.done, counted.rejected) == (8, 8, {})
    assert shown[-1] == (8, 8)
    shown.clear()
    assert run_stage(lake, stage, stage.plan([*ITEMS, "new"]), lambda *at: shown.append(at)).done == 9
    assert shown == [(1, 1)]  # what was done is not done again
