"""`dimo release ...`: immutable sets of training pairs."""

import json
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from opendimo.dags.options import ExistingLake, Json, PrefectApi

app = typer.Typer(help="Immutable, pinned sets of training pairs.", no_args_is_help=True)

ReleaseId = Annotated[str, typer.Argument(help="NAME@VERSION.")]
By = Annotated[str, typer.Option("--by", help="Who decides.")]


class Format(StrEnum):
    """Layouts of an export."""

    webdataset = "webdataset"
    huggingface = "huggingface"


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Name of the release; the version is counted up.")],
    lake: ExistingLake,
    policy: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="TOML file: licences, floors, counts, approval.")
    ] = None,
    json_: Json = False,
    prefect_api: PrefectApi = None,
) -> None:
    """Pin the newest pairs as a release; the same pairs and policy again give the same release.

    Example: dimo release create dance --lake /data/lake --policy release.toml
    """
    from opendimo.dags.progress import display
    from opendimo.dags.session import lake_session
    from opendimo.dags.show import as_json
    from opendimo.storage_schemas.lake.lake import Lake
    from opendimo.storage_schemas.releases.policy import load_policy
    from opendimo.storage_schemas.releases.release import check_name, find_release

    check_name(name)
    wanted = load_policy(policy) if policy else None
    with lake_session(lake, prefect_api, ray=False), display():
        from opendimo.dags.flows import publish

        release = publish(lake, name, wanted)
    state = find_release(Lake(lake), release)["state"]
    if json_:
        return as_json({"release": release, "state": state})
    waits = f"; it waits for approval: dimo release approve {release} --by NAME --lake {lake}"
    return print(f"released {release}{waits if state == 'pending' else ''}")


@app.command("list")
def list_(lake: ExistingLake, json_: Json = False) -> None:
    """List the releases of a lake.

    Example: dimo release list --lake /data/lake
    """
    from opendimo.dags.show import as_json, table
    from opendimo.storage_schemas.lake.lake import Lake
    from opendimo.storage_schemas.releases.release import list_releases

    rows = list_releases(Lake(lake))
    if json_:
        return as_json([_summary(row) for row in rows])
    shown = [(r["release_id"], r["pairs"], r["state"], _who(r), r["parent"], _day(r["created_at"])) for r in rows]
    return table(f"Releases of {lake}", ("release", "pairs", "state", "decided by", "parent", "made"), shown)


@app.command()
def show(release: ReleaseId, lake: ExistingLake, json_: Json = False) -> None:
    """Show what a release holds, after checking that it is what was written.

    Example: dimo release show dance@1 --lake /data/lake
    """
    from opendimo.dags.release_card import sections
    from opendimo.dags.show import as_json, table
    from opendimo.storage_schemas.lake.lake import Lake
    from opendimo.storage_schemas.releases.release import find_release, open_row

    home = Lake(lake)
    row = find_release(home, release)
    opened = open_row(home, row)
    if json_:
        return as_json(_summary(row) | {"sha256": opened.sha256, "versions": opened.versions})
    print(f"{opened.id}  {row['state']}{' by ' + row['decision']['by'] if row['decision'] else ''}  {opened.sha256}")
    for title, columns, rows in sections(opened.manifest):
        table(title, columns, rows)
    return None


@app.command()
def diff(
    older: ReleaseId,
    newer: ReleaseId,
    lake: ExistingLake,
    rows: Annotated[int, typer.Option(min=0, help="Also list this many pairs of each change.")] = 0,
    json_: Json = False,
) -> None:
    """Show what changed between two releases: pairs added, removed, relabelled, moved, and why.

    Example: dimo release diff dance@1 dance@2 --lake /data/lake --rows 5
    """
    from opendimo.dags.show import as_json, table
    from opendimo.storage_schemas.lake.lake import Lake
    from opendimo.storage_schemas.releases.diff import diff as compare

    found = compare(Lake(lake), older, newer, rows)
    if json_:
        return as_json(asdict(found))
    changes = [
        ("removed", found.removed, found.removed_why),
        ("added", found.added, found.added_why),
        ("relabelled", found.relabelled, found.by_field | found.relabelled_why),
        ("moved", found.moved, found.splits),
    ]
    lines = [(name, count, ", ".join(f"{reason} {n}" for reason, n in why.items())) for name, count, why in changes]
    table(f"{older} ({found.before} pairs) to {newer} ({found.after} pairs)", ("change", "pairs", "why"), lines)
    for change, listed in found.examples.items():
        if listed:
            table(f"{change}, the first {len(listed)}", list(listed[0]), [list(row.values()) for row in listed])
    return None


@app.command()
def verify(
    release: ReleaseId,
    lake: ExistingLake,
    deep: Annotated[bool, typer.Option("--deep", help="Also compare every video with its own hash.")] = False,
    json_: Json = False,
) -> None:
    """Read every file of a release again and compare its hash; exit code 1 where one is not what was written.

    Example: dimo release verify dance@1 --lake /data/lake
    """
    from opendimo.dags.follow import MEGABYTE, follow
    from opendimo.dags.progress import display
    from opendimo.dags.show import as_json
    from opendimo.storage_schemas.lake.lake import Lake
    from opendimo.storage_schemas.releases.verify import verify as check

    with display(), follow("hash files (MB)", MEGABYTE) as report:
        found = check(Lake(lake), release, deep, report)
    if json_:
        as_json(asdict(found))
    else:
        for line in found.damaged:
            print(f"damaged: {line}")
        for source in found.taken_down:
            print(f"warning: source {source} was taken down since; the next release leaves it out")
        videos = f" and {found.videos} videos" if deep else ""
        word = f"{len(found.damaged)} damaged" if found.damaged else "all as written"
        print(f"{release}: {found.files} files ({found.bytes / MEGABYTE:.1f} MB){videos}, {word}")
    if found.damaged:
        raise typer.Exit(1)


@app.command()
def approve(
    release: ReleaseId,
    lake: ExistingLake,
    by: By,
    note: Annotated[str | None, typer.Option(help="What was looked at.")] = None,
    json_: Json = False,
    prefect_api: PrefectApi = None,
) -> None:
    """Let training use a release that waits for approval, or one that was withdrawn.

    Example: dimo release approve dance@1 --by ann --note "looked at 50 clips" --lake /data/lake
    """
    from opendimo.dags.session import lake_session
    from opendimo.dags.show import as_json
    from opendimo.storage_schemas.lake.lake import Lake
    from opendimo.storage_schemas.releases.release import find_release

    find_release(Lake(lake), release)
    with lake_session(lake, prefect_api, ray=False):
        from opendimo.dags.flows import approve as approve_flow

        news = approve_flow(lake, release, by, note)
    if json_:
        return as_json({"release": release, "approved": True, "news": news})
    return print(f"{release} is approved" if news else f"{release} was approved already")


@app.command()
def rollback(
    name: Annotated[str, typer.Argument(help="Name of the release.")],
    lake: ExistingLake,
    by: By,
    reason: Annotated[str, typer.Option(help="Why.")],
    to: Annotated[int | None, typer.Option(help="Version to go back to; without it, one step.")] = None,
    json_: Json = False,
) -> None:
    """Withdraw the versions after a good one: nothing trains on them any more, nothing is deleted.

    Example: dimo release rollback dance --to 3 --by ann --reason "bad hand labels" --lake /data/lake
    """
    from opendimo.dags.show import as_json
    from opendimo.storage_schemas.lake.lake import Lake
    from opendimo.storage_schemas.releases.approval import rollback as roll_back

    newest, withdrawn = roll_back(Lake(lake), name, to, by, reason)
    if json_:
        return as_json({"newest": newest, "withdrawn": withdrawn})
    return print(f"withdrawn: {', '.join(withdrawn) or 'nothing more'}; the newest usable release is {newest}")


@app.command()
def export(
    release: ReleaseId,
    lake: ExistingLake,
    out: Annotated[Path, typer.Option(file_okay=False, help="Folder to write into.")],
    format_: Annotated[Format, typer.Option("--format", help="Layout of the files.")] = Format.webdataset,
    shard_mb: Annotated[int, typer.Option(min=1, help="Size of a WebDataset shard.")] = 1000,
    json_: Json = False,
) -> None:
    """Write a release as files for other trainers; what was stopped goes on.

    Example: dimo release export dance@1 --format webdataset --out /data/dance --lake /data/lake
    """
    from opendimo.dags.follow import MEGABYTE, follow
    from opendimo.dags.progress import display
    from opendimo.dags.show import as_json
    from opendimo.storage_schemas.releases.export import export as write
    from opendimo.storage_schemas.releases.release import open_release
    from opendimo.storage_schemas.releases.verify import check_bytes

    opened = open_release(lake, release)
    with display():
        with follow("check files (MB)", MEGABYTE) as report:
            check_bytes(opened.lake, release, report)
        with follow("clips written") as report:
            clips = write(opened, out, format_.value, shard_mb * MEGABYTE, report)
    as_json({"release": release, "clips": clips, "out": str(out)}) if json_ else print(f"{clips} clips in {out}")


def _summary(row: dict[str, Any]) -> dict[str, Any]:
    decision = row["decision"] and {key: row["decision"][key] for key in ("decision", "by", "note")}
    facts = {key: row[key] for key in ("state", "parent", "needs_approval", "row_set_sha256", "inventory_sha256")}
    return {"release": row["release_id"], **facts, "decision": decision, **json.loads(row["manifest"])}


def _who(row: dict[str, Any]) -> str | None:
    return row["decision"] and row["decision"]["by"]


def _day(nanoseconds: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(nanoseconds / 1e9, UTC).strftime("%Y-%m-%d %H:%M")
