"""Configuration of an evaluation. Imports no heavy modules, as the command line imports it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from opendimo.model.sampling import GUIDANCE, MOTION_GUIDANCE, STEPS

Protocol = Literal["cross_view", "paper"]
BASELINE, TRUTH = "copy_reference", "truth"
RESERVED = (BASELINE, TRUTH, "reference", "driver", "page")
"""Folder names of an evaluation that cannot be names of systems."""
PAPER_SELF, PAPER_CROSS = 100, 50
"""Clips in the paper's protocol: reconstructions of a clip from itself, and motion transfers between people."""


@dataclass(frozen=True)
class Weights:
    """Weight files of metrics; a metric whose file is "" is not measured.

    `lpips`: torchvision's state dict of AlexNet or VGG-16. `inception`, `fvd`: TorchScript feature extractors.
    """

    lpips: str = ""
    inception: str = ""
    fvd: str = ""


@dataclass(frozen=True)
class EvaluationConfig:
    """Cases and sampling settings of an evaluation; `limit`: maximum number of cases, balanced over kinds of pairs."""

    protocol: Protocol = "cross_view"
    split: Literal["test", "train"] = "test"
    limit: int | None = None
    seed: int = 0
    steps: int = STEPS
    guidance: float = GUIDANCE
    motion_guidance: float = MOTION_GUIDANCE
    weights: Weights = field(default_factory=Weights)


def check_split(release: str, by_split: Mapping[str, int], split: str) -> None:
    """Raise `ValueError` if a release has no pairs in `split`; `by_split`: number of pairs per split."""
    if not by_split.get(split):
        raise ValueError(
            f"release {release} has no pairs in split {split!r}: add captures, so that some are held out, or use "
            "--split train for training pairs, whose results do not generalise to new people"
        )


def named_folders(given: list[str], what: str, taken: Iterable[str] = ()) -> dict[str, Path]:
    """Parse `NAME=FOLDER` or `FOLDER`, whose name is its last part; return folders by name, in the given order.

    Raises `ValueError` for a name that is `taken` or invalid, and for a folder that does not exist.
    """
    folders: dict[str, Path] = {}
    for item in given:
        name, _, folder = item.partition("=") if "=" in item else (Path(item).resolve().name, "", item)
        check_name(name, {*taken, *folders})
        if not Path(folder).is_dir():
            raise ValueError(f"{what} {name}: {folder} is not a folder")
        folders[name] = Path(folder)
    return folders


def check_name(name: str, taken: set[str]) -> None:
    """Raise `ValueError` if a name is taken or invalid; the name is also a folder of the evaluation."""
    if name in taken:
        raise ValueError(f"two systems are named {name}: give one of them another name, NAME=FOLDER")
    if name in RESERVED or not name or "/" in name or name.startswith("."):
        raise ValueError(f"a system cannot be named {name!r}: give another name, NAME=FOLDER")
