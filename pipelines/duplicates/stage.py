"""The stage that compares every clip with all others.

A piece of work is one clip: it is compared with all clips that are in the lake when the work is planned. Of two clips
the one that came later has therefore seen the other, so every pair is looked at, once or twice, and nothing that was
found is touched again when more clips come. What is stored is evidence; which clips are left out is a query over it
(`pipelines/quality/repeats.py`).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from opendimo.pipelines.duplicates.align import Evidence, same_footage
from opendimo.pipelines.duplicates.catalog import Catalog, Moment, moment
from opendimo.pipelines.duplicates.fingerprint import pictures_of, searched_hashes
from opendimo.pipelines.duplicates.pictures import MIRROR, Hashes
from opendimo.pipelines.engine.columns import Column, json_lists, json_strings
from opendimo.pipelines.engine.planned import Planned
from opendimo.pipelines.engine.stage import DataError, Needs, Outcome, Work, run_each
from opendimo.storage_schemas.ids import stable_id
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.lake.takedown import taken_down

Row = dict[str, Any]
WHOLE = 0.9  # share of a clip that makes it a copy, not a part


@dataclass(frozen=True)
class DuplicatesConfig:
    """How many clips, the likeliest by their hashes, a clip is held against, and the least similarity that is worth
    storing (what counts is the policy's to say)."""

    candidates: int = 64
    min_similarity: float = 0.7


class DuplicatesStage:
    """Writes `duplicates`: a row per clip with the same footage, or one that says that there is none."""

    name = "duplicates"
    version = "1"
    weights = ""
    needs = Needs(cpus=1.0, memory_gb=2.0)

    def __init__(self, lake_uri: str, config: DuplicatesConfig | None = None) -> None:
        self.lake_uri = lake_uri
        self.config = config or DuplicatesConfig()
        self._read: tuple[Moment, Lake, Catalog] | None = None

    def setup(self) -> None:
        """Nothing to load: what is compared depends on the work."""

    def run(self, batch: list[Work]) -> Outcome:
        """Compare the clips of `batch`."""
        return run_each(batch, self._compare)

    def _compare(self, work: Work) -> dict[str, list[Row]]:
        lake, catalog = self._at(tuple(work.payload["moment"]))
        clip_id = work.item_id
        if clip_id not in catalog.rows:
            raise DataError(f"clip {clip_id} has no fingerprint")
        rows = _Comparison(lake, catalog, self.config, catalog.rows[clip_id]).rows()
        rows = rows or [{"clip_id": clip_id, "other_clip_id": None}]  # that there is none is an answer, too
        ids = [stable_id("duplicate", work.key, row["other_clip_id"]) for row in rows]
        return {"duplicates": [{"duplicate_id": made, **row} for made, row in zip(ids, rows, strict=True)]}

    def _at(self, when: Moment) -> tuple[Lake, Catalog]:
        if self._read is None or self._read[0] != when:
            self._read = None  # the old one makes room first
            lake = Lake(self.lake_uri)
            self._read = when, lake, Catalog.read(lake, when)
        return self._read[1:]


def plan(lake: Lake, stage: DuplicatesStage) -> Planned:
    """A piece of work per clip that has a fingerprint and is of no source that was taken down."""
    clips = lake.dataset("clips").to_table(columns=["clip_id", "source_id", "name"])
    fit = pc.is_in(clips["clip_id"], value_set=lake.column("fingerprints", "clip_id"))
    clips = clips.filter(pc.and_not(fit, pc.is_in(clips["source_id"], value_set=taken_down(lake))))
    now = moment(lake)

    def work(key: str, row: Row) -> Work:
        return Work(key, row["clip_id"], row["name"], {"moment": now})

    def content(rows: pa.Table) -> Column:
        return json_lists(json_strings(rows["clip_id"]))

    return Planned.rows(stage, stage.config, clips, "clip_id", content, work)


class _Comparison:
    """One clip, by its row in a catalog, against all others."""

    def __init__(self, lake: Lake, catalog: Catalog, config: DuplicatesConfig, row: int) -> None:
        self.lake, self.catalog, self.config, self.row = lake, catalog, config, row
        self.strangers = ~catalog.related(row)
        self.clips = self._read([row])

    def rows(self) -> list[Row]:
        """A row per clip with the same footage, in order of `clip_id`."""
        exact = [int(k) for k in np.flatnonzero(self.catalog.exact(self.row) & self.strangers)]
        hashes = searched_hashes(self.clips[self.row]["pictures"])
        like = {mirrored: self._candidates(hashes ^ MIRROR if mirrored else hashes) for mirrored in (False, True)}
        self.clips |= self._read(sorted({*exact, *like[False], *like[True]}))
        found = [self._made(other, None, False) for other in exact]
        for mirrored, candidates in like.items():
            for other in candidates:
                if other not in exact and (evidence := self._evidence(other, mirrored)):
                    found.append(self._made(other, evidence, mirrored))
        best: dict[str, Row] = {}  # a symmetric picture is found both ways
        for made in sorted(found, key=lambda made: (made["similarity"], not made["mirrored"])):
            best[made["other_clip_id"]] = made
        return [best[other] for other in sorted(best)]

    def _candidates(self, wanted: Hashes) -> list[int]:
        """The likeliest clips; of equal ones those that are kept first."""
        found, votes = self.catalog.index.near(wanted)
        fit = self.strangers[found]
        found, votes = found[fit], votes[fit]
        order = np.lexsort([self.catalog.ranks[found], -votes])
        return [int(k) for k in found[order[: self.config.candidates]]]

    def _evidence(self, other: int, mirrored: bool) -> Evidence | None:
        worse, better = self._in_order(other)
        pictures = worse["pictures"][:, :, ::-1] if mirrored else worse["pictures"]
        evidence = same_footage(pictures, _step(worse), better["pictures"], _step(better))
        return evidence if evidence and evidence.similarity >= self.config.min_similarity else None

    def _made(self, other: int, evidence: Evidence | None, mirrored: bool) -> Row:
        """The row about another clip; no evidence is needed where the bytes are the same."""
        worse, better = self._in_order(other)
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

    def _in_order(self, other: int) -> tuple[Row, Row]:
        """The clip that is not kept, and the one that is: so both give the same evidence, whoever asks."""
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
    """Seconds from one picture to the next."""
    return float(clip["picture_step"]) / _fps(clip)
