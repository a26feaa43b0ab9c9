"""Columns of `fingerprints` and `duplicates`: what is compared of clips, and what was found."""

import pyarrow as pa

from opendimo.storage_schemas.fields import blob, field, integer, key, real, text

FINGERPRINT = [
    key("clip_id", "the clip"),
    integer("picture_step", "frames from one picture to the next; the first is frame 0", unit="frames"),
    field("hashes", pa.list_(pa.int64()),
          "distinct 63-bit hashes, about one a second, of whole pictures and of their middles"),
    blob("pictures", "uint8, C order, n x 16 x 16: luma without black borders, about ten a second"),
]  # fmt: skip

DUPLICATE = [
    key("duplicate_id", "hash of work key and the other clip"),
    text("clip_id", "the clip that was compared"),
    text("other_clip_id", "a clip of another capture that shows the same footage; null, as all below: there was none",
         null=True),
    text("representative_id", "which of the two is kept: of the source with more pixels, then the longer source, then "
         "the lower source_id", null=True),
    text("kind", "stream (the same coded pictures or bytes), copy (most of it), part", null=True),
    field("mirrored", pa.bool_(), "left and right are swapped", null=True),
    integer("offset_frames", "frame of the representative at which the other of the two starts", null=True,
            unit="frames"),
    integer("start_frame", "first frame that was found, in the one that is not the representative", null=True,
            unit="frames"),
    integer("end_frame", "one past the last such frame", null=True, unit="frames"),
    real("share", "share of its frames that were found", null=True),
    real("similarity", "correlation of what changes in the pictures of both", null=True),
    real("distance", "median Hamming distance of the hashes of the same moments", null=True, unit="bits"),
]  # fmt: skip
