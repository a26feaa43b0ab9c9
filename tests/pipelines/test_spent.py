"""Timing entries of a run in the ledger."""

from opendimo.pipelines.engine.timing import KEPT, run_timing

SECOND = 1_000_000_000


def span(start: float, end: float) -> tuple[int, int]:
    return round(start * SECOND), round(end * SECOND)


def test_time_in_which_nothing_was_in_work_does_not_count() -> None:
    # 0-1 and 0.5-2 overlap, 0.1-2 lies within; then the driver was dead for 8 s
    times = [("d", span(0.1, 2)), ("a", span(0, 1)), ("c", span(10, 11)), ("b", span(0.5, 2))]
    assert run_timing(times) == {
        "busy": 5.4,
        "active": 3.0,
        "most": 3,
        "seconds": {"a": 1.0, "b": 1.5, "c": 1.0, "d": 1.9},
    }


def test_of_a_long_run_the_times_of_some_items_are_kept() -> None:
    timing = run_timing([(f"{k:04d}", span(k, k + 1)) for k in range(1000)])
    assert (timing["busy"], timing["active"], len(timing["seconds"])) == (1000.0, 1000.0, KEPT)


def test_a_run_without_clocks_says_nothing() -> None:
    assert run_timing([]) == {}


def test_a_driver_is_idle_while_nothing_is_in_work_and_not_before_it_came() -> None:
    # an earlier driver did `a` and died; this one started at 1000, its workers at 1004, and it committed at 1009
    times = [("a", span(0, 1)), ("b", span(1004, 1006)), ("c", span(1005, 1007))]
    assert run_timing(times, span(1000, 1009))["idle"] == 6.0
    assert "idle" not in run_timing(times, span(2000, 2001))  # all work was done before; this driver only committed
