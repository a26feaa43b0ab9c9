"""Define the columns of `fingerprints` (input of clip deduplication) and `duplicates` (its results)."""

import pyarrow as pa

from opendimo.storage_schemas.fields import blob, field, integer, key, real, text

FINGERPRINT = [
    key("clip_id", "the clip"),
    integer("picture_step", "interval between sampled frames; the first is frame 0", unit="frames"),
    field("hashes", pa.list_(pa.int64()),
          "distinct 63-bit hashes, about one per second, of whole frames and of their central regions"),
    blob("pictures", "uint8, C order, n x 16 x 16: luma thumbnails without black borders, about ten per second"),
]  # fmt: skip

DUPLICATE = [
    key("duplicate_id", "hash of work key and the other clip"),
    text("clip_id", "the clip that was compared"),
    text("other_clip_id", "a clip of another capture with the same footage; null, like all columns below, if there is "
         "none", null=True),
    text("representative_id", "the clip of the two that is kept: the one whose source has more pixels, then the longer "
         "source, then the lower source_id", null=True),
    text("kind", "stream (the same coded pictures or bytes), copy (most of the clip), part", null=True),
    field("mirrored", pa.bool_(), "whether left and right are swapped", null=True),
    integer("offset_frames", "frame of the representative at which the other clip starts", null=True,
            unit="frames"),
    integer("start_frame", "first matching frame, in the clip that is not the representative", null=True,
            unit="frames"),
    integer("end_frame", "one past the last matching frame, in the same clip", null=True, unit="frames"),
    real("share", "share of the frames of that clip that match", null=True),
    real("similarity", "correlation of the temporal changes in both clips", null=True),
    real("distance", "median Hamming distance between hashes of corresponding frames", null=True, unit="bits"),
]  # fmt: skip
