"""The Arrow schema of every table of a lake, with meaning, unit and shape in each field's metadata.

Arrays of any rank are stored as `struct<shape: list<int32>, data: list<float32>>`; `dims` in the metadata
names the axes (letters, equal letters are equal sizes within a row) and fixes sizes (numbers).
Axes: T frames, P people, B shape coefficients. Conventions: see `storage_schemas/conventions.py`.
"""

from dataclasses import dataclass

import pyarrow as pa

from opendimo.storage_schemas import fields
from opendimo.storage_schemas.clip_scores import SCORES
from opendimo.storage_schemas.fetch_fields import FETCH
from opendimo.storage_schemas.fields import array as _array
from opendimo.storage_schemas.fields import blob as _blob
from opendimo.storage_schemas.fields import field as _field
from opendimo.storage_schemas.fields import flags as _flags
from opendimo.storage_schemas.fields import integer as _int
from opendimo.storage_schemas.fields import key as _key
from opendimo.storage_schemas.fields import real as _real
from opendimo.storage_schemas.fields import text as _text
from opendimo.storage_schemas.fields import words as _words
from opendimo.storage_schemas.likeness import DUPLICATE, FINGERPRINT
from opendimo.storage_schemas.rig_cameras import CAMERAS

SCHEMA_VERSION = 4
TENSOR = fields.TENSOR

CAMERA_TERMS = (
    "static", "shake", "pan_left", "pan_right", "tilt_up", "tilt_down", "roll_cw", "roll_ccw",
    "dolly_in", "dolly_out", "truck_left", "truck_right", "pedestal_up", "pedestal_down",
    "arc_left", "arc_right", "zoom_in", "zoom_out", "follow",
)  # fmt: skip
"""The closed vocabulary of camera motion; names follow the camera (pan_left: it turns to its left)."""


@dataclass(frozen=True)
class Table:
    """A table: its primary key (a content-derived id) and its Arrow schema.

    `replaces`: a newer row of the same key takes the place of the older one (facts about the outside world, such as a
    path or a licence); elsewhere the first row of a key stays, because what made it is part of its id.
    """

    name: str
    about: str
    key: str
    schema: pa.Schema
    replaces: bool = False

    @property
    def blobs(self) -> tuple[str, ...]:
        """Names of the columns whose bytes are stored outside the rows and read one by one."""
        return tuple(f.name for f in self.schema if f.metadata and b"blob" in f.metadata)


WORK_KEY = _text("work_key", "the piece of work that made this row: what planning compares")
RUN_ID = _text("run_id", "the run that committed this row")

CAMERA_FIELDS = [
    _array("world_to_camera", "x_cam = R X_world + t, OpenCV axes", "T 3 4", "metres", null=True),
    _array("K", "intrinsic matrix of the stored pixels", "T 3 3", "pixels", null=True),
    _field("distortion", pa.list_(pa.float32()), "OpenCV k1 k2 p1 p2 [k3 ...]; empty: none", null=True),
    _field("metric", pa.bool_(), "true where lengths are metres (SLAM is not metric)", null=True),
]

TABLES: dict[str, Table] = {
    t.name: t
    for t in (
        Table("sources", "one thing a user pointed at: a file, a URL, a rendered sequence, one camera of a rig", "source_id", pa.schema([
            _key("source_id", "hash of kind, content, capture and view"),
            _text("kind", "internet, unreal or multiview"),
            _text("uri", "where it was read from"),
            _text("local_path", "the readable video file: the uri itself, or the downloaded copy; or a pattern of numbered pictures (name_%04d.png)"),
            _text("name", "short name for people"),
            _text("content_sha256", "hash of the video file"),
            _text("stream_sha256", "hash of the coded pictures, the same in any container", null=True),
            _text("annotation_sha256", "hash of cameras and truth; empty where there are none"),
            _int("size", "size of the video file", unit="bytes"),
            _text("container", "container format as the demuxer names it"),
            _text("codec", "video codec"),
            _int("width", "upright width, after rotation", unit="pixels"),
            _int("height", "upright height, after rotation", unit="pixels"),
            _int("rotation", "clockwise turn that makes the stored frames upright: 0, 90, 180, 270", unit="degrees"),
            _int("fps_num", "frame rate, numerator"),
            _int("fps_den", "frame rate, denominator"),
            _int("frames", "frames by the container's word, if it says", null=True),
            _text("capture_id", "the performance this view belongs to"),
            _text("view", "name of the camera"),
            _text("subject", "who is seen, if known", null=True),
            _text("licence", "licence as given by the user", null=True),
            _text("attribution", "attribution as given by the user", null=True),
            _text("extra", "further columns of the list that were asked for, JSON", null=True),
            *CAMERA_FIELDS,
            _array("truth_joints", "true joints of every body, in the world", "P T J 3", "metres", null=True),
            _array("truth_global_orient", "true root rotation world_from_body, axis-angle", "P T 3", "radians", null=True),
            _array("truth_body_pose", "true SMPL-X body pose, axis-angle, no root", "P T 21 3", "radians", null=True),
            _array("truth_hand_pose", "true MANO poses, left and right, axis-angle (flat hand is zero)", "P T 2 15 3", "radians", null=True),
            _array("truth_transl", "true SMPL-X translation in the world", "P T 3", "metres", null=True),
            _array("truth_betas", "true SMPL-X shape", "P B", null=True),
            _field("references", pa.list_(pa.struct([pa.field("kind", pa.string()), pa.field("path", pa.string())])), "masks, depth and other files that belong to it, never read: file, folder, or pattern of numbered files", null=True),
            _field("timestamps", pa.list_(pa.int64()), "when each frame was taken, by the rig's clock; null: at a constant rate", null=True, unit="ns"),
            _int("fetched_at", "when it was fetched, nanoseconds since 1970 UTC", unit="ns"),
            WORK_KEY, RUN_ID,
        ]), replaces=True),
        Table("captures", "one performance (take), seen by one or more cameras at the same time", "capture_id", pa.schema([
            _key("capture_id", "hash of what the source says identifies the take"),
            _text("kind", "internet, unreal or multiview"),
            _text("subject", "who performs, if known", null=True),
            _text("take", "name of the take"),
            _text("action", "what is done, if known", null=True),
            _words("views", "names of the views that are sources of this capture"),
            _array("gravity_down", "unit vector of gravity in the world", "3", null=True),
            _text("sync_method", "how the views share time: single, rendered, synchronised"),
            WORK_KEY, RUN_ID,
        ]), replaces=True),
        Table("clips", "one person, one view, one shot, frames [start, end), with scores; verdicts are queries over scores", "clip_id", pa.schema([
            _key("clip_id", "hash of content, span and segmentation config"),
            _text("source_id", "the source item it was cut from"),
            _text("capture_id", "its performance"),
            _text("view", "its camera"),
            _text("kind", "internet, unreal or multiview"),
            _text("name", "short name for people"),
            _text("subject", "who is seen, if known", null=True),
            _text("licence", "licence of the source", null=True),
            _text("attribution", "attribution of the source", null=True),
            _int("start_frame", "first frame in the source (0-based)", unit="frames"),
            _int("end_frame", "one past the last frame in the source", unit="frames"),
            _int("frames", "frames of the clip", unit="frames"),
            _int("fps_num", "frame rate, numerator"),
            _int("fps_den", "frame rate, denominator"),
            _int("source_width", "upright width of the source", unit="pixels"),
            _int("source_height", "upright height of the source", unit="pixels"),
            _int("width", "width of the encoded clip", unit="pixels"),
            _int("height", "height of the encoded clip", unit="pixels"),
            _text("video_sha256", "hash of the encoded clip in clip_videos; null where no person was found", null=True),
            _array("track", "box of the main person per frame: x0 y0 x1 y1; NaN where unseen", "T 4", "pixels of the clip", null=True),
            *CAMERA_FIELDS,
            *SCORES,
            WORK_KEY, RUN_ID,
        ])),
        Table("clip_videos", "the encoded bytes of clips; append-only, never updated", "clip_id", pa.schema([
            _key("clip_id", "the clip"),
            _blob("video", "H.264 in MP4, constant frame rate, one key frame per second (copied ones: as in the source)"),
            _text("sha256", "hash of the bytes"),
            WORK_KEY, RUN_ID,
        ])),
        Table("rigs", "what was measured of the cameras of one capture: their time offsets, their residuals, a verdict on each", "rig_id", pa.schema([
            _key("rig_id", "hash of capture and work key"),
            _text("capture_id", "the performance"),
            _text("sync_witness", "what the offsets come from: timestamps, audio, motion; none where nothing tells"),
            _text("qa_witness", "what the residuals come from: board, people; none where nothing is seen"),
            CAMERAS,
            _field("metric", pa.bool_(), "whether lengths are metres, as stated and not contradicted by the board or by people", null=True),
            _array("gravity_down", "unit vector of gravity in the world, from people who stand upright", "3", null=True),
            _real("gravity_spread", "median angle between upright people and that", null=True, unit="degrees"), WORK_KEY, RUN_ID,
        ])),
        Table("fingerprints", "what of a clip's pictures is compared with other clips; append-only, never updated", "clip_id", pa.schema([*FINGERPRINT, WORK_KEY, RUN_ID])),
        Table("duplicates", "one clip compared with all that were there: a clip with the same footage, or that there is none", "duplicate_id", pa.schema([*DUPLICATE, WORK_KEY, RUN_ID])),
        Table("poses", "SMPL-X body and MANO hands of a clip by one estimator", "pose_id", pa.schema([
            _key("pose_id", "hash of clip and work key"),
            _text("clip_id", "the clip"),
            _text("estimator", "truth, multiview or monocular, with the landmark model"),
            _text("model_licence", "licence of the weights behind the label"),
            _array("global_orient", "root rotation camera_from_body, axis-angle; stored, never supervised", "T 3", "radians"),
            _array("body_pose", "SMPL-X body joints 1..21, axis-angle", "T 21 3", "radians"),
            _array("hand_pose", "MANO joints, left then right, axis-angle (flat hand is zero)", "T 2 15 3", "radians"),
            _array("transl", "SMPL-X translation in the camera", "T 3", "metres"),
            _array("betas", "SMPL-X shape", "B"),
            _array("joints_3d", "22 body, 15 left hand, 15 right hand joints in the camera", "T 52 3", "metres"),
            _array("joints_2d", "the same joints in the clip: x, y, confidence", "T 52 3", "pixels"),
            _flags("valid", "frames whose body label may be used"),
            _array("hand_valid", "1 where the left, right hand label may be used", "T 2"),
            _array("confidence", "confidence of the body per frame, 0 to 1", "T"),
            _real("reprojection", "median distance of fitted to observed joints over the person's height", null=True),
            _real("jitter", "median acceleration of the joints", unit="m/s^2", null=True),
            _real("foot_skate", "median speed of a planted foot", unit="m/s", null=True),
            _real("bone_drift", "median relative deviation of observed bone lengths from their median", null=True),
            _real("cross_view", "median distance between views of the triangulated joints' reprojection", unit="pixels", null=True),
            _real("weight", "quality weight for the trainer, 0 to 1"),
            WORK_KEY, RUN_ID,
        ])),
        Table("captions", "camera motion and content of a clip by one captioner", "caption_id", pa.schema([
            _key("caption_id", "hash of clip and work key"),
            _text("clip_id", "the clip"),
            _text("captioner", "geometry, image_motion, or the name of the vision-language model"),
            _field("camera_terms", pa.list_(pa.struct([
                pa.field("term", pa.string()), pa.field("speed", pa.string()),
                pa.field("start_frame", pa.int64()), pa.field("end_frame", pa.int64()),
            ])), "words of the closed vocabulary, with speed (slow, medium, fast) and span [start, end)"),
            _text("camera_sentence", "the camera motion in words"),
            _text("content_sentence", "what is seen, in words; empty where nobody looked"),
            _text("text", "the camera sentence and the content sentence: the text of the whole clip"),
            _text("evidence", "the numbers behind the terms, JSON"),
            _real("agreement", "overlap of the two witnesses' terms, 0 to 1; null where there is one", null=True),
            _text("raw_answer", "the model's answer, unparsed", null=True),
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
            _field("text_shape", pa.list_(pa.int32()), "tokens, width"),
            _blob("text_embedding", "unpadded text embedding, float16, C order"),
            _text("text", "the text that was embedded: the camera's motion in the window, and what is seen"),
            _text("caption_hash", "hash of the camera terms and the content sentence that the texts of the clip's windows were composed of; null in rows of schema 3, whose text is that of the whole clip", null=True),
            WORK_KEY, RUN_ID,
        ])),
        Table("pairs", "one training pair: motion of the driving window, pixels of the target window", "pair_id", pa.schema([
            _key("pair_id", "hash of everything below"),
            _text("kind", "same_view, cross_view or moving_camera"),
            _text("driving_clip_id", "clip the motion is read from"),
            _int("driving_start", "first frame of the driving window", unit="frames"),
            _text("target_clip_id", "clip to be generated"),
            _int("target_start", "first frame of the target window", unit="frames"),
            _int("num_frames", "frames of both windows", unit="frames"),
            _int("frame_step", "clip frames per window frame", unit="frames"),
            _text("latent_id", "target latents"),
            _text("pose_id", "pose label of the driving clip", null=True),
            _text("source_kind", "internet, unreal or multiview"),
            _text("capture_id", "the performance"),
            _text("subject", "who performs, if known", null=True),
            _text("split", "train or test; a capture is never in both"),
            _text("split_group", "its group: pairs that share a subject, a capture, a file or footage, directly or through others, are on one side; null in rows of schema 3", null=True),
            _real("weight", "quality weight of the pose label, 0 to 1"),
            WORK_KEY, RUN_ID,
        ])),
        Table("rejects", "one failed attempt at a piece of work, or the successful one after such", "reject_id", pa.schema([
            _key("reject_id", "hash of work key and attempt"),
            _text("stage", "stage that failed"),
            _text("item_id", "id of the input"),
            _text("name", "short name for people"),
            _text("error_class", "transient, permanent, data or bug; resolved: this attempt succeeded"),
            _text("reason", "why, in one word: blocked, gone, too_large, not_a_video, ...; null where there is none", null=True),
            _text("message", "what, where, what to do"),
            _text("traceback", "traceback, for a bug", null=True),
            _int("attempts", "attempts so far, this one included"),
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
            _int("rows", "rows committed"),
            _int("replaced", "of these, rows that took the place of an older one with the same key"),
            _int("version", "resulting version of the table"),
            _text("config", "stage version and config, JSON"),
            _text("counts", "in, done, filtered by reason, rejected by class, JSON"),
            _text("code_version", "version of the code"),
            _int("committed_at", "nanoseconds since 1970 UTC", unit="ns"),
            _real("seconds", "wall time of the run", unit="s"),
        ])),
        Table("releases", "an immutable, named, versioned set of pairs, pinned to table versions; its pairs lie in releases/NAME/VERSION/", "release_id", pa.schema([
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
            _text("inventory_sha256", "hash of the list of all files of the release, with their sizes and hashes"),
            _text("manifest", "counts by kind, source, licence and split, label quality, policy, code and config versions: JSON"),
            _field("needs_approval", pa.bool_(), "the policy wants somebody to approve it before anything trains on it"),
            _int("created_at", "nanoseconds since 1970 UTC", unit="ns"),
            RUN_ID,
        ])),
        Table("decisions", "what people decided about releases; the last one of a release counts", "decision_id", pa.schema([
            _key("decision_id", "hash of the release and the number of the decision"),
            _text("release_id", "NAME@VERSION"),
            _int("number", "0, 1, ... within the release"),
            _text("decision", "approved or withdrawn"),
            _text("by", "who decided"),
            _text("note", "why", null=True),
            _int("decided_at", "nanoseconds since 1970 UTC", unit="ns"),
            RUN_ID,
        ])),
        Table("tombstones", "what was taken down: later releases leave it out", "tombstone_id", pa.schema([
            _key("tombstone_id", "hash of what and value"),
            _text("what", "source_id, content_sha256, licence or subject"),
            _text("value", "every source with this value, also one that comes later, is down"),
            _text("reason", "why"),
            _text("by", "who decided"),
            _field("in_force", pa.bool_(), "false: it was lifted again"),
            _int("decided_at", "nanoseconds since 1970 UTC", unit="ns"),
            RUN_ID,
        ]), replaces=True),
    )
}  # fmt: skip
"""Every table of a lake, by name."""
