"""The catalog of all clips to compare at one table version: their metadata, rank, and an index of their hashes.

Memory: about 250 bytes per clip and 36 per hash.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from opendimo.pipelines.duplicates.search import HashIndex
from opendimo.pipelines.engine.columns import look_up
from opendimo.storage_schemas.lake.lake import Lake

Moment = tuple[int, int]
"""The table versions of `fingerprints` and `clips`."""
COLUMNS = [
    "clip_id", "source_id", "capture_id", "view", "start_frame", "end_frame", "frames", "fps_num", "fps_den",
    "source_width", "source_height", "video_sha256",
]  # fmt: skip


@dataclass(frozen=True)
class Catalog:
    """All clips with a fingerprint, identified by their row number.

    `clips` has `COLUMNS`, `picture_step` and `stream`, which is equal for clips of the same video packets with the same
    frames, and null if unknown.
    """

    clips: pa.Table
    index: HashIndex

    @classmethod
    def read(cls, lake: Lake, moment: Moment) -> "Catalog":
        """Read the clips with a fingerprint at the given table versions."""
        prints = lake.dataset("fingerprints", moment[0]).to_table(columns=["clip_id", "picture_step", "hashes"])
        clips = lake.dataset("clips", moment[1]).to_table(columns=COLUMNS)
        prints = prints.filter(pc.is_in(prints["clip_id"], value_set=clips["clip_id"])).combine_chunks()
        clips = clips.take(pc.index_in(prints["clip_id"], value_set=clips["clip_id"]))
        clips = clips.append_column("picture_step", prints["picture_step"])
        clips = clips.append_column("stream", _streams(lake, clips))
        lists = pa.chunked_array(prints["hashes"]).combine_chunks()
        owners = pc.list_parent_indices(lists).to_numpy().astype(np.int32)
        hashes = pc.list_flatten(lists).to_numpy().view(np.uint64)
        return cls(clips.combine_chunks(), HashIndex.of(hashes, owners))

    @cached_property
    def ranks(self) -> NDArray[np.int64]:
        """Rank of each clip; of two duplicates the one with the lower rank is kept.

        Clips are ordered by their source: more pixels first, then longer, then lower `source_id`. So all clips of one
        source have lower ranks than all of another, however they were cut.
        """
        pixels = pc.multiply(self.clips["source_width"], self.clips["source_height"])
        lengths = self.clips.group_by("source_id").aggregate([("end_frame", "max")])
        end = look_up(self.clips["source_id"], lengths, "source_id", "end_frame_max")
        seconds = pc.divide(pc.cast(pc.multiply(end, self.clips["fps_den"]), pa.float64()), self.clips["fps_num"])
        keys = {"pixels": pc.negate(pixels), "seconds": pc.negate(seconds)}
        keys |= {name: self.clips[name] for name in ("source_id", "clip_id")}
        order = pc.sort_indices(pa.table(keys), [(name, "ascending") for name in keys])
        ranks = np.empty(self.clips.num_rows, np.int64)
        ranks[order.to_numpy()] = np.arange(self.clips.num_rows)
        return ranks

    @cached_property
    def rows(self) -> dict[str, int]:
        """Row number by `clip_id`."""
        return {clip_id: row for row, clip_id in enumerate(self.clips["clip_id"].to_pylist())}

    def related(self, row: int) -> NDArray[np.bool_]:
        """Return a mask of the clips of the same source, and of other views of the same capture: these are no copies.

        Two lists can name spans of one video: these are different sources of one view, which may show the same frames.
        """
        other_view = self._equal("capture_id", row) & ~self._equal("view", row)
        return other_view | self._equal("source_id", row)

    def exact(self, row: int) -> NDArray[np.bool_]:
        """Return a mask of the clips with the same packets and frames, or the same encoded bytes."""
        return self._equal("stream", row) | self._equal("video_sha256", row)

    def _equal(self, column: str, row: int) -> NDArray[np.bool_]:
        codes = self._codes[column]
        return np.asarray((codes == codes[row]) & (codes[row] >= 0))

    @cached_property
    def _codes(self) -> dict[str, NDArray[np.int32]]:
        """Integer codes of the text columns: one per distinct value, -1 for null."""
        codes = {}
        for name in ("capture_id", "view", "source_id", "stream", "video_sha256"):
            encoded = pa.chunked_array(self.clips[name]).combine_chunks().dictionary_encode()
            codes[name] = pc.fill_null(encoded.indices, -1).to_numpy()
        return codes


def moment(lake: Lake) -> Moment:
    """Return the current table versions."""
    return lake.dataset("fingerprints").version, lake.dataset("clips").version


def _streams(lake: Lake, clips: pa.Table) -> pa.Array:
    sources = lake.dataset("sources").to_table(columns=["source_id", "stream_sha256"])
    stream = look_up(clips["source_id"], sources, "source_id", "stream_sha256")
    frames = (pc.cast(clips[name], pa.string()) for name in ("start_frame", "end_frame"))
    return pc.binary_join_element_wise(stream, *frames, " ")
