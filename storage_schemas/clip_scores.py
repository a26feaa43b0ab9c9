"""What is measured of a clip: columns of `clips`. Those that came with schema 3 are null in clips cut before."""

import pyarrow as pa

from opendimo.storage_schemas.fields import array, field, integer, real, text, words

SCORES = [
    real("people", "median count per frame of people at least half the size of the main one (root of the box area)"),
    real("person_share", "share of frames with the main person"),
    real("person_height", "median height of the main person over the frame height"),
    real("sharpness", "median variance of the Laplacian at analysis size"),
    real("motion", "median optical-flow length per frame over the frame diagonal, background"),
    real("subject_motion", "median optical-flow length inside the person's box over the frame diagonal"),
    real("exposure", "median luma, 0 to 1"),
    words("frame_hashes", "perceptual hash of each sampled frame, hex"),
    integer("hash_step", "frames from one hashed frame to the next; the first is frame 0", null=True, unit="frames"),
    field(
        "region", pa.list_(pa.int64()), "what was kept of the source's picture: x0 y0 x1 y1, without letterbox bars",
        null=True, unit="pixels of the source",
    ),
    real("bars", "median share of the kept picture that is black bars even so", null=True),
    real("subject_sharpness", "as sharpness, inside the main person's box", null=True),
    real("clipping", "median share of pixels that are black or white", null=True),
    real("text_share", "mean share of the picture covered by lines of text", null=True),
    array("tracks", "boxes of everybody followed, x0 y0 x1 y1; a row is one person throughout", "P T 4",
          "pixels of the clip", null=True),
    integer("main_person", "the row of `tracks` that is `track`", null=True),
    real("person_pixels", "median height of the main person", null=True, unit="pixels of the source"),
    real("body_visible", "mean share of the main person's 12 limb joints, shoulders to ankles, that are in view",
         null=True),
    real("hands_visible", "mean share of the main person's two hands that are in view", null=True),
    real("truncation", "mean share of the main person's landmarks that lie outside of the picture", null=True),
    real("at_border", "share of looks in which the main person reaches over the border of the picture", null=True),
    real("occlusion", "mean share of the main person's box that one other person's box covers", null=True),
    text("encoder", "what encoded the clip; copy: the source's own packets; null: no video", null=True),
]  # fmt: skip
