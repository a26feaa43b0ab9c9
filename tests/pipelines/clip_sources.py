"""Build rows of `sources` for the tests of clips, without the sources stage."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from opendimo.pipelines.quality.policy import Policy, score_columns
from opendimo.pipelines.quality.scores import MEASURED_BY
from opendimo.pipelines.quality.verdicts import reasons
from opendimo.storage_schemas.ids import sha256_file, stable_id
from opendimo.storage_schemas.media import video
from opendimo.storage_schemas.rows import Row
from opendimo.storage_schemas.tables import TABLES


def verdict(clip: Row, policy: Policy) -> str | None:
    """Return the verdict on the scores of one clip."""
    columns = {
        name: pa.array([clip.get(name)], TABLES[MEASURED_BY.get(name, "clips")].schema.field(name).type)
        for name in score_columns(policy)
    }
    (reason,) = reasons(pa.table(columns), policy).to_pylist()
    return reason


def source_row(path: Path, **columns: Any) -> Row:
    """Return a complete row of `sources` for a video file; it has no cameras unless given in `columns`."""
    info = video.probe(path)
    content = sha256_file(path)
    no_camera = dict.fromkeys(("world_to_camera", "K", "distortion", "metric"))
    truth = ("joints", "global_orient", "body_pose", "hand_pose", "transl", "betas")
    return {
        "source_id": stable_id("source", content, str(path)),
        "kind": "internet",
        "uri": str(path),
        "local_path": str(path),
        "name": path.stem,
        "content_sha256": content,
        "annotation_sha256": "",
        "size": path.stat().st_size,
        "container": info.container,
        "codec": info.codec,
        "width": info.width,
        "height": info.height,
        "rotation": info.rotation,
        "mirrored": info.mirrored,
        "colour_transfer": info.transfer,
        "colour_primaries": info.primaries,
        "colour_range": info.range,
        "fps_num": info.fps.numerator,
        "fps_den": info.fps.denominator,
        "frames": info.frames,
        "capture_id": stable_id("capture", content),
        "view": "main",
        "subject": None,
        "licence": "test",
        "attribution": None,
        "fetched_at": 0,
        "work_key": stable_id("fetch", content),
        **no_camera,
        **dict.fromkeys(f"truth_{name}" for name in truth),
        **columns,
    }


def start_of(path: Path, out: Path, frames: int, height: int = 360) -> Path:
    """Write the first `frames` of a video into the folder `out`, scaled to at most `height`; return the file."""
    info = video.probe(path)
    height = min(height, info.height)
    width = info.width * height // info.height // 2 * 2
    images = video.decode(path, stop=frames, size=(width, height // 2 * 2), rotation=info.rotation)
    copy = out / path.name
    copy.write_bytes(video.encode(images, info.fps))
    return copy


def render_row(job: Path, sequence: str) -> tuple[Row, np.ndarray]:
    """Return the row of a sequence of a mini BEDLAM job with its true joints, and their labelled pixels [P, T, J, 2].

    Conversions follow data/ue5/FORMAT.md, section 1.
    """
    cameras = next((job / "ground_truth").glob(f"*/{sequence}_camera.csv"))
    rows = [{k: v for k, v in row.items() if k != "name"} for row in csv.DictReader(cameras.open())]
    camera = {k: np.array([float(row[k]) for row in rows]) for k in rows[0]}  # [T] each
    yaw, pitch, roll = (np.radians(camera[k]) for k in ("yaw", "pitch", "roll"))
    R = _about(2, -roll) @ _about(0, -pitch) @ _about(1, -yaw)  # [T, 3, 3]
    position = np.stack([camera["y"], -camera["z"], camera["x"]], 1) / 100
    K = np.zeros((len(rows), 3, 3))
    K[:, 0, 0] = camera["focal_length"] / camera["sensor_width"] * 1280
    K[:, 1, 1] = camera["focal_length"] / camera["sensor_height"] * 720
    K[:, :, 2] = 640, 360, 1
    with np.load(job / "processed_labels" / f"{job.name}.npz", allow_pickle=False) as labels:
        rows_of_sequence = np.char.startswith(labels["imgname"], sequence)
        bodies = sorted(set(labels["sub"][rows_of_sequence]))
        selections = [rows_of_sequence & (labels["sub"] == body) for body in bodies]
        unreal = np.stack([labels["joints3d_world_ue"][selected] for selected in selections])  # [P, T, J, 3]
        pixels = np.stack([labels["gtkps"][selected, :, :2] for selected in selections])
    joints = np.stack([unreal[..., 1], -unreal[..., 2], unreal[..., 0]], -1) / 100
    row = source_row(
        job / "mp4" / f"{sequence}.mp4",
        kind="unreal",
        world_to_camera=np.concatenate([R, -R @ position[..., None]], 2).astype(np.float32),
        K=K.astype(np.float32),
        distortion=[],
        metric=True,
        truth_joints=joints.astype(np.float32),
    )
    return row, pixels


def _about(axis: int, angle: np.ndarray) -> np.ndarray:
    """Return right-handed rotations [T, 3, 3] about x, y or z."""
    i, j = (axis + 1) % 3, (axis + 2) % 3
    out = np.tile(np.eye(3), (len(angle), 1, 1))
    out[:, i, i] = out[:, j, j] = np.cos(angle)
    out[:, i, j], out[:, j, i] = -np.sin(angle), np.sin(angle)
    return out
