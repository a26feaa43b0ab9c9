"""Show the cameras of rigs: time offset and residual of each as bars, and the verdict."""

from collections import defaultdict
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from opendimo.pipelines.engine.revisions import newest
from opendimo.pipelines.report.plots import Scale
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.rows import Row, in_list

MOST_RIGS = 20
WIDTH, MIDDLE = 160.0, 80.0
LEAST_OFFSET, LEAST_RESIDUAL = 1.0, 5.0  # minimum values at the end of the axes: frames, pixels
BAD = ("quarantined", "late", "unchecked")
"""Verdicts from worst to best; rigs are sorted by the verdict on their worst camera."""


@dataclass(frozen=True)
class CameraRow:
    """One camera. `offset` and `residual`: (left end, length) of the bar, None if unknown."""

    camera: Row
    offset: tuple[float, float] | None
    residual: tuple[float, float] | None


@dataclass(frozen=True)
class Rig:
    """Cameras of one capture. `offset_top` (frames) and `residual_top` (pixels): values at the end of the axes."""

    take: str
    rig: Row
    cameras: list[CameraRow]
    offset_top: float
    residual_top: float


@dataclass(frozen=True)
class Rigs:
    """Number of rigs, number of cameras by verdict, and some of the rigs."""

    count: int
    verdicts: dict[str, int]
    shown: list[Rig]


def read_rigs(lake: Lake) -> Rigs:
    """Read the newest measurement of every rig."""
    rigs = newest(lake, "rigs", ["capture_id"], ["rig_id", "sync_witness", "qa_witness", "metric", "cameras"])
    cameras = pc.list_flatten(rigs["cameras"])
    verdicts, owner = pc.struct_field(cameras, "verdict"), pc.list_parent_indices(rigs["cameras"])
    badness = pc.fill_null(pc.index_in(verdicts, value_set=pa.array(BAD)), len(BAD))
    worst = pa.table({"rig": owner, "badness": badness}).group_by("rig").aggregate([("badness", "min")])
    order = [("badness_min", "ascending"), ("rig", "ascending")]
    chosen = worst["rig"].take(pc.select_k_unstable(worst, min(MOST_RIGS, worst.num_rows), order))
    rows = rigs.take(chosen).to_pylist()
    where = in_list("capture_id", [row["capture_id"] for row in rows]) if rows else "false"
    takes = {row["capture_id"]: row["take"] for row in lake.read("captures", ["capture_id", "take"], where)}
    counts = {entry["values"]: entry["counts"] for entry in verdicts.value_counts().to_pylist()}
    return Rigs(rigs.num_rows, counts, [_rig(takes.get(row["capture_id"], row["capture_id"]), row) for row in rows])


def _rig(take: str, rig: Row) -> Rig:
    values: dict[str, list[float]] = defaultdict(list)
    for camera in rig["cameras"]:
        for name in ("offset_frames", "residual_px"):
            values[name] += [abs(camera[name])] if camera[name] is not None else []
    offset_top = max([LEAST_OFFSET, *values["offset_frames"]])
    residual_top = max([LEAST_RESIDUAL, *values["residual_px"]])
    across, along = Scale(-offset_top, offset_top, 0, WIDTH), Scale(0, residual_top, 0, WIDTH)
    rows = []
    for camera in rig["cameras"]:
        late, off = camera["offset_frames"], camera["residual_px"]
        offset = None if late is None else (min(MIDDLE, across(late)), max(2.0, abs(across(late) - MIDDLE)))
        rows.append(CameraRow(camera, offset, None if off is None else (0.0, max(2.0, along(off)))))
    return Rig(take, rig, rows, offset_top, residual_top)
