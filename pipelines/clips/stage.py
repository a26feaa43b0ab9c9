"""The clips stage and its plan: cut each distinct source into clips."""

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from opendimo.pipelines.clips.cut import VERSION, ClipsConfig, clips_of
from opendimo.pipelines.clips.shots import Cuts, load_detector
from opendimo.pipelines.engine.columns import Column, distinct, json_lists, json_strings, last_of
from opendimo.pipelines.engine.device import gpus_for
from opendimo.pipelines.engine.planned import Planned
from opendimo.pipelines.engine.stage import DataError, Needs, Outcome, Work, run_each
from opendimo.pipelines.people.mediapipe_pose import WEIGHTS
from opendimo.storage_schemas.ids import sha256_file
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.lake.takedown import taken_down
from opendimo.storage_schemas.media.video import check_encoder
from opendimo.storage_schemas.rows import Row

if TYPE_CHECKING:
    from opendimo.pipelines.people.batches import AnyDetector

IDENTITY = ["content_sha256", "annotation_sha256", "capture_id", "view"]
"""Columns that identify a source regardless of its name: hashes of the video, and of its cameras and truth; capture;
view."""


class ClipsStage:
    """Cuts source items into rows of `clips`, one per window of a shot, and `clip_videos` if a person is visible."""

    name = "clips"
    version = VERSION
    needs = Needs(cpus=1.0, memory_gb=2.0, shard=4, timeout_s=4 * 3600)

    def __init__(self, lake_uri: str, config: ClipsConfig | None = None) -> None:
        self.lake_uri = lake_uri
        self.config = config or ClipsConfig()
        self._detector: AnyDetector | None = None
        self._cuts: Cuts | None = None
        if onnx := self.config.people.onnx:
            self.needs = replace(self.needs, gpus=gpus_for(onnx.device))

    @cached_property
    def weights(self) -> str:
        """Identity of the weights: MediaPipe's and, if used, those of the person and the shot detector in files.

        Raises `ValueError` if a file is missing.
        """
        onnx = self.config.people.onnx
        files = {"TransNetV2": self.config.shots.weights, "ONNX": onnx and onnx.path}
        missing = [f"no {name} weights at {path}" for name, path in files.items() if path and not Path(path).is_file()]
        if missing:
            raise ValueError("; ".join(missing))
        return ", ".join([WEIGHTS, *(f"{name} {sha256_file(Path(path))}" for name, path in files.items() if path)])

    def setup(self) -> None:
        """Load the models and check that the encoder works."""
        import cv2

        from opendimo.pipelines.people.batches import OnnxDetector
        from opendimo.pipelines.people.detector import Detector

        cv2.setNumThreads(1)  # a worker has one processor
        check_encoder(self.config.encoder)
        people = self.config.people
        detector = people.detector
        self._detector = OnnxDetector(people.onnx, detector.max_people) if people.onnx else Detector(detector)
        self._cuts = load_detector(self.config.shots)

    def run(self, batch: list[Work]) -> Outcome:
        """Cut the sources of `batch`."""
        lake = Lake(self.lake_uri, existing=True)
        return run_each(batch, lambda work: self._cut(lake, work.item_id))

    def _cut(self, lake: Lake, source_id: str) -> dict[str, list[Row]]:
        assert self._detector is not None, "call setup() first"
        sources = lake.read("sources", where=f"source_id = '{source_id}'")
        if not sources:
            raise DataError(f"source {source_id} is not in the lake")
        return clips_of(sources[0], self.config, self._detector, self._cuts, self.weights)


def plan(lake: Lake, stage: ClipsStage) -> Planned:
    """Plan one piece of work per distinct source that is not taken down.

    Of exact duplicates, only the one with the lowest `source_id` is cut.
    """
    sources = _available_sources(lake, ["name"])
    distinct_sources = last_of(sources, IDENTITY, lambda rows: [pc.rank(rows["source_id"], "descending")])

    def content(rows: pa.Table) -> Column:
        return json_lists(*(json_strings(rows[name]) for name in IDENTITY))

    def work(key: str, row: Row) -> Work:
        return Work(key, row["source_id"], row["name"])

    return Planned.rows(stage, distinct_sources, "source_id", content, work)


def duplicates(lake: Lake) -> int:
    """Count sources that are not cut because they are exact copies of another one.

    Copies have the same bytes, cameras, capture and view.
    """
    sources = _available_sources(lake, [])
    return int(sources.num_rows - distinct(sources, IDENTITY).num_rows)


def _available_sources(lake: Lake, columns: list[str]) -> pa.Table:
    """Return the sources that are not taken down: `source_id`, the `IDENTITY` columns and `columns`."""
    sources = lake.dataset("sources").to_table(columns=["source_id", *IDENTITY, *columns])
    return sources.filter(pc.invert(pc.is_in(sources["source_id"], value_set=taken_down(lake))))
