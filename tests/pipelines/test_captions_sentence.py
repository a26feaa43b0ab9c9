"""Tests of camera sentences."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opendimo.pipelines.cameras.terms import Term
from opendimo.pipelines.captions.sentence import camera_sentence, camera_sentences, compose, told_steps
from opendimo.storage_schemas.camera_wording import COUNT, WORDINGS, Asked, asked_steps, asked_terms
from opendimo.storage_schemas.tables import CAMERA_TERMS


def test_every_term_has_a_phrase():
    assert set(WORDINGS) == set(CAMERA_TERMS) and {len(phrases) for phrases in WORDINGS.values()} == {COUNT}


@pytest.mark.parametrize(
    ("terms", "sentence"),
    [
        ([], ""),
        ([(0, 96, "static", "slow")], "The camera is static."),
        (
            [(0, 40, "pan_left", "slow"), (42, 96, "static", "slow")],
            "The camera pans to the left slowly, then holds still.",
        ),
        (
            [(0, 60, "dolly_in", "medium"), (0, 60, "pan_left", "fast")],
            "The camera pans to the left quickly and moves forward.",
        ),
        ([(0, 60, "arc_left", "slow")], "The camera circles to the left around the subject slowly."),
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


TERMS = st.builds(
    lambda start, length, word, speed: Term(start, start + length, word, speed),
    st.integers(0, 80), st.integers(1, 60), st.sampled_from(CAMERA_TERMS), st.sampled_from(["slow", "medium", "fast"]),
)  # fmt: skip


def asked(terms: list[Term]) -> list[set[Asked]]:
    """Return what a sentence of `terms` asks for."""
    steps, shake = told_steps(terms)
    wanted = [{Asked(t.term, "slow" if t.term == "static" else t.speed) for t in step} for step in steps]
    if shake:
        wanted[-1].add(Asked("shake", shake.speed))
    return wanted


@pytest.mark.parametrize("wording", range(COUNT))
@pytest.mark.parametrize("term", CAMERA_TERMS)
@pytest.mark.parametrize("speed", ["slow", "medium", "fast"])
def test_a_sentence_in_any_wording_is_read_back(term: str, speed: str, wording: int) -> None:
    terms = [Term(0, 60, term, speed)]
    assert list(asked_steps(camera_sentence(terms, wording))) == asked(terms)


@given(st.lists(TERMS, max_size=6), st.integers(0, COUNT - 1), st.sampled_from(["", "A man with a camera turns left."]))
def test_sentences_of_several_moves_are_read_back(terms: list[Term], wording: int, content: str) -> None:
    assert list(asked_steps(compose(camera_sentence(terms, wording), content))) == asked(terms)


def test_wordings_differ_and_the_first_is_stored() -> None:
    sentences = camera_sentences([Term(0, 60, "pedestal_down", "slow"), Term(60, 90, "static", "slow")])
    assert sentences == (
        "The camera moves straight down slowly, then holds still.",
        "The camera pedestals down slowly, then remains static.",
        "The camera slowly descends, and then stays still.",
    )
    assert camera_sentences([Term(0, 60, "zoom_in", "slow")])[0] == "The camera zooms in slowly."
    assert camera_sentences([]) == ("",)


@pytest.mark.parametrize(
    ("prompt", "terms"),
    [
        ("Cinematic shot. The camera pans up to reveal a tower.", {"tilt_up"}),
        ("The camera moves from right to left past the window.", {"truck_left"}),
        ("The camera pulls back while tilting down.", {"dolly_out", "tilt_down"}),
        ("The camera circles clockwise around her as she turns to the right.", {"arc_left"}),
        ("A tracking shot follows him through the alley.", {"follow"}),
        ("Static shot of a woman who turns to the left.", {"static"}),
        ("A handheld camera pushes toward the door.", {"shake", "dolly_in"}),
        ("The camera pans left without moving to the left.", {"pan_left"}),
        ("The camera circles around the fountain.", set()),  # in which direction?
        ("A man turns left and moves back.", set()),
        ("A man with a camera turns to the left.", set()),
    ],
)
def test_prompts_of_people_are_read(prompt: str, terms: set[str]) -> None:
    assert asked_terms(prompt) == terms
