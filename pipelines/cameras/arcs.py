"""Tell moves relative to the subject from plain translations: arcs from trucks with pans, and follow from travel."""

import numpy as np
from numpy.typing import NDArray

from opendimo.pipelines.cameras.terms import CHANNELS, MIN_NET, MIN_RATE, Term, runs, smooth_rates, speed_word
from opendimo.storage_schemas.conventions import camera_centres

Array = NDArray[np.floating]

ARC_RATIO = (0.4, 2.5)  # range of (camera turn) / (turn that would keep the subject centred) that counts as an arc
ARC_SHARE = 0.5  # truck and pan must overlap in time by at least this share of the shorter one
MOST_MOVES = 4  # of a clip
FOLLOW_SLIP = 0.5  # maximum relative speed of camera and subject, as a share of the camera's speed


def with_arcs(terms: list[Term], rates: dict[str, Array]) -> list[Term]:
    """Replace a truck and an opposite pan by an arc if the pan keeps the subject centred.

    To keep a point at distance d ahead centred while moving left at speed v, the camera turns right by v / d: in
    the units used here the two rates are equal and opposite.
    """
    kept = list(terms)
    for truck, pan, arc in (("truck_left", "pan_right", "arc_left"), ("truck_right", "pan_left", "arc_right")):
        for a in [t for t in kept if t.term == truck]:
            for b in [t for t in kept if t.term == pan]:
                start, end = max(a.start_frame, b.start_frame), min(a.end_frame, b.end_frame)
                shorter = min(a.end_frame - a.start_frame, b.end_frame - b.start_frame)
                if a not in kept or end - start < max(2, ARC_SHARE * shorter):
                    continue
                travel = abs(float(rates["right"][start : end - 1].mean()))
                ratio = abs(float(rates["yaw"][start : end - 1].mean())) / travel
                if ARC_RATIO[0] <= ratio <= ARC_RATIO[1]:
                    span = min(a.start_frame, b.start_frame), max(a.end_frame, b.end_frame)
                    kept = [t for t in kept if t not in (a, b)] + [Term(*span, arc, speed_word("right", travel))]
    return sorted(kept)


def with_follows(terms: list[Term], world_to_camera: Array, subject: Array, fps: float) -> list[Term]:
    """Replace translations that keep pace with a moving subject by `follow`.

    `world_to_camera` [T, 3, 4] and `subject` [T, 3], in the camera frame, in subject distances.
    """
    rotation = world_to_camera[:, :, :3].astype(np.float64)
    centres = camera_centres(world_to_camera.astype(np.float64))
    world = centres + np.einsum("tji,tj->ti", rotation, subject)  # [T, 3]
    camera_speed = smooth_rates(np.diff(centres, axis=0) * fps, fps)  # [T-1, 3]
    subject_speed = smooth_rates(np.diff(world, axis=0) * fps, fps)
    pace = np.linalg.norm(camera_speed, axis=1)
    together = (pace >= MIN_RATE) & (np.linalg.norm(subject_speed, axis=1) >= MIN_RATE)
    together &= np.linalg.norm(camera_speed - subject_speed, axis=1) <= FOLLOW_SLIP * pace

    kept = []
    for term in terms:
        step = slice(term.start_frame, term.end_frame - 1)
        if term.term.startswith(("truck", "dolly", "pedestal")) and together[step].mean() > 0.5:
            speed = speed_word("forward", float(pace[step].mean()))
            kept.append(Term(term.start_frame, term.end_frame, "follow", speed))
        else:
            kept.append(term)
    return _merged(kept, "follow")


def main_move(terms: list[Term], net: dict[str, float], steps: int, fps: float) -> list[Term]:
    """Return `terms`; if there are more than `MOST_MOVES`, one move that holds throughout: the strongest of `net`.

    So many moves are the sway of a hand. `net`: total motion of each channel over the clip of `steps` frame steps.
    Returns nothing if the total of every channel is too small to see.
    """
    if len(terms) <= MOST_MOVES:
        return terms
    channel = max(net, key=lambda name: abs(net[name]))
    total, rate = abs(net[channel]), abs(net[channel]) * fps / steps
    if total < MIN_NET or rate < MIN_RATE:
        return []
    return [Term(0, steps + 1, CHANNELS[channel][net[channel] > 0], speed_word(channel, rate))]


def _merged(terms: list[Term], word: str) -> list[Term]:
    """Join overlapping spans of one term (keeping the first speed)."""
    same = sorted(t for t in terms if t.term == word)
    if not same:
        return sorted(terms)
    covered = np.zeros(max(t.end_frame for t in same), dtype=bool)
    for term in same:
        covered[term.start_frame : term.end_frame] = True
    joined = [Term(a, b, word, next(t.speed for t in same if a <= t.start_frame < b)) for a, b in runs(covered)]
    return sorted([t for t in terms if t.term != word] + joined)
