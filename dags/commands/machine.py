"""Commands about this machine: does it work, and see it work."""

from pathlib import Path
from typing import Annotated

import typer

from opendimo.dags.options import Json, PrefectApi, RayAddress


def doctor(json_: Json = False) -> None:
    """Check packages, codecs, landmark models, GPU and disk: what works, and the fix where not.

    Example: dimo doctor
    """
    from opendimo.dags.doctor import examine
    from opendimo.dags.show import as_json, table

    findings = examine()
    if json_:
        as_json([vars(f) for f in findings])
    else:
        rows = [
            ("ok" if f.ok else "FIX" if f.needed else "-", f.what, f.found, "" if f.ok else f.fix) for f in findings
        ]
        table("What works here", ("", "what", "found", "what to do"), rows)
    if not all(f.ok or not f.needed for f in findings):
        raise typer.Exit(1)


def demo(
    internet: Annotated[Path | None, typer.Option(help="Your own clips instead of made ones: folder or list.")] = None,
    unreal: Annotated[Path | None, typer.Option(help="A BEDLAM-style render job instead of a made one.")] = None,
    multiview: Annotated[Path | None, typer.Option(help="Synchronised videos with calibration instead.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps in all; fewer show less.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for everything the demo makes.")] = Path("demo-out"),
    json_: Json = False,
    prefect_api: PrefectApi = None,
    ray_address: RayAddress = None,
) -> None:
    """Run the whole DAG: ingest, label, caption, release, train a tiny 3DiMo, generate a clip, write a report.

    What is not given it renders itself. Run again, it redoes no finished work.

    Example: dimo demo --internet my-clips/ --out demo-out
    """
    from opendimo.dags.progress import console, display
    from opendimo.dags.session import session
    from opendimo.dags.show import as_json

    console.print("starting a Prefect server and Ray (some seconds) ...")
    with session(out / "session", prefect_api, ray_address) as api, display():
        from opendimo.dags.demo import demo as demo_flow
        from opendimo.dags.demo import summary

        console.print(f"flows: {api.removesuffix('/api')}")
        given = {"internet": internet, "unreal": unreal, "multiview": multiview}
        result = demo_flow(str(out), **{kind: str(path) for kind, path in given.items() if path}, steps=steps)
    as_json(result) if json_ else summary(result)
