"""`dimo status` and `dimo retry`: what was done, what failed, and what runs again."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from opendimo.dags.options import ExistingLake, Json, PolicyFile

if TYPE_CHECKING:
    from opendimo.pipelines.quality.policy import Policy
    from opendimo.storage_schemas.lake.lake import Lake

MADE_BY = {
    "sources": "dimo ingest",
    "clips": "dimo ingest",
    "duplicates": "dimo ingest",
    "hands": "dimo ingest",
    "rigs": "dimo ingest",
    "poses": "dimo label",
    "captions": "dimo caption",
    "latents": "dimo encode",
    "pairs": "dimo encode",
}
"""Command that runs each stage."""


def status(
    lake: ExistingLake,
    policy: PolicyFile = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again every few seconds, until Ctrl-C.")] = False,
    every: Annotated[float, typer.Option(min=1, help="With --watch: seconds between two looks.")] = 5.0,
    json_: Json = False,
) -> None:
    """Show the work status of every stage, and what was rejected and why.

    Examples:

    dimo status --lake /data/lake

    dimo status --lake /data/lake --watch
    """
    from rich.console import Console

    from opendimo.pipelines.quality.policy import policy_of
    from opendimo.storage_schemas.lake.lake import Lake

    home, thresholds = Lake(lake), policy_of(policy)
    _show(home, thresholds, json_)
    while watch:
        time.sleep(every)
        if not json_:
            Console().clear()
        _show(home, thresholds, json_)


def _show(lake: "Lake", policy: "Policy", json_: bool) -> None:
    from opendimo.dags.show import accounts_json, as_json, funnel, reject_groups
    from opendimo.pipelines.engine.rejects import group_rejects, rejects
    from opendimo.pipelines.progress.status import funnel as count
    from opendimo.pipelines.progress.status import pending
    from opendimo.storage_schemas.lake.runs import unfinished

    accounts, failed = count(lake, policy), rejects(lake)
    groups, retries = group_rejects(failed), pending(failed)
    if json_:
        stages = [
            row | vars(retries[row["stage"]]) if row["stage"] in retries else row for row in accounts_json(accounts)
        ]
        return as_json({"stages": stages, "rejects": [vars(group) for group in groups]})
    funnel(accounts, "All work in the lake", retries)
    reject_groups("Rejects", groups)
    for plan in unfinished(lake):
        stage = plan.get("stage", "notes")
        print(f"a run of {stage} is in progress or was interrupted: repeat its command to resume it")
    return print(f"for the remaining work, see `dimo plan all --lake {lake.uri}`")


def retry(
    lake: ExistingLake,
    error_class: Annotated[
        str | None, typer.Option("--class", help="Only this error class: transient, permanent, data or bug.")
    ] = None,
    stage: Annotated[
        str | None,
        typer.Option(help="Only this stage: sources, clips, duplicates, hands, rigs, poses, captions, latents, pairs."),
    ] = None,
    message: Annotated[str | None, typer.Option(help="Only errors whose message contains this text.")] = None,
    name: Annotated[str | None, typer.Option(help="Only items whose name contains this text.")] = None,
    reason: Annotated[
        str | None, typer.Option(help="Only this reason, such as blocked, too_large or not_a_video.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Also retry work that reached the attempt limit.")] = False,
    json_: Json = False,
) -> None:
    """Mark failed work for retry in the next run, without back-off and whatever its error class.

    Example: dimo retry --lake /data/lake --class transient
    """
    from opendimo.dags.show import as_json, reject_groups
    from opendimo.pipelines.engine.rejects import CLASSES, MOST_ATTEMPTS, Choice, group_rejects
    from opendimo.pipelines.engine.rejects import retry as request
    from opendimo.pipelines.engine.work_status import STAGES
    from opendimo.storage_schemas.lake.lake import Lake

    for option, value, allowed in (("--class", error_class, CLASSES), ("--stage", stage, STAGES)):
        if value is not None and value not in allowed:
            raise ValueError(f"{option} {value!r}: use one of {', '.join(allowed)}")
    result = request(Lake(lake), Choice(error_class, stage, message, name, reason), force)
    due, refused = group_rejects(result.due), group_rejects(result.refused)
    commands = sorted({MADE_BY[group.stage] for group in due})
    if json_:
        return as_json({"due": [vars(g) for g in due], "refused": [vars(g) for g in refused], "commands": commands})
    reject_groups("Due now", due)
    reject_groups(f"Not retried without --force: {MOST_ATTEMPTS} attempts were made", refused)
    if commands:
        print(f"{result.due.num_rows} due: repeat {' and '.join(f'`{c}`' for c in commands)} with the same options")
    elif not refused:
        print("no failed work matches")
