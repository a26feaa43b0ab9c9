"""Compute the metrics of every clip of every system, and of sets of clips."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from opendimo.storage_schemas.rows import Row
from opendimo.training.evaluation.cases import Case
from opendimo.training.evaluation.clips import read_clip
from opendimo.training.evaluation.config import TRUTH, Weights
from opendimo.training.evaluation.following import BODY, SEEN_AS, pose_following
from opendimo.training.evaluation.frechet import Features, frechet_distance
from opendimo.training.evaluation.known import Known, Truth
from opendimo.training.evaluation.pixels import Lpips, psnr, psnr_in_boxes, ssim
from opendimo.training.release import Release

Frames = NDArray[np.uint8]
Array = NDArray[np.float64]
FindLandmarks = Callable[[Frames, NDArray[np.floating]], NDArray[np.floating]]
"""(frames [T, H, W, 3], boxes of the person [T, 4]) -> joints [T, 52, 3]: x, y, confidence; 0 if not found."""
NameMoves = Callable[[Frames, float, NDArray[np.floating], float | None], set[str]]
"""(frames [T, H, W, 3], frames per second, boxes of the person [T, 4], focal length over width) -> detected camera
moves; empty if the camera cannot be measured."""
OPTION_OF = {"lpips": "--lpips", "fid": "--inception", "fvd": "--fvd"}


@dataclass(frozen=True)
class Measures:
    """Functions and models that measure clips. `absent`: metrics that cannot be measured, with the reason."""

    find_landmarks: FindLandmarks
    name_moves: NameMoves
    lpips: Lpips | None = None
    inception: Features | None = None
    i3d: Features | None = None
    absent: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, weights: Weights, find_landmarks: FindLandmarks, name_moves: NameMoves) -> "Measures":
        """Load the given weights. Raises `ValueError` for invalid files."""
        paths = {"lpips": weights.lpips, "fid": weights.inception, "fvd": weights.fvd}
        return cls(
            find_landmarks,
            name_moves,
            Lpips(Path(weights.lpips)) if weights.lpips else None,
            Features(Path(weights.inception)) if weights.inception else None,
            Features(Path(weights.fvd)) if weights.fvd else None,
            {name: f"no weights were given ({OPTION_OF[name]})" for name, path in paths.items() if not path},
        )


class Sets:
    """Features of the clips of two sets, generated and true, for FID and FVD."""

    def __init__(self) -> None:
        self.samples: dict[str, list[tuple[Array, Array]]] = {"fid": [], "fvd": []}

    def distances(self) -> dict[str, Row]:
        """Return `value`, `n` and `features` of FID and FVD, or `absent`, the reason, with fewer than two samples."""
        distances: dict[str, Row] = {}
        for name, pairs in self.samples.items():
            if pairs:
                ours, true = (np.concatenate([pair[k] for pair in pairs]) for k in range(2))
                try:
                    value = frechet_distance(ours, true)
                    distances[name] = {"value": value, "n": len(ours), "features": ours.shape[1]}
                except ValueError as error:
                    distances[name] = {"absent": str(error), "n": len(ours)}
        return distances


def measure(
    release: Release,
    cases: Sequence[Case],
    systems: Mapping[str, Path],
    measures: Measures,
    on_done: Callable[[], None] = lambda: None,
) -> dict[str, Row]:
    """Measure all clips and return, by system: `clips` (a row per clip), `missing` cases, `notes`, set `distances`.

    `systems`: folders of CASE.mp4. One more system, `truth`, is the true clips themselves, without `distances`: it
    shows the accuracy of pose and camera measurements. `on_done` is called for each case. Raises `ValueError` for
    clips that cannot be compared.
    """
    known, sets = Known(release), {name: Sets() for name in systems}
    results: dict[str, Row] = {name: {"clips": [], "missing": [], "notes": []} for name in [*systems, TRUTH]}
    for case in cases:
        truth = known.truth(case.target) if case.has_truth else None
        frames = known.frames(case.target) if case.has_truth else None
        if frames is not None:
            results[TRUTH]["clips"].append({"case": case.case_id, **_following(case, frames, truth, measures)})
        features = _features(frames, measures)
        for name, folder in systems.items():
            clip = read_clip(folder / f"{case.case_id}.mp4", case.pair.num_frames, case.target.size)
            if clip is None:
                results[name]["missing"].append(case.case_id)
                continue
            if clip.note:
                results[name]["notes"].append(f"{case.case_id}: {clip.note}")
            row = _pixel_metrics(clip.frames, frames, truth, measures) | _following(case, clip.frames, truth, measures)
            results[name]["clips"].append({"case": case.case_id, **row})
            ours = _features(clip.frames, measures) if features else {}
            for kind, true in features.items():
                sets[name].samples[kind].append((ours[kind], true))
        on_done()
    for name in systems:
        results[name]["distances"] = sets[name].distances()
    return results


def _pixel_metrics(clip: Frames, true: Frames | None, truth: Truth | None, measures: Measures) -> Row:
    """Return the metrics that compare a clip with the true pixels; empty without them."""
    if true is None or truth is None:
        return {}
    row: Row = {"ssim": ssim(clip, true), "psnr": psnr(clip, true)}
    row["psnr_person"] = psnr_in_boxes(clip, true, truth.track)
    return row | ({"lpips": measures.lpips(clip, true)} if measures.lpips else {})


def _features(clip: Frames | None, measures: Measures) -> dict[str, Array]:
    if clip is None:
        return {}
    features = {"fid": measures.inception.of_frames(clip)} if measures.inception else {}
    return features | ({"fvd": measures.i3d.of_clip(clip)} if measures.i3d else {})


def _following(case: Case, clip: Frames, truth: Truth | None, measures: Measures) -> Row:
    """Return the pose error against the truth, and the detected camera moves if the prompt names any.

    The person is searched within the true boxes; without truth, within the whole frame.
    """
    height, width = clip.shape[1:3]
    full_frame = np.tile(np.array([0, 0, width, height], np.float32), (len(clip), 1))
    track = full_frame if truth is None or not np.isfinite(truth.track).all(axis=1).any() else truth.track
    row: Row = {}
    if truth is not None and truth.valid.any():
        landmarks = measures.find_landmarks(clip, track)[:, :BODY]
        pose = pose_following(landmarks, truth.joints[:, :BODY], truth.valid, truth.height, (width, height))
        row = {"pose_error": pose.error, "landmark_frames": pose.found, "labelled_frames": pose.labelled}
    detected: set[str] = set()
    if case.asked:
        unknown = np.full_like(track, np.nan)
        boxes = unknown if track is full_frame else track  # a box over the whole frame would leave no background
        named = measures.name_moves(clip, float(case.fps), boxes, truth.focal_over_width if truth else None)
        detected = {SEEN_AS.get(move, move) for move in named}
    return row | {"camera_seen": sorted(detected)}
