"""Turn camera terms into English sentences, and compose the captions used in training. Deterministic."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

from opendimo.pipelines.cameras.terms import OPPOSITES, Term
from opendimo.storage_schemas.camera_wording import COUNT, WORDINGS
from opendimo.storage_schemas.tables import CAMERA_TERMS

STATIC = ("is static", "remains static", "does not move")
"""What is said of a camera that is static throughout, by wording."""
ADVERBS = {"slow": "slowly", "medium": "", "fast": "quickly"}
STRENGTHS = {"slow": "slightly", "medium": "", "fast": "strongly"}
SHAKING = ("shaking", "shaking", "trembling")
ADVERB_FIRST = (False, False, True)
THEN = (", then ", ", then ", ", and then ")
TOGETHER = 0.5  # two spans are simultaneous if they overlap by this share of the shorter one
MOST_STEPS = 4  # steps named in a sentence; the stored terms keep them all


def camera_sentence(terms: Iterable[Term], wording: int = 0) -> str:
    """Return one sentence for `terms`; empty if there are none, because no terms means unknown, not static.

    Simultaneous terms are joined with "and", successive and opposite ones with "then": "The camera pans to the left
    slowly, then holds still." If there are more than four steps, the four longest are named, in order of time.
    `wording`: index into `WORDINGS`.
    """
    steps, shake = told_steps(terms)
    if not steps:
        return ""
    if [[t.term for t in step] for step in steps] == [["static"]] and shake is None:
        return f"The camera {STATIC[wording]}."
    phrases = [" and ".join(_phrase(term, wording) for term in step) for step in steps]
    shaking = f", {_with_adverb(SHAKING[wording], STRENGTHS[shake.speed], False)}" if shake else ""
    return f"The camera {THEN[wording].join(phrases)}{shaking}."


def camera_sentences(terms: Sequence[Term]) -> tuple[str, ...]:
    """Return the sentences of all wordings, without repetitions; the first is that of `camera_sentence`."""
    return tuple(dict.fromkeys(camera_sentence(terms, wording) for wording in range(COUNT)))


def compose(camera: str, content: str) -> str:
    """Return the caption used in training: the camera sentence, then the content sentence."""
    return " ".join(part.strip() for part in (camera, content) if part.strip())


def told_steps(terms: Iterable[Term]) -> tuple[list[list[Term]], Term | None]:
    """Return what a sentence tells: steps in order of time, each of simultaneous terms, and a shake throughout."""
    terms = sorted(terms, key=lambda t: (t.start_frame, CAMERA_TERMS.index(t.term), t.end_frame))
    if not terms:
        return [], None
    duration = max(t.end_frame for t in terms) - terms[0].start_frame
    moves = [t for t in terms if t.term != "shake"]
    shakes = [t for t in terms if t.term == "shake"]
    if moves and sum(t.end_frame - t.start_frame for t in shakes) >= TOGETHER * duration:
        return _steps(moves), max(shakes, key=lambda t: t.end_frame - t.start_frame)
    return _steps(moves or terms), None


def _steps(terms: Sequence[Term]) -> list[list[Term]]:
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
    return steps[:1] + [step for before, step in pairwise(steps) if _said(step) != _said(before)]


def _said(step: list[Term]) -> list[tuple[str, str]]:
    return [(t.term, "" if t.term == "static" else t.speed) for t in step]


def _length(step: list[Term]) -> int:
    return max(t.end_frame for t in step) - step[0].start_frame


def _together(a: Term, b: Term) -> bool:
    shared = min(a.end_frame, b.end_frame) - max(a.start_frame, b.start_frame)
    return shared >= TOGETHER * min(a.end_frame - a.start_frame, b.end_frame - b.start_frame)


def _phrase(term: Term, wording: int) -> str:
    phrase = WORDINGS[term.term][wording]
    if term.term == "static":
        return phrase
    adverbs = STRENGTHS if term.term == "shake" else ADVERBS
    return _with_adverb(phrase, adverbs[term.speed], ADVERB_FIRST[wording])


def _with_adverb(phrase: str, adverb: str, first: bool) -> str:
    return " ".join(part for part in ((adverb, phrase) if first else (phrase, adverb)) if part)
