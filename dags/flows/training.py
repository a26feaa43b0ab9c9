"""Flows that train on a release and evaluate the result."""

import base64
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.assets import materialize
from prefect.cache_policies import NO_CACHE
from prefect.states import State
from pydantic import Field

from opendimo.dags.assets import release_asset, training_asset
from opendimo.dags.flows.labelled import labelled_flow
from opendimo.dags.flows.parameters import LakeUri, OutFolder, ReleaseId
from opendimo.dags.follow import MEGABYTE, follow
from opendimo.dags.labels import artifact_key
from opendimo.dags.progress import step
from opendimo.dags.runs import signals_kept
from opendimo.dags.slots import GPU, slot
from opendimo.pipelines.engine.runner import ray_session
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.releases.release import Release, open_release
from opendimo.storage_schemas.releases.verify import check_bytes
from opendimo.training.checkpoints import is_finished, steps_done
from opendimo.training.config import TrainConfig
from opendimo.training.evaluation.config import EvaluationConfig
from opendimo.training.launch import Launcher
from opendimo.training.recipe import Recipe
from opendimo.training.summary import newest_samples, stage_losses

if TYPE_CHECKING:  # these modules import torch, which takes seconds
    from opendimo.training.evaluation.cases import Case
    from opendimo.training.evaluation.measure import Measures

SAMPLE_SIZE = (16, 480)
"""Greatest number of frames and side in pixels of the picture in an artifact, which is stored in Prefect's database."""


@labelled_flow()
def train(
    lake: LakeUri,
    release: ReleaseId,
    recipe: Recipe,
    out: OutFolder,
    resume: Annotated[bool, Field(description="Go on from the newest checkpoint in the output folder.")] = True,
    processes: Annotated[
        int | None, Field(description="Processes that train together. Default: one per GPU, at least one.")
    ] = None,
) -> str:
    """Verify the files of a release, train the stages on it with one flow run each, and return the output folder.

    Does nothing if `out` has the finished training. Waits for the slot `GPU`.
    """
    config = recipe.config()
    with follow("check files (MB)", MEGABYTE) as report:
        check_bytes(Lake(lake, existing=True), release, report)
    if resume and is_finished(Path(out), open_release(lake, release), config):
        get_run_logger().info("%s is already trained on %s: nothing to do", out, release)
        return out
    stages, end = config.schedule.stages, 0
    with slot(GPU), ray_session(os.environ.get("RAY_ADDRESS")), Launcher(processes) as launcher:
        for number, stage in enumerate(stages, 1):
            end += stage.steps
            if resume and number < len(stages) and steps_done(Path(out)) >= end:
                continue  # the last stage always runs: it checks release and config, and exports the pipeline
            train_stage(launcher, lake, release, config, out, number, stage.name, resume or number > 1)
            show_samples(lake, release, out)
    create_table_artifact(
        key=artifact_key(f"losses {release}", lake),
        table=stage_losses(out),
        description=f"Loss before and after each stage of {out}, trained on {release}",
    )
    return out


def show_samples(lake: str, release: str, out: str) -> None:
    """Store the newest sample video of a training as an artifact with a moving picture, if there is one."""
    from opendimo.storage_schemas.media.video import decode
    from opendimo.training.log import animated

    if newest := newest_samples(out):
        picture = base64.b64encode(animated(decode(newest), *SAMPLE_SIZE)[0]).decode()
        create_markdown_artifact(
            key=artifact_key(f"samples {release}", lake),
            markdown=f"![driver, generated clip, truth](data:image/gif;base64,{picture})",
            description=f"Driver, generated clip and truth, one pair per row: {newest}",
        )


@labelled_flow(name="train stage", validate_parameters=False)
def train_stage(
    launcher: Launcher, lake: str, release: str, config: TrainConfig, out: str, number: int, stage: str, resume: bool
) -> None:
    """Run one training stage as a flow run of its own. With `resume`, finished steps are not repeated."""
    run_as_task = materialize(
        training_asset(lake, out),
        asset_deps=[release_asset(lake, release)],
        name="train_steps",
        task_run_name="train {stage}",
        retries=1,
        retry_condition_fn=_is_retryable,
        cache_policy=NO_CACHE,
    )
    run_as_task(train_steps)(launcher, lake, release, config, out, number, stage, resume)


def _is_retryable(_task: object, _run: object, state: State) -> bool:
    """Return whether a retry may succeed: not after a `ValueError`, which means invalid input."""
    return not isinstance(state.result(raise_on_failure=False), ValueError)


def train_steps(
    launcher: Launcher, lake: str, release: str, config: TrainConfig, out: str, number: int, stage: str, resume: bool
) -> None:
    """Run the steps of a stage in Ray workers."""
    log = get_run_logger()
    with step(f"train {stage}", config.schedule.stage_steps[number - 1]) as bar:

        def report(steps: int, loss: float | None, lines: list[tuple[int, str]]) -> None:
            bar.advance(steps)
            if loss is not None:
                bar.note(f"loss {loss:.3f}")
            for level, text in lines:
                log.log(level, text)

        with signals_kept():
            result = launcher.train(
                lake, release, config, Path(out), until_stage=number, resume=resume, on_progress=report
            )
        log.info("%s: %d of %d steps done", stage, result.steps_done, result.steps_total)
        training_asset(lake, out).add_metadata({"release": release, "stage": stage, "steps": result.steps_done})


@labelled_flow()
def evaluate(
    lake: LakeUri,
    release: ReleaseId,
    out: OutFolder,
    checkpoints: Annotated[dict[str, str], Field(description="Folders of trainings by name.")],
    clips: Annotated[dict[str, str], Field(description="Folders of clips of further systems by name.")],
    config: EvaluationConfig | None = None,
) -> dict[str, Any]:
    """Generate clips for held-out pairs with every checkpoint and compare them with the ground truth.

    `clips`: further systems by name, as folders of clips that they generated. Writes metrics and a page to the folder
    `out`, and returns the metrics. Existing clips are reused.
    """
    config = config or EvaluationConfig()
    opened = open_release(lake, release)
    cases, measures = prepare_cases(opened, checkpoints, out, config)
    with slot(GPU):
        for name, checkpoint in checkpoints.items():
            make_clips(opened, name, checkpoint, cases, out, config)
    result = compare_clips(opened, cases, measures, checkpoints, clips, out, config)
    text = (Path(out) / "evaluation.md").read_text(encoding="utf-8")
    create_markdown_artifact(
        key=artifact_key(f"evaluation {release}", lake), markdown=text, description=f"Evaluation on {release}, in {out}"
    )
    return result


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
