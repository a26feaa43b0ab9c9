"""What training reads: a pinned release, and from it the examples of one split."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Protocol, Self, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
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

    def scan(self, table: str, columns: list[str] | None = None, where: str | None = None) -> pa.Table:
        """Rows of a pinned table in the order of its key, without blobs; of `pairs`, those of the release."""

    def read(self, table: str, columns: list[str] | None = None, where: str | None = None) -> list[Row]:
        """The same as dicts."""

    def rows(self, table: str, keys: list[str], columns: list[str]) -> list[Row]:
        """Rows of a pinned table by primary key, in the order asked."""

    def blobs(self, table: str, column: str, keys: list[str]) -> list[bytes]:
        """Bytes of a blob column by primary key, in the order asked."""


@dataclass(frozen=True)
class Pair:
    """A row of `pairs`, as training uses it: frames are 0-based clip frames. Both clips are of one capture."""

    pair_id: str
    kind: str
    source_kind: str
    capture_id: str
    subject: str | None
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


COLUMNS = [field.name for field in fields(Pair)]
REPEATED = ("kind", "source_kind", "capture_id", "subject", "driving_clip_id", "target_clip_id", "latent_id", "pose_id")
"""Columns of text in which many rows say the same: each text is kept once."""


class Pairs(Sequence[Pair]):
    """Pairs in columns, for millions of them: a row becomes a `Pair` where it is asked for."""

    def __init__(self, table: pa.Table) -> None:
        names = table.column_names
        columns = [table[n].dictionary_encode() if n in REPEATED else table[n] for n in names]
        self._table = pa.table(columns, names).unify_dictionaries().combine_chunks()

    @classmethod
    def of(cls, pairs: Iterable[Pair]) -> Self:
        """Of single ones."""
        numbers = {"driving_start", "target_start", "num_frames", "frame_step"}
        types = [pa.int64() if n in numbers else pa.float64() if n == "weight" else pa.string() for n in COLUMNS]
        schema = pa.schema(list(zip(COLUMNS, types, strict=True)))
        return cls(pa.Table.from_pylist([asdict(pair) for pair in pairs], schema=schema))

    def __len__(self) -> int:
        return int(self._table.num_rows)

    @overload
    def __getitem__(self, index: int) -> Pair: ...
    @overload
    def __getitem__(self, index: slice) -> list[Pair]: ...
    def __getitem__(self, index: int | slice) -> Pair | list[Pair]:
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        if not -len(self) <= index < len(self):
            raise IndexError(f"no pair {index} of {len(self)}")
        return self.take([index % len(self)])[0]

    def take(self, rows: Sequence[int] | NDArray[np.integer]) -> list[Pair]:
        """The pairs of these rows, in this order."""
        return [Pair(**row) for row in self._table.take(pa.array(rows, pa.int64())).to_pylist()]

    def where(self, chosen: NDArray[np.bool_]) -> "Pairs":
        """Those of them that are chosen, [N]."""
        plain = [
            column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
            for column in self._table.filter(pa.array(chosen)).columns
        ]
        return Pairs(pa.table(plain, self._table.column_names))

    def numbers(self, name: str) -> NDArray[Any]:
        """A column of numbers, [N]."""
        values: NDArray[Any] = self._table[name].to_numpy()
        return values

    def codes(self, name: str) -> NDArray[np.int32]:
        """A column of `REPEATED` texts as places in `texts`, [N]; -1 where there is none."""
        codes: NDArray[np.int32] = pc.fill_null(self._encoded(name).indices, -1).to_numpy(zero_copy_only=False)
        return codes

    def rows_of(self, pairs: Sequence[Pair]) -> NDArray[np.int64]:
        """Return the row of each of some pairs. Raises `KeyError` for a pair that is not among them."""
        wanted = pa.array([pair.pair_id for pair in pairs], pa.string())
        rows = pc.index_in(wanted, value_set=self._table["pair_id"].combine_chunks())
        if rows.null_count:
            raise KeyError(f"pair {wanted.filter(pc.is_null(rows))[0].as_py()} is not among these")
        return np.asarray(rows.to_numpy(zero_copy_only=False), np.int64)

    def texts(self, name: str) -> pa.Array:
        """The distinct texts of a column of `REPEATED`."""
        return self._encoded(name).dictionary

    def _encoded(self, name: str) -> pa.DictionaryArray:
        column = self._table[name]
        return column.chunk(0) if column.num_chunks else pa.array([], column.type)


def read_pairs(release: Release, split: str) -> Pairs:
    """The pairs of a split, by id. Raises `ValueError` where a pair would let the model copy its answer."""
    pairs = Pairs(release.scan("pairs", COLUMNS, f"split = '{split}'"))
    check_leaks(pairs, release.scan("clips", ["clip_id", "video_sha256"]))
    return pairs


def check_leaks(pairs: Pairs, clips: pa.Table) -> None:
    """Raise `ValueError` where a pair of two views shows one view twice, or one of one view shows two windows.

    `clips` has `clip_id` and `video_sha256`: a copied file is a leak as well.
    """
    content = pc.rank(clips["video_sha256"], tiebreaker="dense").to_numpy()
    driving, target = (_content(pairs, f"{side}_clip_id", clips["clip_id"], content) for side in ("driving", "target"))
    one_view = pairs.codes("kind") == pairs.texts("kind").index("same_view").as_py()
    same = driving == target
    elsewhere = one_view & ~(same & (pairs.numbers("driving_start") == pairs.numbers("target_start")))
    if elsewhere.any():
        pair = pairs[int(np.argmax(elsewhere))]
        raise ValueError(f"pair {pair.pair_id} is same_view but its driving and target windows differ")
    if (leaks := same & ~one_view).any():
        pair = pairs[int(np.argmax(leaks))]
        raise ValueError(
            f"leak: pair {pair.pair_id} is {pair.kind} but driving and target are the same video; "
            "the model could copy its answer. Make the pairs again"
        )


def _content(pairs: Pairs, side: str, clip_ids: pa.ChunkedArray, content: NDArray[Any]) -> NDArray[Any]:
    """A number for the bytes of the clip on one side of each pair, [N]. Raises `ValueError` for a clip that is missing
    in the release."""
    places = pc.index_in(pairs.texts(side), value_set=clip_ids)
    if places.null_count:
        missing = pairs.texts(side).filter(pc.is_null(places))[0]
        raise ValueError(f"a pair reads clip {missing}, which the release does not have: verify the release")
    known: NDArray[Any] = content[places.to_numpy()][pairs.codes(side)]
    return known
