"""The sources stage: from what a user points at to rows of `sources` and `captures`."""

from pathlib import Path
from typing import Any

from opendimo.pipelines.engine.planned import Planned
from opendimo.pipelines.engine.stage import DataError, Needs, Outcome, Work, run_each
from opendimo.pipelines.sources import internet, multiview, unreal
from opendimo.pipelines.sources.config import SourcesConfig
from opendimo.pipelines.sources.items import NAME, VERSION, Row, Rows
from opendimo.storage_schemas.ids import stable_id
from opendimo.storage_schemas.lake.lake import Lake, local_folder

KINDS = ("internet", "unreal", "multiview")


def discover(kind: str, path: str | Path, options: SourcesConfig) -> list[Work]:
    """List what is at `path`: a piece of work per source item, in a fixed order. Nothing is decoded or downloaded.

    What is wrong with one item (no calibration, no video, a bad line) becomes work that the stage rejects, so that
    the rest goes on. Raises `DataError` where nothing at all can be listed and `ValueError` for an unknown `kind`.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown kind of source {kind!r}: use {', '.join(KINDS)}")
    root = Path(path).absolute()
    if not root.exists():
        raise DataError(f"no such file or folder: {root}")
    adapter: Any = {"internet": internet, "unreal": unreal, "multiview": multiview}[kind]
    works: list[Work] = adapter.discover(root, options)
    return sorted(works, key=lambda work: (work.name, work.key))


def plan(lake: Lake, stage: "SourcesStage", kind: str, path: str | Path) -> Planned:
    """All work of what is at `path`. Raises as `discover` does."""
    works = discover(kind, path, stage.config)
    return Planned.of(multiview.with_stored_views(lake, works) if kind == multiview.KIND else works)


def downloads_folder(lake_uri: str) -> Path:
    """Where downloads of a lake are kept unless the config says otherwise."""
    return local_folder(lake_uri) / "downloads"


class SourcesStage:
    """Probes, hashes and (for URLs) downloads each item, and converts its cameras and ground truth.

    A done item gives one `sources` row and the `captures` row of its take. Every view of a take writes the same
    captures row, under a work key of the capture's own; the committer keeps the first of a primary key.
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
        outcome = run_each(batch, lambda work: self._make(work, fetches))
        outcome.rows["fetches"] = fetches
        captures = {row["capture_id"]: row for row in reversed(outcome.rows["captures"])}
        outcome.rows["captures"] = [
            {**row, "work_key": stable_id("capture", capture_id)} for capture_id, row in sorted(captures.items())
        ]
        return outcome

    def _make(self, work: Work, fetches: list[Row]) -> Rows:
        """The rows of one item. What its download came to is added to `fetches`, also where it ends as a reject."""
        payload = work.payload
        if payload["problem"]:
            raise DataError(payload["problem"], reason=payload.get("reason"))
        match payload["kind"]:
            case "internet":
                attempts: list[Row] = []
                try:
                    return internet.rows(payload, self.config, self._cache(), attempts)
                finally:
                    fetches += [{**row, "work_key": work.key} for row in attempts]
            case "unreal":
                return unreal.rows(payload)
            case _:
                return multiview.rows(payload)

    def _cache(self) -> Path:
        return Path(self.config.cache or downloads_folder(self.lake_uri)).absolute()
