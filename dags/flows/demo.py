"""Run the whole DAG on one machine: from sources to a trained tiny 3DiMo, a generated clip and a report."""

import os
from pathlib import Path
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from opendimo.dags.flows.dataset import build_dataset
from opendimo.dags.flows.labelled import labelled_flow
from opendimo.dags.flows.parameters import OutFolder
from opendimo.dags.flows.training import train
from opendimo.dags.generate import animate
from opendimo.dags.options import Kind
from opendimo.dags.progress import step
from opendimo.dags.requests import Ingest
from opendimo.dags.show import accounts_json, funnel, table
from opendimo.pipelines.engine.runner import ray_session
from opendimo.pipelines.engine.work_status import Account
from opendimo.pipelines.generation.samples import choose_sample
from opendimo.pipelines.latents.stage import LatentsConfig
from opendimo.pipelines.progress.status import funnel as count
from opendimo.pipelines.quality.policy import Policy
from opendimo.pipelines.report import write_report
from opendimo.pipelines.sources import SourcesConfig
from opendimo.pipelines.studio import make_studio
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.training.generate import Sampling
from opendimo.training.recipe import Recipe
from opendimo.training.summary import stage_losses
from opendimo.training.tiny_base import TRAINED, copy_tiny_base

LEARNING_RATE = 5e-5
STUDIO = SourcesConfig(licence="CC0-1.0", attribution="the OpenDiMo studio")


@labelled_flow()
def demo(
    out: OutFolder,
    internet: str | None = None,
    unreal: str | None = None,
    multiview: str | None = None,
    steps: int | None = None,
) -> dict[str, Any]:
    """Run all stages and write the results to the folder `out`. Finished work is not repeated.

    `internet`, `unreal`, `multiview`: paths of the sources; those that are None are rendered. `steps`: total training
    steps; None uses the schedule of the preset.
    """
    root = Path(out).absolute()
    lake = str(root / "lake")
    given: dict[Kind, str | None] = {"internet": internet, "unreal": unreal, "multiview": multiview}
    rendered = {} if all(given.values()) else render(root / "studio")
    sources = [Ingest(kind, path) if path else Ingest(kind, rendered[kind], STUDIO) for kind, path in given.items()]
    base = copy_tiny_base(root / "base")
    with ray_session(os.environ.get("RAY_ADDRESS")):
        release = str(build_dataset(lake, sources, LatentsConfig(str(base)), "demo"))
        training = root / "training" / release
        train(lake, release, demo_recipe(base, steps), str(training))
    clip = show_motion(lake, release, training, root / "generated")
    page = write_page(lake, root / "report", training, clip)
    return {
        "funnel": accounts_json(count(Lake(lake), Policy())),
        "release": release,
        "losses": stage_losses(training),
        "clip": str(clip),
        "report": str(page),
        "lake": lake,
    }


def demo_recipe(base: Path, steps: int | None = None) -> Recipe:
    """Return the preset `tiny`, started from a trained 3DiMo.

    It was trained without augmentation, which does not pay in so few steps. At a higher learning rate, it would unlearn
    on a few clips what it learned on many.
    """
    rates = tuple(f"schedule.stages.{number}.lr={LEARNING_RATE}" for number in range(3))
    return Recipe(str(base), "tiny", "no_augmentation", settings=rates, init_model=str(TRAINED), steps=steps)


@task(task_run_name="render studio", cache_policy=NO_CACHE)
def render(folder: Path) -> dict[Kind, str]:
    """Render synthetic sources: a mannequin filmed by several cameras, with exact ground truth."""
    with step("studio", 1) as bar:
        studio = make_studio(folder)
        bar.advance()
    return {"internet": str(studio.internet), "unreal": str(studio.unreal), "multiview": str(studio.multiview)}


@task(task_run_name="generate", cache_policy=NO_CACHE)
def show_motion(lake: str, release: str, training: Path, folder: Path) -> Path:
    """Generate one clip with the trained model; return its path."""
    with step("generate", 1) as bar:
        sample = choose_sample(Lake(lake), release, folder)
        sampling = Sampling(num_inference_steps=20, guidance_scale=1.5, motion_guidance_scale=1.5)
        inputs = sample.reference, sample.driving, sample.prompt
        clip = animate(training, *inputs, folder / "clip.mp4", sampling, truth=sample.truth)
        bar.advance()
    return clip


@task(task_run_name="report", cache_policy=NO_CACHE)
def write_page(lake: str, folder: Path, training: Path, clip: Path) -> Path:
    """Write the HTML report; return its path."""
    with step("report", 1) as bar:
        page = write_report(lake, folder, training=training, generated=clip)
        get_run_logger().info("report: %s", page)
        bar.advance()
    return page


def summary(result: dict[str, Any]) -> None:
    """Print the work status by stage, the training losses, and the paths of the outputs."""
    funnel([Account(**row) for row in result["funnel"]], "All work in the lake")
    rows = [(row["stage"], f"{row['before']:.3f}", f"{row['after']:.3f}") for row in result["losses"]]
    table(f"Losses by stage, release {result['release']}", ("stage", "before", "after"), rows)
    print(f"clip    {result['clip']}\nreport  {result['report']}\nlake    {result['lake']}")
