"""`dimo doctor` and `dimo demo`: check this machine, and run the whole pipeline on it."""

from pathlib import Path
from typing import Annotated

import typer

from opendimo.dags.options import Json, PrefectApi, RayAddress, existing_lake_uri


def doctor(
    lake: Annotated[
        str | None, typer.Option("--lake", help="Also read all tables of this lake, to find damaged files.")
    ] = None,
    json_: Json = False,
) -> None:
    """Check packages, codecs, landmark models, GPU and disk, and print a fix for every failed check.

    Examples:

    dimo doctor

    dimo doctor --lake /data/lake
    """
    from opendimo.dags.doctor import examine
    from opendimo.dags.show import as_json, table

    findings = examine(existing_lake_uri(lake) if lake else None)
    if json_:
        as_json([vars(f) for f in findings])
    else:
        rows = [
            ("ok" if f.ok else "FIX" if f.needed else "-", f.what, f.found, "" if f.ok else f.fix) for f in findings
        ]
        table("Environment checks", ("", "check", "result", "fix"), rows)
    if not all(f.ok or not f.needed for f in findings):
        raise typer.Exit(1)


def demo(
    internet: Annotated[
        Path | None, typer.Option(help="Folder or list of your own videos. Default: rendered samples.")
    ] = None,
    unreal: Annotated[Path | None, typer.Option(help="BEDLAM-style render job. Default: a rendered sample.")] = None,
    multiview: Annotated[
        Path | None, typer.Option(help="Folder of synchronised, calibrated videos. Default: a rendered sample.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Total training steps. Default: as in the preset; fewer train less.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Output folder for everything the demo writes.")] = Path("demo-out"),
    json_: Json = False,
    prefect_api: PrefectApi = None,
    ray_address: RayAddress = None,
) -> None:
    """Run the whole DAG: ingest, label, caption, release, train a tiny 3DiMo, generate a clip, write a report.

    Inputs that are not given are rendered. Finished work is not repeated when the command is run again.

    Example: dimo demo --internet my-clips/ --out demo-out
    """
    from opendimo.dags.progress import console, display
    from opendimo.dags.session import session
    from opendimo.dags.show import as_json

    console.print("starting a Prefect server and Ray (takes some seconds) ...")
    with session(out / "session", prefect_api, ray_address) as api, display():
        from opendimo.dags.flows.demo import demo as demo_flow
        from opendimo.dags.flows.demo import summary

        console.print(f"Prefect dashboard: {api.removesuffix('/api')}")
        inputs = {"internet": internet, "unreal": unreal, "multiview": multiview}
        result = demo_flow(str(out), **{kind: str(path) for kind, path in inputs.items() if path}, steps=steps)
    as_json(result) if json_ else summary(result)
