"""Choose the cases of an evaluation: held-out pairs of a release, or cases built from them by the paper's protocol."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice, zip_longest
from typing import Any

import numpy as np
import pyarrow.compute as pc

from opendimo.storage_schemas.ids import stable_id
from opendimo.training.evaluation.azimuth import bucket
from opendimo.training.evaluation.config import PAPER_CROSS, PAPER_SELF, EvaluationConfig, check_split
from opendimo.training.evaluation.following import asked_moves
from opendimo.training.evaluation.known import Known, Window, target_frames
from opendimo.training.release import Pair, Pairs, Release, read_pairs

STATIC = "The camera is static."
"""The sentence that captions use."""
SELF, CROSS = "self_reconstruction", "cross_identity"


@dataclass(frozen=True)
class Case:
    """One clip to generate: the driving window of `pair` drives, the first frame of `target` is the reference.

    `kind`: kind of the pair, or of the case in the paper's protocol. `fps`: frame rate of the window. `gap`: azimuth
    gap in degrees between the cameras of driver and target, None if unknown. `asked`: camera moves of the prompt that
    can be recognised in a video. `has_truth`: whether the target window is the expected output.
    """

    case_id: str
    kind: str
    pair: Pair
    target: Window
    prompt: str
    fps: Fraction
    gap: float | None
    asked: list[str]
    has_truth: bool = True

    @property
    def driver(self) -> Window:
        """Return the driving window, cropped to the size of the target, for viewing."""
        return Window(self.pair.driving_clip_id, self.pair.driving_frames, self.target.size)

    def facts(self) -> dict[str, Any]:
        """Return the JSON record of the case."""
        gap = None if self.gap is None else round(self.gap, 1)
        prompt = {"prompt": self.prompt, "camera_asked": self.asked, "has_truth": self.has_truth}
        return {"case": self.case_id, "kind": self.kind, "gap_degrees": gap, "gap": bucket(self.gap), **prompt}


def choose_cases(release: Release, config: EvaluationConfig) -> list[Case]:
    """Return the cases of an evaluation, in a stable order. Raises `ValueError` if there are none."""
    pairs = read_pairs(release, config.split)
    check_split(release.id, {config.split: len(pairs)}, config.split)
    known = Known(release)
    if config.protocol == "paper":
        return _paper_cases(pairs, known)[: config.limit]
    return window_cases(known, spread(pairs, config.limit))


def window_cases(known: Known, pairs: Sequence[Pair]) -> list[Case]:
    """Return the case of each pair: its driving window, and its target window as the expected output."""
    return [_case(known, pair) for pair in pairs]


def spread(pairs: Pairs, limit: int | None) -> list[Pair]:
    """Return at most `limit` pairs, balanced over kinds; a larger limit only appends to the result of a smaller one."""
    kinds = pairs.codes("kind")
    turns = np.zeros(len(kinds), np.int64)
    for kind in np.unique(kinds):
        turns[kinds == kind] = np.arange((kinds == kind).sum())  # ordered by id, a hash: an unbiased sample
    names = pc.rank(pairs.texts("kind")).to_numpy()[kinds]
    return pairs.take(np.lexsort((names, turns))[:limit])


def strangers(pairs: Sequence[Pair]) -> list[tuple[Pair, Pair]]:
    """Match each pair with the next pair, cyclically, of another person; empty if all are of one person."""
    matches = []
    for k, driver in enumerate(pairs):
        others = (pairs[(k + step) % len(pairs)] for step in range(1, len(pairs)))
        other = next((other for other in others if _person(other) != _person(driver)), None)
        if other is not None:
            matches.append((driver, other))
    return matches


def _person(pair: Pair) -> str:
    """Return the subject of a pair, or its capture if the subject is unknown."""
    return pair.subject or pair.capture_id


def _paper_cases(pairs: Pairs, known: Known) -> list[Case]:
    """Return cases for windows with a static camera: reconstruction from themselves, and motion of another person."""
    same_view = pairs.codes("kind") == pairs.texts("kind").index("same_view").as_py()
    still = list(islice((pair for pair in pairs.where(same_view) if known.is_still(pair)), PAPER_SELF))
    if not still:
        raise ValueError("the paper's protocol needs same_view pairs with a static camera: the split has none")
    reconstructed = [_case(known, pair, SELF, _static_prompt(known, pair)) for pair in still]
    crossed = [_cross_case(known, *two) for two in strangers(still)[:PAPER_CROSS]]
    return [case for both in zip_longest(reconstructed, crossed) for case in both if case]  # a limit keeps both kinds


def _case(known: Known, pair: Pair, kind: str | None = None, prompt: str | None = None) -> Case:
    """Return the case of a pair; `prompt`: another than the text of its target."""
    text = prompt or known.prompt(pair)
    asked = asked_moves(text)
    return Case(
        pair.pair_id, kind or pair.kind, pair, _target(known, pair), text, _fps(known, pair), known.gap(pair), asked
    )


def _cross_case(known: Known, driver: Pair, other: Pair) -> Case:
    """Return a case with the motion of `driver` and the person of `other`, which has no ground truth."""
    case_id, prompt = stable_id(CROSS, driver.pair_id, other.pair_id), _static_prompt(known, other)
    target, fps = _target(known, other), _fps(known, driver)
    return Case(case_id, CROSS, driver, target, prompt, fps, None, ["static"], has_truth=False)


def _target(known: Known, pair: Pair) -> Window:
    row = known.latents(pair.latent_id)
    return Window(pair.target_clip_id, target_frames(pair), (row["width"], row["height"]))


def _fps(known: Known, pair: Pair) -> Fraction:
    clip = known.clip(pair.driving_clip_id)
    return Fraction(clip["fps_num"], clip["fps_den"]) / pair.frame_step


def _static_prompt(known: Known, pair: Pair) -> str:
    """Return a prompt for a static camera and the content of the target clip."""
    return " ".join([STATIC, known.caption(pair)["content_sentence"] or ""]).strip()
