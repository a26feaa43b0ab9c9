"""Read the newest measurement of each rig, as columns, and what follows from it for clips."""

import json

import pyarrow as pa
import pyarrow.compute as pc

from opendimo.pipelines.engine.columns import Column, look_up
from opendimo.pipelines.engine.revisions import newest
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.rows import Row

OK, LATE, QUARANTINED, UNCHECKED = "ok", "late", "quarantined", "unchecked"
"""Verdicts on cameras."""


def camera_verdicts(lake: Lake) -> pa.Table:
    """Return one row per measured camera: `capture_id`, `view`, `verdict`, `offset_frames` and `offset_residual` (null:
    unknown)."""
    rigs = newest(lake, "rigs", ["capture_id"], ["rig_id", "cameras"])
    cameras = pc.list_flatten(rigs["cameras"])
    owners = rigs["capture_id"].take(pc.list_parent_indices(rigs["cameras"]))
    columns = {name: pc.struct_field(cameras, name) for name in ("view", "verdict", "offset_frames", "offset_residual")}
    return pa.table({"capture_id": owners, **columns})


def disagreeing(lake: Lake) -> pa.Array:
    """Return the ids of the captures whose views contradict each other so that no camera is trusted.

    Their clips are used as if their cameras were unknown and they were not synchronised.
    """
    cameras = camera_verdicts(lake)
    flags = pa.table(
        {
            "capture_id": cameras["capture_id"],
            "bad": pc.equal(cameras["verdict"], QUARANTINED),
            "good": pc.is_in(cameras["verdict"], value_set=pa.array([OK, LATE])),
        }
    )
    rigs = flags.group_by("capture_id").aggregate([("bad", "any"), ("good", "any")])
    return rigs["capture_id"].filter(pc.and_not(rigs["bad_any"], rigs["good_any"])).combine_chunks()


def without_camera(clip: Row) -> Row:
    """Return a clip as if its camera were unknown."""
    return {**clip, "world_to_camera": None, "K": None, "distortion": None, "metric": None}


def not_metric(lake: Lake) -> pa.Array:
    """Return the ids of the captures of which lengths are not in metres, as stated or by their rig measurement."""
    rigs = newest(lake, "rigs", ["capture_id"], ["metric"])
    return rigs["capture_id"].filter(pc.invert(pc.fill_null(rigs["metric"], True))).combine_chunks()


def frames_late(lake: Lake, clips: pa.Table) -> pa.ChunkedArray:
    """Return by how many frames the view of each of `clips` (`capture_id`, `view`) is late, rounded to tenths.

    0 if the offset is unknown, or if its pairwise residual is not smaller than the offset itself.
    """
    cameras = camera_verdicts(lake)
    offsets = cameras.filter(pc.greater(pc.abs(cameras["offset_frames"]), cameras["offset_residual"]))
    by_camera = pa.table({"camera": _camera(offsets), "late": pc.round(offsets["offset_frames"], 1)})
    return pc.fill_null(look_up(_camera(clips), by_camera, "camera", "late"), 0.0)


def measured_gravity(lake: Lake) -> pa.Table:
    """Return one row per capture whose gravity is known only from its rig measurement: `capture_id` and `down`,
    [x, y, z] rounded to thousandths as JSON text."""
    rigs = newest(lake, "rigs", ["capture_id"], ["gravity_down.data"])
    where = "kind = 'multiview' AND gravity_down IS NOT NULL"
    stated = lake.dataset("captures").to_table(columns=["capture_id"], filter=where)["capture_id"]
    only_measured = pc.and_(
        pc.is_valid(rigs["gravity_down.data"]), pc.invert(pc.is_in(rigs["capture_id"], value_set=stated))
    )
    rigs = rigs.filter(only_measured)  # 10^5 at most
    down = [json.dumps([round(x, 3) for x in vector]) for vector in rigs["gravity_down.data"].to_pylist()]
    return pa.table({"capture_id": rigs["capture_id"], "down": pa.array(down, pa.string())})


def _camera(rows: pa.Table) -> Column:
    """Return a key that identifies the camera of each row."""
    return pc.binary_join_element_wise(rows["capture_id"], rows["view"], "\n")
