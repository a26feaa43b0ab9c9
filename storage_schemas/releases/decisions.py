"""Record decisions about releases: approved or withdrawn. The last decision is in effect; none is ever deleted."""

import time
from typing import Any

from opendimo.storage_schemas.ids import stable_id
from opendimo.storage_schemas.lake.commit import commit
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.lake.runs import next_run, staged, unfinished
from opendimo.storage_schemas.rows import Row

USABLE, PENDING, WITHDRAWN = "usable", "pending", "withdrawn"


def last_decisions(lake: Lake) -> dict[str, Row]:
    """Return the last decision about each release, for releases with at least one decision."""
    rows = lake.read("decisions")
    return {row["release_id"]: row for row in sorted(rows, key=lambda row: row["number"])}


def state(release: Row, decision: Row | None) -> str:
    """Return the state of a release: usable, pending (it needs an approval) or withdrawn."""
    if decision is None:
        return PENDING if release["needs_approval"] else USABLE
    return USABLE if decision["decision"] == "approved" else WITHDRAWN


def decide(lake: Lake, release_ids: list[str], decision: str, by: str, note: str | None) -> list[str]:
    """Approve or withdraw releases in one commit; return the ids of those whose last decision this changed.

    If killed and run again, it results in one decision. Raises `ValueError` if `by` is empty.
    """
    if not by.strip():
        raise ValueError("a decision needs the name of the person who decides: --by NAME")
    with lake.lock("release") as check:
        settle(lake)
        last = last_decisions(lake)
        changed = [r for r in release_ids if r not in last or last[r]["decision"] != decision]
        rows: list[dict[str, Any]] = []
        for release_id in changed:
            number = last[release_id]["number"] + 1 if release_id in last else 0
            rows.append({
                "decision_id": stable_id("decision", release_id, number), "release_id": release_id, "number": number,
                "decision": decision, "by": by, "note": note, "decided_at": time.time_ns(),
            })  # fmt: skip
        if rows:
            check()
            lake.append(
                next_run(lake, "decide", [row["decision_id"] for row in rows], decision, by, note), {"decisions": rows}
            )
        return changed


def settle(lake: Lake) -> None:
    """Commit releases and decisions whose process was killed after their row was staged.

    The caller must hold the lock `release`, so that no other process is still working on them.
    """
    for plan in unfinished(lake):
        manifest = staged(lake, plan["run_id"], 0) if plan["shards"] == 1 and "stage" not in plan else None
        if manifest and set(manifest["tables"]) <= {"releases", "decisions"}:
            commit(lake, plan["run_id"])
