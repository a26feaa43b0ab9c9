"""Maintenance commands: clean, sources, tables, takedown, migrate."""

import re
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from opendimo.dags.options import ExistingLake, Json, PrefectApi

if TYPE_CHECKING:
    from opendimo.storage_schemas.lake.maintain import Freed

UNITS = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}


def clean(
    lake: ExistingLake,
    older_than: Annotated[str, typer.Option(help="Minimum age of the data to delete: 14d, 36h, 30m, 0s.")] = "14d",
    abandoned: Annotated[
        bool, typer.Option(help="Also delete unfinished runs of that age that no process is executing.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be deleted, and what would be kept and why.")
    ] = False,
    json_: Json = False,
    prefect_api: PrefectApi = None,
) -> None:
    """Compact small fragments, and delete old versions, orphaned files, staged data and abandoned downloads.

    Data pinned by a release is always kept.

    Examples:

    dimo clean --lake /data/lake --dry-run

    dimo clean --lake /data/lake --older-than 30d
    """
    from opendimo.dags.show import as_json, table
    from opendimo.storage_schemas.lake.lake import Lake

    age = _age(older_than)
    if dry_run:
        from opendimo.pipelines.sources.cleaning import clean_all
        from opendimo.storage_schemas.lake.compact import compact

        home = Lake(lake)
        merged, freed = compact(home, dry_run=True), clean_all(home, age, dry_run=True, abandoned=abandoned)
    else:
        from opendimo.dags.session import lake_session

        with lake_session(lake, prefect_api, ray=False):
            from opendimo.dags.flows.upkeep import maintain

            merged, freed = maintain(lake, age, abandoned)
    if json_:
        return as_json({"merged": [asdict(m) for m in merged], "freed": [asdict(f) for f in freed]})
    if merged:
        rows = [(m.table, m.before, m.after, m.rows) for m in merged]
        title = "Would be compacted" if dry_run else "Compacted"
        table(title, ("table", "fragments before", "fragments after", "rows rewritten"), rows)
    return _show(freed, "Would be deleted" if dry_run else "Deleted")


def sources(
    lake: ExistingLake,
    name: Annotated[str | None, typer.Option(help="Only sources whose name or URI contains this text.")] = None,
    licence: Annotated[str | None, typer.Option(help="Only sources under this licence.")] = None,
    subject: Annotated[str | None, typer.Option(help="Only sources that show this person.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of rows to show.")] = 50,
    links: Annotated[
        bool, typer.Option("--links", help="Show the download status of URLs per host instead of the sources.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="With --links: first probe whether the fetched URLs are still available.")
    ] = False,
    cookies: Annotated[
        Path | None, typer.Option(exists=True, help="With --check: cookies file in Netscape format.")
    ] = None,
    access: Annotated[
        Path | None, typer.Option(exists=True, help="With --check: TOML file with a proxy and per-host headers.")
    ] = None,
    platform: Annotated[
        list[str] | None,
        typer.Option(help="With --check: additional video platform whose URLs are not probed. Repeatable."),
    ] = None,
    allow_private: Annotated[
        bool, typer.Option(help="With --check: allow probes of this machine and its private network.")
    ] = False,
    json_: Json = False,
) -> None:
    """List the ingested sources, with licence, subject, content hash and takedown status.

    Examples:

    dimo sources --lake /data/lake --licence CC-BY-NC-4.0

    dimo sources --lake /data/lake --links --check
    """
    if check and not links:
        raise ValueError("--check requires --links: add --links")
    if check:
        _check(lake, cookies, access, platform or [], allow_private)
    if links:
        return _links(lake, limit, json_)
    from opendimo.dags.show import as_json, table
    from opendimo.storage_schemas.lake.lake import Lake
    from opendimo.storage_schemas.lake.takedown import list_sources

    source_rows = list_sources(Lake(lake), name, licence, subject)
    if json_:
        return as_json(source_rows)
    columns = ("source_id", "kind", "name", "licence", "subject", "content_sha256", "down")
    cells = [[row[c] if c != "content_sha256" else row[c][:12] + "…" for c in columns] for row in source_rows[:limit]]
    more = "" if len(source_rows) <= limit else f", first {limit} (use --limit, or --json for all rows and full hashes)"
    return table(f"{len(source_rows)} sources{more}", columns, cells)


def tables(lake: ExistingLake, json_: Json = False) -> None:
    """Show rows, versions, fragments and size of every table, and which releases pin it.

    Example: dimo tables --lake /data/lake
    """
    from opendimo.dags.show import as_json, table
    from opendimo.storage_schemas.lake.lake import Lake
    from opendimo.storage_schemas.lake.maintain import overview

    table_rows = overview(Lake(lake))
    if json_:
        return as_json(table_rows)
    columns = ("table", "rows", "fragments", "versions", "bytes", "pinned_by")
    cells = [(*map(row.get, columns[:5]), len(row["pinned_by"])) for row in table_rows]
    return table(f"Tables of {lake}", columns, cells)


def takedown(
    lake: ExistingLake,
    reason: Annotated[str, typer.Option(help="Reason for the takedown.")],
    by: Annotated[str, typer.Option(help="Person who decided.")],
    source_id: Annotated[str | None, typer.Option(help="Take down this source.")] = None,
    content: Annotated[str | None, typer.Option(help="Take down every source whose file has this SHA-256.")] = None,
    licence: Annotated[str | None, typer.Option(help="Take down every source under this licence.")] = None,
    subject: Annotated[str | None, typer.Option(help="Take down every source that shows this person.")] = None,
    lift: Annotated[bool, typer.Option("--lift", help="Revoke an earlier takedown.")] = False,
    ahead: Annotated[bool, typer.Option("--ahead", help="Accept a value that no source in the lake has yet.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show the affected sources, clips and releases.")
    ] = False,
    json_: Json = False,
) -> None:
    """Exclude sources from all later releases, even if they are ingested again. Nothing is deleted.

    Examples:

    dimo takedown --lake /data/lake --licence CC-BY-NC-4.0 --reason "no commercial use" --by ann

    dimo takedown --lake /data/lake --source-id 3f5a... --reason "request of the author" --by ann
    """
    from opendimo.dags.show import as_json, table
    from opendimo.storage_schemas.lake import takedown as stones
    from opendimo.storage_schemas.lake.lake import Lake
    from opendimo.storage_schemas.releases.files import releases_with

    options = {"source_id": source_id, "content_sha256": content, "licence": licence, "subject": subject}
    selectors = [(what, value) for what, value in options.items() if value is not None]
    if len(selectors) != 1:
        raise ValueError("select what to take down by exactly one of --source-id, --content, --licence, --subject")
    what, value = selectors[0]
    home = Lake(lake)
    affected = stones.concerned(home, what, value)
    if not dry_run and lift:
        stones.lift(home, what, value, reason, by)
    elif not dry_run:
        stones.take_down(home, what, value, reason, by, ahead)
    releases = releases_with(home, affected.clips)
    counts = {"sources": len(affected.sources), "clips": len(affected.clips)}
    if json_:
        return as_json({"what": what, "value": value, "lift": lift, "dry_run": dry_run, "releases": releases} | counts)
    action = ("lifted" if lift else "taken down") if not dry_run else "affected"
    print(f"{action}: {what} {value}: {counts['sources']} sources, {counts['clips']} clips")
    if releases:
        rows = [(release, "unreadable" if pairs is None else pairs) for release, pairs in releases.items()]
        table("Existing releases that contain them (not changed)", ("release", "affected pairs"), rows)
    return print(f"The next release {'includes them again' if lift else 'excludes them'}.")


def migrate(
    lake: ExistingLake,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the migration steps.")] = False,
) -> None:
    """Migrate a lake written by an older version to the current schema. Videos are not rewritten.

    Example: dimo migrate --lake /data/lake
    """
    from opendimo.storage_schemas.lake import migrate as migration
    from opendimo.storage_schemas.lake.lake import Lake

    home = Lake(lake, migrating=True)
    steps = migration.plan_migration(home) if dry_run else migration.migrate(home)
    for step in steps:
        print(f"{'would' if dry_run else 'done:'} {step}")
    if not steps:
        print(f"{home.uri} already has the current schema: nothing to do")


def _check(lake: str, cookies: Path | None, access: Path | None, hosts: list[str], allow_private: bool) -> None:
    from opendimo.dags.follow import follow
    from opendimo.dags.progress import console, display
    from opendimo.pipelines.sources import SourcesConfig
    from opendimo.pipelines.sources.check_links import check_links
    from opendimo.pipelines.sources.config import PLATFORMS
    from opendimo.storage_schemas.lake.lake import Lake

    config = SourcesConfig(
        cookies=str(cookies.absolute()) if cookies else None,
        access=str(access.absolute()) if access else None,
        platforms=(*PLATFORMS, *hosts),
        allow_private=allow_private,
    )
    with display(), follow("check links") as report:
        result = check_links(Lake(lake), config, report)
    if result.not_asked:
        console.print(
            f"{result.not_asked} URLs not probed: not a direct http(s) file, or stored without parts that may be secret"
        )
    if result.later:
        console.print(f"{result.later} URLs not probed yet: their hosts asked us to pause; run the check again later")


def _links(lake: str, limit: int, json_: bool) -> None:
    from opendimo.dags.show import as_json, size, table
    from opendimo.pipelines.sources.links import STATUSES
    from opendimo.pipelines.sources.links import links as by_host
    from opendimo.storage_schemas.lake.lake import Lake

    hosts = by_host(Lake(lake))
    if json_:
        return as_json([asdict(host) | {"rate": host.rate} for host in hosts])
    rows = []
    for host in hosts[:limit]:
        reasons = ", ".join(f"{reason} {n}" for reason, n in sorted(host.reasons.items(), key=lambda item: -item[1]))
        rate = "" if host.rate is None else f"{size(round(host.rate))}/s"
        counts = [getattr(host, status) for status in STATUSES]
        rows.append((host.host, host.urls, *counts, size(host.bytes), rate, reasons))
    more = "" if len(hosts) <= limit else f", first {limit} (use --limit, or --json for all)"
    return table(f"URLs of {len(hosts)} hosts{more}", ("host", "URLs", *STATUSES, "size", "rate", "reasons"), rows)


def _age(text: str) -> timedelta:
    if not (match := re.fullmatch(r"(\d+)([dhms])", text)):
        raise ValueError(f"--older-than {text!r} is not an age: write a number and d, h, m or s, such as 14d")
    return timedelta(**{UNITS[match[2]]: int(match[1])})


def _show(freed: "list[Freed]", title: str) -> None:
    from opendimo.dags.show import table

    rows = [(f.where, f.files, f"{f.bytes / 1e6:.1f} MB", f.versions, f.versions_kept) for f in freed]
    table(title, ("where", "files", "size", "versions", "versions kept"), rows)
    if kept := [(f.where, why) for f in freed for why in f.kept]:
        table("Kept", ("where", "item and reason"), kept)
