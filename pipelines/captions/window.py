"""Derive the camera terms and the training caption of one window of a clip."""

from collections.abc import Iterable

from opendimo.pipelines.cameras.terms import Term
from opendimo.pipelines.captions.sentence import camera_sentences, compose
from opendimo.storage_schemas.conventions import holds_in

STILL = ("static", "shake")  # terms that change neither the position nor the direction of the camera


def window_terms(terms: Iterable[Term], start: int, stop: int) -> tuple[Term, ...]:
    """Return the terms of a clip that hold in frames [start, stop), cropped to the window and relative to its start.

    `storage_schemas.conventions.holds_in` decides which terms hold. If the clip has terms but none of them holds, the
    camera is static. Speeds are those of the complete terms, because only they are stored.
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


def window_texts(terms: Iterable[Term], content: str, start: int, stop: int) -> tuple[str, ...]:
    """Return the caption of frames [start, stop) in each wording: the camera sentence, then `content`."""
    return tuple(compose(camera, content) for camera in camera_sentences(window_terms(terms, start, stop)))


def camera_moves(terms: Iterable[Term], start: int, stop: int) -> bool:
    """Return whether the camera moves in frames [start, stop), consistent with the sentence of that window."""
    return any(term.term not in STILL for term in window_terms(terms, start, stop))
