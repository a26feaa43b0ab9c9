"""The command that measures how good generated clips are."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from opendimo.dags.options import ExistingLake, Json, PrefectApi
from opendimo.model.sampling import GUIDANCE, MOTION_GUIDANCE, STEPS


class Protocol(StrEnum):
    """As `training.evaluation.config.Protocol`."""

    cross_view = "cross_view"
    paper = "paper"


class Split(StrEnum):
    """Splits of a release."""

    test = "test"
    train = "train"


def _weights(help_: str) -> typer.models.OptionInfo:
    return typer.Option(exists=True, dir_okay=False, help=f"{help_} Without it the metric is absent.")


def evaluate(
    release: Annotated[str, typer.Option(help="NAME@VERSION, whose held-out pairs are made and compared.")],
    lake: ExistingLake,
    out: Annotated[Path, typer.Option(help="Folder of clips, numbers and page.")],
    checkpoint: Annotated[
        list[str] | None, typer.Option(help="Folder of a trained run or a pipeline, or NAME=FOLDER; may be repeated.")
    ] = None,
    clips: Annotated[
        list[str] | None, typer.Option(help="NAME=FOLDER of clips CASE.mp4 that something else made; may be repeated.")
    ] = None,
    protocol: Annotated[
        Protocol,
        typer.Option(help="All kinds of held-out pairs, with truth from other views; or the paper's two sets."),
    ] = Protocol.cross_view,
    split: Annotated[Split, typer.Option(help="train looks at pairs the model has seen.")] = Split.test,
    limit: Annotated[int | None, typer.Option(min=1, help="Clips at most, spread over the kinds of pairs.")] = None,
    lpips: Annotated[Path | None, _weights("LPIPS: state dict of torchvision's AlexNet or VGG-16.")] = None,
    inception: Annotated[Path | None, _weights("FID: Inception as TorchScript (inception-2015-12-05.pt).")] = None,
    fvd: Annotated[Path | None, _weights("FVD: I3D as TorchScript (i3d_torchscript.pt).")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Sampling steps.")] = STEPS,
    guidance: Annotated[float, typer.Option(help="As of `dimo generate`.")] = GUIDANCE,
    motion_guidance: Annotated[float, typer.Option(help="As of `dimo generate`.")] = MOTION_GUIDANCE,
    seed: Annotated[int, typer.Option(help="Seed of the noise; each clip has its own, the same for all systems.")] = 0,
    json_: Json = False,
    prefect_api: PrefectApi = None,
) -> None:
    """Measure whether models show the right person moving as the driver does, seen as the prompt says.

    Writes evaluation.json, evaluation.md and evaluation.html into OUT, and the numbers onto the model card of each run.
    Clips that are there are not made again. What other programs need to make clips of their own for --clips lies in
    OUT: cases.json, reference/, driver/.

    Example: dimo evaluate --checkpoint runs/1 --checkpoint runs/smpl --clips rival=their-clips/
    --release dance@1 --lake lake --out evaluation

    Example, as the paper does it: dimo evaluate --checkpoint runs/1 --protocol paper --lpips alexnet-owt-7be5be79.pth
    --release dance@1 --lake lake --out paper
    """
    from opendimo.dags.progress import display
    from opendimo.dags.session import lake_session
    from opendimo.dags.show import as_json, table
    from opendimo.storage_schemas.releases.release import open_release
    from opendimo.training.evaluation.config import EvaluationConfig, Weights, check_split, named_folders
    from opendimo.training.generate import find_pipeline

    runs = named_folders(checkpoint or [], "checkpoint")
    folders = named_folders(clips or [], "clips", taken=set(runs))
    if not runs and not folders:
        raise ValueError("nothing to evaluate: give --checkpoint RUN or --clips NAME=FOLDER")
    opened = open_release(lake, release)
    check_split(release, opened.manifest["by_split"], split.value)
    for folder in runs.values():
        find_pipeline(folder)
    weights = Weights(*(str(path) if path else "" for path in (lpips, inception, fvd)))
    config = EvaluationConfig(protocol.value, split.value, limit, seed, steps, guidance, motion_guidance, weights)
    with lake_session(lake, prefect_api, ray=False), display():
        from opendimo.dags.flows import evaluate as evaluate_flow

        ours, others = ({name: str(folder) for name, folder in named.items()} for named in (runs, folders))
        result = evaluate_flow(lake, release, str(out), ours, others, config)
    if json_:
        return as_json(result)
    for shown in result["tables"]:
        table(shown["title"], shown["columns"], shown["rows"])
    for note in result["notes"]:
        print(f"- {note}")
    return print(out / "evaluation.html")
