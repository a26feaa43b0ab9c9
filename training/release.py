"""What training reads: a pinned release, and from it the examples of one split."""

from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Row = dict[str, Any]


class Release(Protocol):
    """An opened release (`storage_schemas.releases.release.open_release`): it never changes under a run."""

    @property
    def id(self) -> str:
        """NAME@VERSION."""

    @property
    def sha256(self) -> str:
        """Hash of the set of pairs, of every pinned table version and of every file."""

    @property
    def manifest(self) -> dict[str, Any]:
        """What it holds, in numbers: `by_kind`, `by_licence` and so on."""

    def read(self, table: str, columns: list[str] | None = None, where: str | None = None) -> list[Row]:
        """Rows of a pinned table, without blobs; of `pairs`, those of the release."""

    def rows(self, table: str, keys: list[str], columns: list[str]) -> list[Row]:
        """Rows of a pinned table by primary key, in the order asked."""

    def blobs(self, table: str, column: str, keys: list[str]) -> list[bytes]:
        """Bytes of a blob column by primary key, in the order asked."""


@dataclass(frozen=True)
class Pair:
    """A row of `pairs`, as training uses it: frames are 0-based clip frames."""

    pair_id: str
    kind: str
    source_kind: str
    driving_clip_id: str
    driving_start: int
    target_clip_id: str
    target_start: int
    num_frames: int
    frame_step: int
    latent_id: str
    pose_id: str | None
    weight: float

    @property
    def driving_frames(self) -> NDArray[np.int64]:
        """Clip frames of the driving window, [T]."""
        return self.driving_start + self.frame_step * np.arange(self.num_frames)


def read_pairs(release: Release, split: str) -> list[Pair]:
    """The pairs of a split, by id. Raises `ValueError` where a pair would let the model copy its answer."""
    names = [field.name for field in fields(Pair)]
    rows = release.read("pairs", names, f"split = '{split}'")
    pairs = [Pair(**row) for row in sorted(rows, key=lambda row: row["pair_id"])]
    clips = release.read("clips", ["clip_id", "video_sha256"])
    content = {row["clip_id"]: row["video_sha256"] for row in clips}
    for pair in pairs:
        check_leak(pair, content)
    return pairs


def check_leak(pair: Pair, content: dict[str, str]) -> None:
    """Raise `ValueError` where a pair of two views shows one view twice, or one of one view shows two windows.

    `content` maps clip ids to the hash of their bytes: a copied file is a leak as well.
    """
    same = content[pair.driving_clip_id] == content[pair.target_clip_id]
    if pair.kind == "same_view":
        if not same or pair.driving_start != pair.target_start:
            raise ValueError(f"pair {pair.pair_id} is same_view but its driving and target windows differ")
    elif same:
        raise ValueError(
            f"leak: pair {pair.pair_id} is {pair.kind} but driving and target are the same video; "
            "the model could copy its answer. Make the pairs again"
        )
