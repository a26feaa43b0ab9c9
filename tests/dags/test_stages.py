"""Test how the shards of a run are split into task runs."""

import pytest

from opendimo.dags.stages import parts


@pytest.mark.parametrize(
    ("shards", "workers", "runs", "count"),
    [
        (3, 16, 1, 3),
        (4096, 16, 1, 64),
        (4096, 16, 37, 27),  # 600,000 sources: 999 task runs
        (4096, 100, 37, 100),
    ],
)
def test_a_run_is_in_parts_that_keep_all_workers_busy_and_the_dashboard_readable(
    shards: int, workers: int, runs: int, count: int
) -> None:
    result = parts(shards, workers, runs)
    assert len(result) == count
    assert sorted(number for part in result for number in part) == list(range(shards))
