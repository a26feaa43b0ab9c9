"""Options that several commands share."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer


@dataclass(frozen=True)
class Trial:
    """How many items of a stage are tried where no earlier run tells its rate, and for how long in all."""

    count: int = 0
    minutes: float = 10.0


def _place(lake: str) -> str:
    from opendimo.storage_schemas.lake.lake import lake_uri

    return lake_uri(lake)


def _is_lake(lake: str) -> str:
    from opendimo.storage_schemas.lake.lake import is_lake

    if not is_lake(place := _place(lake)):
        raise ValueError(f"{place} is not a lake: make one with `dimo ingest` or `dimo demo`")
    return place


WHERE = "a folder, or a prefix of an object store such as s3://bucket/lake"
LakeOption = Annotated[
    str, typer.Option("--lake", callback=_place, help=f"The lake: {WHERE} (made where there is none).")
]
ExistingLake = Annotated[str, typer.Option("--lake", callback=_is_lake, help=f"The lake: {WHERE}.")]
Base = Annotated[
    str,
    typer.Option(
        help="Pretrained model in the diffusers layout: a folder, or ORG/NAME[@REVISION] of the Hugging Face hub."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Answer in JSON.")]
PolicyFile = Annotated[
    Path | None,
    typer.Option("--policy", exists=True, dir_okay=False, help="TOML file of thresholds that clips have to pass."),
]
PrefectApi = Annotated[
    str | None,
    typer.Option(envvar="PREFECT_API_URL", help="A Prefect server's API; without it one is started and ended here."),
]
RayAddress = Annotated[
    str | None,
    typer.Option(envvar="RAY_ADDRESS", help="A Ray cluster's address; without it one is started and ended here."),
]
