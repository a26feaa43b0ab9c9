"""Command line options shared by several commands."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from opendimo.storage_schemas.lake.uri import lake_uri
from opendimo.training.variants import VARIANTS


@dataclass(frozen=True)
class Trial:
    """Limits of the trial run behind a forecast, for stages without an earlier run to measure throughput from.

    `count`: items per stage, 0 for no trial. `minutes`: time limit for all stages together.
    """

    count: int = 0
    minutes: float = 10.0


def _absolute_uri(lake: str) -> str:
    return lake_uri(lake)


def existing_lake_uri(lake: str) -> str:
    """Return the normalised address of a lake. Raises `ValueError` if there is no lake."""
    from opendimo.storage_schemas.lake.lake import is_lake

    if not is_lake(uri := _absolute_uri(lake)):
        raise ValueError(f"{uri} is not a lake: create one with `dimo ingest` or `dimo demo`")
    return uri


Kind = Literal["internet", "unreal", "multiview"]
"""Kind of source."""


def text_of(path: Path | None) -> str | None:
    """Return a path as text, as typed requests have it; None stays None."""
    return None if path is None else str(path)


LOCATION = "a folder or an object store prefix such as s3://bucket/lake"
LakeOption = Annotated[
    str, typer.Option("--lake", callback=_absolute_uri, help=f"Lake: {LOCATION}. Created if it does not exist.")
]
ExistingLake = Annotated[str, typer.Option("--lake", callback=existing_lake_uri, help=f"Lake: {LOCATION}.")]
Base = Annotated[
    str,
    typer.Option(
        help="Pretrained base model in diffusers layout: a folder, or ORG/NAME[@REVISION] on the Hugging Face Hub."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
MaxRejected = Annotated[
    float,
    typer.Option(
        min=0, max=1, help="Exit with 3 if at least this share of a stage's inputs is rejected. Default: if all are."
    ),
]
PolicyFile = Annotated[
    Path | None,
    typer.Option("--policy", exists=True, dir_okay=False, help="TOML file with the quality thresholds for clips."),
]
PrefectApi = Annotated[
    str | None,
    typer.Option(
        envvar="PREFECT_API_URL", help="URL of a Prefect server API. Default: run a local server for this command."
    ),
]
RayAddress = Annotated[
    str | None,
    typer.Option(envvar="RAY_ADDRESS", help="Address of a Ray cluster. Default: run a local one for this command."),
]
SamplingSteps = Annotated[int, typer.Option(min=1, help="Sampling steps.")]
Guidance = Annotated[float, typer.Option(help="Classifier-free guidance scale for the text; 1 disables it.")]
MotionGuidance = Annotated[float, typer.Option(help="Classifier-free guidance scale for the motion; 1 disables it.")]
Variant = Annotated[str, typer.Option(help=f"Ablation or comparison method: {', '.join(VARIANTS)}.")]
Encoder = Annotated[str | None, typer.Option(help="Motion encoder: tiny, base or paper. Default: that of the preset.")]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config", exists=True, dir_okay=False, help="TOML file of settings to change, or config.json of another run."
    ),
]
Assignments = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change one setting, e.g. schedule.stages.0.steps=2000. Repeatable."
    ),
]
