"""Test the progress display: finished units, throughput and remaining time."""

import io
import re
from typing import Any

import pytest
from rich.console import Console

from opendimo.dags import progress
from opendimo.dags.progress import display, pace, step


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Replace the monotonic clock with a list whose only element, in seconds, the test advances."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def written(monkeypatch: pytest.MonkeyPatch, **options: Any) -> io.StringIO:
    out = io.StringIO()
    monkeypatch.setattr(progress, "console", Console(file=out, highlight=False, width=120, **options))
    return out


@pytest.mark.parametrize(
    ("speed", "left", "text"),
    [
        (3.14, 12_000, "3.1/s, 63.7 min left"),
        (0.05, 600, "3.0/min, 3.3 h left"),
        (1 / 7200, 48, "0.5/h, 4.0 d left"),
    ],
)
def test_a_pace_is_said_in_words_that_fit_it(speed: float, left: int, text: str) -> None:
    assert pace(speed, left) == text


def test_without_a_terminal_a_line_a_minute_says_how_long_it_still_takes(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = written(monkeypatch, force_terminal=False)
    with display(), step("clips", 1000) as bar:
        clock[0] += 30  # model loading, which must not count
        for _ in range(100):
            clock[0] += 2
            bar.advance()
    lines = out.getvalue().splitlines()
    # from the first unit on, 0.5 units per second
    assert [line.split() for line in lines[:-1]] == [
        ["clips", str(done), "of", "1000,", "30.0/min,", *left.split(), "left"]
        for done, left in ((15, "32.8 min"), (45, "31.8 min"), (75, "30.8 min"))
    ]
    assert re.fullmatch(r"clips +100 in +230\.0 s", lines[-1])


def test_the_time_left_is_by_the_last_ten_minutes(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    out = written(monkeypatch, force_terminal=False)
    with display(), step("clips", 5000) as bar:
        for seconds in [1] * 1200 + [60] * 12:
            clock[0] += seconds
            bar.advance()
    assert "1.0/min" in out.getvalue().splitlines()[-2]


def test_what_is_done_again_after_a_failure_counts_once(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    out = written(monkeypatch, force_terminal=False)
    with display(), step("clips", 7) as bar:
        for shard, done in (("a", 1), ("a", 2), ("a", 1), ("a", 3), ("b", 4), ("b", 4)):
            bar.reach(shard, done)
    assert re.fullmatch(r"clips +7 in +0\.0 s\n", out.getvalue())


def test_short_work_is_one_line(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    out = written(monkeypatch, force_terminal=False)
    with display(), step("pairs", 3) as bar:
        bar.advance(3)
        bar.note("3 in = 3 done")
    assert re.fullmatch(r"pairs +3 in +0\.0 s +3 in = 3 done\n", out.getvalue())


def test_the_bar_on_a_terminal_has_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    out = written(monkeypatch, force_terminal=True)
    with display(), step("clips", 1000) as bar:
        for _ in range(5):
            bar.advance()
        assert progress._live is not None
        progress._live.refresh()
    assert re.search(r"5/1000.*/s, .* left", out.getvalue())
