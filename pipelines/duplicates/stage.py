"""The duplicates stage: compare every clip with all others.

A piece of work is one clip, which is compared with all clips in the lake at planning time. The later of two clips is
compared with the earlier one, so every pair is compared once or twice, and stored results do not change when clips are
added. The stage stores evidence only; which clips are filtered is a query over it (`pipelines/quality/repeats.py`).
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from opendimo.pipelines.duplicates.align import Evidence, same_footage
from opendimo.pipelines.duplicates.catalog import Catalog, Moment, moment
from opendimo.pipelines.duplicates.crops import cropped_footage, curve_hashes, window_hashes
from opendimo.pipelines.duplicates.fingerprint import pictures_of, searched_hashes
from opendimo.pipelines.duplicates.pictures import MIRROR, Hashes
from opendimo.pipelines.engine.columns import Column, json_lists, json_strings
from opendimo.pipelines.engine.planned import Planned
from opendimo.pipelines.engine.stage import DataError, Needs, Outcome, Work, run_each
from opendimo.storage_schemas.ids import stable_id
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.lake.takedown import taken_down
from opendimo.storage_schemas.rows import Row

WHOLE = 0.9  # least share of a clip for kind `copy`; below it is a `part`


@dataclass(frozen=True)
class DuplicatesConfig:
    """Limits of the comparison.

    `candidates`: number of clips, the most similar by hashes, that a clip is aligned with. `min_similarity`: least
    similarity that is stored; the policy decides what is a duplicate. `min_crop_similarity`: the same for crops.
    """

    candidates: int = 64
    min_similarity: float = 0.7
    min_crop_similarity: float = 0.85


@dataclass(frozen=True)
class ClipToCompare:
    """Payload: the state of the lake at planning; clips that are added later are not compared."""

    moment: Moment


class DuplicatesStage:
    """Writes `duplicates`: one row per other clip with the same footage, or a single row with null if there is none."""

    name = "duplicates"
    version = "2"
    weights = ""
    needs = Needs(cpus=1.0, memory_gb=2.0)

    def __init__(self, lake_uri: str, config: DuplicatesConfig | None = None) -> None:
        self.lake_uri = lake_uri
        self.config = config or DuplicatesConfig()
        self._read: tuple[Moment, Lake, Catalog] | None = None

    def setup(self) -> None:
        """Load nothing: the catalog depends on the work."""

    def run(self, batch: list[Work]) -> Outcome:
        """Compare the clips of `batch`."""
        return run_each(batch, self._compare)

    def _compare(self, work: Work) -> dict[str, list[Row]]:
        lake, catalog = self._catalog_at(work.payload.moment)
        clip_id = work.item_id
        if clip_id not in catalog.rows:
            raise DataError(f"no fingerprint of clip {clip_id} in the lake")
        rows = _Comparison(lake, catalog, self.config, catalog.rows[clip_id]).rows()
        rows = rows or [{"clip_id": clip_id, "other_clip_id": None}]  # "no duplicate" is stored as well
        ids = [stable_id("duplicate", work.key, row["other_clip_id"]) for row in rows]
        return {
            "duplicates": [{"duplicate_id": duplicate_id, **row} for duplicate_id, row in zip(ids, rows, strict=True)]
        }

    def _catalog_at(self, when: Moment) -> tuple[Lake, Catalog]:
        if self._read is None or self._read[0] != when:
            self._read = None  # free the old catalog first
            lake = Lake(self.lake_uri, existing=True)
            self._read = when, lake, Catalog.read(lake, when)
        return self._read[1:]


def plan(lake: Lake, stage: DuplicatesStage) -> Planned:
    """Plan one piece of work per clip that has a fingerprint and whose source was not taken down."""
    clips = lake.dataset("clips").to_table(columns=["clip_id", "source_id", "name"])
    has_fingerprint = pc.is_in(clips["clip_id"], value_set=lake.column("fingerprints", "clip_id"))
    clips = clips.filter(pc.and_not(has_fingerprint, pc.is_in(clips["source_id"], value_set=taken_down(lake))))
    now = moment(lake)

    def work(key: str, row: Row) -> Work:
        return Work(key, row["clip_id"], row["name"], ClipToCompare(now))

    def content(rows: pa.Table) -> Column:
        return json_lists(json_strings(rows["clip_id"]))

    return Planned.rows(stage, clips, "clip_id", content, work)


class _Comparison:
    """Compares one clip, given by its row in the catalog, with all others."""

    def __init__(self, lake: Lake, catalog: Catalog, config: DuplicatesConfig, row: int) -> None:
        self.lake, self.catalog, self.config, self.row = lake, catalog, config, row
        self.unrelated = ~catalog.related(row)
        self.clips = self._read([row])

    def rows(self) -> list[Row]:
        """Return a row per clip with the same footage, sorted by its `clip_id`."""
        exact = [int(k) for k in np.flatnonzero(self.catalog.exact(self.row) & self.unrelated)]
        hashes = searched_hashes(self.clips[self.row]["pictures"])
        like = {mirrored: self._candidates(hashes ^ MIRROR if mirrored else hashes) for mirrored in (False, True)}
        partly = self._maybe_crops()
        self.clips |= self._read(sorted({*exact, *like[False], *like[True], *partly}))
        matches = [self._duplicate_row(other, None, False) for other in exact]
        for mirrored, candidates in like.items():
            for other in candidates:
                if other not in exact and (evidence := self._evidence(other, mirrored)):
                    matches.append(self._duplicate_row(other, evidence, mirrored))
        whole = {match["other_clip_id"] for match in matches}
        for other in partly:
            if self.clips[other]["clip_id"] not in whole and (crop := self._crop(other)):
                matches.append(crop)
        best: dict[str, Row] = {}  # a symmetric picture matches mirrored and not mirrored
        for match in sorted(matches, key=lambda match: (match["similarity"], not match["mirrored"])):
            best[match["other_clip_id"]] = match
        return [best[other] for other in sorted(best)]

    def _candidates(self, wanted: Hashes) -> list[int]:
        """Return the most similar clips by hashes; ties are broken by rank."""
        clips, votes = self.catalog.index.near(wanted)
        unrelated = self.unrelated[clips]
        clips, votes = clips[unrelated], votes[unrelated]
        order = np.lexsort([self.catalog.ranks[clips], -votes])
        return [int(k) for k in clips[order[: self.config.candidates]]]

    def _evidence(self, other: int, mirrored: bool) -> Evidence | None:
        worse, better = self._worse_and_better(other)
        pictures = worse["pictures"][:, :, ::-1] if mirrored else worse["pictures"]
        evidence = same_footage(pictures, _step(worse), better["pictures"], _step(better))
        return evidence if evidence and evidence.similarity >= self.config.min_similarity else None

    def _maybe_crops(self) -> list[int]:
        """Return the clips that may show a part of this one's pictures, or inversely."""
        pictures = self.clips[self.row]["pictures"]
        windows = window_hashes(pictures, max(1, round(0.5 / _step(self.clips[self.row]))))
        queries = (curve_hashes(pictures), windows, windows ^ MIRROR)
        return sorted({row for query in queries for row in self._candidates(query)})

    def _crop(self, other: int) -> Row | None:
        """Return the row for another clip that shows a part of this one's pictures, or inversely."""
        worse, better = self._worse_and_better(other)
        found = [
            (evidence, mirrored)
            for mirrored, pictures in ((False, worse["pictures"]), (True, worse["pictures"][:, :, ::-1]))
            if (evidence := cropped_footage(pictures, _step(worse), better["pictures"], _step(better)))
        ]
        evidence, mirrored = max(found, key=lambda one: one[0].similarity, default=(None, False))
        if evidence is None or evidence.similarity < self.config.min_crop_similarity:
            return None
        return self._duplicate_row(other, evidence, mirrored) | {"kind": "crop"}

    def _duplicate_row(self, other: int, evidence: Evidence | None, mirrored: bool) -> Row:
        """Return the row for another clip. `evidence` is None if both have the same packets or bytes."""
        worse, better = self._worse_and_better(other)
        frames = worse["frames"]
        start, end, offset = 0, frames, 0
        if evidence:
            start, end = (min(frames, round(at * _fps(worse))) for at in (evidence.start, evidence.end))
            offset = round(evidence.offset * _fps(better))
        share = (end - start) / frames
        return {
            "clip_id": self.clips[self.row]["clip_id"],
            "other_clip_id": self.clips[other]["clip_id"],
            "representative_id": better["clip_id"],
            "kind": "stream" if evidence is None else "copy" if share >= WHOLE else "part",
            "mirrored": mirrored,
            "offset_frames": offset,
            "start_frame": start,
            "end_frame": end,
            "share": share,
            "similarity": evidence.similarity if evidence else 1.0,
            "distance": evidence.distance if evidence else 0.0,
        }

    def _worse_and_better(self, other: int) -> tuple[Row, Row]:
        """Return the two clips, the one that is not kept first, so that both directions give the same evidence."""
        ours, theirs = self.clips[self.row], self.clips[other]
        return (ours, theirs) if self.catalog.ranks[other] < self.catalog.ranks[self.row] else (theirs, ours)

    def _read(self, rows: list[int]) -> dict[int, Row]:
        clips = self.catalog.clips.take(pa.array(rows, pa.int64())).to_pylist()
        stored = self.lake.blobs("fingerprints", "pictures", [clip["clip_id"] for clip in clips])
        pictures = (pictures_of(data) for data in stored)
        return {row: {**clip, "pictures": p} for row, clip, p in zip(rows, clips, pictures, strict=True)}


def _fps(clip: Row) -> float:
    return float(clip["fps_num"] / clip["fps_den"])


def _step(clip: Row) -> float:
    """Return the seconds from one picture to the next."""
    return float(clip["picture_step"]) / _fps(clip)
