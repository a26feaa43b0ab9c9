"""Read access to a pinned release, and its pairs of one split."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Protocol, Self, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from opendimo.storage_schemas.rows import Row


class Release(Protocol):
    """An opened, immutable release (`storage_schemas.releases.release.open_release`)."""

    @property
    def id(self) -> str:
        """Identifier, NAME@VERSION."""

    @property
    def sha256(self) -> str:
        """Hash over the set of pairs, every pinned table version and every file."""

    @property
    def manifest(self) -> dict[str, Any]:
        """Statistics of its content: `by_kind`, `by_licence` and so on."""

    def scan(self, table: str, columns: list[str] | None = None, where: str | None = None) -> pa.Table:
        """Return rows of a pinned table ordered by key, without blobs; of `pairs`, only those of the release."""

    def read(self, table: str, columns: list[str] | None = None, where: str | None = None) -> list[Row]:
        """Return the rows of `scan` as dicts."""

    def rows(self, table: str, keys: list[str], columns: list[str]) -> list[Row]:
        """Return rows of a pinned table by primary key, in the order of `keys`."""

    def blobs(self, table: str, column: str, keys: list[str]) -> list[bytes]:
        """Return bytes of a blob column by primary key, in the order of `keys`."""


@dataclass(frozen=True)
class Pair:
    """Columns of a row of `pairs` that training uses. Frames are 0-based clip frames; both clips are of one capture.

    `bucket`: shape of the target, as WIDTHxHEIGHTxFRAMES; a batch is of one bucket.
    """

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
    bucket: str = ""

    @property
    def driving_frames(self) -> NDArray[np.int64]:
        """Return the clip frames of the driving window, [T]."""
        return self.driving_start + self.frame_step * np.arange(self.num_frames)

    @property
    def target_frames(self) -> NDArray[np.int64]:
        """Return the clip frames of the target window, [T]."""
        return self.target_start + self.frame_step * np.arange(self.num_frames)


FIELDS = [field.name for field in fields(Pair)]
COLUMNS = [name for name in FIELDS if name != "bucket"]
"""Columns of the table `pairs` that are read."""
REPEATED = (
    *("kind", "source_kind", "bucket", "capture_id", "subject"),
    *("driving_clip_id", "target_clip_id", "latent_id", "pose_id"),
)
"""Text columns with many repeated values, stored dictionary-encoded."""


class Pairs(Sequence[Pair]):
    """A sequence of pairs in columnar storage, for millions of them; a row becomes a `Pair` on access."""

    def __init__(self, table: pa.Table) -> None:
        names = table.column_names
        columns = [table[n].dictionary_encode() if n in REPEATED else table[n] for n in names]
        self._table = pa.table(columns, names).unify_dictionaries().combine_chunks()

    @classmethod
    def of(cls, pairs: Iterable[Pair]) -> Self:
        """Build from `Pair` objects."""
        numbers = {"driving_start", "target_start", "num_frames", "frame_step"}
        types = [pa.int64() if n in numbers else pa.float64() if n == "weight" else pa.string() for n in FIELDS]
        schema = pa.schema(list(zip(FIELDS, types, strict=True)))
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
            raise IndexError(f"pair index {index} is out of range for {len(self)} pairs")
        return self.take([index % len(self)])[0]

    def take(self, rows: Sequence[int] | NDArray[np.integer]) -> list[Pair]:
        """Return the pairs at `rows`, in this order."""
        return [Pair(**row) for row in self._table.take(pa.array(rows, pa.int64())).to_pylist()]

    def where(self, chosen: NDArray[np.bool_]) -> "Pairs":
        """Return the pairs selected by the mask `chosen` [N]."""
        plain = [
            column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
            for column in self._table.filter(pa.array(chosen)).columns
        ]
        return Pairs(pa.table(plain, self._table.column_names))

    def numbers(self, name: str) -> NDArray[Any]:
        """Return a numeric column, [N]."""
        values: NDArray[Any] = self._table[name].to_numpy()
        return values

    def codes(self, name: str) -> NDArray[np.int32]:
        """Return a column of `REPEATED` as indices into `texts`, [N]; -1 for null."""
        codes: NDArray[np.int32] = pc.fill_null(self._encoded(name).indices, -1).to_numpy(zero_copy_only=False)
        return codes

    def rows_of(self, pairs: Sequence[Pair]) -> NDArray[np.int64]:
        """Return the row of each of `pairs`. Raises `KeyError` for an unknown pair."""
        ids = pa.array([pair.pair_id for pair in pairs], pa.string())
        rows = pc.index_in(ids, value_set=self._table["pair_id"].combine_chunks())
        if rows.null_count:
            raise KeyError(f"pair {ids.filter(pc.is_null(rows))[0].as_py()} is not one of these {len(self)} pairs")
        return np.asarray(rows.to_numpy(zero_copy_only=False), np.int64)

    def texts(self, name: str) -> pa.Array:
        """Return the distinct values of a column of `REPEATED`."""
        return self._encoded(name).dictionary

    def _encoded(self, name: str) -> pa.DictionaryArray:
        column = self._table[name]
        return column.chunk(0) if column.num_chunks else pa.array([], column.type)


def read_pairs(release: Release, split: str) -> Pairs:
    """Return the pairs of a split, ordered by id. Raises the `ValueError` of `check_leaks`."""
    table = release.scan("pairs", COLUMNS, f"split = '{split}'")
    pairs = Pairs(table.append_column("bucket", _buckets(release, table)))
    check_leaks(pairs, release.scan("clips", ["clip_id", "video_sha256"]))
    return pairs


def chunks(pairs: Sequence[Pair], size: int) -> Iterator[list[int]]:
    """Yield the indices of pairs in chunks of at most `size` of one bucket, which make a batch; in order, by bucket."""
    by_bucket: dict[str, list[int]] = {}
    for index, pair in enumerate(pairs):
        by_bucket.setdefault(pair.bucket, []).append(index)
    for indices in by_bucket.values():
        yield from (indices[start : start + size] for start in range(0, len(indices), size))


def _buckets(release: Release, pairs: pa.Table) -> pa.ChunkedArray:
    """Return the bucket of each pair, from the size of its latents; "" where the release has none."""
    latents = release.scan("latents", ["latent_id", "width", "height"])
    rows = pc.index_in(pairs["latent_id"], value_set=latents["latent_id"].combine_chunks())
    sizes = [latents[name].combine_chunks().take(rows.combine_chunks()) for name in ("width", "height")]
    parts = [column.cast(pa.string()) for column in (*sizes, pairs["num_frames"].combine_chunks())]
    return pa.chunked_array([pc.fill_null(pc.binary_join_element_wise(*parts, "x"), "")])


def check_leaks(pairs: Pairs, clips: pa.Table) -> None:
    """Raise `ValueError` if a pair leaks its target: the model could then copy the driving frames.

    Driving and target clip of a pair of two views must differ, also in their bytes: a copied file is a leak as well.
    Driving and target window of a `same_view` pair must be equal. `clips` has `clip_id` and `video_sha256`.
    """
    content = pc.rank(clips["video_sha256"], tiebreaker="dense").to_numpy()
    driving, target = (_content(pairs, f"{side}_clip_id", clips["clip_id"], content) for side in ("driving", "target"))
    one_view = pairs.codes("kind") == pairs.texts("kind").index("same_view").as_py()
    same = driving == target
    mismatched = one_view & ~(same & (pairs.numbers("driving_start") == pairs.numbers("target_start")))
    if mismatched.any():
        pair = pairs[int(np.argmax(mismatched))]
        raise ValueError(
            f"pair {pair.pair_id} is same_view but its driving and target windows differ: rebuild the pairs"
        )
    if (leaks := same & ~one_view).any():
        pair = pairs[int(np.argmax(leaks))]
        raise ValueError(
            f"leak: pair {pair.pair_id} is {pair.kind} but driving and target are the same video; "
            "the model could copy its input. Rebuild the pairs"
        )


def _content(pairs: Pairs, side: str, clip_ids: pa.ChunkedArray, content: NDArray[Any]) -> NDArray[Any]:
    """Return, for the clip on one side of each pair, its code in `content`, which is equal for equal files, [N].

    Raises `ValueError` for a clip that the release lacks.
    """
    clip_rows = pc.index_in(pairs.texts(side), value_set=clip_ids)
    if clip_rows.null_count:
        missing = pairs.texts(side).filter(pc.is_null(clip_rows))[0]
        raise ValueError(f"a pair reads clip {missing}, which the release does not have: verify the release")
    codes: NDArray[Any] = content[clip_rows.to_numpy()][pairs.codes(side)]
    return codes
