"""Tests of camera sentences."""

import pytest

from opendimo.pipelines.cameras.terms import Term
from opendimo.pipelines.captions.sentence import PHRASES, camera_sentence, compose
from opendimo.storage_schemas.tables import CAMERA_TERMS


def test_every_term_has_a_phrase():
    assert set(PHRASES) == set(CAMERA_TERMS)


@pytest.mark.parametrize(
    ("terms", "sentence"),
    [
        ([], ""),
        ([(0, 96, "static", "slow")], "The camera is static."),
        ([(0, 40, "pan_left", "slow"), (42, 96, "static", "slow")], "The camera pans left slowly, then holds still."),
        ([(0, 60, "dolly_in", "medium"), (0, 60, "pan_left", "fast")], "The camera pans left quickly and dollies in."),
        ([(0, 60, "arc_left", "slow")], "The camera arcs left around the subject slowly."),
        ([(0, 60, "shake", "fast")], "The camera shakes strongly."),
        ([(0, 60, "tilt_up", "medium"), (5, 55, "shake", "slow")], "The camera tilts up, shaking slightly."),
        ([(0, 60, "tilt_up", "medium"), (50, 60, "shake", "slow")], "The camera tilts up."),
    ],
)
def test_sentences(terms, sentence):
    assert camera_sentence(Term(*t) for t in terms) == sentence


def test_no_step_says_the_opposite_of_itself():
    terms = [Term(0, 40, "zoom_out", "slow"), Term(15, 60, "zoom_in", "slow")]
    assert camera_sentence(terms) == "The camera zooms out slowly, then zooms in slowly."


def test_order_of_the_terms_does_not_matter():
    terms = [Term(0, 60, "dolly_in", "slow"), Term(0, 60, "pan_left", "slow"), Term(60, 90, "tilt_up", "fast")]
    assert camera_sentence(terms) == camera_sentence(terms[::-1])


def test_a_restless_camera_still_gets_a_short_sentence():
    terms = [Term(i * 10, i * 10 + 5 + i, ("pan_left", "pan_right")[i % 2], "slow") for i in range(9)]
    assert camera_sentence(terms).count(", then ") == 3


def test_the_trainer_reads_camera_then_content():
    assert compose("The camera is static.", "A man juggles.") == "The camera is static. A man juggles."
    assert compose("", "A man juggles.") == "A man juggles."
    assert compose("The camera is static.", "") == "The camera is static."
