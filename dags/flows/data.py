"""Flows that fill a lake: ingest, cut, measure, label, caption, encode. Each step is a stage of `pipelines`."""

from typing import Annotated

from prefect import get_run_logger
from pydantic import Field

from opendimo.dags.flows.labelled import labelled_flow
from opendimo.dags.flows.parameters import LakeUri
from opendimo.dags.options import Kind
from opendimo.dags.requests import Caption, Cut, Encode, Import, Ingest, Label, Measure, Request
from opendimo.dags.stages import describe, map_stages
from opendimo.pipelines.captions.openai_server import OpenAIServer
from opendimo.pipelines.captions.qwen import QwenLocal
from opendimo.pipelines.clips.cut import ClipsConfig
from opendimo.pipelines.engine.work_status import Account
from opendimo.pipelines.latents.stage import LatentsConfig
from opendimo.pipelines.poses.imports.stage import ImportConfig
from opendimo.pipelines.poses.stage import PosesConfig
from opendimo.pipelines.progress.status import verdict_account
from opendimo.pipelines.quality.policy import Policy
from opendimo.pipelines.rigs.stage import RigsConfig
from opendimo.pipelines.sources import SourcesConfig
from opendimo.storage_schemas.lake.lake import Lake


@labelled_flow()
def ingest(
    lake: LakeUri,
    kind: Kind,
    path: Annotated[
        str, Field(description="Folder; for internet also a list of URLs (CSV, TSV, JSONL, Parquet, text).")
    ],
    options: SourcesConfig | None = None,
) -> list[Account]:
    """Register the sources at `path`: fetch, hash and probe videos, read cameras and ground truth."""
    home = Lake(lake)
    return map_stages(home, Ingest(kind, path, options or SourcesConfig()).steps(home))


@labelled_flow()
def cut(lake: LakeUri, config: ClipsConfig | None = None, policy: Policy | None = None) -> list[Account]:
    """Cut every source item into clips, measure people, quality and hands, and apply the policy to the clips."""
    home = Lake(lake, existing=True)
    request = Cut(config or ClipsConfig(), policy or Policy())
    accounts = map_stages(home, request.steps(home))
    verdict = verdict_account(home, request.policy)
    get_run_logger().info("verdict: %s", describe(verdict))
    return [*accounts, verdict]


@labelled_flow()
def measure(lake: LakeUri, config: RigsConfig | None = None) -> list[Account]:
    """Measure multi-camera rigs: time offset, reprojection residual and verdict for every camera."""
    home = Lake(lake, existing=True)
    return map_stages(home, Measure(config or RigsConfig()).steps(home))


@labelled_flow()
def label(lake: LakeUri, config: PosesConfig | None = None, policy: Policy | None = None) -> list[Account]:
    """Estimate body and hand poses for every clip that passes the policy."""
    home = Lake(lake, existing=True)
    return map_stages(home, Label(config or PosesConfig(), policy or Policy()).steps(home))


@labelled_flow()
def import_poses(
    lake: LakeUri,
    path: Annotated[str, Field(description="Folder with the results of another program.")],
    config: ImportConfig | None = None,
    policy: Policy | None = None,
) -> list[Account]:
    """Label the clips of videos for which another program has estimated poses, from its results below `path`."""
    home = Lake(lake, existing=True)
    return map_stages(home, Import(path, config or ImportConfig(), policy or Policy()).steps(home))


@labelled_flow()
def caption(lake: LakeUri, vlm: QwenLocal | OpenAIServer | None = None, policy: Policy | None = None) -> list[Account]:
    """Caption the camera motion, and with `vlm` also the content, of every clip that passes the policy."""
    home = Lake(lake, existing=True)
    return map_stages(home, Caption(vlm, policy or Policy()).steps(home))


@labelled_flow()
def encode(lake: LakeUri, config: LatentsConfig, policy: Policy | None = None) -> list[Account]:
    """Encode target videos and texts for one base model, and build the training pairs."""
    home = Lake(lake, existing=True)
    return map_stages(home, Encode(config, policy or Policy()).steps(home))


def run(lake: str, request: Request) -> list[Account]:
    """Run the flow for a request; return the accounts of its stages."""
    match request:
        case Ingest():
            accounts = ingest(lake, request.kind, request.path, request.options)
        case Cut():
            accounts = cut(lake, request.config, request.policy)
        case Measure():
            accounts = measure(lake, request.config)
        case Label():
            accounts = label(lake, request.config, request.policy)
        case Import():
            accounts = import_poses(lake, request.path, request.config, request.policy)
        case Caption():
            accounts = caption(lake, request.vlm, request.policy)
        case Encode():
            accounts = encode(lake, request.config, request.policy)
    return accounts
