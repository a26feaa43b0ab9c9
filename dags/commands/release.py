"""`dimo release ...`: immutable sets of training pairs."""

import json
from pathlib import Path
from typing import Annotated

import typer

from dags.options import ExistingLake, Json, PrefectApi, RayAddress

app = typer.Typer(help="Immutable, pinned sets of training pairs.", no_args_is_help=True)


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Name of the release; the version is counted up.")],
    lake: ExistingLake,
    approver: Annotated[str | None, typer.Option(help="Who approves it.")] = None,
    json_: Json = False,
    prefect_api: PrefectApi = None,
    ray_address: RayAddress = None,
) -> None:
    """Pin the newest pairs as a release.

    Example: dimo release create dance --lake /data/lake
    """
    from dags.session import session
    from dags.show import as_json

    with session(lake / "session", prefect_api, ray_address):
        from dags.flows import publish

        release = publish(str(lake), name, approver)
    as_json({"release": release}) if json_ else print(f"released {release}")


@app.command("list")
def list_(lake: ExistingLake, json_: Json = False) -> None:
    """List the releases of a lake.

    Example: dimo release list --lake /data/lake
    """
    from dags.show import as_json, table
    from storage_schemas.lake import Lake
    from storage_schemas.releases import list_releases

    rows = list_releases(Lake(lake))
    if json_:
        return as_json([{"release": r["release_id"], **json.loads(r["manifest"])} for r in rows])
    shown = [(r["release_id"], len(r["pair_ids"]), r["parent"], r["approver"]) for r in rows]
    return table(f"Releases of {lake}", ("release", "pairs", "parent", "approver"), shown)


@app.command()
def show(
    release: Annotated[str, typer.Argument(help="NAME@VERSION.")],
    lake: ExistingLake,
    json_: Json = True,
) -> None:
    """Show a release's manifest and pins, after checking that the tables are what was pinned.

    Example: dimo release show dance@1 --lake /data/lake
    """
    from dags.show import as_json
    from storage_schemas.releases import open_release

    opened = open_release(str(Path(lake)), release)
    as_json({"release": opened.id, "sha256": opened.sha256, "manifest": opened.manifest, "versions": opened.versions})
