"""The sources stage: turns a path given by the user into rows of `sources` and `captures`."""

from pathlib import Path

from opendimo.pipelines.engine.planned import Planned
from opendimo.pipelines.engine.stage import DataError, Needs, Outcome, Work, run_each
from opendimo.pipelines.sources import internet, known_renders, known_takes, known_videos, multiview, unreal
from opendimo.pipelines.sources.config import SourcesConfig
from opendimo.pipelines.sources.discovery import discover
from opendimo.pipelines.sources.items import NAME, VERSION, Rows, UnusableItem
from opendimo.storage_schemas.ids import stable_id
from opendimo.storage_schemas.lake.lake import Lake, local_folder
from opendimo.storage_schemas.rows import Row


def plan(lake: Lake, stage: "SourcesStage", kind: str, path: str | Path) -> Planned:
    """Plan all work for the items at `path`. Raises the errors of `discover`."""
    works = discover(kind, path, stage.config)
    if kind == multiview.KIND:
        works = known_takes.as_stored(lake, works)
    elif kind == internet.KIND:
        works = known_videos.as_stored(lake, works)
    elif kind == unreal.KIND:
        works = known_renders.as_stored(lake, works)
    return Planned.of(works)


def downloads_folder(lake_uri: str) -> Path:
    """Return the default download folder of a lake."""
    return local_folder(lake_uri) / "downloads"


class SourcesStage:
    """Stage that downloads (URLs only), probes and hashes each item and converts its cameras and ground truth.

    A completed item yields one `sources` row and the `captures` row of its take. Every view of a take writes the same
    captures row, with a work key derived from the capture; the committer keeps the first row of each primary key.
    """

    name = NAME
    version = VERSION
    weights = ""
    needs = Needs(cpus=1.0, memory_gb=1.0, shard=32)

    def __init__(self, lake_uri: str, config: SourcesConfig) -> None:
        self.lake_uri = lake_uri
        self.config = config

    def setup(self) -> None:
        """Nothing to load."""

    def run(self, batch: list[Work]) -> Outcome:
        fetches: list[Row] = []
        outcome = run_each(batch, lambda work: self._rows(work, fetches))
        outcome.rows["fetches"] = fetches
        captures = {row["capture_id"]: row for row in reversed(outcome.rows["captures"])}
        outcome.rows["captures"] = [
            {**row, "work_key": stable_id("capture", capture_id)} for capture_id, row in sorted(captures.items())
        ]
        return outcome

    def _rows(self, work: Work, fetches: list[Row]) -> Rows:
        """Return the rows of one item. Append its download attempts to `fetches`, even if the item is rejected."""
        match work.payload:
            case UnusableItem() as item:
                raise DataError(item.problem, reason=item.reason)
            case internet.ListedVideo() as item:
                attempts: list[Row] = []
                try:
                    return internet.rows(item, self.config, self._cache(), attempts)
                finally:
                    fetches += [{**row, "work_key": work.key} for row in attempts]
            case unreal.RenderedView() as item:
                return unreal.rows(item)
            case multiview.CalibratedView() as item:
                return multiview.rows(item)
            case item:
                raise TypeError(f"{work.name}: {type(item).__name__} is not a source item")

    def _cache(self) -> Path:
        return Path(self.config.cache or downloads_folder(self.lake_uri)).absolute()
