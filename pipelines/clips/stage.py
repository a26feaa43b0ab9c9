"""The stage that cuts source items into clips, and what there is to cut."""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from opendimo.pipelines.clips.cameras import Row
from opendimo.pipelines.clips.cut import VERSION, ClipsConfig, clips_of
from opendimo.pipelines.clips.shots import Cuts, load_detector
from opendimo.pipelines.engine.columns import Column, distinct, json_lists, json_strings, last_of
from opendimo.pipelines.engine.planned import Planned
from opendimo.pipelines.engine.stage import DataError, Needs, Outcome, Work, run_each
from opendimo.pipelines.people.mediapipe_pose import WEIGHTS
from opendimo.storage_schemas.ids import sha256_file
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.lake.takedown import taken_down
from opendimo.storage_schemas.media.video import check_encoder

if TYPE_CHECKING:
    from opendimo.pipelines.people.detector import Detector

IDENTITY = ["content_sha256", "annotation_sha256", "capture_id", "view"]
"""What a source is, whatever it is called: hashes of the video and of its cameras and truth, capture, view."""


class ClipsStage:
    """Cuts source items: rows of `clips`, one per span of a shot, and of `clip_videos` where there is a person."""

    name = "clips"
    version = VERSION
    needs = Needs(cpus=1.0, memory_gb=2.0, shard=4, seconds=4 * 3600)

    def __init__(self, lake_uri: str, config: ClipsConfig | None = None) -> None:
        self.lake_uri = lake_uri
        self.config = config or ClipsConfig()
        self._detector: Detector | None = None
        self._cuts: Cuts | None = None

    @cached_property
    def weights(self) -> str:
        """Identity of the models behind people and, where one is learned, behind shots."""
        path = self.config.shots.weights
        if path is None:
            return WEIGHTS
        if not Path(path).is_file():
            raise ValueError(f"no TransNetV2 weights at {path}")
        return f"{WEIGHTS}, TransNetV2 {sha256_file(Path(path))}"

    def setup(self) -> None:
        """Load the models, and see that the encoder works."""
        import cv2

        from opendimo.pipelines.people.detector import Detector

        cv2.setNumThreads(1)  # a worker has one processor
        check_encoder(self.config.encoder)
        self._detector = Detector(self.config.people.detector)
        self._cuts = load_detector(self.config.shots)

    def run(self, batch: list[Work]) -> Outcome:
        """Cut the sources of `batch`."""
        lake = Lake(self.lake_uri)
        return run_each(batch, lambda work: self._cut(lake, work.payload["source_id"]))

    def _cut(self, lake: Lake, source_id: str) -> dict[str, list[Row]]:
        assert self._detector is not None, "setup() comes first"
        found = lake.read("sources", where=f"source_id = '{source_id}'")
        if not found:
            raise DataError(f"the lake has no source {source_id}")
        return clips_of(found[0], self.config, self._detector, self._cuts, self.weights)


def plan(lake: Lake, stage: ClipsStage) -> Planned:
    """A piece of work per distinct source that is not taken down: of exact duplicates the lowest `source_id`."""
    sources = _living(lake, ["name"])
    first = last_of(sources, IDENTITY, lambda rows: [pc.rank(rows["source_id"], "descending")])

    def content(rows: pa.Table) -> Column:
        return json_lists(*(json_strings(rows[name]) for name in IDENTITY))

    def work(key: str, row: Row) -> Work:
        return Work(key, row["source_id"], row["name"], {"source_id": row["source_id"]})

    return Planned.rows(stage, stage.config.identity, first, "source_id", content, work)


def duplicates(lake: Lake) -> int:
    """How many sources are exact copies of another one (same bytes, cameras, capture and view), which is cut alone."""
    sources = _living(lake, [])
    return int(sources.num_rows - distinct(sources, IDENTITY).num_rows)


def _living(lake: Lake, columns: list[str]) -> pa.Table:
    """Sources that are not taken down: `source_id`, what identifies their content, and `columns`."""
    sources = lake.dataset("sources").to_table(columns=["source_id", *IDENTITY, *columns])
    return sources.filter(pc.invert(pc.is_in(sources["source_id"], value_set=taken_down(lake))))
