"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer


def _is_lake(path: Path) -> Path:
    if not (path / "lake.json").is_file():
        raise ValueError(f"{path} is not a lake: make one with `dimo ingest` or `dimo demo`")
    return path


LakeOption = Annotated[
    Path, typer.Option("--lake", resolve_path=True, help="Folder of the lake (made where there is none).")
]
ExistingLake = Annotated[Path, typer.Option("--lake", resolve_path=True, callback=_is_lake, help="Folder of the lake.")]
Json = Annotated[bool, typer.Option("--json", help="Answer in JSON.")]
PrefectApi = Annotated[
    str | None,
    typer.Option(envvar="PREFECT_API_URL", help="A Prefect server's API; without it one is started and ended here."),
]
RayAddress = Annotated[
    str | None,
    typer.Option(envvar="RAY_ADDRESS", help="A Ray cluster's address; without it one is started and ended here."),
]
