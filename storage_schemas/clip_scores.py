"""Define the quality scores of a clip, columns of `clips`. Scores added in schema 3 are null in clips cut before."""

import pyarrow as pa

from opendimo.storage_schemas.fields import array, field, integer, real, text, words

SCORES = [
    real("people", "median number of people per frame at least half the size of the main one (root of the box area)"),
    real("person_share", "share of frames in which the main person is detected"),
    real("person_height", "median height of the main person divided by the frame height"),
    real("sharpness", "median variance of the Laplacian at analysis size"),
    real("motion", "median optical-flow length per frame in the background, divided by the frame diagonal"),
    real("subject_motion", "median optical-flow length inside the person's box, divided by the frame diagonal"),
    real("exposure", "median luma, 0 to 1"),
    words("frame_hashes", "perceptual hash of each sampled frame, hex"),
    integer("hash_step", "interval between hashed frames; the first is frame 0", null=True, unit="frames"),
    field(
        "region", pa.list_(pa.int64()), "region of the source frame that was kept: x0 y0 x1 y1, without letterbox bars",
        null=True, unit="pixels of the source",
    ),
    real("bars", "median share of the kept region that is still black bars", null=True),
    real("subject_sharpness", "like sharpness, inside the main person's box", null=True),
    real("clipping", "median share of pixels that are fully black or white", null=True),
    real("text_share", "mean share of the frame covered by lines of text", null=True),
    array("tracks", "bounding boxes of all tracked people, x0 y0 x1 y1; one row per person", "P T 4",
          "pixels of the clip", null=True),
    integer("main_person", "index of `track` in `tracks`", null=True),
    real("person_pixels", "median height of the main person", null=True, unit="pixels of the source"),
    real("body_visible", "mean share of the main person's 12 limb joints, shoulders to ankles, that are in view",
         null=True),
    real("hands_visible", "mean share of the main person's two hands that are in view", null=True),
    real("truncation", "mean share of the main person's landmarks that are outside the frame", null=True),
    real("at_border", "share of analysed frames in which the main person extends beyond the frame border", null=True),
    real("occlusion", "mean share of the main person's box covered by the box of one other person", null=True),
    text("encoder", "encoder of the clip; copy: packets copied from the source; null: no video", null=True),
]  # fmt: skip
