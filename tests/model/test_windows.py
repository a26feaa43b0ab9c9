"""Spans and weights of the windows for long videos."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from opendimo.model.pipeline.windows import frames_of, window_weights, windows


@st.composite
def layouts(draw: st.DrawFn) -> tuple[int, int, int]:
    """Draw valid lengths, sizes and overlaps of windows."""
    size = draw(st.integers(2, 40))
    return draw(st.integers(1, 300)), size, draw(st.integers(1, size - 1))


@given(layouts())
def test_windows_cover_everything_and_overlap_enough(layout: tuple[int, int, int]) -> None:
    length, size, overlap = layout
    spans = windows(length, size, overlap)
    assert spans[0][0] == 0 and spans[-1][1] == length
    assert {stop - start for start, stop in spans} == {min(size, length)}
    assert all(a[1] - b[0] >= overlap and b[0] > a[0] for a, b in pairwise(spans))


@given(layouts())
def test_there_are_no_more_windows_than_needed(layout: tuple[int, int, int]) -> None:
    length, size, overlap = layout
    n = len(windows(length, size, overlap))
    assert n == 1 or size + (n - 2) * (size - overlap) < length


@given(layouts())
def test_weights_are_positive_and_sum_to_one_everywhere(layout: tuple[int, int, int]) -> None:
    spans = windows(*layout)
    total = torch.zeros(layout[0])
    for (start, stop), weights in zip(spans, window_weights(spans), strict=True):
        assert (weights > 0).all()
        total[start:stop] += weights
    torch.testing.assert_close(total, torch.ones_like(total))


def test_weights_rise_to_the_middle_of_a_window_and_fall() -> None:
    first, second = window_weights(windows(8, 5, 2))
    assert first.tolist() == pytest.approx([1, 1, 1, 2 / 3, 1 / 3])
    assert second.tolist() == pytest.approx([1 / 3, 2 / 3, 1, 1, 1])


@pytest.mark.parametrize(("size", "overlap"), [(5, 1), (5, 2), (9, 3), (31, 10)])
def test_where_two_windows_disagree_there_is_a_slope_rather_than_a_jump(size: int, overlap: int) -> None:
    spans = windows(2 * size - overlap, size, overlap)
    blended = torch.zeros(2 * size - overlap)
    for value, (start, stop), weights in zip((0.0, 1.0), spans, window_weights(spans), strict=True):
        blended[start:stop] += value * weights
    steps = blended.diff()
    slope = steps[size - overlap - 1 : size]
    torch.testing.assert_close(slope, torch.full((overlap + 1,), 1 / (overlap + 1)))
    assert blended[0] == 0 and blended[-1] == 1 and steps.abs().sum() == pytest.approx(1)


def test_a_window_that_fits_is_the_only_one_with_weights_of_exactly_one() -> None:
    spans = windows(5, 5, 4)
    assert spans == [(0, 5)]
    assert window_weights(spans)[0].tolist() == [1.0] * 5


def test_a_window_stands_for_its_frames_as_a_clip_of_its_own() -> None:
    assert frames_of((0, 3), 4) == slice(0, 9)
    assert frames_of((2, 5), 4) == slice(8, 17)  # frames 4s .. 4(s + size - 1)


@pytest.mark.parametrize("overlap", [0, 4, -1])
def test_an_overlap_that_gets_nowhere_is_refused(overlap: int) -> None:
    with pytest.raises(ValueError, match="cannot overlap by"):
        windows(9, 4, overlap)
