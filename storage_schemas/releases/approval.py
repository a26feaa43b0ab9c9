"""Approve releases for training, and withdraw them."""

from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.releases.decisions import USABLE, decide
from opendimo.storage_schemas.releases.release import find_release, list_releases


def approve_release(lake: Lake, release_id: str, by: str, note: str | None = None) -> bool:
    """Approve a release for training; return whether it was not approved before.

    Raises `ValueError` if there is no such release or `by` is empty.
    """
    find_release(lake, release_id)
    return bool(decide(lake, [release_id], "approved", by, note))


def reject_release(lake: Lake, release_id: str, by: str, note: str | None = None) -> bool:
    """Withdraw a release, so that training refuses it; return whether it was not withdrawn before.

    Raises `ValueError` if there is no such release or `by` is empty.
    """
    find_release(lake, release_id)
    return bool(decide(lake, [release_id], "withdrawn", by, note))


def rollback(lake: Lake, name: str, to: int | None, by: str, reason: str) -> tuple[str, list[str]]:
    """Withdraw every version of `name` after `to`, by default the second newest usable version.

    Return the id of the release that is then the newest usable one, and the ids of the releases withdrawn by this call.
    Raises `ValueError` if no reason is given, if there is no release `name`, or if there is no usable version to roll
    back to.
    """
    if not reason.strip():
        raise ValueError("a rollback needs a reason: --reason TEXT")
    rows = list_releases(lake, name)
    if not rows:
        raise ValueError(f"no release {name} in {lake.uri}; `dimo release list` lists all releases")
    usable = [row["version"] for row in rows if row["state"] == USABLE]
    if to is None and len(usable) < 2:
        raise ValueError(f"cannot roll back {name}: it has {len(usable)} usable version(s), at least 2 are needed")
    version = usable[-2] if to is None else to
    if version not in usable:
        raise ValueError(f"{name}@{version} is not usable; usable versions: {', '.join(map(str, usable)) or 'none'}")
    later = [row["release_id"] for row in rows if row["version"] > version]
    return f"{name}@{version}", decide(lake, later, "withdrawn", by, reason)
