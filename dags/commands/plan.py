"""`dimo plan ...`: what the commands of the same names would do; and `dimo retry`."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from dags.commands import data
from dags.options import ExistingLake, Json

if TYPE_CHECKING:
    from pipelines.forecast import Forecast
    from storage_schemas.lake import Lake

_dry: ContextVar[bool] = ContextVar("dry", default=False)
MADE_BY = {
    "sources": "dimo ingest",
    "clips": "dimo ingest",
    "duplicates": "dimo ingest",
    "rigs": "dimo ingest",
    "poses": "dimo label",
    "captions": "dimo caption",
    "latents": "dimo encode",
    "pairs": "dimo encode",
}
"""The command that does the work of each stage."""

app = typer.Typer(
    help="Show what a command would do: what is done already, what is left, time and disk by earlier runs.\n\n"
    "Takes the options of the command itself; writes nothing. Later stages are planned from what is stored now.\n\n"
    "Example: dimo plan label --lake /data/lake",
    no_args_is_help=True,
)
for command in (data.ingest, data.label, data.caption, data.encode):
    app.command()(command)


@app.callback()
def plan(context: typer.Context) -> None:
    """Make every command inside a dry one."""
    context.with_resource(_planning())


@app.command("all")
def everything(
    lake: ExistingLake,
    base: Annotated[
        Path | None, typer.Option(exists=True, help="Plan `dimo encode` as well, for this pretrained model.")
    ] = None,
    json_: Json = False,
) -> None:
    """Plan all stages after `dimo ingest`, as their commands would run without options.

    Example: dimo plan all --lake /data/lake
    """
    from pipelines.latents import LatentsConfig
    from pipelines.windows import Window

    encode = [("encode", LatentsConfig(str(base), Window(121, 1, 832, 480)))] if base else []
    show_plan(lake, [("cut",), ("measure",), ("label",), ("caption",), *encode], json_)
    if not base and not json_:
        print("`dimo encode` is not planned: give --base")


def retry(
    lake: ExistingLake,
    error_class: Annotated[str | None, typer.Option("--class", help="transient, permanent, data or bug.")] = None,
    stage: Annotated[str | None, typer.Option(help="sources, clips, rigs, poses, captions, latents or pairs.")] = None,
    message: Annotated[str | None, typer.Option(help="Part of the message.")] = None,
    name: Annotated[str | None, typer.Option(help="Part of the item's name.")] = None,
    reason: Annotated[str | None, typer.Option(help="One word such as blocked, too_large, not_a_video.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Also what was tried too often.")] = False,
    json_: Json = False,
) -> None:
    """Let failed work be tried again by the next run, now and however it failed.

    Example: dimo retry --lake /data/lake --class transient
    """
    from dags.show import as_json, reject_groups
    from pipelines.rejects import CLASSES, MOST_ATTEMPTS, Choice, group_rejects
    from pipelines.rejects import retry as request
    from pipelines.standing import STAGES
    from storage_schemas.lake import Lake

    for what, given, known in (("--class", error_class, CLASSES), ("--stage", stage, STAGES)):
        if given is not None and given not in known:
            raise ValueError(f"{what} {given!r}: use one of {', '.join(known)}")
    found = request(Lake(lake), Choice(error_class, stage, message, name, reason), force)
    due, refused = group_rejects(found.due), group_rejects(found.refused)
    commands = sorted({MADE_BY[group.stage] for group in due})
    if json_:
        return as_json({"due": [vars(g) for g in due], "refused": [vars(g) for g in refused], "commands": commands})
    reject_groups("Due now", due)
    reject_groups(f"Tried {MOST_ATTEMPTS} times: not again without --force", refused)
    if commands:
        print(f"{found.due.num_rows} due: run {' and '.join(f'`{c}`' for c in commands)} with the same options again")
    elif not refused:
        print("nothing failed that fits")


def is_dry() -> bool:
    """Whether this command runs inside `dimo plan`."""
    return _dry.get()


def show_plan(lake: str, calls: list[data.Call], json_: bool) -> None:
    """What the flows of these calls would do."""
    from dags import show
    from storage_schemas.lake import Lake, is_lake

    with TemporaryDirectory() as empty:  # where there is no lake yet, nothing is made there for a plan
        found = _forecasts(Lake(lake if is_lake(lake) else empty), calls)
    show.as_json([vars(f) for f in found]) if json_ else show.forecasts(found)


@contextmanager
def _planning() -> Iterator[None]:
    token = _dry.set(True)
    try:
        yield
    finally:
        _dry.reset(token)


def _forecasts(lake: "Lake", calls: list[data.Call]) -> "list[Forecast]":
    from dags import steps
    from pipelines.forecast import forecast

    found = [step for name, *args in calls for step in getattr(steps, name)(lake, *args)]
    return [forecast(lake, step.stage.name, step.plan()) for step in found]
