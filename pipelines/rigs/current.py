"""What is known of cameras now: the newest measurement of each rig, as columns."""

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.revisions import newest
from storage_schemas.lake import Lake


def camera_verdicts(lake: Lake) -> pa.Table:
    """A row per camera that was measured: `capture_id`, `view`, `verdict`, `offset_frames` (null: unknown)."""
    rigs = newest(lake, "rigs", ["capture_id"], ["rig_id", "cameras"])
    cameras = pc.list_flatten(rigs["cameras"])
    owners = rigs["capture_id"].take(pc.list_parent_indices(rigs["cameras"]))
    columns = {name: pc.struct_field(cameras, name) for name in ("view", "verdict", "offset_frames")}
    return pa.table({"capture_id": owners, **columns})
