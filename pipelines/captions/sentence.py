"""Turn camera terms into an English sentence, and compose the caption used in training. Deterministic."""

from collections.abc import Iterable, Sequence

from opendimo.pipelines.cameras.terms import OPPOSITES, Term
from opendimo.storage_schemas.tables import CAMERA_TERMS

PHRASES = {
    "static": "holds still",
    "shake": "shakes",
    "pan_left": "pans left",
    "pan_right": "pans right",
    "tilt_up": "tilts up",
    "tilt_down": "tilts down",
    "roll_cw": "rolls clockwise",
    "roll_ccw": "rolls counterclockwise",
    "dolly_in": "dollies in",
    "dolly_out": "dollies out",
    "truck_left": "trucks left",
    "truck_right": "trucks right",
    "pedestal_up": "pedestals up",
    "pedestal_down": "pedestals down",
    "arc_left": "arcs left around the subject",
    "arc_right": "arcs right around the subject",
    "zoom_in": "zooms in",
    "zoom_out": "zooms out",
    "follow": "follows the subject",
}
ADVERBS = {"slow": " slowly", "medium": "", "fast": " quickly"}
STRENGTHS = {"slow": " slightly", "medium": "", "fast": " strongly"}
TOGETHER = 0.5  # two spans are simultaneous if they overlap by this share of the shorter one
MOST_STEPS = 4  # steps named in a sentence; the stored terms keep them all


def camera_sentence(terms: Iterable[Term]) -> str:
    """Return one sentence for `terms`; empty if there are none, because no terms means unknown, not static.

    Simultaneous terms are joined with "and", successive and opposite ones with "then": "The camera pans left slowly,
    then holds still." If there are more than four steps, the four longest are named, in order of time.
    """
    terms = sorted(terms, key=lambda t: (t.start_frame, CAMERA_TERMS.index(t.term), t.end_frame))
    if not terms:
        return ""
    duration = max(t.end_frame for t in terms) - terms[0].start_frame
    moves = [t for t in terms if t.term != "shake"]
    shakes = [t for t in terms if t.term == "shake"]
    if moves and sum(t.end_frame - t.start_frame for t in shakes) >= TOGETHER * duration:
        strength = STRENGTHS[max(shakes, key=lambda t: t.end_frame - t.start_frame).speed]
        return f"The camera {_steps(moves)}, shaking{strength}."
    if len(terms) == 1 and terms[0].term == "static":
        return "The camera is static."
    return f"The camera {_steps(moves or terms)}."


def compose(camera: str, content: str) -> str:
    """Return the caption used in training: the camera sentence, then the content sentence."""
    return " ".join(part.strip() for part in (camera, content) if part.strip())


def _steps(terms: Sequence[Term]) -> str:
    steps: list[list[Term]] = []
    for term in terms:
        told = [t.term for t in steps[-1]] if steps else []
        if steps and _together(steps[-1][0], term) and not {term.term, OPPOSITES.get(term.term)} & set(told):
            steps[-1].append(term)
        else:
            steps.append([term])
    if len(steps) > MOST_STEPS:
        longest = sorted(steps, key=_length, reverse=True)[:MOST_STEPS]  # stable: earlier steps win ties
        steps = [step for step in steps if step in longest]
    phrases: list[str] = []
    for step in steps:
        phrase = " and ".join(_phrase(t) for t in step)
        if not phrases or phrases[-1] != phrase:
            phrases.append(phrase)
    return ", then ".join(phrases)


def _length(step: list[Term]) -> int:
    return max(t.end_frame for t in step) - step[0].start_frame


def _together(a: Term, b: Term) -> bool:
    shared = min(a.end_frame, b.end_frame) - max(a.start_frame, b.start_frame)
    return shared >= TOGETHER * min(a.end_frame - a.start_frame, b.end_frame - b.start_frame)


def _phrase(term: Term) -> str:
    if term.term == "static":
        return PHRASES["static"]
    return PHRASES[term.term] + (STRENGTHS if term.term == "shake" else ADVERBS)[term.speed]
