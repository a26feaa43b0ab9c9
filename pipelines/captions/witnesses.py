"""How two witnesses of one camera motion are compared and brought together."""

from collections.abc import Iterable

from opendimo.pipelines.cameras.terms import CameraMotion, Term, overlap, words

LOOKS_LIKE = {
    "truck_left": "pan_left",
    "truck_right": "pan_right",
    "pedestal_up": "tilt_up",
    "pedestal_down": "tilt_down",
    "dolly_in": "zoom_in",
    "dolly_out": "zoom_out",
    "arc_left": "pan_right",  # the background beyond the subject goes by as in the pan that keeps it centred
    "arc_right": "pan_left",
}
"""What a travelling camera looks like to a witness that knows only turning and zooming."""


def agreement(a: CameraMotion, b: CameraMotion) -> float | None:
    """Overlap of the two term sets, 0 to 1; as far as the picture can tell where one of them is `image_motion`.

    None where one of them could not tell, or `follow` is to be compared with a picture, which fits any direction.
    """
    if not a.terms or not b.terms:
        return None
    first, second = words(a.terms), words(b.terms)
    if "image_motion" not in (a.witness, b.witness):
        return overlap(first, second)
    if "follow" in first | second:
        return None
    return overlap((LOOKS_LIKE.get(w, w) for w in first), (LOOKS_LIKE.get(w, w) for w in second))


def combined(measured: CameraMotion, seen: Iterable[Term]) -> tuple[Term, ...]:
    """Terms to train on, from a measurement and from a model that looked at the frames.

    Known cameras are not overruled. Where only the picture was measured the model may say what the measurement
    cannot: that a pan is really a truck or an arc, a zoom really a dolly; and everything where it could not tell.
    """
    seen = tuple(seen)
    if measured.witness == "geometry":
        return measured.terms
    if not measured.terms:
        return seen
    said = words(seen)
    return tuple(sorted(_refined(term, said) for term in measured.terms))


def _refined(term: Term, said: frozenset[str]) -> Term:
    meant = sorted(word for word in said if LOOKS_LIKE.get(word) == term.term)
    if term.term in said or not meant:
        return term
    return Term(term.start_frame, term.end_frame, meant[0], term.speed)
