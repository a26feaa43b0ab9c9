"""Who said yes or no to a release: approved, withdrawn. The last decision counts; none is ever deleted."""

import time
from typing import Any

from opendimo.storage_schemas.ids import stable_id
from opendimo.storage_schemas.lake.commit import commit
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.lake.runs import next_run, staged, unfinished
from opendimo.storage_schemas.rows import Row

USABLE, PENDING, WITHDRAWN = "usable", "pending", "withdrawn"


def last_decisions(lake: Lake) -> dict[str, Row]:
    """The last decision about each release that there was one about."""
    rows = lake.read("decisions")
    return {row["release_id"]: row for row in sorted(rows, key=lambda row: row["number"])}


def state(release: Row, decision: Row | None) -> str:
    """usable, pending (it needs an approval) or withdrawn."""
    if decision is None:
        return PENDING if release["needs_approval"] else USABLE
    return USABLE if decision["decision"] == "approved" else WITHDRAWN


def decide(lake: Lake, release_ids: list[str], decision: str, by: str, note: str | None) -> list[str]:
    """Approve or withdraw releases, all at once; return those of which that was not the last word already.

    Raises `ValueError` where nobody's name is given. Killed and run again it is one decision.
    """
    if not by.strip():
        raise ValueError("say who decides: --by NAME")
    with lake.lock("release") as check:
        settle(lake)
        last = last_decisions(lake)
        news = [r for r in release_ids if r not in last or last[r]["decision"] != decision]
        rows: list[dict[str, Any]] = []
        for release_id in news:
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
        return news


def settle(lake: Lake) -> None:
    """End what was killed when its row was staged: a release, whose row tells the hashes of its files, or a decision.

    Call it under the lock `release`: then nobody is still at it.
    """
    for plan in unfinished(lake):
        manifest = staged(lake, plan["run_id"], 0) if plan["shards"] == 1 and "stage" not in plan else None
        if manifest and set(manifest["tables"]) <= {"releases", "decisions"}:
            commit(lake, plan["run_id"])
