"""Typed requests of commands and deployments, and the pipeline stages that each of them consists of.

`dimo X` runs a request (`flows.run`); `dimo plan X` forecasts its stages (`forecasts.py`).
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from opendimo.dags.options import Kind
from opendimo.pipelines import sources
from opendimo.pipelines.captions import stage as captions
from opendimo.pipelines.captions.openai_server import OpenAIServer
from opendimo.pipelines.captions.qwen import QwenLocal
from opendimo.pipelines.clips import stage as clips
from opendimo.pipelines.clips.cut import ClipsConfig
from opendimo.pipelines.duplicates import stage as duplicates
from opendimo.pipelines.engine.planned import Planned
from opendimo.pipelines.engine.stage import Stage
from opendimo.pipelines.hands import stage as hands
from opendimo.pipelines.latents import stage as latents
from opendimo.pipelines.pairs import stage as pairs
from opendimo.pipelines.poses import stage as poses
from opendimo.pipelines.poses.imports import stage as imports
from opendimo.pipelines.quality.policy import Policy
from opendimo.pipelines.rigs import stage as rigs
from opendimo.pipelines.sources import SourcesConfig
from opendimo.storage_schemas.lake.lake import Lake


@dataclass(frozen=True)
class Step:
    """A stage of a request.

    `plan` returns all work of the stage for the current lake; `filtered` counts items excluded from it, by reason.
    """

    stage: Stage
    plan: Callable[[], Planned]
    filtered: Callable[[], dict[str, int]] = dict


@dataclass(frozen=True)
class Ingest:
    """Register the source items at `path`."""

    kind: Kind
    path: str
    options: SourcesConfig = field(default_factory=SourcesConfig)

    def steps(self, lake: Lake) -> list[Step]:
        """Return the stage `sources`."""
        stage = sources.SourcesStage(lake.uri, self.options)
        return [Step(stage, lambda: sources.plan(lake, stage, self.kind, self.path))]


@dataclass(frozen=True)
class Cut:
    """Cut source items into clips, detect duplicates, measure hands. `policy`: thresholds for the verdict on clips."""

    config: ClipsConfig = field(default_factory=ClipsConfig)
    policy: Policy = field(default_factory=Policy)

    def steps(self, lake: Lake) -> list[Step]:
        """Return the stages `clips`, `duplicates` and `hands`."""
        stage, deduplication = clips.ClipsStage(lake.uri, self.config), duplicates.DuplicatesStage(lake.uri)
        measuring = hands.HandsStage(lake.uri)

        def duplicate_sources() -> dict[str, int]:
            count = clips.duplicates(lake)
            return {"duplicate": count} if count else {}

        return [
            Step(stage, lambda: clips.plan(lake, stage), duplicate_sources),
            Step(deduplication, lambda: duplicates.plan(lake, deduplication)),
            Step(measuring, lambda: hands.plan(lake, measuring)),
        ]


@dataclass(frozen=True)
class Measure:
    """Measure time offset, reprojection residual and verdict for every camera of the rigs."""

    config: rigs.RigsConfig = field(default_factory=rigs.RigsConfig)

    def steps(self, lake: Lake) -> list[Step]:
        """Return the stage `rigs`."""
        stage = rigs.RigsStage(lake.uri, self.config)
        return [Step(stage, lambda: rigs.plan(lake, stage))]


@dataclass(frozen=True)
class Label:
    """Estimate body and hand poses for every clip that passes the policy."""

    config: poses.PosesConfig = field(default_factory=poses.PosesConfig)
    policy: Policy = field(default_factory=Policy)

    def steps(self, lake: Lake) -> list[Step]:
        """Return the stage `poses`."""
        stage = poses.PosesStage(lake.uri, self.config)
        return [Step(stage, lambda: poses.plan(lake, stage, self.policy))]


@dataclass(frozen=True)
class Import:
    """Label the clips of videos for which another program has estimated poses, from its results below `path`."""

    path: str
    config: imports.ImportConfig = field(default_factory=imports.ImportConfig)
    policy: Policy = field(default_factory=Policy)

    def steps(self, lake: Lake) -> list[Step]:
        """Return the stage `poses`."""
        stage = imports.ImportStage(lake.uri, self.config)
        planned, left = imports.plan(lake, stage, self.path, self.policy)
        return [Step(stage, lambda: planned, lambda: left)]


@dataclass(frozen=True)
class Caption:
    """Caption the camera motion, and with `vlm` also the content, of every clip that passes the policy."""

    vlm: QwenLocal | OpenAIServer | None = None
    policy: Policy = field(default_factory=Policy)

    def steps(self, lake: Lake) -> list[Step]:
        """Return the stage `captions`."""
        stage = captions.CaptionsStage(lake.uri, captions.CaptionsConfig(vlm=self.vlm))
        return [Step(stage, lambda: captions.plan(lake, stage, self.policy))]


@dataclass(frozen=True)
class Encode:
    """Encode target videos and texts for one base model, and build the training pairs."""

    config: latents.LatentsConfig
    policy: Policy = field(default_factory=Policy)

    def steps(self, lake: Lake) -> list[Step]:
        """Return the stages `latents` and `pairs`."""
        stage = latents.LatentsStage(lake.uri, self.config)
        pairing = pairs.PairsStage(
            lake.uri, pairs.PairsConfig(stage.vae, self.config.window, buckets=self.config.buckets)
        )
        return [
            Step(stage, lambda: latents.plan(lake, stage, self.policy)),
            Step(pairing, lambda: pairs.plan(lake, pairing, self.policy)),
        ]


Request = Ingest | Cut | Measure | Label | Import | Caption | Encode
