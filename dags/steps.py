"""What each flow consists of: its stages, and how their work is found. Flows run them, `dimo plan` looks at them.

The functions have the names and arguments of the flows.
"""

from collections.abc import Callable
from dataclasses import dataclass

from opendimo.pipelines import sources
from opendimo.pipelines.captions import stage as captions
from opendimo.pipelines.captions.openai_server import OpenAIServer
from opendimo.pipelines.captions.qwen import QwenLocal
from opendimo.pipelines.clips import stage as clips
from opendimo.pipelines.clips.cut import ClipsConfig
from opendimo.pipelines.duplicates import stage as duplicates
from opendimo.pipelines.engine.planned import Planned
from opendimo.pipelines.engine.stage import Stage
from opendimo.pipelines.latents import stage as latents
from opendimo.pipelines.pairs import stage as pairs
from opendimo.pipelines.poses import stage as poses
from opendimo.pipelines.quality.policy import Policy
from opendimo.pipelines.rigs import stage as rigs
from opendimo.pipelines.sources import SourcesConfig
from opendimo.storage_schemas.lake.lake import Lake


@dataclass(frozen=True)
class Step:
    """A stage; `plan` finds all its work as the lake is now, `filtered` counts what is no work, by reason."""

    stage: Stage
    plan: Callable[[], Planned]
    filtered: Callable[[], dict[str, int]] = dict


def ingest(lake: Lake, kind: str, path: str, options: SourcesConfig | None = None) -> list[Step]:
    """Source items."""
    stage = sources.SourcesStage(lake.uri, options or SourcesConfig())
    return [Step(stage, lambda: sources.plan(lake, stage, kind, path))]


def cut(lake: Lake, config: ClipsConfig | None = None, policy: Policy | None = None) -> list[Step]:
    """Source items to clips, and clips compared with each other; `policy` changes nothing of the work."""
    stage = clips.ClipsStage(lake.uri, config or ClipsConfig())

    def copies() -> dict[str, int]:
        count = clips.duplicates(lake)
        return {"duplicate": count} if count else {}

    comparing = duplicates.DuplicatesStage(lake.uri)
    return [
        Step(stage, lambda: clips.plan(lake, stage), copies),
        Step(comparing, lambda: duplicates.plan(lake, comparing)),
    ]


def measure(lake: Lake, config: rigs.RigsConfig | None = None) -> list[Step]:
    """Offsets, residuals and verdicts of the cameras of rigs."""
    stage = rigs.RigsStage(lake.uri, config or rigs.RigsConfig())
    return [Step(stage, lambda: rigs.plan(lake, stage))]


def label(lake: Lake, config: poses.PosesConfig | None = None, policy: Policy | None = None) -> list[Step]:
    """Pose labels."""
    stage = poses.PosesStage(lake.uri, config or poses.PosesConfig())
    return [Step(stage, lambda: poses.plan(lake, stage, policy or Policy()))]


def caption(lake: Lake, vlm: QwenLocal | OpenAIServer | None = None, policy: Policy | None = None) -> list[Step]:
    """Captions."""
    stage = captions.CaptionsStage(lake.uri, captions.CaptionsConfig(vlm=vlm))
    return [Step(stage, lambda: captions.plan(lake, stage, policy or Policy()))]


def encode(lake: Lake, config: latents.LatentsConfig, policy: Policy | None = None) -> list[Step]:
    """Latents, and the pairs of them."""
    stage = latents.LatentsStage(lake.uri, config)
    pairing = pairs.PairsStage(lake.uri, pairs.PairsConfig(stage.vae, config.window))
    return [
        Step(stage, lambda: latents.plan(lake, stage, policy or Policy())),
        Step(pairing, lambda: pairs.plan(lake, pairing, policy or Policy())),
    ]
