"""What an evaluation is asked for. Imports nothing heavy: the command line reads it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from opendimo.model.sampling import GUIDANCE, MOTION_GUIDANCE, STEPS

Protocol = Literal["cross_view", "paper"]
BASELINE, TRUTH = "copy_reference", "truth"
RESERVED = (BASELINE, TRUTH, "reference", "driver", "page")
"""Folders of an evaluation that no system may be called."""
PAPER_SELF, PAPER_CROSS = 100, 50
"""Clips of the paper's protocol: reconstructions of a clip from itself, and motion of one person for another."""


@dataclass(frozen=True)
class Weights:
    """Files of the metrics that need weights, "" where there are none: those metrics are then absent.

    `lpips`: torchvision's state dict of AlexNet or VGG-16. `inception`, `fvd`: TorchScript feature extractors.
    """

    lpips: str = ""
    inception: str = ""
    fvd: str = ""


@dataclass(frozen=True)
class EvaluationConfig:
    """Which clips are made, and how. `limit` of cases of a release, spread over the kinds of pairs; None: all."""

    protocol: Protocol = "cross_view"
    split: Literal["test", "train"] = "test"
    limit: int | None = None
    seed: int = 0
    steps: int = STEPS
    guidance: float = GUIDANCE
    motion_guidance: float = MOTION_GUIDANCE
    weights: Weights = field(default_factory=Weights)


def check_split(release: str, by_split: Mapping[str, int], split: str) -> None:
    """Raise `ValueError` where a release has no pairs in a split; `by_split` counts them."""
    if not by_split.get(split):
        raise ValueError(
            f"release {release} has no pairs in split {split!r}: with more captures some are held out; --split train "
            "looks at training pairs, which says nothing about new people"
        )


def named_folders(given: list[str], what: str, taken: Iterable[str] = ()) -> dict[str, Path]:
    """`NAME=FOLDER` or `FOLDER`, which is then called by its own name -> folders by name, in the order given.

    Raises `ValueError` for a name that is `taken` or cannot be one, and for a folder that is not there.
    """
    found: dict[str, Path] = {}
    for item in given:
        name, _, folder = item.partition("=") if "=" in item else (Path(item).resolve().name, "", item)
        check_name(name, {*taken, *found})
        if not Path(folder).is_dir():
            raise ValueError(f"{what} {name}: {folder} is no folder")
        found[name] = Path(folder)
    return found


def check_name(name: str, taken: set[str]) -> None:
    """Raise `ValueError` where a system cannot have a name: it is also a folder of the evaluation."""
    if name in taken:
        raise ValueError(f"two systems are called {name}: write NAME={name} for one of them")
    if name in RESERVED or not name or "/" in name or name.startswith("."):
        raise ValueError(f"a system cannot be called {name!r}: write another NAME=FOLDER")
