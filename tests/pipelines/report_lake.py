"""Build a small synthetic lake for tests of reports."""

from fractions import Fraction

import numpy as np

from opendimo.storage_schemas.lake import commit, runs
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.media.video import encode

FRAMES, WIDTH, HEIGHT = 24, 96, 64
FPS = Fraction(12)
HOSTILE = "<script>alert('clip')</script>\"><img src=x onerror=alert(1)>"


def film(slower: int = 1) -> bytes:
    """A white square on grey, moving to the right by two pixels a frame, or by a part of that."""
    frames = np.full((FRAMES, HEIGHT, WIDTH, 3), 90, np.uint8)
    for t in range(FRAMES):
        frames[t, 20:44, 10 + 2 * t // slower : 34 + 2 * t // slower] = 255
    return encode(frames, FPS)


def cameras(right: float) -> np.ndarray:
    """[T, 3, 4]: cameras that look along +z and travel `right` metres along +x."""
    world_to_camera = np.zeros((FRAMES, 3, 4), np.float32)
    world_to_camera[:, :, :3] = np.eye(3)
    world_to_camera[:, 0, 3] = -np.linspace(0, right, FRAMES)
    return world_to_camera


def source_row(name: str, **changes) -> dict:
    row = {
        "source_id": f"source {name}", "kind": "unreal", "uri": name, "local_path": name, "name": name,
        "content_sha256": name,
        "annotation_sha256": "",
        "size": 1, "container": "mp4", "codec": "h264", "width": WIDTH, "height": HEIGHT, "rotation": 0, "fps_num": 12,
        "fps_den": 1, "frames": FRAMES, "capture_id": "take", "view": name, "fetched_at": 0,
        "licence": "CC0-1.0", "work_key": f"source {name}",
    }  # fmt: skip
    return row | changes


def clip_row(name: str, **changes) -> dict:
    row = {
        "clip_id": f"clip {name}", "source_id": f"source {name}", "capture_id": "take", "view": name, "kind": "unreal",
        "name": name, "licence": "CC0-1.0", "start_frame": 0, "end_frame": FRAMES, "frames": FRAMES, "fps_num": 12,
        "fps_den": 1, "source_width": WIDTH, "source_height": HEIGHT,
        "width": WIDTH, "height": HEIGHT, "video_sha256": "0",
        "track": np.float32([[10 + 2 * t, 20, 34 + 2 * t, 44] for t in range(FRAMES)]),
        "world_to_camera": cameras(1.0),
        "K": np.tile(np.float32([[90, 0, 48], [0, 90, 32], [0, 0, 1]]), (FRAMES, 1, 1)), "metric": True,
        "people": 1.0, "person_share": 1.0, "person_height": 0.375, "sharpness": 100.0, "motion": 0.001,
        "subject_motion": 0.01, "exposure": 0.4, "frame_hashes": [], "work_key": f"cut {name}",
    }  # fmt: skip
    return row | changes


def pose_row(name: str) -> dict:
    shapes = {
        "global_orient": (FRAMES, 3), "body_pose": (FRAMES, 21, 3), "hand_pose": (FRAMES, 2, 15, 3),
        "transl": (FRAMES, 3), "betas": (10,), "joints_2d": (FRAMES, 52, 3), "confidence": (FRAMES,),
    }  # fmt: skip
    return {key: np.zeros(shape, np.float32) for key, shape in shapes.items()} | {
        "joints_3d": np.tile(np.float32([0, 0, 4]), (FRAMES, 52, 1)),
        "hand_valid": np.tile(np.float32([1, 0]), (FRAMES, 1)),
        "pose_id": f"pose {name}", "clip_id": f"clip {name}", "estimator": "truth", "model_licence": "none",
        "valid": [True] * FRAMES, "weight": 0.875, "jitter": 3.25, "work_key": f"pose {name}",
    }  # fmt: skip


def caption_row(name: str, text: str) -> dict:
    terms = [{"term": "truck_right", "speed": "slow", "start_frame": 0, "end_frame": FRAMES}]
    return {
        "caption_id": f"caption {name}", "clip_id": f"clip {name}", "captioner": "geometry", "camera_terms": terms,
        "camera_sentence": text, "content_sentence": "", "text": text, "evidence": "{}", "work_key": f"caption {name}",
    }  # fmt: skip


def reject_row(number: int) -> dict:
    return {
        "reject_id": f"reject {number}", "stage": "sources", "item_id": str(number), "name": f"{HOSTILE} {number}",
        "error_class": "data", "message": f"/data/list/{number}.mp4: the file is empty", "attempts": 1,
        "work_key": f"bad {number}",
    }  # fmt: skip


def tombstone_row(source_id: str) -> dict:
    return {
        "tombstone_id": f"tombstone {source_id}", "what": "source_id", "value": source_id, "reason": "asked for",
        "by": "a test", "in_force": True, "decided_at": 0,
    }  # fmt: skip


def run(lake: Lake, stage: str, rows: dict[str, list[dict]], inputs: int) -> None:
    """Commit what a run of a stage would, with its counts."""
    runs.begin(lake, f"run of {stage}", {"shards": 1})
    runs.stage_shard(lake, f"run of {stage}", 0, rows, {})
    commit.commit(lake, f"run of {stage}", lambda notes: {"stage": stage, "counts": {"in": inputs}})


def duplicate_row(worse: str, better: str, **changes) -> dict:
    row = {
        "duplicate_id": f"{worse} {better}", "clip_id": f"clip {worse}", "other_clip_id": f"clip {better}",
        "representative_id": f"clip {better}", "kind": "copy", "mirrored": False, "offset_frames": 0, "start_frame": 0,
        "end_frame": FRAMES, "share": 1.0, "similarity": 0.97, "distance": 2.0, "work_key": f"compare {worse}",
    }  # fmt: skip
    return row | changes


def rig_row(capture: str, *cameras: dict) -> dict:
    known = {
        "offset_frames": 0.0, "offset_residual": 0.1, "residual_px": 3.0, "epipolar_px": 1.0, "observations": 900,
        "verdict": "ok", "note": "",
    }  # fmt: skip
    return {
        "rig_id": f"rig {capture}", "capture_id": capture, "sync_witness": "motion", "qa_witness": "people",
        "cameras": [known | camera for camera in cameras], "metric": True, "gravity_down": None,
        "gravity_spread": None, "work_key": f"measure {capture}",
    }  # fmt: skip
