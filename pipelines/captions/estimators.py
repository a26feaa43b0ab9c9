"""Compare and merge two estimates of one camera motion."""

from collections.abc import Iterable

from opendimo.pipelines.cameras.terms import CameraMotion, Term, overlap, words

LOOKS_LIKE = {
    "truck_left": "pan_left",
    "truck_right": "pan_right",
    "pedestal_up": "tilt_up",
    "pedestal_down": "tilt_down",
    "dolly_in": "zoom_in",
    "dolly_out": "zoom_out",
    "arc_left": "pan_right",  # the background behind the subject moves as in the pan that keeps the subject centred
    "arc_right": "pan_left",
}
"""Term of a translating camera -> the term that an estimator reports which models only rotation and zoom."""


def agreement(a: CameraMotion, b: CameraMotion) -> float | None:
    """Return the Jaccard overlap of the two term sets, 0 to 1.

    If one estimator is `image_motion`, translations are first mapped to the rotations and zooms they look like
    (`LOOKS_LIKE`): before a flat or far background the picture shows no difference. Returns None if one estimator has
    no terms, or if only one of them has `follow`, which has no direction to compare.
    """
    if not a.terms or not b.terms:
        return None
    first, second = words(a.terms), words(b.terms)
    if "image_motion" not in (a.estimator, b.estimator):
        return overlap(first, second)
    if ("follow" in first) != ("follow" in second):
        return None
    return overlap((LOOKS_LIKE.get(w, w) for w in first), (LOOKS_LIKE.get(w, w) for w in second))


def combined(measured: CameraMotion, seen: Iterable[Term]) -> tuple[Term, ...]:
    """Merge the measured terms with the terms that a vision-language model reported (`seen`).

    `geometry` always wins. For `image_motion`, the model may refine a term (pan to truck or arc, zoom to dolly). If the
    measurement has no terms, all terms come from the model.
    """
    seen = tuple(seen)
    if measured.estimator == "geometry":
        return measured.terms
    if not measured.terms:
        return seen
    model_words = words(seen)
    return tuple(sorted(_refined(term, model_words) for term in measured.terms))


def _refined(term: Term, model_words: frozenset[str]) -> Term:
    refinements = sorted(word for word in model_words if LOOKS_LIKE.get(word) == term.term)
    if term.term in model_words or not refinements:
        return term
    return Term(term.start_frame, term.end_frame, refinements[0], term.speed)
