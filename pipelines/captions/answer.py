"""Prompt a vision-language model for a caption, and validate its answer.

The model gets sampled frames and the measured camera motion, and answers in JSON. Zero-shot models are weak at camera
geometry but improve when given measurements (arXiv 2603.13119), so the prompt contains the measurements and the answer
is cross-checked against them.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from opendimo.pipelines.cameras.terms import OPPOSITES, SPEEDS, CameraMotion, Term
from opendimo.pipelines.captions.content import check_content
from opendimo.storage_schemas.tables import CAMERA_TERMS

MOST_TERMS = 12
LONGEST_CONTENT, LONGEST_ANSWER = 1000, 20_000  # characters

MEANINGS = """\
static: the camera does not move. shake: hand-held jitter.
pan_left, pan_right: the camera turns to its left or right on the spot. tilt_up, tilt_down: it turns to look up or down.
roll_cw, roll_ccw: it turns clockwise or counterclockwise about its line of sight.
dolly_in, dolly_out: it travels forward or backward. truck_left, truck_right: it travels sideways.
pedestal_up, pedestal_down: it travels up or down. arc_left, arc_right: it travels around the subject, to its left or
right, and keeps it centred.
zoom_in, zoom_out: the focal length changes, the camera stays. follow: it travels along with the moving subject."""

THOUGHTS = re.compile(r"<think>.*?</think>", re.DOTALL)
"""What reasoning models write before their answer."""
Ask = Callable[[list[str]], str]
"""Sends turns (user, assistant, user, ...) to a model that has the frames, and returns its answer."""


@dataclass(frozen=True)
class Answer:
    """A validated answer: camera terms over clip frames, and one or two sentences about the content."""

    terms: tuple[Term, ...]
    content: str


@dataclass(frozen=True)
class Dialogue:
    """Result of prompting the model. `answer` is None if no reply had the required format; `error` gives the reason."""

    answer: Answer | None
    raw: str
    error: str | None = None


def prompt(motion: CameraMotion, frames: int, fps: float) -> str:
    """Return the prompt for a clip of `frames` frames, with the `motion` that one estimator measured."""
    listed = ", ".join(f"{t.term} ({t.speed}, frames {t.start_frame}-{t.end_frame})" for t in motion.terms)
    basis = "known camera poses" if motion.estimator == "geometry" else "motion of the background in the picture"
    return f"""\
This clip has {frames} frames at {fps:.4g} frames per second and shows a person.
The camera's motion was measured from {basis}.
Numbers: {json.dumps(motion.evidence)}
Terms read off the numbers: {listed or "none, the measurement cannot tell"}

Camera terms; left and right are the camera's own:
{MEANINGS}

Say which camera terms hold, correcting the measurement only where the frames clearly contradict it, and describe the
person, the clothes, the action and the place in one or two sentences, without a word about the camera.
Answer with JSON alone, in exactly this form:
{{"camera": [{{"term": "pan_left", "speed": "slow", "start_frame": 0, "end_frame": {frames}}}], "content": "A ..."}}
speed is slow, medium or fast."""


def converse(ask: Ask, question: str, frames: int) -> Dialogue:
    """Send `question`; if the answer breaks the format, retry once with the error message."""
    first = ask([question])
    try:
        return Dialogue(parse(first, frames), first)
    except ValueError as error:
        complaint = f"That is not the form asked for: {error}. Answer again with the JSON alone."
    second = ask([question, first, complaint])
    raw = f"{first}\n\n[asked again: {complaint}]\n\n{second}"
    try:
        return Dialogue(parse(second, frames), raw)
    except ValueError as error:
        return Dialogue(None, raw, str(error))


def parse(text: str, frames: int) -> Answer:
    """Parse and validate an answer. Speeds default to medium and spans to the whole clip.

    Raises `ValueError` if there is no JSON object, a type is wrong, a term is not in the vocabulary, terms contradict
    each other, or the content is not as `check_content` requires.
    """
    if len(text) > LONGEST_ANSWER:
        raise ValueError(f"it has more than {LONGEST_ANSWER} characters")
    data = _last_object(THOUGHTS.sub("", text))
    if not isinstance(data, dict) or not isinstance(data.get("camera"), list) or not data["camera"]:
        raise ValueError('"camera" must be a list with at least one term')
    if len(data["camera"]) > MOST_TERMS:
        raise ValueError(f'"camera" has more than {MOST_TERMS} terms')
    content = data.get("content")
    if not isinstance(content, str) or not content.strip() or len(content) > LONGEST_CONTENT:
        raise ValueError(f'"content" must be a text of 1 to {LONGEST_CONTENT} characters')
    content = " ".join(content.split())
    check_content(content)
    terms = tuple(sorted({_term(entry, frames) for entry in data["camera"]}))
    for a, b in combinations(terms, 2):
        if contradict(a, b):
            raise ValueError(f"{a.term} and {b.term} cannot both hold in frames {max(a.start_frame, b.start_frame)} on")
    return Answer(terms, content)


def _last_object(text: str) -> Any:
    """Return the last JSON object of a text that is not part of another one: models put prose, code fences and drafts
    around it. Raises `ValueError` if there is none."""
    found, problem = list[Any](), "there is no JSON object in it"
    at = text.find("{")
    while at >= 0:
        try:
            value, end = json.JSONDecoder().raw_decode(text, at)
        except (json.JSONDecodeError, RecursionError) as error:
            problem, end = f"the JSON cannot be read ({error})", at + 1
            if isinstance(error, RecursionError):
                break
        else:
            found.append(value)
        at = text.find("{", end)
    if not found:
        raise ValueError(problem)
    return found[-1]


def contradict(a: Term, b: Term) -> bool:
    """Whether two terms at the same time cannot both be true: opposite directions, or static and a move."""
    if a.start_frame >= b.end_frame or b.start_frame >= a.end_frame:
        return False
    if "static" in (a.term, b.term):
        return a.term != b.term and "shake" not in (a.term, b.term)
    return OPPOSITES.get(a.term) == b.term


def _term(entry: object, frames: int) -> Term:
    if not isinstance(entry, dict) or entry.get("term") not in CAMERA_TERMS:
        raise ValueError(f"{str(entry)[:80]} is not a camera term of the list")
    speed = entry.get("speed", "medium")
    start, end = entry.get("start_frame", 0), entry.get("end_frame", frames)
    if speed not in SPEEDS:
        raise ValueError(f"speed {str(speed)[:20]!r} is none of {', '.join(SPEEDS)}")
    if type(start) is not int or type(end) is not int or not 0 <= start < end <= frames:
        raise ValueError(f"frames {start!s:.20} to {end!s:.20} are not a span within 0 to {frames}")
    return Term(start, end, entry["term"], speed)
