"""Commands of who looks after a lake: clean, tables, takedown, migrate."""

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
    older_than: Annotated[str, typer.Option(help="Age of what may go: 14d, 36h, 30m, 0s.")] = "14d",
    abandoned: Annotated[bool, typer.Option(help="Also drop unfinished runs of that age that nobody drives.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would go, and what stays and why.")
    ] = False,
    json_: Json = False,
    prefect_api: PrefectApi = None,
) -> None:
    """Merge tiny fragments and free old versions, orphaned files, staging, and downloads that were given up; what a
    release pins stays.

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
            from opendimo.dags.upkeep import maintain

            merged, freed = maintain(lake, age, abandoned)
    if json_:
        return as_json({"merged": [asdict(m) for m in merged], "freed": [asdict(f) for f in freed]})
    if merged:
        rows = [(m.table, m.before, m.after, m.rows) for m in merged]
        word = "Would be merged" if dry_run else "Merged"
        table(word, ("table", "fragments", "fragments then", "rows written again"), rows)
    return _show(freed, "Would be freed" if dry_run else "Freed")


def sources(
    lake: ExistingLake,
    name: Annotated[str | None, typer.Option(help="Part of the name or uri.")] = None,
    licence: Annotated[str | None, typer.Option(help="This licence.")] = None,
    subject: Annotated[str | None, typer.Option(help="This person.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Show at most so many.")] = 50,
    links: Annotated[bool, typer.Option("--links", help="Show instead what became of the URLs of each host.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="With --links: first ask whether what was fetched is still there.")
    ] = False,
    cookies: Annotated[
        Path | None, typer.Option(exists=True, help="With --check: cookies in the format of Netscape.")
    ] = None,
    access: Annotated[
        Path | None, typer.Option(exists=True, help="With --check: TOML file with a proxy and headers by host.")
    ] = None,
    platform: Annotated[
        list[str] | None, typer.Option(help="With --check: a further host of which URLs are pages, not asked.")
    ] = None,
    allow_private: Annotated[bool, typer.Option(help="With --check: also this machine and its network.")] = False,
    json_: Json = False,
) -> None:
    """List what was ingested, with what a takedown needs to know; and what is taken down.

    Examples:

    dimo sources --lake /data/lake --licence CC-BY-NC-4.0

    dimo sources --lake /data/lake --links --check
    """
    if check and not links:
        raise ValueError("--check goes with --links")
    if check:
        _check(lake, cookies, access, platform or [], allow_private)
    if links:
        return _links(lake, limit, json_)
    from opendimo.dags.show import as_json, table
    from opendimo.storage_schemas.lake.lake import Lake
    from opendimo.storage_schemas.lake.takedown import list_sources

    found = list_sources(Lake(lake), name, licence, subject)
    if json_:
        return as_json(found)
    columns = ("source_id", "kind", "name", "licence", "subject", "content_sha256", "down")
    rows = [[row[c] if c != "content_sha256" else row[c][:12] + "…" for c in columns] for row in found[:limit]]
    more = "" if len(found) <= limit else f", the first {limit} (--limit, or --json for all and whole hashes)"
    return table(f"{len(found)} sources{more}", columns, rows)


def tables(lake: ExistingLake, json_: Json = False) -> None:
    """Show rows, versions, fragments and size of every table, and which releases pin it.

    Example: dimo tables --lake /data/lake
    """
    from opendimo.dags.show import as_json, table
    from opendimo.storage_schemas.lake.lake import Lake
    from opendimo.storage_schemas.lake.maintain import overview

    found = overview(Lake(lake))
    if json_:
        return as_json(found)
    columns = ("table", "rows", "fragments", "versions", "bytes", "pinned_by")
    return table(f"Tables of {lake}", columns, [(*map(row.get, columns[:5]), len(row["pinned_by"])) for row in found])


def takedown(
    lake: ExistingLake,
    reason: Annotated[str, typer.Option(help="Why.")],
    by: Annotated[str, typer.Option(help="Who decided.")],
    source_id: Annotated[str | None, typer.Option(help="One source.")] = None,
    content: Annotated[str | None, typer.Option(help="Every source whose file has this SHA-256.")] = None,
    licence: Annotated[str | None, typer.Option(help="Every source under this licence.")] = None,
    subject: Annotated[str | None, typer.Option(help="Every source that shows this person.")] = None,
    lift: Annotated[bool, typer.Option("--lift", help="Allow it again.")] = False,
    ahead: Annotated[bool, typer.Option("--ahead", help="Also where nothing in the lake matches yet.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what is concerned.")] = False,
    json_: Json = False,
) -> None:
    """Take sources down: later releases leave them out, also if they come again. Nothing is deleted.

    Examples:

    dimo takedown --lake /data/lake --licence CC-BY-NC-4.0 --reason "no commercial use" --by ann

    dimo takedown --lake /data/lake --source-id 3f5a... --reason "asked by the author" --by ann
    """
    from opendimo.dags.show import as_json, table
    from opendimo.storage_schemas.lake import takedown as stones
    from opendimo.storage_schemas.lake.lake import Lake
    from opendimo.storage_schemas.releases.files import releases_with

    given = {"source_id": source_id, "content_sha256": content, "licence": licence, "subject": subject}
    chosen = [(what, value) for what, value in given.items() if value is not None]
    if len(chosen) != 1:
        raise ValueError("say what to take down by one of --source-id, --content, --licence, --subject")
    what, value = chosen[0]
    home = Lake(lake)
    found = stones.concerned(home, what, value)
    if not dry_run and lift:
        stones.lift(home, what, value, reason, by)
    elif not dry_run:
        stones.take_down(home, what, value, reason, by, ahead)
    releases = releases_with(home, found.clips)
    counts = {"sources": len(found.sources), "clips": len(found.clips)}
    if json_:
        return as_json({"what": what, "value": value, "lift": lift, "dry_run": dry_run, "releases": releases} | counts)
    word = ("lifted" if lift else "taken down") if not dry_run else "concerned"
    print(f"{word}: {what} {value}: {counts['sources']} sources, {counts['clips']} clips")
    if releases:
        rows = [(release, "cannot be read" if pairs is None else pairs) for release, pairs in releases.items()]
        table("Releases that hold them, and keep them", ("release", "pairs"), rows)
    return print(f"The next release {'takes them in again' if lift else 'leaves them out'}.")


def migrate(
    lake: ExistingLake,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
) -> None:
    """Bring a lake that an older version wrote to the schema of this version; videos are not touched.

    Example: dimo migrate --lake /data/lake
    """
    from opendimo.storage_schemas.lake import migrate as migration
    from opendimo.storage_schemas.lake.lake import Lake

    home = Lake(lake, migrating=True)
    steps = migration.plan_migration(home) if dry_run else migration.migrate(home)
    for step in steps:
        print(f"{'would' if dry_run else 'done:'} {step}")
    if not steps:
        print(f"{home.uri} has this version's schema: nothing to do")


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
        found = check_links(Lake(lake), config, report)
    if found.not_asked:
        console.print(f"{found.not_asked} not asked: no file by http(s), or kept without what may be a secret")
    if found.later:
        console.print(f"{found.later} not asked yet: their hosts want a pause; check again later")


def _links(lake: str, limit: int, json_: bool) -> None:
    from opendimo.dags.show import as_json, size, table
    from opendimo.pipelines.sources.links import STATUSES
    from opendimo.pipelines.sources.links import links as by_host
    from opendimo.storage_schemas.lake.lake import Lake

    found = by_host(Lake(lake))
    if json_:
        return as_json([asdict(host) | {"rate": host.rate} for host in found])
    rows = []
    for host in found[:limit]:
        why = ", ".join(f"{reason} {n}" for reason, n in sorted(host.reasons.items(), key=lambda item: -item[1]))
        rate = "" if host.rate is None else f"{size(round(host.rate))}/s"
        counts = [getattr(host, status) for status in STATUSES]
        rows.append((host.host, host.urls, *counts, size(host.bytes), rate, why))
    more = "" if len(found) <= limit else f", the first {limit} (--limit, or --json for all)"
    return table(f"URLs of {len(found)} hosts{more}", ("host", "URLs", *STATUSES, "size", "rate", "why"), rows)


def _age(text: str) -> timedelta:
    if not (found := re.fullmatch(r"(\d+)([dhms])", text)):
        raise ValueError(f"--older-than {text!r}: write a number and d, h, m or s, such as 14d")
    return timedelta(**{UNITS[found[2]]: int(found[1])})


def _show(freed: "list[Freed]", title: str) -> None:
    from opendimo.dags.show import table

    rows = [(f.where, f.files, f"{f.bytes / 1e6:.1f} MB", f.versions, f.versions_kept) for f in freed]
    table(title, ("where", "files", "size", "versions", "versions kept"), rows)
    if kept := [(f.where, why) for f in freed for why in f.kept]:
        table("Kept", ("where", "what and why"), kept)
