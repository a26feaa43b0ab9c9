"""The camera's motion within one window of a clip, and the text that the trainer reads with that window."""

from collections.abc import Iterable

from opendimo.pipelines.cameras.terms import Term
from opendimo.pipelines.captions.sentence import camera_sentence, compose
from opendimo.storage_schemas.conventions import holds_in

STILL = ("static", "shake")  # terms of a camera that stays where it is and looks where it looked


def window_terms(terms: Iterable[Term], start: int, stop: int) -> tuple[Term, ...]:
    """The terms of a clip that hold in its frames [start, stop), cut to them and counted from the first of them.

    `storage_schemas.conventions.holds_in` says which do. Where terms are known and none of them holds, the camera is
    static. Speeds stay those of whole terms, since nothing else is stored.
    """
    terms = tuple(terms)
    held = tuple(
        Term(max(t.start_frame, start) - start, min(t.end_frame, stop) - start, t.term, t.speed)
        for t in terms
        if holds_in(t.start_frame, t.end_frame, start, stop)
    )
    if terms and not held:
        return (Term(0, stop - start, "static", "slow"),)
    return held


def window_text(terms: Iterable[Term], content: str, start: int, stop: int) -> str:
    """What the trainer reads with frames [start, stop): the camera sentence of these frames, then `content`."""
    return compose(camera_sentence(window_terms(terms, start, stop)), content)


def camera_moves(terms: Iterable[Term], start: int, stop: int) -> bool:
    """Whether a term that holds in frames [start, stop) is one of motion: what the sentence of the window says."""
    return any(term.term not in STILL for term in window_terms(terms, start, stop))
