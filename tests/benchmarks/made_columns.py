"""Columns of made rows, a function of the row's number and nothing else."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from opendimo.storage_schemas.ids import stable_id
from opendimo.storage_schemas.tables import TENSOR

CLIPS_PER_SOURCE = 20
BLURRED = 20  # one clip in so many is
HASHES, BOXES = 3, 4  # perceptual hashes and frames of the track
GROUP = 10  # sources that share a subject and a side
HEX = np.array([f"{byte:02x}".encode() for byte in range(256)], "S2").view(np.uint16)
DOES, PLACES = ("dances", "boxes", "runs"), ("a hall", "the rain")
SENTENCES = pa.array([f"A person {does} in {place}." for does in DOES for place in PLACES])
KINDS = pa.array(["unreal", "multiview", *["internet"] * 8])

Columns = dict[str, Any]
"""Columns by name: an array, or one value for all rows; what is absent is null."""


def is_kept(clips: np.ndarray) -> np.ndarray:
    """Whether the policy keeps each clip."""
    return clips % BLURRED != BLURRED - 1


def ids(what: str, numbers: np.ndarray, length: int = 32) -> pa.StringArray:
    """Hex texts that look like hashes; other numbers have other texts."""
    data = HEX[_mixed(what, numbers, length // 16).view(np.uint8)]
    offsets = np.arange(len(numbers) + 1, dtype=np.int32) * length
    return pa.StringArray.from_buffers(len(numbers), pa.py_buffer(offsets), pa.py_buffer(data))


def source_columns(sources: np.ndarray) -> Columns:
    """Rows of `sources`."""
    names = numbered("video_", sources)
    texts = {"container": "mov,mp4", "codec": "h264", "view": "main", "licence": "CC-BY-4.0", "attribution": "somebody"}
    numbers = {"width": 1280, "height": 720, "rotation": 0, "fps_num": 30, "fps_den": 1, "frames": 18000}
    return {
        **texts, **numbers, **_origin(sources),
        "uri": pc.binary_join_element_wise("https://videos.example/", names, ".mp4", ""),
        "local_path": pc.binary_join_element_wise("media/", names, ".mp4", ""),
        "name": names,
        "content_sha256": ids("content", sources, 64),
        "annotation_sha256": "",
        "size": sources + 100_000_000,
        "fetched_at": sources,
        "work_key": ids("source work", sources),
    }  # fmt: skip


def capture_columns(sources: np.ndarray) -> Columns:
    """Rows of `captures`: one a source."""
    taken = {"take": numbered("take_", sources), "work_key": ids("source work", sources)}
    return {**_origin(sources), **taken, "views": lists(["main"] * len(sources), 1), "sync_method": "single"}


def clip_columns(clips: np.ndarray) -> Columns:
    """Rows of `clips`; those of rendered and calibrated sources have a metric camera."""
    sources, place = np.divmod(clips, CLIPS_PER_SOURCE)
    metric = sources % len(KINDS) < 2
    u = uniform("scores", clips, 6)
    boxes = np.sort(uniform("track", clips, 4 * BOXES).reshape(len(clips), BOXES, 4), axis=-1) * 480
    eye = np.broadcast_to(np.eye(3, 4, dtype=np.float32), (len(clips), 1, 3, 4))
    sizes = {"source_width": 1280, "source_height": 720, "width": 854, "height": 480, "fps_num": 30, "fps_den": 1}
    return {
        **sizes, **_origin(sources),
        "clip_id": ids("clip", clips),
        "view": "main",
        "name": numbered("clip_", clips),
        "licence": "CC-BY-4.0",
        "attribution": "somebody",
        "start_frame": 120 * place,
        "end_frame": 120 * place + 120,
        "frames": 120,
        "video_sha256": ids("video", clips, 64),
        "track": tensors(boxes),
        "world_to_camera": tensors(eye, metric),
        "K": tensors(500 * eye[..., :3], metric),
        "distortion": lists(np.zeros(0, np.float32), 0, len(clips)),
        "metric": metric,
        "people": 1.0,
        "person_share": 0.8 + 0.2 * u[:, 0],
        "person_height": 0.25 + 0.7 * u[:, 1],
        "sharpness": np.where(is_kept(clips), 20 + 500 * u[:, 2], 5.0),
        "motion": 0.05 * u[:, 3],
        "subject_motion": 0.1 * u[:, 4],
        "exposure": 0.1 + 0.8 * u[:, 5],
        "frame_hashes": lists(ids("frame", np.arange(clips[0] * HASHES, (clips[0] + len(clips)) * HASHES), 16), HASHES),
        "work_key": ids("clips work", sources),
    }  # fmt: skip


def video_columns(clips: np.ndarray) -> Columns:
    """Rows of `clip_videos`, a byte each."""
    sources = clips // CLIPS_PER_SOURCE
    return {"clip_id": ids("clip", clips), "sha256": ids("video", clips, 64), "work_key": ids("clips work", sources)}


def pose_columns(clips: np.ndarray) -> Columns:
    """Rows of `poses` without frames."""
    shapes = {"global_orient": (3,), "body_pose": (21, 3), "hand_pose": (2, 15, 3), "transl": (3,)}
    shapes |= {"joints_3d": (52, 3), "joints_2d": (52, 3), "hand_valid": (2,), "confidence": ()}
    empty = {name: tensors(np.zeros((len(clips), 0, *shape), np.float32)) for name, shape in shapes.items()}
    u = uniform("pose", clips, 4)
    return {
        **empty, **{name: u[:, k] for k, name in enumerate(("reprojection", "jitter", "foot_skate"))},
        "pose_id": ids("pose", clips),
        "clip_id": ids("clip", clips),
        "estimator": "monocular mediapipe",
        "model_licence": "landmarks: Apache-2.0; body model: own work, Apache-2.0",
        "betas": tensors(np.zeros((len(clips), 10), np.float32)),
        "valid": lists(np.ones(8 * len(clips), bool), 8),
        "weight": _weights(clips),
        "work_key": ids("poses work", clips),
    }  # fmt: skip


def latent_columns(clips: np.ndarray) -> Columns:
    """Rows of `latents`, a byte each."""
    numbers = {"start_frame": 0, "num_frames": 81, "frame_step": 1, "width": 832, "height": 480}
    shape, text_shape = np.tile([48, 21, 30, 52], len(clips)), np.tile([64, 4096], len(clips))
    shapes = {"shape": lists(shape, 4), "text_shape": lists(text_shape, 2)}
    names = {"latent_id": ids("latent", clips), "clip_id": ids("clip", clips), "work_key": ids("latents work", clips)}
    return {**numbers, **shapes, **names, "vae": "wan 0123456789abcdef", "text": caption_texts(clips)}


def pair_columns(clips: np.ndarray, which: str = "first", shift: Any = 0, weight: Any = 1.0) -> Columns:
    """Rows of `pairs` of one set: each clip drives itself, from frame `shift` on; label weights times `weight`."""
    sources = clips // CLIPS_PER_SOURCE
    origin = _origin(sources)
    side = np.where(sources // GROUP % 10 == 0, "test", "train")
    return {
        "pair_id": ids(f"{which} pair", 2 * clips + (np.asarray(shift) > 0)),
        "kind": "same_view",
        "driving_clip_id": ids("clip", clips),
        "driving_start": shift,
        "target_clip_id": ids("clip", clips),
        "target_start": shift,
        "num_frames": 81,
        "frame_step": 1,
        "latent_id": ids("latent", clips),
        "pose_id": ids("pose", clips),
        "source_kind": origin["kind"],
        "capture_id": origin["capture_id"],
        "subject": origin["subject"],
        "split": pa.array(side),
        "weight": _weights(clips) * weight,
        "work_key": stable_id("pairs work", which),
    }


def caption_texts(clips: np.ndarray) -> pa.Array:
    """What is seen in each clip."""
    return SENTENCES.take(pa.array(clips % len(SENTENCES)))


def caption_columns(clip_ids: pa.Array, keys: pa.Array, numbers: np.ndarray) -> Columns:
    """Rows of `captions` of clips under the work keys of a plan."""
    n = len(numbers)
    term = pa.StructArray.from_arrays(
        [pa.array(["pan_left"] * n), pa.array(["slow"] * n), pa.array([0] * n), pa.array([120] * n)],
        ["term", "speed", "start_frame", "end_frame"],
    )
    return {
        "caption_id": ids("caption", numbers),
        "clip_id": clip_ids,
        "captioner": "image_motion",
        "camera_terms": pa.ListArray.from_arrays(np.arange(n + 1, dtype=np.int32), term),
        "camera_sentence": "The camera pans left slowly.",
        "content_sentence": caption_texts(numbers),
        "text": pc.binary_join_element_wise("The camera pans left slowly.", caption_texts(numbers), " "),
        "evidence": '{"image_motion": {"pan": -0.31, "terms": ["pan_left"], "tilt": 0.02}}',
        "work_key": keys,
    }


def lists(values: Any, size: int, rows: int | None = None) -> pa.ListArray:
    """Lists of one size."""
    rows = len(values) // size if rows is None else rows
    return pa.ListArray.from_arrays(np.arange(rows + 1, dtype=np.int32) * size, pa.array(values))


def tensors(values: np.ndarray, present: np.ndarray | None = None) -> pa.StructArray:
    """A tensor column of float32 values [N, ...]; null where not `present`."""
    n, shape = len(values), np.array(values.shape[1:], np.int32)
    data = lists(np.ascontiguousarray(values, np.float32).ravel(), int(shape.prod()), n)
    mask = None if present is None else pa.array(~present)
    return pa.StructArray.from_arrays([lists(np.tile(shape, n), len(shape), n), data], fields=list(TENSOR), mask=mask)


def numbered(prefix: str, numbers: np.ndarray) -> pa.StringArray:
    """Names."""
    return pc.binary_join_element_wise(prefix, pc.cast(pa.array(numbers), pa.string()), "")


def uniform(what: str, numbers: np.ndarray, columns: int) -> np.ndarray:
    """[N, columns] in [0, 1)."""
    return (_mixed(what, numbers, columns) >> np.uint64(11)) / 2.0**53


def _origin(sources: np.ndarray) -> Columns:
    kind = sources % len(KINDS)
    subject = pc.if_else(pa.array(kind < 2), numbered("subject_", sources // GROUP), None)
    named = {"source_id": ids("source", sources), "capture_id": ids("capture", sources)}
    return {**named, "kind": KINDS.take(pa.array(kind)), "subject": subject}


def _weights(clips: np.ndarray) -> np.ndarray:
    return 0.5 + 0.5 * uniform("weight", clips, 1)[:, 0]


def _mixed(what: str, numbers: np.ndarray, lanes: int) -> np.ndarray:
    """[N, lanes] of 64 well-mixed bits (SplitMix64); each lane has one value per number."""
    seeds = np.array([int(stable_id(what, lane)[:16], 16) for lane in range(lanes)], np.uint64)
    z = np.asarray(numbers).astype(np.uint64)[:, None] * np.uint64(0x9E3779B97F4A7C15) + seeds
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
