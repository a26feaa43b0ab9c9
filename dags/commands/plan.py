"""`dimo plan ...`: what the commands of the same names would do; and `dimo retry`."""

import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from opendimo.dags.commands import budget, data
from opendimo.dags.options import ExistingLake, Json, PolicyFile

if TYPE_CHECKING:
    from opendimo.dags.steps import Step
    from opendimo.pipelines.engine.planned import Planned
    from opendimo.pipelines.progress import Forecast, Tried
    from opendimo.storage_schemas.lake.lake import Lake

Sample = Annotated[
    int, typer.Option(min=0, help="Where no run is known, do so many items for real, in a lake made for that.")
]
SampleMinutes = Annotated[float, typer.Option(min=0.01, help="Longest time for that, in minutes.")]


@dataclass(frozen=True)
class Trial:
    """How many items are tried for a plan, and for how long."""

    count: int = 0
    minutes: float = 10.0


TRIAL = (("sample", Sample, Trial.count), ("sample_minutes", SampleMinutes, Trial.minutes))
_dry: ContextVar[Trial | None] = ContextVar("dry", default=None)
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
    "Examples:\n\n"
    "dimo plan label --lake /data/lake\n\n"
    "dimo plan ingest internet urls.csv --lake /data/lake --sample 8",
    no_args_is_help=True,
)


def planning(command: Callable[..., None]) -> Callable[..., None]:
    """The command as one that only plans, with options of its own beside the command's."""

    @wraps(command)
    def planned(*args: Any, sample: Sample = 0, sample_minutes: SampleMinutes = 10.0, **options: Any) -> None:
        token = _dry.set(Trial(sample, sample_minutes))
        try:
            command(*args, **options)
        finally:
            _dry.reset(token)

    own = [Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=kind) for name, kind, default in TRIAL]
    parameters = [*signature(command).parameters.values(), *own]
    planned.__signature__ = Signature(parameters)  # type: ignore[attr-defined]  # what typer makes options of
    planned.__annotations__ = command.__annotations__ | {name: kind for name, kind, _ in TRIAL}
    return planned


for command in (data.ingest, data.label, data.caption, data.encode):
    app.command()(planning(command))
app.command()(budget.train)


@app.command("all")
@planning
def everything(
    lake: ExistingLake,
    base: Annotated[str | None, typer.Option(help="Plan `dimo encode` as well, for this pretrained model.")] = None,
    policy: PolicyFile = None,
    json_: Json = False,
) -> None:
    """Plan all stages after `dimo ingest`, as their commands would run with no options but the policy.

    Example: dimo plan all --lake /data/lake --policy quality.toml
    """
    from opendimo.pipelines.latents.stage import LatentsConfig
    from opendimo.pipelines.latents.windows import Window
    from opendimo.pipelines.quality.policy import policy_of

    judge = policy_of(policy)
    encode = [("encode", LatentsConfig(base, Window(121, 1, 832, 480)), judge)] if base else []
    labels = [("label", None, judge), ("caption", None, judge)]
    show_plan(lake, [("cut", None, judge), ("measure",), *labels, *encode], json_)
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
    from opendimo.dags.show import as_json, reject_groups
    from opendimo.pipelines.engine.rejects import CLASSES, MOST_ATTEMPTS, Choice, group_rejects
    from opendimo.pipelines.engine.rejects import retry as request
    from opendimo.pipelines.engine.work_status import STAGES
    from opendimo.storage_schemas.lake.lake import Lake

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
    return _dry.get() is not None


def show_plan(lake: str, calls: list[data.Call], json_: bool) -> None:
    """What the flows of these calls would do."""
    from opendimo.dags import show
    from opendimo.storage_schemas.lake.lake import Lake, is_lake

    trial = _dry.get() or Trial()
    with TemporaryDirectory() as empty, TemporaryDirectory() as away:
        # where there is no lake yet, nothing is made there for a plan
        home = Lake(lake if is_lake(lake) else empty)
        found = _forecasts(home, Lake(away) if trial.count else None, calls, trial)
    show.as_json([vars(f) for f in found]) if json_ else show.forecasts(found)


def _forecasts(lake: "Lake", away: "Lake | None", calls: list[data.Call], trial: Trial) -> "list[Forecast]":
    from opendimo.dags import steps
    from opendimo.pipelines.progress import forecast

    found: list[Forecast] = []
    deadline = time.monotonic() + 60 * trial.minutes
    for name, *args in calls:
        tries = getattr(steps, name)(away or lake, *args)
        for step, there in zip(getattr(steps, name)(lake, *args), tries, strict=True):
            stage, planned = step.stage.name, step.plan()
            tried = _try_out(lake, away, step, there, planned, trial.count, deadline) if away else None
            found.append(forecast(lake, stage, planned, tried, found))
    return found


def _try_out(
    lake: "Lake", away: "Lake", step: "Step", there: "Step", planned: "Planned", count: int, deadline: float
) -> "Tried | None":
    """Do a few pieces of work of a step of which no run is known: of what is left in the lake, or else of what the
    steps before made of theirs. Sources are fetched where the trial is, all else is read where it is."""
    from opendimo.pipelines.progress import measured, try_out

    if measured(lake, step.stage.name, planned.revision) is not None:
        return None
    if step.stage.name == "sources":
        return try_out(lake, away, there.stage, planned, count, deadline)
    if len(planned):
        return try_out(lake, away, step.stage, planned, count, deadline)
    return try_out(away, away, there.stage, there.plan(), 1 << 20, deadline)
