"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

LakeOption = Annotated[
    Path, typer.Option("--lake", resolve_path=True, help="Folder of the lake (made where there is none).")
]
Json = Annotated[bool, typer.Option("--json", help="Answer in JSON.")]
PrefectApi = Annotated[
    str | None,
    typer.Option(envvar="PREFECT_API_URL", help="A Prefect server's API; without it one is started and ended here."),
]
RayAddress = Annotated[
    str | None,
    typer.Option(envvar="RAY_ADDRESS", help="A Ray cluster's address; without it one is started and ended here."),
]
