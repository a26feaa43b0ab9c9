"""Tests of the answer format, retries, and how measured and model terms are merged."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opendimo.pipelines.cameras.terms import CameraMotion, Term
from opendimo.pipelines.captions.answer import converse, parse, prompt
from opendimo.pipelines.captions.estimators import agreement, combined

GOOD = {
    "camera": [{"term": "pan_left", "speed": "slow", "start_frame": 0, "end_frame": 40}],
    "content": "A woman in a red coat waves.",
}


def motion(estimator: str, *names: str) -> CameraMotion:
    return CameraMotion(estimator, tuple(Term(0, 96, name, "slow") for name in names), {"zoom_factor": 1.0})


@pytest.mark.parametrize("wrap", ["{}", "```json\n{}\n```", "Here it is: {} Hope it helps!"])
def test_json_is_found_in_what_models_put_around_it(wrap):
    answer = parse(wrap.replace("{}", json.dumps(GOOD)), 96)
    assert answer.terms == (Term(0, 40, "pan_left", "slow"),)
    assert answer.content == "A woman in a red coat waves."


def test_speed_and_span_may_be_left_out():
    answer = parse(json.dumps(GOOD | {"camera": [{"term": "zoom_in"}]}), 96)
    assert answer.terms == (Term(0, 96, "zoom_in", "medium"),)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("The camera pans left.", "no JSON"),
        ("{camera: pan}", "cannot be read"),
        ("{" * 100_000 + "}", "more than 20000 characters"),
        ("{" * 10_000 + "}", "at least one"),
        ("{" * 10_000, "cannot be read"),
        (json.dumps(GOOD | {"camera": []}), "at least one"),
        (json.dumps(GOOD | {"camera": "pan_left"}), "must be a list"),
        (json.dumps(GOOD | {"camera": [{"term": "whip"}]}), "not a camera term"),
        (json.dumps(GOOD | {"camera": [{"term": ["pan_left"]}]}), "not a camera term"),
        (json.dumps(GOOD | {"camera": ["pan_left"]}), "not a camera term"),
        (json.dumps(GOOD | {"camera": [{"term": "pan_left", "speed": "brisk"}]}), "speed"),
        (json.dumps(GOOD | {"camera": [{"term": "pan_left", "end_frame": 97}]}), "span"),
        (json.dumps(GOOD | {"camera": [{"term": "pan_left", "start_frame": True}]}), "span"),
        (json.dumps(GOOD | {"camera": [{"term": "pan_left"}] * 13}), "more than"),
        (json.dumps(GOOD | {"content": " "}), "content"),
        (json.dumps(GOOD | {"content": 3}), "content"),
        (json.dumps({"content": "A man."}), "must be a list"),
    ],
)
def test_anything_else_is_refused_with_a_reason(text, complaint):
    with pytest.raises(ValueError, match=complaint):
        parse(text, 96)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("一个穿红色外套的女人在挥手。", "English"),
        ("Un homme danse devant une maison grise.", "English"),
        ("Ein Mann tanzt vor einem grauen Haus.", "English"),
        ("A man waves his hand and " * 40, "repeats"),
        ("A man waves. The camera pans left.", "camera pans"),
        ("The camera slowly zooms in on a woman in a red coat.", "must not describe the camera"),
        ("The camera is static. A man dances in the street.", "must not describe the camera"),
        ("A tracking shot of a woman in the snow.", "must not describe the camera"),
    ],
)
def test_content_is_english_about_the_person_and_said_once(content, complaint):
    with pytest.raises(ValueError, match=complaint):
        parse(json.dumps(GOOD | {"content": content}), 96)


@pytest.mark.parametrize(
    "content",
    [
        "A photographer with a camera turns around in the street.",
        "A man in the snow films a dog with a handheld camera.",
        "A cook holds a pan in his left hand and stirs.",
        "A woman named Zoë tilts her head, then follows a dog down the street.",
        "A man in a grey suit points to the left and then to the right, and to the left again.",
        "Woman waves at a dog.",
    ],
)
def test_what_only_sounds_like_a_camera_is_content(content):
    assert parse(json.dumps(GOOD | {"content": content}), 96).content == content


@pytest.mark.parametrize(
    ("camera", "complaint"),
    [
        ([("static", 0, 96), ("pan_left", 0, 40), ("pan_right", 40, 96)], "pan_left and static|static and pan_left"),
        ([("pan_left", 0, 60), ("pan_right", 50, 96)], "pan_left and pan_right"),
        ([("roll_cw", 0, 60), ("roll_ccw", 0, 96)], "roll_c"),
    ],
)
def test_terms_do_not_contradict_each_other(camera, complaint):
    terms = [{"term": term, "start_frame": start, "end_frame": end} for term, start, end in camera]
    with pytest.raises(ValueError, match=complaint):
        parse(json.dumps(GOOD | {"camera": terms}), 96)


def test_successive_opposites_and_a_shaking_static_camera_are_no_contradiction():
    spans = [("pan_left", 0, 40), ("pan_right", 40, 60), ("static", 60, 96), ("shake", 0, 96)]
    terms = [{"term": term, "start_frame": start, "end_frame": end} for term, start, end in spans]
    assert len(parse(json.dumps(GOOD | {"camera": terms}), 96).terms) == 4


@pytest.mark.parametrize(
    "before",
    [
        "<think>{maybe a pan?} The set {x} of terms</think>",
        '<think>{"camera": []}</think>',
        'First {"camera": []}, no: ',
    ],
)
def test_the_last_object_is_the_answer_of_a_model_that_thinks_aloud(before):
    assert parse(before + json.dumps(GOOD), 96).content == GOOD["content"]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["camera", "content", "term"]), inner),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["camera", "content", "speed"]), values))
def test_no_answer_breaks_the_check(data):
    try:
        answer = parse(json.dumps(data), 96)
    except ValueError:
        return
    assert answer.terms


def test_a_broken_answer_is_sent_back_once():
    heard: list[list[str]] = []

    def ask(turns: list[str]) -> str:
        heard.append(turns)
        return "no idea" if len(heard) == 1 else json.dumps(GOOD)

    dialogue = converse(ask, "What does the camera do?", 96)
    assert dialogue.answer is not None
    assert [len(turns) for turns in heard] == [1, 3]
    assert "no JSON object" in heard[1][2]
    assert "no idea" in dialogue.raw


def test_two_broken_answers_are_given_up():
    dialogue = converse(lambda turns: "no idea", "What does the camera do?", 96)
    assert dialogue.answer is None
    assert dialogue.raw.count("no idea") == 2
    assert "no JSON" in str(dialogue.error)


def test_the_question_holds_the_numbers_the_terms_and_the_form():
    asked = prompt(motion("geometry", "arc_left"), 96, 24.0)
    assert "96 frames at 24 frames per second" in asked
    assert '"zoom_factor": 1.0' in asked
    assert "arc_left (slow, frames 0-96)" in asked
    assert '"end_frame": 96}' in asked


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (("geometry", "pan_left"), ("model", "pan_left"), 1.0),
        (("geometry", "pan_left", "dolly_in"), ("model", "pan_left"), 0.5),
        (("geometry", "dolly_in"), ("model", "zoom_in"), 0.0),
        (("geometry", "dolly_in"), ("image_motion", "zoom_in"), 1.0),  # `image_motion` cannot distinguish these
        (("geometry", "arc_left"), ("image_motion", "pan_right"), 1.0),
        (("geometry", "follow"), ("image_motion", "pan_right"), None),
        (("geometry", "pan_left"), ("image_motion",), None),
    ],
)
def test_agreement(a, b, expected):
    assert agreement(motion(*a), motion(*b)) == expected


def test_known_cameras_are_not_overruled():
    measured = motion("geometry", "dolly_in")
    assert combined(measured, motion("model", "pan_left").terms) == measured.terms


def test_a_model_may_say_what_the_picture_cannot():
    measured = motion("image_motion", "pan_left", "zoom_in")
    seen = motion("model", "truck_left", "tilt_up").terms
    assert {t.term for t in combined(measured, seen)} == {"truck_left", "zoom_in"}
    assert combined(motion("image_motion"), seen) == seen
