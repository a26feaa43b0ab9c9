"""Define the Arrow schema of every table of a lake, with meaning, unit and shape in each field's metadata.

Arrays of any rank are stored as `struct<shape: list<int32>, data: list<float32>>`. `dims` in the metadata describes
the axes: a number is a fixed size; a letter names an axis, and axes with the same letter have the same size within a
row. Axes: T frames, P people, J joints, B shape coefficients. Conventions: see `storage_schemas/conventions.py`.
"""

from dataclasses import dataclass

import pyarrow as pa

from opendimo.storage_schemas import fields
from opendimo.storage_schemas.columns import DUPLICATE, FETCH, FINGERPRINT, HANDS, RIG_CAMERAS, SCORES
from opendimo.storage_schemas.fields import array as _array
from opendimo.storage_schemas.fields import blob as _blob
from opendimo.storage_schemas.fields import field as _field
from opendimo.storage_schemas.fields import flags as _flags
from opendimo.storage_schemas.fields import integer as _int
from opendimo.storage_schemas.fields import key as _key
from opendimo.storage_schemas.fields import real as _real
from opendimo.storage_schemas.fields import text as _text
from opendimo.storage_schemas.fields import words as _words

SCHEMA_VERSION = 8
TENSOR = fields.TENSOR

CAMERA_TERMS = (
    "static", "shake", "pan_left", "pan_right", "tilt_up", "tilt_down", "roll_cw", "roll_ccw",
    "dolly_in", "dolly_out", "truck_left", "truck_right", "pedestal_up", "pedestal_down",
    "arc_left", "arc_right", "zoom_in", "zoom_out", "follow",
)  # fmt: skip
"""The closed vocabulary of camera motion. Directions are those of the camera (pan_left: the camera turns left)."""


@dataclass(frozen=True)
class Table:
    """Describe a table: its primary key (a content-derived id) and its Arrow schema.

    If `replaces` is true, a newer row replaces an older row with the same key (for facts about the outside world, such
    as a path or a licence, and for scores). Otherwise the first row is kept, because its id already identifies how it was made.
    """

    name: str
    about: str
    key: str
    schema: pa.Schema
    replaces: bool = False

    @property
    def blobs(self) -> tuple[str, ...]:
        """Names of the blob columns, whose bytes are stored outside the rows and read one by one."""
        return tuple(f.name for f in self.schema if f.metadata and b"blob" in f.metadata)


WORK_KEY = _text(
    "work_key",
    "hash of the input, stage version and config that produced this row; planning skips work whose key is stored",
)
RUN_ID = _text("run_id", "the run that committed this row")

CAMERA_FIELDS = [
    _array("world_to_camera", "x_cam = R X_world + t, OpenCV axes", "T 3 4", "metres", null=True),
    _array("K", "intrinsic matrix of the stored pixels", "T 3 3", "pixels", null=True),
    _field(
        "distortion",
        pa.list_(pa.float32()),
        "OpenCV distortion coefficients k1 k2 p1 p2 [k3 ...]; empty: no distortion",
        null=True,
    ),
    _field("metric", pa.bool_(), "true if lengths are in metres (SLAM is not metric)", null=True),
]

TABLES: dict[str, Table] = {
    t.name: t
    for t in (
        Table("sources", "one input video: a file, a URL, a rendered sequence, or one camera of a rig", "source_id", pa.schema([
            _key("source_id", "hash of kind, content, capture and view"),
            _text("kind", "internet, unreal or multiview"),
            _text("uri", "location it was read from"),
            _text("local_path", "path of the readable video: the uri itself, the downloaded copy, or a pattern of numbered images (name_%04d.png)"),
            _text("name", "short display name"),
            _text("content_sha256", "hash of the video file"),
            _text("stream_sha256", "hash of the coded pictures, independent of the container", null=True),
            _text("annotation_sha256", "hash of cameras, ground truth and spans; empty if there are none"),
            _int("size", "size of the video file", unit="bytes"),
            _text("container", "container format, named as by the demuxer"),
            _text("codec", "video codec"),
            _int("width", "upright width, after rotation", unit="pixels"),
            _int("height", "upright height, after rotation", unit="pixels"),
            _int("rotation", "clockwise rotation that makes the stored frames upright: 0, 90, 180, 270", unit="degrees"),
            _field("mirrored", pa.bool_(), "true if the stored frames are also mirrored left to right, before the rotation; null: ingested before schema 5, mirroring ignored", null=True),
            _text("colour_transfer", "transfer function of the first frame, named as by FFmpeg: bt709, arib-std-b67 (HLG), smpte2084 (PQ), ..., unspecified; null: ingested before schema 5", null=True),
            _text("colour_primaries", "colour primaries of the first frame, named as by FFmpeg: bt709, bt2020, ..., unspecified; null: ingested before schema 5", null=True),
            _text("colour_range", "range of the first frame's values: limited, full, unspecified; null: ingested before schema 5", null=True),
            _int("fps_num", "frame rate, numerator"),
            _int("fps_den", "frame rate, denominator"),
            _int("frames", "number of frames stated by the container, if any", null=True),
            _text("capture_id", "the capture this view belongs to"),
            _text("view", "name of the camera"),
            _text("subject", "name of the visible person, if known", null=True),
            _text("licence", "licence as given by the user", null=True),
            _text("attribution", "attribution as given by the user", null=True),
            _text("extra", "additional columns of the input list that the user selected, JSON", null=True),
            _text("resynthesis_of", "uri of the original, of which this video is a synthetic re-rendering; null: a video of its own", null=True),
            _field("spans", pa.list_(pa.struct([pa.field("start", pa.float64()), pa.field("end", pa.float64()), pa.field("extra", pa.string())])), "spans [start, end) that the input list names, which alone are cut; extra: its caption and the selected columns of its row, JSON; null: all is cut", null=True, unit="s"),
            *CAMERA_FIELDS,
            _array("truth_joints", "ground-truth joints of every body, in world coordinates", "P T J 3", "metres", null=True),
            _array("truth_global_orient", "ground-truth root rotation world_from_body, axis-angle", "P T 3", "radians", null=True),
            _array("truth_body_pose", "ground-truth SMPL-X body pose, axis-angle, without the root", "P T 21 3", "radians", null=True),
            _array("truth_hand_pose", "ground-truth MANO poses, left and right, axis-angle (flat hand is zero)", "P T 2 15 3", "radians", null=True),
            _array("truth_transl", "ground-truth SMPL-X translation in world coordinates", "P T 3", "metres", null=True),
            _array("truth_betas", "ground-truth SMPL-X shape", "P B", null=True),
            _field("references", pa.list_(pa.struct([pa.field("kind", pa.string()), pa.field("path", pa.string())])), "associated files such as masks and depth, recorded but never read: file, folder, or pattern of numbered files", null=True),
            _field("timestamps", pa.list_(pa.int64()), "capture time of each frame on the rig's clock; null: constant frame rate", null=True, unit="ns"),
            _int("fetched_at", "time of the fetch, nanoseconds since 1970 UTC", unit="ns"),
            WORK_KEY, RUN_ID,
        ]), replaces=True),
        Table("captures", "one performance (take), recorded by one or more cameras at the same time", "capture_id", pa.schema([
            _key("capture_id", "hash of the fields by which the source identifies the take"),
            _text("kind", "internet, unreal or multiview"),
            _text("subject", "name of the performer, if known", null=True),
            _text("take", "name of the take"),
            _text("action", "performed action, if known", null=True),
            _words("views", "names of the views that are sources of this capture"),
            _array("gravity_down", "unit vector of gravity in world coordinates", "3", null=True),
            _text("sync_method", "how the views are synchronised: single, rendered, synchronised"),
            WORK_KEY, RUN_ID,
        ]), replaces=True),
        Table("clips", "one person in one view and one shot, frames [start, end), with quality scores; filtering is done by queries over the scores", "clip_id", pa.schema([
            _key("clip_id", "hash of content, span and segmentation config"),
            _text("source_id", "the source it was cut from"),
            _text("capture_id", "the capture it belongs to"),
            _text("view", "name of the camera"),
            _text("kind", "internet, unreal or multiview"),
            _text("name", "short display name"),
            _text("subject", "name of the visible person, if known", null=True),
            _text("licence", "licence of the source", null=True),
            _text("attribution", "attribution of the source", null=True),
            _int("start_frame", "first frame in the source (0-based)", unit="frames"),
            _int("end_frame", "one past the last frame in the source", unit="frames"),
            _int("frames", "length of the clip", unit="frames"),
            _int("span", "index in `sources.spans` of the span that it was cut from; null if the source has none", null=True),
            _int("fps_num", "frame rate, numerator"),
            _int("fps_den", "frame rate, denominator"),
            _int("source_width", "upright width of the source", unit="pixels"),
            _int("source_height", "upright height of the source", unit="pixels"),
            _int("width", "width of the encoded clip", unit="pixels"),
            _int("height", "height of the encoded clip", unit="pixels"),
            _text("video_sha256", "hash of the encoded clip in clip_videos; null if no person was found", null=True),
            _array("track", "bounding box of the main person per frame: x0 y0 x1 y1; NaN if not detected", "T 4", "pixels of the clip", null=True),
            *CAMERA_FIELDS,
            *SCORES,
            WORK_KEY, RUN_ID,
        ])),
        Table("clip_videos", "the encoded bytes of clips; append-only, never updated", "clip_id", pa.schema([
            _key("clip_id", "the clip"),
            _blob("video", "H.264 in MP4, constant frame rate, one key frame per second (copied clips: as in the source)"),
            _text("sha256", "hash of the bytes"),
            WORK_KEY, RUN_ID,
        ])),
        Table("rigs", "the measurements of the cameras of one capture: time offsets, residuals, and a validation result for each camera", "rig_id", pa.schema([
            _key("rig_id", "hash of capture and work key"),
            _text("capture_id", "the capture"),
            _text("sync_witness", "evidence for the offsets: timestamps, audio, motion; none if there is no evidence"),
            _text("qa_witness", "evidence for the residuals: board, people; none if neither is visible"),
            RIG_CAMERAS,
            _field("metric", pa.bool_(), "whether lengths are in metres, as stated and not contradicted by the board or by people", null=True),
            _array("gravity_down", "unit vector of gravity in world coordinates, estimated from people who stand upright", "3", null=True),
            _real("gravity_spread", "median angle between upright people and gravity_down", null=True, unit="degrees"), WORK_KEY, RUN_ID,
        ])),
        Table("fingerprints", "the fingerprint of a clip's frames, compared with other clips for deduplication; append-only, never updated", "clip_id", pa.schema([*FINGERPRINT, WORK_KEY, RUN_ID])),
        Table("duplicates", "one result of comparing a clip with all clips stored before: a clip with the same footage, or the record that there is none", "duplicate_id", pa.schema([*DUPLICATE, WORK_KEY, RUN_ID])),
        Table("hands", "the measurement of the hands in a clip; the newest one replaces others", "clip_id", pa.schema([*HANDS, WORK_KEY, RUN_ID]), replaces=True),
        Table("poses", "SMPL-X body and MANO hands of a clip by one estimator", "pose_id", pa.schema([
            _key("pose_id", "hash of clip, work key and estimator"),
            _text("clip_id", "the clip"),
            _text("estimator", "truth; multiview, monocular or imported, with the landmark model or the format of the results"),
            _text("model_licence", "licence of the model weights that produced the label"),
            _array("global_orient", "root rotation camera_from_body, axis-angle; stored, never used as a training target", "T 3", "radians"),
            _array("body_pose", "SMPL-X body joints 1..21, axis-angle", "T 21 3", "radians"),
            _array("hand_pose", "MANO joints, left then right, axis-angle (flat hand is zero)", "T 2 15 3", "radians"),
            _array("transl", "SMPL-X translation in camera coordinates", "T 3", "metres"),
            _array("betas", "SMPL-X shape", "B"),
            _array("joints_3d", "22 body, 15 left hand, 15 right hand joints in camera coordinates", "T 52 3", "metres"),
            _array("joints_2d", "the same joints projected into the clip: x, y, confidence", "T 52 3", "pixels"),
            _array("landmarks_2d", "where the landmark model saw these joints in the clip: x, y, confidence (0: not seen); null for ground truth", "T 52 3", "pixels", null=True),
            _flags("valid", "per frame: whether the body label may be used"),
            _array("hand_valid", "1 if the left, right hand label may be used", "T 2"),
            _array("confidence", "confidence of the body per frame, 0 to 1", "T"),
            _real("reprojection", "median distance between fitted and observed joints, divided by the person's height", null=True),
            _real("jitter", "median acceleration of the joints", unit="m/s^2", null=True),
            _real("foot_skate", "median speed of a planted foot", unit="m/s", null=True),
            _real("bone_drift", "median relative deviation of observed bone lengths from their median", null=True),
            _real("cross_view", "median distance between views of the triangulated joints' reprojection", unit="pixels", null=True),
            _real("weight", "quality weight used in training, 0 to 1"),
            WORK_KEY, RUN_ID,
        ])),
        Table("captions", "camera motion and content of a clip by one captioner", "caption_id", pa.schema([
            _key("caption_id", "hash of clip and work key"),
            _text("clip_id", "the clip"),
            _text("captioner", "geometry, image_motion, or the name of the vision-language model"),
            _field("camera_terms", pa.list_(pa.struct([
                pa.field("term", pa.string()), pa.field("speed", pa.string()),
                pa.field("start_frame", pa.int64()), pa.field("end_frame", pa.int64()),
            ])), "terms of the closed vocabulary, with speed (slow, medium, fast) and span [start, end)"),
            _text("camera_sentence", "sentence that describes the camera motion"),
            _text("content_sentence", "sentence that describes the visible content; empty if no model described it"),
            _text("text", "caption of the whole clip: the camera sentence and the content sentence"),
            _text("evidence", "measurements that the terms are derived from, JSON"),
            _real("agreement", "overlap of the terms of two captioning methods, 0 to 1; null if there is only one", null=True),
            _text("raw_answer", "unparsed answer of the model", null=True),
            WORK_KEY, RUN_ID,
        ])),
        Table("latents", "target latents and text embedding of one window of a clip, for one backbone", "latent_id", pa.schema([
            _key("latent_id", "hash of clip, window and work key"),
            _text("clip_id", "the clip"),
            _text("vae", "name and weights hash of the VAE and text encoder"),
            _int("start_frame", "first frame of the window in the clip", unit="frames"),
            _int("num_frames", "frames of the window (4k + 1)", unit="frames"),
            _int("frame_step", "clip frames per window frame", unit="frames"),
            _int("width", "width of the encoded window", unit="pixels"),
            _int("height", "height of the encoded window", unit="pixels"),
            _field("shape", pa.list_(pa.int32()), "latent shape: channels, frames, height, width"),
            _blob("latents", "normalised latents, float16, C order"),
            _field("text_shape", pa.list_(pa.int32()), "tokens of each wording of the text, then the width"),
            _blob("text_embedding", "unpadded text embeddings of the wordings, one after the other, float16, C order"),
            _text("text", "the embedded text: camera motion within the window, and visible content; one wording a line"),
            _text("caption_hash", "hash of the camera terms and the content sentence that the window texts of the clip were composed from; null in rows of schema 3, whose text describes the whole clip", null=True),
            WORK_KEY, RUN_ID,
        ])),
        Table("pairs", "one training pair: motion of the driving window, pixels of the target window", "pair_id", pa.schema([
            _key("pair_id", "hash of all columns below"),
            _text("kind", "same_view, cross_view, moving_camera or resynthesised"),
            _text("driving_clip_id", "clip that provides the motion"),
            _int("driving_start", "first frame of the driving window", unit="frames"),
            _text("target_clip_id", "clip to generate"),
            _int("target_start", "first frame of the target window", unit="frames"),
            _int("num_frames", "length of each of the two windows", unit="frames"),
            _int("frame_step", "clip frames per window frame", unit="frames"),
            _text("latent_id", "target latents"),
            _text("pose_id", "pose label of the driving clip", null=True),
            _text("source_kind", "internet, unreal or multiview"),
            _text("capture_id", "the capture"),
            _text("subject", "name of the performer, if known", null=True),
            _text("split", "train or test; a capture is never in both"),
            _text("split_group", "group of pairs that share a subject, a capture, a file or footage, directly or through other pairs; a group is in one split only; null in rows of schema 3", null=True),
            _real("weight", "quality weight of the pose label, 0 to 1"),
            WORK_KEY, RUN_ID,
        ])),
        Table("rejects", "one failed attempt at a unit of work, or the successful attempt that followed failures", "reject_id", pa.schema([
            _key("reject_id", "hash of work key and attempt"),
            _text("stage", "stage that failed"),
            _text("item_id", "id of the input"),
            _text("name", "short display name"),
            _text("error_class", "transient, permanent, data or bug; resolved: this attempt succeeded"),
            _text("reason", "reason code: blocked, gone, too_large, not_a_video, ...; null if there is none", null=True),
            _text("message", "error message: what failed, where, and what to do"),
            _text("traceback", "traceback, if the class is bug", null=True),
            _int("attempts", "number of attempts so far, including this one"),
            _int("next_attempt_at", "earliest time of the next attempt, nanoseconds since 1970 UTC", null=True, unit="ns"),
            WORK_KEY, RUN_ID,
        ]), replaces=True),
        Table("fetches", "one finished attempt to fetch a URL", "fetch_id", pa.schema([
            *FETCH,
            WORK_KEY, RUN_ID,
        ])),
        Table("ledger", "one committed run of one stage", "entry_id", pa.schema([
            _key("entry_id", "hash of the run and the table"),
            RUN_ID,
            _text("stage", "stage that ran"),
            _text("table_name", "table that was committed"),
            _int("rows", "number of committed rows"),
            _int("replaced", "number of these rows that replaced an older row with the same key"),
            _int("version", "resulting version of the table"),
            _text("config", "stage version and config, JSON"),
            _text("counts", "numbers of items: in, done, filtered by reason, rejected by class, JSON"),
            _text("code_version", "version of the code"),
            _int("committed_at", "time of the commit, nanoseconds since 1970 UTC", unit="ns"),
            _real("seconds", "wall time of the run", unit="s"),
        ])),
        Table("releases", "an immutable, named, versioned set of pairs, pinned to table versions; its pairs are stored in releases/NAME/VERSION/", "release_id", pa.schema([
            _key("release_id", "NAME@VERSION"),
            _text("name", "name"),
            _int("version", "1, 2, ..."),
            _text("parent", "release_id of the previous version", null=True),
            _field("pins", pa.list_(pa.struct([
                pa.field("table", pa.string()), pa.field("tag", pa.string()), pa.field("version", pa.int64()),
                pa.field("rows", pa.int64()), pa.field("fragments_sha256", pa.string()),
            ])), "pinned version of every table"),
            _int("pairs", "number of pairs"),
            _text("row_set_sha256", "hash of the sorted pair ids"),
            _text("inventory_sha256", "hash of files.json, which lists all files of the release with sizes and hashes"),
            _text("manifest", "counts by kind, source, licence and split, label quality, policy, code and config versions: JSON"),
            _field("needs_approval", pa.bool_(), "whether the policy requires approval before training uses the release"),
            _int("created_at", "time of creation, nanoseconds since 1970 UTC", unit="ns"),
            RUN_ID,
        ])),
        Table("decisions", "one decision of a person about a release; the last decision about a release is in effect", "decision_id", pa.schema([
            _key("decision_id", "hash of the release and the number of the decision"),
            _text("release_id", "NAME@VERSION"),
            _int("number", "0, 1, ... within the release"),
            _text("decision", "approved or withdrawn"),
            _text("by", "name of the person who decided"),
            _text("note", "reason", null=True),
            _int("decided_at", "time of the decision, nanoseconds since 1970 UTC", unit="ns"),
            RUN_ID,
        ])),
        Table("tombstones", "one takedown: later releases exclude the matching sources", "tombstone_id", pa.schema([
            _key("tombstone_id", "hash of what and value"),
            _text("what", "column of sources: source_id, content_sha256, licence or subject"),
            _text("value", "every source with this value in that column is taken down, including sources added later"),
            _text("reason", "reason of the takedown"),
            _text("by", "name of the person who decided"),
            _field("in_force", pa.bool_(), "false if the takedown was lifted"),
            _int("decided_at", "time of the decision, nanoseconds since 1970 UTC", unit="ns"),
            RUN_ID,
        ]), replaces=True),
    )
}  # fmt: skip
"""All tables of a lake by name."""
