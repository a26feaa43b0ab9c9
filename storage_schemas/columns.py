"""Define the columns of tables that have many, or that have structure: scores, fetches, duplicates, hands, rigs."""

import pyarrow as pa

from opendimo.storage_schemas.fields import array, blob, field, integer, key, real, text, words

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
    real("truncation", "mean share of the main person's landmarks that are outside the frame", null=True),
    real("at_border", "share of analysed frames in which the main person extends beyond the frame border", null=True),
    real("occlusion", "mean share of the main person's box covered by the box of one other person", null=True),
    real("second_share", "share of frames with a second person at least half the size of the main one", null=True),
    real("hdr_share", "mean share of pixels that SDR cannot show (over 100 cd/m2, or outside BT.709), which the "
         "conversion of HDR or a wide gamut compressed or clipped; null: the source is SDR", null=True),
    text("encoder", "encoder of the clip; copy: packets copied from the source; null: no video", null=True),
]  # fmt: skip
"""Quality scores of a clip, columns of `clips`. Scores added in schema 3 are null in clips cut before."""

FETCH: list[pa.Field] = [
    key("fetch_id", "hash of the URL and the start time of the attempt"),
    text("url", "the URL without parts that may be secret: user, password, fragment, values of the query"),
    text("url_sha256", "hash of the complete URL"),
    text("host", "host and port of the URL; the bucket for an object store"),
    text("status", "fetched, blocked, gone, transient, or refused (the file exists but is not acceptable)"),
    text("reason", "reason code of a failure, as in rejects", null=True),
    integer("http_status", "last HTTP status; null if there was no response", null=True),
    integer("bytes", "bytes received by this attempt", unit="bytes"),
    integer("resumed_from", "bytes received by earlier attempts and reused by this one", unit="bytes"),
    text("etag", "entity tag that the server gave for the file", null=True),
    text("sha256", "hash of the file; null if it was not fetched", null=True),
    integer("started", "start time, nanoseconds since 1970 UTC", unit="ns"),
    real("seconds", "duration, including the wait for the host's rate limit", unit="s"),
    integer(
        "next_attempt_at",
        "earliest time of the next attempt as requested by the server, nanoseconds since 1970 UTC",
        null=True,
        unit="ns",
    ),
]
"""Columns of `fetches`: the result of one attempt to fetch a URL."""

FINGERPRINT = [
    key("clip_id", "the clip"),
    integer("picture_step", "interval between sampled frames; the first is frame 0", unit="frames"),
    field("hashes", pa.list_(pa.int64()),
          "distinct 63-bit hashes, about one per second, of whole frames and of their central regions"),
    blob("pictures", "uint8, C order, n x 16 x 16: luma thumbnails without black borders, about ten per second"),
]  # fmt: skip
"""Columns of `fingerprints`: input of clip deduplication."""

DUPLICATE = [
    key("duplicate_id", "hash of work key and the other clip"),
    text("clip_id", "the clip that was compared"),
    text("other_clip_id", "a clip of another capture with the same footage; null, like all columns below, if there is "
         "none", null=True),
    text("representative_id", "the clip of the two that is kept: the one whose source has more pixels, then the longer "
         "source, then the lower source_id", null=True),
    text("kind", "stream (the same coded pictures or bytes), copy (most of the clip), part, or crop (of the pictures; "
         "not left out)", null=True),
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
"""Columns of `duplicates`: results of clip deduplication."""

HANDS = [
    key("clip_id", "the clip"),
    real("hands_visible", "share of sampled frames that show a hand of the main person, detected as a hand and at "
         "least as large as the stage's config states"),
]  # fmt: skip
"""Columns of `hands`."""

_CAMERA = {
    "view": pa.string(),
    "offset_frames": pa.float64(),
    "offset_residual": pa.float64(),
    "residual_px": pa.float64(),
    "epipolar_px": pa.float64(),
    "observations": pa.int64(),
    "verdict": pa.string(),
    "note": pa.string(),
}
RIG_CAMERAS = field(
    "cameras",
    pa.list_(pa.struct([pa.field(name, kind) for name, kind in _CAMERA.items()])),
    "per view: time offset in frames (frame i + offset shows the moment i of the rig; null: unknown) and its "
    "disagreement with the other views (frames); median reprojection and epipolar residual (pixels of the source; "
    "null: unknown) over that number of observations; verdict ok, late, quarantined or unchecked, and its reason",
)
"""Column `rigs.cameras`: measurements of each camera."""
