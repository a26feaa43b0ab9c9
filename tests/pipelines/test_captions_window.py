"""Tests of the camera terms of a window of a clip, and of its sentence."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opendimo.pipelines.cameras.terms import Term
from opendimo.pipelines.captions.window import STILL, camera_moves, window_terms, window_texts
from opendimo.storage_schemas.camera_wording import asked_terms
from opendimo.storage_schemas.tables import CAMERA_TERMS

ARC_THEN_HOLD = (Term(0, 40, "arc_left", "slow"), Term(40, 100, "static", "slow"))
STATIC = "The camera is static."


def window_text(*args: Any) -> str:
    """Return the text of a window in its first wording."""
    return window_texts(*args)[0]


TERMS = st.builds(
    lambda start, length, word, speed: Term(start, start + length, word, speed),
    st.integers(0, 80), st.integers(1, 60), st.sampled_from(CAMERA_TERMS), st.sampled_from(["slow", "medium", "fast"]),
)  # fmt: skip


@pytest.mark.parametrize(
    ("start", "stop", "text"),
    [
        (0, 20, "The camera circles to the left around the subject slowly."),
        (30, 50, "The camera circles to the left around the subject slowly, then holds still."),
        (
            36,
            56,
            "The camera circles to the left around the subject slowly, then holds still.",
        ),  # a fifth of the window
        (37, 57, STATIC),
        (17, 37, "The camera circles to the left around the subject slowly."),
        (24, 44, "The camera circles to the left around the subject slowly, then holds still."),
        (23, 43, "The camera circles to the left around the subject slowly."),
        (60, 80, STATIC),
        (100, 120, STATIC),  # no term covers these frames
    ],
)
def test_a_window_is_told_what_happens_in_it(start: int, stop: int, text: str) -> None:
    assert window_text(ARC_THEN_HOLD, "", start, stop) == text
    assert window_text(ARC_THEN_HOLD, "A man runs.", start, stop) == f"{text} A man runs."
    assert camera_moves(ARC_THEN_HOLD, start, stop) is (text != STATIC)


def test_a_short_move_counts_where_half_of_it_lies() -> None:
    terms = [Term(0, 95, "static", "slow"), Term(95, 105, "pan_left", "fast"), Term(105, 200, "static", "slow")]
    told = "The camera holds still, then pans to the left quickly"
    assert window_text(terms, "", 0, 100) == f"{told}."
    assert window_text(terms, "", 0, 99) == STATIC
    assert window_text(terms, "", 0, 200) == f"{told}, then holds still."


def test_terms_are_cut_to_the_window_and_counted_from_it() -> None:
    terms = (Term(10, 60, "tilt_up", "fast"), Term(55, 70, "shake", "slow"))
    assert window_terms(terms, 40, 80) == (Term(0, 20, "tilt_up", "fast"), Term(15, 30, "shake", "slow"))


def test_moves_that_follow_each_other_in_the_clip_may_be_one_step_of_a_window() -> None:
    """The two moves overlap by a sixth in the clip, and by two thirds in the window."""
    terms = [Term(0, 60, "pan_left", "medium"), Term(50, 110, "tilt_up", "medium")]
    assert window_text(terms, "", 0, 110) == "The camera pans to the left, then tilts up."
    assert window_text(terms, "", 45, 65) == "The camera pans to the left and tilts up."


def test_where_no_term_is_known_nothing_is_told() -> None:
    assert window_terms([], 0, 20) == () and window_text([], "A man runs.", 0, 20) == "A man runs."
    assert not camera_moves([], 0, 20)


@given(st.lists(TERMS, min_size=1, max_size=4), st.integers(0, 100), st.integers(2, 60))
def test_the_sentence_tells_of_a_motion_where_the_camera_moves(terms: list[Term], start: int, span: int) -> None:
    text = window_text(terms, "", start, start + span)
    assert camera_moves(terms, start, start + span) is bool(asked_terms(text) - set(STILL))


@given(TERMS, st.integers(2, 60))
def test_every_term_holds_in_a_window_of_a_grid(term: Term, span: int) -> None:
    windows = range(0, 200, span)
    assert any(term.term in {t.term for t in window_terms([term], at, at + span)} for at in windows)


@given(st.lists(TERMS, max_size=6), st.integers(0, 100), st.integers(2, 60))
def test_the_terms_of_a_window_lie_in_it(terms: list[Term], start: int, span: int) -> None:
    found = window_terms(terms, start, start + span)
    assert all(0 <= t.start_frame < t.end_frame <= span for t in found)
    assert bool(found) is bool(terms)
    assert {t.term for t in found} <= {t.term for t in terms} | {STILL[0]}
