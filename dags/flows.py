"""The flows: what runs when. No pixel and no tensor here: every step is a stage of `pipelines` or a call of `training`.

Each flow can be run by itself, from the command line or as a deployment; `dags/demo.py` chains them.
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

if TYPE_CHECKING:  # who starts a flow need not wait for torch
    from opendimo.training.evaluation.cases import Case
    from opendimo.training.evaluation.measure import Measures


@flow(flow_run_name="ingest {kind}")
def ingest(lake: str, kind: str, path: str, options: SourcesConfig | None = None) -> list[Account]:
    """Register what `path` holds (`kind`: internet, unreal or multiview): fetch, hash, probe, cameras, truth."""
    home = Lake(lake)
    return map_stages(home, Ingest(kind, path, options or SourcesConfig()).steps(home))


@flow
def cut(lake: str, config: ClipsConfig | None = None, policy: Policy | None = None) -> list[Account]:
    """Cut every source item into clips with people and scores, and judge the clips."""
    home = Lake(lake)
    request = Cut(config or ClipsConfig(), policy or Policy())
    accounts = map_stages(home, request.steps(home))
    judged = verdict_account(home, request.policy)
    get_run_logger().info("verdict: %s", describe(judged))
    return [*accounts, judged]


@flow
def measure(lake: str, config: RigsConfig | None = None) -> list[Account]:
    """Measure the rigs of captures of several views: time offsets, residuals, and a verdict on every camera."""
    home = Lake(lake)
    return map_stages(home, Measure(config or RigsConfig()).steps(home))


@flow
def label(lake: str, config: PosesConfig | None = None, policy: Policy | None = None) -> list[Account]:
    """Estimate body and hands of every kept clip."""
    home = Lake(lake)
    return map_stages(home, Label(config or PosesConfig(), policy or Policy()).steps(home))


@flow
def caption(lake: str, vlm: QwenLocal | OpenAIServer | None = None, policy: Policy | None = None) -> list[Account]:
    """Describe the camera motion, and with a vision-language model the content, of every kept clip."""
    home = Lake(lake)
    return map_stages(home, Caption(vlm, policy or Policy()).steps(home))


@flow
def encode(lake: str, config: LatentsConfig, policy: Policy | None = None) -> list[Account]:
    """Encode targets and texts for one backbone, and make the training pairs."""
    home = Lake(lake)
    return map_stages(home, Encode(config, policy or Policy()).steps(home))


def run(lake: str, request: Request) -> list[Account]:
    """Run the flow that a request is for; return the accounts of its stages."""
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
    """Make the next release of `name` from the newest pairs, and say so when it may be used; return NAME@VERSION."""
    home = Lake(lake)
    with follow("hash files (MB)", MEGABYTE) as report:
        row = create_release(home, name, policy, report)
    release = open_row(home, row)
    if row["state"] == USABLE:
        release_published(lake, release.id, release.sha256)
    card = markdown(release.id, release.sha256, row["state"], release.manifest)
    held = release.manifest.get("held_out", {"pairs": 0, "why_not": {}})  # not stated by releases of older versions
    get_run_logger().info("%s: %d of %d pairs are held out", release.id, held["pairs"], release.manifest["pairs"])
    for kind, why in held["why_not"].items():
        get_run_logger().warning("%s: no %s pair is held out: %s", release.id, kind, why)
    create_markdown_artifact(key=f"release-{name.replace('_', '-')}", markdown=card)
    return release.id


@flow(flow_run_name="approve {release}")
def approve(lake: str, release: str, by: str, note: str | None = None) -> bool:
    """Let training use a release, and say so; whether that is news."""
    news = approve_release(Lake(lake), release, by, note)
    release_published(lake, release, open_release(lake, release).sha256)
    return news


@flow(flow_run_name="train {release}")
def train(lake: str, release: str, config: TrainConfig, out: str, resume: bool = True) -> str:
    """Train the three stages on a release, whose every byte is checked first, one task each; return the folder."""
    with follow("check files (MB)", MEGABYTE) as report:
        check_bytes(Lake(lake), release, report)
    if resume and is_finished(Path(out), open_release(lake, release), config):
        return out
    stages, end = config.schedule.stages, 0
    with Launcher() as launcher:
        for number, stage in enumerate(stages, 1):
            end += stage.steps
            if resume and number < len(stages) and steps_done(Path(out)) >= end:
                continue  # the last stage always looks: it refuses another release or config, and exports the pipeline
            train_stage(launcher, lake, release, config, out, number, stage.name, resume or number > 1)
    return out


def _may_pass(_task: object, _run: object, state: State) -> bool:
    """Whether another attempt may help: not where what was given is wrong."""
    return not isinstance(state.result(raise_on_failure=False), ValueError)


@task(task_run_name="{name}", retries=1, retry_condition_fn=_may_pass, cache_policy=NO_CACHE)
def train_stage(
    launcher: Launcher, lake: str, release: str, config: TrainConfig, out: str, number: int, name: str, resume: bool
) -> None:
    """One training stage in a Ray worker; what is done is not done again."""
    log = get_run_logger()
    with step(f"train {name}", config.schedule.stage_steps[number - 1]) as shown:

        def report(steps: int, loss: float | None, lines: list[tuple[int, str]]) -> None:
            shown.advance(steps)
            if loss is not None:
                shown.note(f"loss {loss:.3f}")
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
    """Make the clips of held-out pairs with every checkpoint, compare them and those in the folders `clips` with the
    truth, and write numbers and a page into the folder `out`; return the numbers. Clips that are there stay."""
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
    """What is made and how it is measured."""
    from opendimo.dags.evaluate import prepare

    return prepare(release, checkpoints, Path(out), config)


@task(task_run_name="generate {name}", cache_policy=NO_CACHE)
def make_clips(
    release: Release, name: str, checkpoint: str, cases: "list[Case]", out: str, config: EvaluationConfig
) -> None:
    """The clips of one checkpoint."""
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
    """Numbers and page of all systems."""
    from opendimo.dags.evaluate import compare

    return compare(release, cases, measures, checkpoints, clips, Path(out), config)
