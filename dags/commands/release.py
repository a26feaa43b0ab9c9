"""`dimo release ...`: create, inspect, approve, reject and export immutable sets of training pairs."""

import json
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from opendimo.dags.options import ExistingLake, Json, PrefectApi

app = typer.Typer(help="Manage releases: immutable, pinned sets of training pairs.", no_args_is_help=True)

ReleaseId = Annotated[str, typer.Argument(help="Release, as NAME@VERSION.")]
ReviewsApi = Annotated[
    str | None,
    typer.Option(
        envvar="PREFECT_API_URL",
        help="URL of the Prefect server API where a review of the release may wait. Default: that of `dimo serve`.",
    ),
]
By = Annotated[str, typer.Option("--by", help="Person who makes the decision.")]


class Format(StrEnum):
    """File layout of an export."""

    webdataset = "webdataset"
    huggingface = "huggingface"


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Name of the release; the version number is assigned.")],
    lake: ExistingLake,
    policy: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="TOML file with the release policy: licences, quality floors, minimum counts, approval.",
        ),
    ] = None,
    json_: Json = False,
    prefect_api: PrefectApi = None,
) -> None:
    """Pin the newest pairs as a release. Idempotent: the same pairs and policy return the existing release.

    Example: dimo release create dance --lake /data/lake --policy release.toml
    """
    from opendimo.dags.progress import display
    from opendimo.dags.session import lake_session
    from opendimo.dags.show import as_json
    from opendimo.storage_schemas.lake.lake import Lake
    from opendimo.storage_schemas.releases.policy import ReleasePolicy
    from opendimo.storage_schemas.releases.release import check_name, find_release
    from opendimo.storage_schemas.settings import load_settings

    check_name(name)
    release_policy = load_settings(policy, ReleasePolicy) if policy else None
    with lake_session(lake, prefect_api, ray=False), display():
        from opendimo.dags.flows.releases import publish

        release = publish(lake, name, release_policy)
    state = find_release(Lake(lake), release)["state"]
    if json_:
        return as_json({"release": release, "state": state})
    hint = f"; approval is pending: dimo release approve {release} --by NAME --lake {lake}"
    return print(f"released {release}{hint if state == 'pending' else ''}")


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
    cells = [
        (r["release_id"], r["pairs"], r["state"], _decided_by(r), r["parent"], _utc_minute(r["created_at"]))
        for r in rows
    ]
    return table(f"Releases of {lake}", ("release", "pairs", "state", "decided by", "parent", "created (UTC)"), cells)


@app.command()
def show(release: ReleaseId, lake: ExistingLake, json_: Json = False) -> None:
    """Show the contents of a release, after checking that it was not modified since it was created.

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
    rows: Annotated[int, typer.Option(min=0, help="List this many example pairs for each kind of change.")] = 0,
    json_: Json = False,
) -> None:
    """Compare two releases: pairs added, removed, relabelled or moved to another split, with reasons.

    Example: dimo release diff dance@1 dance@2 --lake /data/lake --rows 5
    """
    from opendimo.dags.show import as_json, table
    from opendimo.storage_schemas.lake.lake import Lake
    from opendimo.storage_schemas.releases.diff import diff as compare

    result = compare(Lake(lake), older, newer, rows)
    if json_:
        return as_json(asdict(result))
    changes = [
        ("removed", result.removed, result.removed_why),
        ("added", result.added, result.added_why),
        ("relabelled", result.relabelled, result.by_field | result.relabelled_why),
        ("moved", result.moved, result.splits),
    ]
    lines = [(name, count, ", ".join(f"{why} {n}" for why, n in reasons.items())) for name, count, reasons in changes]
    table(f"{older} ({result.before} pairs) to {newer} ({result.after} pairs)", ("change", "pairs", "reasons"), lines)
    for change, examples in result.examples.items():
        if examples:
            table(f"{change}, first {len(examples)}", list(examples[0]), [list(row.values()) for row in examples])
    return None


@app.command()
def verify(
    release: ReleaseId,
    lake: ExistingLake,
    deep: Annotated[bool, typer.Option("--deep", help="Also verify the stored hash of every video.")] = False,
    json_: Json = False,
) -> None:
    """Verify the hash of every file of a release. Exits with code 1 if any file is damaged.

    Example: dimo release verify dance@1 --lake /data/lake
    """
    from opendimo.dags.follow import MEGABYTE, follow
    from opendimo.dags.progress import display
    from opendimo.dags.show import as_json
    from opendimo.storage_schemas.lake.lake import Lake
    from opendimo.storage_schemas.releases.verify import verify as check

    with display(), follow("hash files (MB)", MEGABYTE) as report:
        result = check(Lake(lake), release, deep, report)
    if json_:
        as_json(asdict(result))
    else:
        for line in result.damaged:
            print(f"damaged: {line}")
        for source in result.taken_down:
            print(f"warning: source {source} has been taken down since; the next release will exclude it")
        videos = f" and {result.videos} videos" if deep else ""
        verdict = f"{len(result.damaged)} damaged" if result.damaged else "all intact"
        print(f"{release}: {result.files} files ({result.bytes / MEGABYTE:.1f} MB){videos}, {verdict}")
    if result.damaged:
        raise typer.Exit(1)


@app.command()
def approve(
    release: ReleaseId,
    lake: ExistingLake,
    by: By,
    note: Annotated[str | None, typer.Option(help="Note on the review, stored with the decision.")] = None,
    json_: Json = False,
    prefect_api: PrefectApi = None,
) -> None:
    """Approve a pending or withdrawn release for training.

    Example: dimo release approve dance@1 --by ann --note "looked at 50 clips" --lake /data/lake
    """
    from opendimo.dags.session import lake_session
    from opendimo.dags.show import as_json
    from opendimo.storage_schemas.lake.lake import Lake
    from opendimo.storage_schemas.releases.release import find_release

    find_release(Lake(lake), release)
    with lake_session(lake, prefect_api, ray=False):
        from opendimo.dags.flows.releases import approve as approve_flow

        changed = approve_flow(lake, release, by, note)
    if json_:
        return as_json({"release": release, "approved": True, "news": changed})
    return print(f"{release} is approved" if changed else f"{release} was already approved")


@app.command()
def reject(
    release: ReleaseId,
    lake: ExistingLake,
    by: By,
    reason: Annotated[str, typer.Option(help="Reason, stored with the decision.")],
    json_: Json = False,
    prefect_api: ReviewsApi = None,
) -> None:
    """Turn down a pending release, or withdraw a usable one, so that training refuses it. Nothing is deleted.

    Ends a review that waits for this decision. `dimo release approve` reverses it.

    Example: dimo release reject dance@1 --by ann --reason "clips of children" --lake /data/lake
    """
    from opendimo.dags.reviews import end_reviews_on_running_server
    from opendimo.dags.show import as_json
    from opendimo.storage_schemas.lake.lake import Lake
    from opendimo.storage_schemas.releases.approval import reject_release

    if not reason.strip():
        raise ValueError("a rejection needs a reason: --reason TEXT")
    changed = reject_release(Lake(lake), release, by, reason)
    end_reviews_on_running_server(lake, prefect_api)
    if json_:
        return as_json({"release": release, "approved": False, "news": changed})
    return print(f"{release} is rejected" if changed else f"{release} was already rejected or withdrawn")


@app.command()
def rollback(
    name: Annotated[str, typer.Argument(help="Name of the release.")],
    lake: ExistingLake,
    by: By,
    reason: Annotated[str, typer.Option(help="Reason for the withdrawal.")],
    to: Annotated[int | None, typer.Option(help="Version to go back to. Default: the previous usable one.")] = None,
    json_: Json = False,
    prefect_api: ReviewsApi = None,
) -> None:
    """Withdraw all versions newer than a given one, so that training rejects them. Nothing is deleted.

    Example: dimo release rollback dance --to 3 --by ann --reason "bad hand labels" --lake /data/lake
    """
    from opendimo.dags.reviews import end_reviews_on_running_server
    from opendimo.dags.show import as_json
    from opendimo.storage_schemas.lake.lake import Lake
    from opendimo.storage_schemas.releases.approval import rollback as roll_back

    newest, withdrawn = roll_back(Lake(lake), name, to, by, reason)
    end_reviews_on_running_server(lake, prefect_api)
    if json_:
        return as_json({"newest": newest, "withdrawn": withdrawn})
    return print(f"withdrawn: {', '.join(withdrawn) or 'none'}; the newest usable release is {newest}")


@app.command()
def export(
    release: ReleaseId,
    lake: ExistingLake,
    out: Annotated[Path, typer.Option(file_okay=False, help="Output folder.")],
    format_: Annotated[Format, typer.Option("--format", help="File layout.")] = Format.webdataset,
    shard_mb: Annotated[int, typer.Option(min=1, help="Size of a WebDataset shard, in MB.")] = 1000,
    json_: Json = False,
) -> None:
    """Export a release as files for other trainers. Resumes an interrupted export.

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


def _decided_by(row: dict[str, Any]) -> str | None:
    return row["decision"] and row["decision"]["by"]


def _utc_minute(nanoseconds: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(nanoseconds / 1e9, UTC).strftime("%Y-%m-%d %H:%M")
