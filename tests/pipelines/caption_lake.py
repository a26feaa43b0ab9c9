"""Build a lake of clips with known cameras and videos, for tests of captions."""

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.media.video import encode

FRAMES, WIDTH, HEIGHT = 48, 192, 128
FPS = Fraction(24)
SLIDE = 2  # pixels per frame to the left, as in a pan or a truck to the right


def sliding_picture() -> np.ndarray:
    """Return frames [T, H, W, 3] of a textured wall that moves to the left."""
    noise = np.random.default_rng(0).integers(0, 255, (HEIGHT // 8, (WIDTH + SLIDE * FRAMES) // 8 + 1, 3))
    wall = cv2.resize(noise.astype(np.uint8), None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC)
    return np.stack([wall[:HEIGHT, SLIDE * i : SLIDE * i + WIDTH] for i in range(FRAMES)])


def cameras(right: float) -> np.ndarray:
    """Return cameras [T, 3, 4] that move `right` metres to the right."""
    world_to_camera = np.zeros((FRAMES, 3, 4), dtype=np.float32)
    world_to_camera[:, :, :3] = np.eye(3)
    world_to_camera[:, 0, 3] = -right * np.linspace(0, 1, FRAMES)
    return world_to_camera


def clip_row(clip_id: str, **changes) -> dict:
    """Return a row of `clips` without cameras that every policy keeps."""
    row = {
        "clip_id": clip_id,
        "source_id": f"source of {clip_id}",
        "capture_id": clip_id,
        "view": "single",
        "kind": "internet",
        "name": clip_id,
        "subject": None,
        "licence": None,
        "attribution": None,
        "start_frame": 0,
        "end_frame": FRAMES,
        "frames": FRAMES,
        "fps_num": FPS.numerator,
        "fps_den": FPS.denominator,
        "source_width": WIDTH,
        "source_height": HEIGHT,
        "width": WIDTH,
        "height": HEIGHT,
        "video_sha256": "0",
        "track": np.tile(np.float32([80, 30, 100, 90]), (FRAMES, 1)),
        "world_to_camera": None,
        "K": None,
        "distortion": None,
        "metric": None,
        "people": 1.0,
        "person_share": 1.0,
        "person_height": 0.5,
        "sharpness": 100.0,
        "motion": 0.0,
        "subject_motion": 0.0,
        "exposure": 0.5,
        "frame_hashes": [],
        "work_key": f"cut {clip_id}",
    }
    return row | changes


def pose_row(clip_id: str, transl: np.ndarray) -> dict:
    """Return a row of `poses` with the person at `transl` [T, 3], metres in the camera frame."""
    T = len(transl)
    shapes = {
        "global_orient": (T, 3),
        "body_pose": (T, 21, 3),
        "hand_pose": (T, 2, 15, 3),
        "betas": (10,),
        "joints_3d": (T, 52, 3),
        "joints_2d": (T, 52, 3),
        "hand_valid": (T, 2),
        "confidence": (T,),
    }
    row = {name: np.zeros(shape, dtype=np.float32) for name, shape in shapes.items()}
    return row | {
        "pose_id": f"pose of {clip_id}",
        "clip_id": clip_id,
        "estimator": "truth",
        "model_licence": "none",
        "transl": transl.astype(np.float32),
        "valid": [True] * T,
        "weight": 1.0,
        "work_key": f"pose {clip_id}",
    }


def make_lake(path: Path, rows: list[dict]) -> Lake:
    """Create a lake with these clips, all with the video of the sliding wall."""
    lake = Lake(path)
    video = encode(sliding_picture(), FPS)
    videos = [{"clip_id": r["clip_id"], "video": video, "sha256": "0", "work_key": r["work_key"]} for r in rows]
    lake.append("clips", {"clips": rows, "clip_videos": videos})
    return lake
