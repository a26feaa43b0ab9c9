"""The Prefect flows. They only orchestrate: every step is a stage of `pipelines` or a call of `training`.

Each flow can run on its own, from the command line or as a deployment; `dags/demo.py` chains them.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.states import State

from opendimo.dags.events import release_published
from opendimo.dags.follow import MEGABYTE, follow
from opendimo.dags.progress import step
from opendimo.dags.release_card import markdown
from opendimo.dags.requests import Caption, Cut, Encode, Ingest, Label, Measure, Request
from opendimo.dags.stages import describe, map_stages
from opendimo.pipelines.captions.openai_server import OpenAIServer
from opendimo.pipelines.captions.qwen import QwenLocal
from opendimo.pipelines.clips.cut import ClipsConfig
from opendimo.pipelines.engine.work_status import Account
from opendimo.pipelines.latents.stage import LatentsConfig
from opendimo.pipelines.poses.stage import PosesConfig
from opendimo.pipelines.progress.status import verdict_account
from opendimo.pipelines.quality.policy import Policy
from opendimo.pipelines.rigs.stage import RigsConfig
from opendimo.pipelines.sources import SourcesConfig
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.releases.approval import approve_release
from opendimo.storage_schemas.releases.decisions import USABLE
from opendimo.storage_schemas.releases.policy import ReleasePolicy
from opendimo.storage_schemas.releases.release import Release, create_release, open_release, open_row
from opendimo.storage_schemas.releases.verify import check_bytes
from opendimo.training.checkpoints import is_finished, steps_done
from opendimo.training.config import TrainConfig
from opendimo.training.evaluation.config import EvaluationConfig
from opendimo.training.launch import Launcher

if TYPE_CHECKING:  # these modules import torch, which takes seconds
    from opendimo.training.evaluation.cases import Case
    from opendimo.training.evaluation.measure import Measures


@flow(flow_run_name="ingest {kind}")
def ingest(lake: str, kind: str, path: str, options: SourcesConfig | None = None) -> list[Account]:
    """Register the sources at `path`: fetch, hash and probe videos, read cameras and ground truth.

    `kind`: internet, unreal or multiview.
    """
    home = Lake(lake)
    return map_stages(home, Ingest(kind, path, options or SourcesConfig()).steps(home))


@flow(flow_run_name="cut")
def cut(lake: str, config: ClipsConfig | None = None, policy: Policy | None = None) -> list[Account]:
    """Cut every source item into clips, measure people, quality and hands, and apply the policy to the clips."""
    home = Lake(lake)
    request = Cut(config or ClipsConfig(), policy or Policy())
    accounts = map_stages(home, request.steps(home))
    verdict = verdict_account(home, request.policy)
    get_run_logger().info("verdict: %s", describe(verdict))
    return [*accounts, verdict]


@flow(flow_run_name="measure")
def measure(lake: str, config: RigsConfig | None = None) -> list[Account]:
    """Measure multi-camera rigs: time offset, reprojection residual and verdict for every camera."""
    home = Lake(lake)
    return map_stages(home, Measure(config or RigsConfig()).steps(home))


@flow(flow_run_name="label")
def label(lake: str, config: PosesConfig | None = None, policy: Policy | None = None) -> list[Account]:
    """Estimate body and hand poses for every clip that passes the policy."""
    home = Lake(lake)
    return map_stages(home, Label(config or PosesConfig(), policy or Policy()).steps(home))


@flow(flow_run_name="caption")
def caption(lake: str, vlm: QwenLocal | OpenAIServer | None = None, policy: Policy | None = None) -> list[Account]:
    """Caption the camera motion, and with `vlm` also the content, of every clip that passes the policy."""
    home = Lake(lake)
    return map_stages(home, Caption(vlm, policy or Policy()).steps(home))


@flow(flow_run_name="encode")
def encode(lake: str, config: LatentsConfig, policy: Policy | None = None) -> list[Account]:
    """Encode target videos and texts for one base model, and build the training pairs."""
    home = Lake(lake)
    return map_stages(home, Encode(config, policy or Policy()).steps(home))


def run(lake: str, request: Request) -> list[Account]:
    """Run the flow for a request; return the accounts of its stages."""
    match request:
        case Ingest():
            return ingest(lake, request.kind, request.path, request.options)
        case Cut():
            return cut(lake, request.config, request.policy)
        case Measure():
            return measure(lake, request.config)
        case Label():
            return label(lake, request.config, request.policy)
        case Caption():
            return caption(lake, request.vlm, request.policy)
        case Encode():
            return encode(lake, request.config, request.policy)


@flow(flow_run_name="publish {name}")
def publish(lake: str, name: str, policy: ReleasePolicy | None = None) -> str:
    """Create the next release of `name` from the newest pairs; return NAME@VERSION.

    Emits the `dataset.release.published` event if the release is usable, that is, needs no approval.
    """
    home = Lake(lake)
    with follow("hash files (MB)", MEGABYTE) as report:
        row = create_release(home, name, policy, report)
    release = open_row(home, row)
    if row["state"] == USABLE:
        release_published(lake, release.id, release.sha256)
    card = markdown(release.id, release.sha256, row["state"], release.manifest)
    held_out = release.manifest.get("held_out", {"pairs": 0, "why_not": {}})  # absent in releases of older versions
    get_run_logger().info("%s: %d of %d pairs are held out", release.id, held_out["pairs"], release.manifest["pairs"])
    for kind, reason in held_out["why_not"].items():
        get_run_logger().warning("%s: no %s pair is held out: %s", release.id, kind, reason)
    create_markdown_artifact(key=f"release-{name.replace('_', '-')}", markdown=card)
    return release.id


@flow(flow_run_name="approve {release}")
def approve(lake: str, release: str, by: str, note: str | None = None) -> bool:
    """Approve a release for training and emit the `dataset.release.published` event.

    Returns whether the state changed; False if the release was already approved.
    """
    changed = approve_release(Lake(lake), release, by, note)
    release_published(lake, release, open_release(lake, release).sha256)
    return changed


@flow(flow_run_name="train {release}")
def train(
    lake: str, release: str, config: TrainConfig, out: str, resume: bool = True, processes: int | None = None
) -> str:
    """Verify the files of a release, train the stages on it with one task each, and return the output folder.

    `processes`: how many train together; None: one per GPU of the cluster, at least one.
    """
    with follow("check files (MB)", MEGABYTE) as report:
        check_bytes(Lake(lake), release, report)
    if resume and is_finished(Path(out), open_release(lake, release), config):
        return out
    stages, end = config.schedule.stages, 0
    with Launcher(processes) as launcher:
        for number, stage in enumerate(stages, 1):
            end += stage.steps
            if resume and number < len(stages) and steps_done(Path(out)) >= end:
                continue  # the last stage always runs: it checks release and config, and exports the pipeline
            train_stage(launcher, lake, release, config, out, number, stage.name, resume or number > 1)
    return out


def _is_retryable(_task: object, _run: object, state: State) -> bool:
    """Return whether a retry may succeed: not after a `ValueError`, which means invalid input."""
    return not isinstance(state.result(raise_on_failure=False), ValueError)


@task(task_run_name="{name}", retries=1, retry_condition_fn=_is_retryable, cache_policy=NO_CACHE)
def train_stage(
    launcher: Launcher, lake: str, release: str, config: TrainConfig, out: str, number: int, name: str, resume: bool
) -> None:
    """Run one training stage in a Ray worker. With `resume`, finished steps are not repeated."""
    log = get_run_logger()
    with step(f"train {name}", config.schedule.stage_steps[number - 1]) as bar:

        def report(steps: int, loss: float | None, lines: list[tuple[int, str]]) -> None:
            bar.advance(steps)
            if loss is not None:
                bar.note(f"loss {loss:.3f}")
            for level, text in lines:
                log.log(level, text)

        result = launcher.train(lake, release, config, Path(out), until_stage=number, resume=resume, on_progress=report)
        log.info("%s: %d of %d steps done", name, result.steps_done, result.steps_total)


@flow(flow_run_name="evaluate {release}")
def evaluate(
    lake: str,
    release: str,
    out: str,
    checkpoints: dict[str, str],
    clips: dict[str, str],
    config: EvaluationConfig | None = None,
) -> dict[str, Any]:
    """Generate clips for held-out pairs with every checkpoint and compare them with the ground truth.

    `clips`: further systems by name, as folders of clips that they generated. Writes metrics and a page to the folder
    `out`, and returns the metrics. Existing clips are reused.
    """
    config = config or EvaluationConfig()
    opened = open_release(lake, release)
    cases, measures = prepare_cases(opened, checkpoints, out, config)
    for name, checkpoint in checkpoints.items():
        make_clips(opened, name, checkpoint, cases, out, config)
    return compare_clips(opened, cases, measures, checkpoints, clips, out, config)


@task(task_run_name="prepare", cache_policy=NO_CACHE)
def prepare_cases(
    release: Release, checkpoints: dict[str, str], out: str, config: EvaluationConfig
) -> "tuple[list[Case], Measures]":
    """Run `dags.evaluate.prepare` as a task: select the test cases and the metrics."""
    from opendimo.dags.evaluate import prepare

    return prepare(release, checkpoints, Path(out), config)


@task(task_run_name="generate {name}", cache_policy=NO_CACHE)
def make_clips(
    release: Release, name: str, checkpoint: str, cases: "list[Case]", out: str, config: EvaluationConfig
) -> None:
    """Run `dags.evaluate.make` as a task: generate the clips of one checkpoint."""
    from opendimo.dags.evaluate import make

    make(release, name, checkpoint, cases, Path(out), config)


@task(task_run_name="measure", cache_policy=NO_CACHE)
def compare_clips(
    release: Release,
    cases: "list[Case]",
    measures: "Measures",
    checkpoints: dict[str, str],
    clips: dict[str, str],
    out: str,
    config: EvaluationConfig,
) -> dict[str, Any]:
    """Run `dags.evaluate.compare` as a task: compute the metrics of all systems and write the page."""
    from opendimo.dags.evaluate import compare

    return compare(release, cases, measures, checkpoints, clips, Path(out), config)
