"""Training commands: train, push, report."""

from pathlib import Path
from typing import Annotated

import typer

from opendimo.dags.options import (
    Assignments,
    Base,
    ConfigFile,
    Encoder,
    ExistingLake,
    Json,
    PolicyFile,
    PrefectApi,
    RayAddress,
    Variant,
    text_of,
)
from opendimo.training.config import PresetName


def train(
    release: Annotated[str, typer.Option(help="Release to train on, as NAME@VERSION.")],
    lake: ExistingLake,
    base: Base,
    out: Annotated[Path, typer.Option(help="Output folder for checkpoints, metrics and the final pipeline.")],
    preset: Annotated[PresetName, typer.Option(help="Preset: model size and schedule.")] = "tiny",
    variant: Variant = "full",
    encoder: Encoder = None,
    init_encoder: Annotated[
        Path | None, typer.Option(exists=True, help="IM-Animation weights to initialise the paper encoder.")
    ] = None,
    init_model: Annotated[
        Path | None, typer.Option(exists=True, help="Trained 3DiMo to initialise from: `model` of a checkpoint.")
    ] = None,
    config: ConfigFile = None,
    assignments: Assignments = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Total steps of all stages. Default: as in the preset.")
    ] = None,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print all settings, as --config accepts them, and exit.")
    ] = False,
    processes: Annotated[
        int | None,
        typer.Option(min=1, help="Processes that train together, by Ray Train. Default: one per GPU, at least one."),
    ] = None,
    resume: Annotated[bool, typer.Option(help="Resume from the newest checkpoint in OUT.")] = True,
    json_: Json = False,
    prefect_api: PrefectApi = None,
    ray_address: RayAddress = None,
) -> None:
    """Train the three stages of 3DiMo, or an ablation or comparison method, on a release.

    Settings come from the preset, the variant, --config and --set; later ones override earlier ones. Ctrl-C and SIGTERM
    save a checkpoint; the same command goes on from it. Several processes train together on one machine or on the nodes
    of a Ray cluster (--processes, --ray-address), or where torchrun starts this command.

    Examples:

    dimo train --release dance@1 --lake /data/lake --base models/tiny --preset tiny --out runs/1

    dimo train --release dance@1 --lake /data/lake --base models/tiny --out runs/2 --set batch_size=8 --set
    schedule.stages.0.steps=2000

    torchrun --nproc-per-node 8 --no-python dimo train --release dance@1 --lake /data/lake --base models/wan --preset
    wan2.2-ti2v-5b --out runs/3
    """
    from opendimo.dags import torchrun
    from opendimo.dags.progress import display
    from opendimo.dags.session import lake_session
    from opendimo.dags.show import as_json, table
    from opendimo.storage_schemas.releases.release import open_release
    from opendimo.training.recipe import Recipe, settings_of
    from opendimo.training.sampling import available

    file, weights, trained = (text_of(path) for path in (config, init_encoder, init_model))
    recipe = Recipe(base, preset, variant, encoder, file, tuple(assignments or ()), weights, trained, steps)
    run = recipe.config()
    if print_config:
        return as_json(settings_of(run))
    pairs = open_release(lake, release).manifest["by_kind"]
    for stage in run.schedule.stages:
        available(dict(stage.mix), pairs)
    if torchrun.is_started():
        with display():
            return torchrun.train(lake, release, run, str(out), resume)
    with lake_session(lake, prefect_api, ray_address), display():
        from opendimo.dags.flows.training import train as train_flow
        from opendimo.training.summary import stage_losses

        train_flow(lake, release, recipe, str(out), resume, processes)
        losses = stage_losses(out)
    if json_:
        return as_json({"out": out, "losses": losses})
    rows = [(r["stage"], f"{r['before']:.3f}", f"{r['after']:.3f}") for r in losses]
    return table(f"Training losses, {out}", ("stage", "loss before", "loss after"), rows)


def push(
    run: Annotated[Path, typer.Argument(exists=True, help="Output folder of `dimo train`.")],
    to: Annotated[str, typer.Option(help="ORG/NAME on the Hugging Face hub, or a new folder (begins with / or .).")],
    public: Annotated[bool, typer.Option("--public", help="Let all see a new repository. Default: private.")] = False,
    revision: Annotated[str | None, typer.Option(help="Branch of the repository. Default: main.")] = None,
) -> None:
    """Publish the trained pipeline with its model card and a sample video.

    `DiffusionPipeline.from_pretrained(NAME, trust_remote_code=True)` loads it. The card states the licences of the base
    model and of the data: check that they allow what you do. HF_TOKEN has the token, HF_ENDPOINT another hub.

    Examples:

    dimo push runs/1 --to my-lab/3dimo-dance

    dimo push runs/1 --to ./3dimo-dance
    """
    from opendimo.training.publish import publish

    print(publish(run, to, public=public, revision=revision))


def report(
    lake: ExistingLake,
    out: Annotated[Path, typer.Option(help="Output folder for the HTML pages.")],
    training: Annotated[Path | None, typer.Option(exists=True, help="Folder of a training run to include.")] = None,
    generated: Annotated[Path | None, typer.Option(exists=True, help="Generated clip to include.")] = None,
    evaluation: Annotated[
        Path | None, typer.Option(exists=True, help="Output folder of `dimo evaluate` to include.")
    ] = None,
    policy: PolicyFile = None,
    previews: Annotated[
        int, typer.Option(min=0, help="Clips to render a short preview of, besides those on the first page.")
    ] = 60,
) -> None:
    """Write a static HTML report on a lake and its models.

    Shows the work status, playable clips with poses, cameras, captions, losses, how well the motion follows the driving
    video, an evaluation and the generated clip. A second page lists all clips, to filter, sort and search.

    Example: dimo report --lake /data/lake --training runs/1 --out report
    """
    from opendimo.pipelines.quality.policy import policy_of
    from opendimo.pipelines.report import write_report

    inputs = {"training": training, "generated": generated, "evaluation": evaluation}
    print(write_report(lake, out, **inputs, policy=policy_of(policy), previews=previews))
