"""Which clips an evaluation makes: held-out pairs of a release, or what the paper's protocol makes of them."""

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
from opendimo.training.evaluation.known import Known, Window, target_frames
from opendimo.training.release import Pair, Pairs, Release, read_pairs

STATIC = "The camera is static."
"""As captions say it."""
SELF, CROSS = "self_reconstruction", "cross_identity"


@dataclass(frozen=True)
class Case:
    """One clip to be made: `pair` drives, the first frame of `target` is the reference.

    `kind`: of the pair, or of the paper's protocol. `gap`: degrees between the cameras of driver and target about
    gravity, None where unknown. `asked`: camera moves of the prompt that a picture can show. `has_truth`: the target
    window shows what should come out. `fps` of the window.
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
        """What drives, cut as the target is: to be looked at."""
        return Window(self.pair.driving_clip_id, self.pair.driving_frames, self.target.size)

    def facts(self) -> dict[str, Any]:
        """What is written down of it."""
        gap = None if self.gap is None else round(self.gap, 1)
        told = {"prompt": self.prompt, "camera_asked": self.asked, "has_truth": self.has_truth}
        return {"case": self.case_id, "kind": self.kind, "gap_degrees": gap, "gap": bucket(self.gap), **told}


def choose_cases(release: Release, config: EvaluationConfig) -> list[Case]:
    """The cases of an evaluation, in a stable order. Raises `ValueError` where there is none."""
    pairs = read_pairs(release, config.split)
    check_split(release.id, {config.split: len(pairs)}, config.split)
    known = Known(release)
    if config.protocol == "paper":
        return _paper_cases(pairs, known)[: config.limit]
    return [_case(known, pair) for pair in spread(pairs, config.limit)]


def spread(pairs: Pairs, limit: int | None) -> list[Pair]:
    """At most `limit` pairs, as equally many of each kind as there are, in an order that a larger limit continues."""
    kinds = pairs.codes("kind")
    turns = np.zeros(len(kinds), np.int64)
    for kind in np.unique(kinds):
        turns[kinds == kind] = np.arange((kinds == kind).sum())  # by id, which is a hash: a fair sample
    names = pc.rank(pairs.texts("kind")).to_numpy()[kinds]
    return pairs.take(np.lexsort((names, turns))[:limit])


def strangers(pairs: Sequence[Pair]) -> list[tuple[Pair, Pair]]:
    """Each pair with the next one, going round, of another person; none where all are of one."""
    found = []
    for k, driver in enumerate(pairs):
        others = (pairs[(k + step) % len(pairs)] for step in range(1, len(pairs)))
        other = next((other for other in others if _person(other) != _person(driver)), None)
        if other is not None:
            found.append((driver, other))
    return found


def _person(pair: Pair) -> str:
    """Who is seen: the subject, or of an unknown one the performance."""
    return pair.subject or pair.capture_id


def _paper_cases(pairs: Pairs, known: Known) -> list[Case]:
    """Windows of a still camera, made from themselves, and then driven by other people."""
    own_view = pairs.codes("kind") == pairs.texts("kind").index("same_view").as_py()
    still = list(islice((pair for pair in pairs.where(own_view) if known.is_still(pair)), PAPER_SELF))
    if not still:
        raise ValueError("the paper's protocol needs same_view pairs whose camera is static: there is none")
    own = [_case(known, pair, SELF, _static_prompt(known, pair)) for pair in still]
    crossed = [_crossed(known, *two) for two in strangers(still)[:PAPER_CROSS]]
    return [case for both in zip_longest(own, crossed) for case in both if case]  # so that a limit leaves both kinds


def _case(known: Known, pair: Pair, kind: str | None = None, prompt: str | None = None) -> Case:
    """A pair as it is, or with a prompt for a static camera."""
    asked = known.asked(pair) if prompt is None else ["static"]
    text = prompt or known.latents(pair.latent_id)["text"]
    return Case(
        pair.pair_id, kind or pair.kind, pair, _target(known, pair), text, _fps(known, pair), known.gap(pair), asked
    )


def _crossed(known: Known, driver: Pair, other: Pair) -> Case:
    """The motion of one pair for the person of another: there is no truth."""
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
    """That the camera is static, and what is seen."""
    return " ".join([STATIC, known.caption(pair)["content_sentence"] or ""]).strip()
