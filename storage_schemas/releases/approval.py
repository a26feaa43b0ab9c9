"""Letting training use a release, and taking that back."""

from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.releases.decisions import USABLE, decide
from opendimo.storage_schemas.releases.release import find_release, list_releases


def approve_release(lake: Lake, release_id: str, by: str, note: str | None = None) -> bool:
    """Let training use a release; whether that is news. Raises `ValueError` where there is no such release."""
    find_release(lake, release_id)
    return bool(decide(lake, [release_id], "approved", by, note))


def rollback(lake: Lake, name: str, to: int | None, by: str, reason: str) -> tuple[str, list[str]]:
    """Withdraw every version of `name` after `to` (default: the usable one before the newest usable one); return the
    release that is then the newest usable one, and what was withdrawn. Raises `ValueError` where that cannot be."""
    if not reason.strip():
        raise ValueError("say why: --reason TEXT")
    rows = list_releases(lake, name)
    if not rows:
        raise ValueError(f"no release {name} in {lake.uri}; `dimo release list` names them")
    usable = [row["version"] for row in rows if row["state"] == USABLE]
    if to is None and len(usable) < 2:
        raise ValueError(f"{name} has {len(usable)} usable version: there is none before it to roll back to")
    goal = usable[-2] if to is None else to
    if goal not in usable:
        raise ValueError(f"{name}@{goal} is not usable; usable versions: {', '.join(map(str, usable)) or 'none'}")
    later = [row["release_id"] for row in rows if row["version"] > goal]
    return f"{name}@{goal}", decide(lake, later, "withdrawn", by, reason)
