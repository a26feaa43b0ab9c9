"""What `rigs` holds of each camera."""

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
    "per view: frames by which it is late (its frame i + offset shows the rig's moment i; null: unknown) and how far "
    "other views contradict that (frames); median reprojection and epipolar residual over so many points seen (pixels "
    "of the source; null: unknown); verdict ok, late, quarantined or unchecked, and why",
)
