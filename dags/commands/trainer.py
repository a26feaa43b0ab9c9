"""Commands of the trainer: train, report."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from opendimo.dags.options import Base, ExistingLake, Json, PolicyFile, PrefectApi, RayAddress
from opendimo.dags.variants import VARIANTS


def train(
    release: Annotated[str, typer.Option(help="NAME@VERSION.")],
    lake: ExistingLake,
    base: Base,
    out: Annotated[Path, typer.Option(help="Folder of checkpoints, metrics and the final pipeline.")],
    preset: Annotated[str, typer.Option(help="tiny, wan2.2-ti2v-5b or hunyuanvideo-1.5.")] = "tiny",
    variant: Annotated[str, typer.Option(help=f"Ablation or rival: {VARIANTS}.")] = "full",
    encoder: Annotated[str | None, typer.Option(help="Motion encoder: tiny, base or paper; else the preset's.")] = None,
    init_encoder: Annotated[
        Path | None, typer.Option(exists=True, help="IM-Animation's weights, for the paper encoder.")
    ] = None,
    init_model: Annotated[
        Path | None, typer.Option(exists=True, help="A trained 3DiMo to start from: `model` of a checkpoint.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on from the newest checkpoint in OUT.")] = True,
    json_: Json = False,
    prefect_api: PrefectApi = None,
    ray_address: RayAddress = None,
) -> None:
    """Train the three stages of 3DiMo, or an ablation or a rival of it, on a release.

    Example: dimo train --release dance@1 --lake /data/lake --base models/tiny --preset tiny --out runs/1
    """
    from opendimo.dags.progress import display
    from opendimo.dags.session import lake_session
    from opendimo.dags.show import as_json, table
    from opendimo.storage_schemas.releases.release import open_release
    from opendimo.training.config import preset as named
    from opendimo.training.sampling import available
    from opendimo.training.variants import with_variant

    weights = None if init_encoder is None else str(init_encoder)
    config = replace(with_variant(named(preset, base, encoder), variant), init_encoder=weights)
    config = config if init_model is None else config.from_trained(init_model)
    pairs = open_release(lake, release).manifest["by_kind"]
    for stage in config.schedule.stages:
        available(dict(stage.mix), pairs)
    with lake_session(lake, prefect_api, ray_address), display():
        from opendimo.dags.flows import train as train_flow
        from opendimo.training.summary import stage_losses

        train_flow(lake, release, config, str(out), resume)
        losses = stage_losses(out)
    if json_:
        return as_json({"out": out, "losses": losses})
    rows = [(r["stage"], f"{r['before']:.3f}", f"{r['after']:.3f}") for r in losses]
    return table(f"Trained into {out}", ("stage", "loss before", "loss after"), rows)


def report(
    lake: ExistingLake,
    out: Annotated[Path, typer.Option(help="Folder for the page.")],
    training: Annotated[Path | None, typer.Option(exists=True, help="Folder of a training run to show.")] = None,
    generated: Annotated[Path | None, typer.Option(exists=True, help="A generated clip to show.")] = None,
    evaluation: Annotated[Path | None, typer.Option(exists=True, help="Folder that `dimo evaluate` wrote.")] = None,
    policy: PolicyFile = None,
) -> None:
    """Write one static HTML page: funnel, contact sheets with poses, cameras, captions, losses, whether the driver is
    followed, an evaluation, the generated clip.

    Example: dimo report --lake /data/lake --training runs/1 --out report
    """
    from opendimo.pipelines.quality.policy import policy_of
    from opendimo.pipelines.report import write_report

    shown = {"training": training, "generated": generated, "evaluation": evaluation}
    print(write_report(lake, out, **shown, policy=policy_of(policy)))
