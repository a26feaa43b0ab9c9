"""Define the column `rigs.cameras`: measurements of each camera."""

import pyarrow as pa

from opendimo.storage_schemas.fields import field

_MEMBERS = {
    "view": pa.string(),
    "offset_frames": pa.float64(),
    "offset_residual": pa.float64(),
    "residual_px": pa.float64(),
    "epipolar_px": pa.float64(),
    "observations": pa.int64(),
    "verdict": pa.string(),
    "note": pa.string(),
}
CAMERAS = field(
    "cameras",
    pa.list_(pa.struct([pa.field(name, kind) for name, kind in _MEMBERS.items()])),
    "per view: time offset in frames (frame i + offset shows the moment i of the rig; null: unknown) and its "
    "disagreement with the other views (frames); median reprojection and epipolar residual (pixels of the source; "
    "null: unknown) over that number of observations; verdict ok, late, quarantined or unchecked, and its reason",
)
