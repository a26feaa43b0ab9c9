"""Which clips are good enough: a query over stored scores, so that changing a threshold recomputes nothing."""

from dataclasses import dataclass
from typing import Any

from storage_schemas.lake import Lake

Row = dict[str, Any]


@dataclass(frozen=True)
class Policy:
    """Thresholds; see the columns of `clips` for what they compare with.

    Lengths are in frames, `min_person_height` over the frame height, light from 0 (black) to 1.
    """

    min_frames: int = 17
    max_people: float = 1.0
    min_person_share: float = 0.8
    min_person_height: float = 0.25
    min_exposure: float = 0.08
    max_exposure: float = 0.95
    min_sharpness: float = 20.0


COLUMNS = ["frames", "video_sha256", "people", "person_share", "person_height", "exposure", "sharpness"]
"""What `verdict` reads of a row of `clips`."""


def verdict(row: Row, policy: Policy) -> str | None:
    """Why a clip is filtered, the first reason that holds; None: keep it."""
    reasons = {
        "too_short": row["frames"] < policy.min_frames,
        "no_person": row["video_sha256"] is None,
        "several_people": row["people"] > policy.max_people,
        "person_too_small": row["person_height"] < policy.min_person_height,
        "person_leaves": row["person_share"] < policy.min_person_share,
        "too_dark": row["exposure"] < policy.min_exposure,
        "too_bright": row["exposure"] > policy.max_exposure,
        "blurred": row["sharpness"] < policy.min_sharpness,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def verdicts(lake: Lake, policy: Policy) -> dict[str, str | None]:
    """The verdict of every clip by `clip_id`, in order of it. Clips of a source that was taken down, and those that a
    later run cut anew (`superseded`), are filtered whatever their scores."""
    gone = {s["source_id"] for s in lake.read("sources", ["source_id"], where="tombstone")}
    rows = lake.read("clips", [*COLUMNS, "clip_id", "source_id", "work_key", "run_id"])
    current = _current(lake, rows)
    answers: dict[str, str | None] = {}
    for row in rows:
        if row["source_id"] in gone:
            answers[row["clip_id"]] = "taken_down"
        elif row["work_key"] != current[row["source_id"]]:
            answers[row["clip_id"]] = "superseded"
        else:
            answers[row["clip_id"]] = verdict(row, policy)
    return answers


def kept_clips(lake: Lake, policy: Policy, columns: list[str] | None = None) -> list[Row]:
    """Rows of `clips` (all columns, or those named) that are kept, in order of `clip_id`."""
    kept = {clip_id for clip_id, reason in verdicts(lake, policy).items() if reason is None}
    wanted = None if columns is None else list(dict.fromkeys(["clip_id", *columns]))
    return [row for row in lake.read("clips", wanted) if row["clip_id"] in kept]


def _current(lake: Lake, rows: list[Row]) -> dict[str, str]:
    """The work key, by source, of the latest committed run that cut it."""
    entries = lake.read("ledger", ["run_id", "committed_at"], where="table_name = 'clips'")
    when = {entry["run_id"]: entry["committed_at"] for entry in entries}
    latest = sorted(rows, key=lambda row: (when.get(row["run_id"], 0), row["work_key"]))
    return {row["source_id"]: row["work_key"] for row in latest}
