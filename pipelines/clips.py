"""The stage that cuts source items into clips, and what there is to cut."""

from collections import defaultdict
from typing import TYPE_CHECKING

from pipelines.clip_cameras import Row
from pipelines.cut import VERSION, ClipsConfig, clips_of
from pipelines.people.mediapipe_pose import WEIGHTS
from pipelines.stage import DataError, Needs, Outcome, Work, run_each
from storage_schemas.ids import work_key
from storage_schemas.lake import Lake

if TYPE_CHECKING:
    from pipelines.people.detector import Detector

Content = tuple[str, str, str, str]  # hashes of the video and of its cameras and truth, capture, view


class ClipsStage:
    """Cuts source items: rows of `clips`, one per span of a shot, and of `clip_videos` where there is a person."""

    name = "clips"
    version = VERSION
    weights = WEIGHTS
    needs = Needs(cpus=1.0, memory_gb=2.0)

    def __init__(self, lake_uri: str, config: ClipsConfig | None = None) -> None:
        self.lake_uri = lake_uri
        self.config = config or ClipsConfig()
        self._detector: Detector | None = None

    def setup(self) -> None:
        """Load the detector's models."""
        from pipelines.people.detector import Detector

        self._detector = Detector(self.config.people.detector)

    def run(self, batch: list[Work]) -> Outcome:
        """Cut the sources of `batch`."""
        lake = Lake(self.lake_uri)
        return run_each(batch, lambda work: self._cut(lake, work.payload["source_id"]))

    def _cut(self, lake: Lake, source_id: str) -> dict[str, list[Row]]:
        assert self._detector is not None, "setup() comes first"
        found = lake.read("sources", where=f"source_id = '{source_id}'")
        if not found:
            raise DataError(f"the lake has no source {source_id}")
        return clips_of(found[0], self.config, self._detector)


def plan(lake: Lake, stage: ClipsStage) -> list[Work]:
    """A piece of work per distinct source that is not taken down: of exact duplicates the lowest `source_id`."""
    works = []
    for content, sources in sorted(_by_content(lake).items()):
        key = work_key(content, stage.name, stage.version, stage.config, stage.weights)
        first = sources[0]
        works.append(Work(key, first["source_id"], first["name"], {"source_id": first["source_id"]}))
    return works


def duplicates(lake: Lake) -> dict[str, str]:
    """Sources that are exact copies (same bytes, capture and view), each with the source that is cut in its place."""
    return {s["source_id"]: first["source_id"] for first, *others in _by_content(lake).values() for s in others}


def _by_content(lake: Lake) -> dict[Content, list[Row]]:
    """Sources that are not taken down, by content, each group in order of `source_id`."""
    identity = ["content_sha256", "annotation_sha256", "capture_id", "view"]
    groups: dict[Content, list[Row]] = defaultdict(list)
    for source in lake.read("sources", ["source_id", "name", *identity], where="NOT tombstone"):
        sha256, annotation, capture, view = (source[name] for name in identity)
        groups[sha256, annotation, capture, view].append(source)  # in key order
    return dict(groups)
