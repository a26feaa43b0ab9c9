"""Run the whole DAG on one machine: from sources to a trained tiny 3DiMo, a generated clip and a report."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from opendimo.dags import flows
from opendimo.dags.generate import animate
from opendimo.dags.progress import step
from opendimo.dags.show import accounts_json, funnel, table
from opendimo.pipelines.engine.work_status import Account
from opendimo.pipelines.generation.samples import choose_sample
from opendimo.pipelines.latents.stage import LatentsConfig
from opendimo.pipelines.progress.status import funnel as count
from opendimo.pipelines.quality.policy import Policy
from opendimo.pipelines.report import write_report
from opendimo.pipelines.sources import SourcesConfig
from opendimo.pipelines.studio import make_studio
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.training.config import TrainConfig, preset
from opendimo.training.generate import Sampling
from opendimo.training.summary import stage_losses
from opendimo.training.tiny_base import TRAINED, copy_tiny_base
from opendimo.training.variants import with_variant

KINDS = ("internet", "unreal", "multiview")
LEARNING_RATE = 5e-5
STUDIO = SourcesConfig(licence="CC0-1.0", attribution="the OpenDiMo studio")


@flow(flow_run_name="demo")
def demo(
    out: str,
    internet: str | None = None,
    unreal: str | None = None,
    multiview: str | None = None,
    steps: int | None = None,
) -> dict[str, Any]:
    """Run all stages and write the results to the folder `out`. Finished work is not repeated.

    `internet`, `unreal`, `multiview`: paths of the sources; those that are None are rendered. `steps`: total training
    steps; None uses the schedule of the preset.
    """
    root = Path(out)
    lake = str(root / "lake")
    source_paths = dict(zip(KINDS, (internet, unreal, multiview), strict=True))
    rendered = {} if all(source_paths.values()) else render(root / "studio")
    for kind, path in source_paths.items():
        if path:
            flows.ingest(lake, kind, path)
        else:
            flows.ingest(lake, kind, rendered[kind], STUDIO)
    flows.cut(lake)
    flows.measure(lake)
    flows.label(lake)
    flows.caption(lake)
    base = copy_tiny_base(root / "base")
    flows.encode(lake, LatentsConfig(str(base)))
    release = flows.publish(lake, "demo")
    training = root / "training" / release
    config = demo_config(base)
    if steps:
        config = replace(config, schedule=config.schedule.in_steps(steps))
    flows.train(lake, release, config, str(training))
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


def demo_config(base: Path) -> TrainConfig:
    """Return the preset `tiny`, started from a trained 3DiMo.

    It was trained without augmentation, which does not pay in so few steps. At a higher learning rate, it would unlearn
    on a few clips what it learned on many.
    """
    config = with_variant(preset("tiny", base), "no_augmentation").from_trained(TRAINED)
    stages = tuple(replace(stage, lr=LEARNING_RATE) for stage in config.schedule.stages)
    return replace(config, schedule=replace(config.schedule, stages=stages))


@task(task_run_name="render studio", cache_policy=NO_CACHE)
def render(folder: Path) -> dict[str, str]:
    """Render synthetic sources: a mannequin filmed by several cameras, with exact ground truth."""
    with step("studio", 1) as bar:
        studio = make_studio(folder)
        bar.advance()
    return {kind: str(getattr(studio, kind)) for kind in KINDS}


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
    funnel([Account(**row) for row in result["funnel"]])
    rows = [(row["stage"], f"{row['before']:.3f}", f"{row['after']:.3f}") for row in result["losses"]]
    table(f"Losses by stage, release {result['release']}", ("stage", "before", "after"), rows)
    print(f"clip    {result['clip']}\nreport  {result['report']}\nlake    {result['lake']}")
