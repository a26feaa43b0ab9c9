"""A small lake with everything that a release needs: two takes to train on, one to test on, labels and videos."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from storage_schemas.ids import sha256_bytes
from storage_schemas.lake import Lake
from storage_schemas.tables import TABLES, TENSOR

FRAMES = 12
LONG = 5_000_000  # bytes: Lance gives such a blob a file of its own


def row(table: str, **values: Any) -> dict[str, Any]:
    """A row of `table`: `values`, and something empty in every other column that must not be null."""
    empty = {pa.string(): "", pa.int64(): 0, pa.float64(): 0.0, pa.bool_(): False}
    made = dict(values)
    for field in TABLES[table].schema:
        if field.nullable or field.name in values or field.name == "run_id":
            continue
        if field.type == TENSOR:
            dims = field.metadata[b"dims"].decode().split()
            made[field.name] = np.zeros([FRAMES if d == "T" else 10 if d == "B" else int(d) for d in dims], np.float32)
        else:
            made[field.name] = empty.get(field.type, [])
    return made


def video(name: str) -> bytes:
    """Bytes that stand for a video: small, middle and large ones are stored in different ways."""
    size = {"a": 500, "b": 150_000, "c": LONG}.get(name, 1000)
    return np.random.default_rng(list(name.encode())).bytes(size)


def source(name: str, **changes: Any) -> dict[str, Any]:
    facts = {"source_id": f"s-{name}", "capture_id": name, "content_sha256": f"file of {name}", "licence": "CC-BY-4.0"}
    return row("sources", **{**facts, "fps_num": 30, "fps_den": 1, **changes})


def clip(name: str, **changes: Any) -> dict[str, Any]:
    facts = {"clip_id": name, "source_id": f"s-{name}", "capture_id": name, "frames": FRAMES, "fps_num": 30}
    scores = {"fps_den": 1, "sharpness": 50.0, "person_share": 1.0, "video_sha256": sha256_bytes(video(name))}
    return row("clips", **{**facts, **scores, "kind": "internet", "name": name, **changes})


def clip_video(name: str) -> dict[str, Any]:
    return row("clip_videos", clip_id=name, video=video(name), sha256=sha256_bytes(video(name)))


def pose(name: str, pose_id: str = "", **changes: Any) -> dict[str, Any]:
    facts = {"pose_id": pose_id or f"pose-{name}", "clip_id": name, "estimator": "monocular", "weight": 0.5}
    return row("poses", **{**facts, "valid": [True] * FRAMES, "reprojection": 0.02, **changes})


def caption(name: str, term: str = "static", **changes: Any) -> dict[str, Any]:
    terms = [{"term": term, "speed": "slow", "start_frame": 0, "end_frame": FRAMES}]
    facts = {"caption_id": f"caption-{name}", "clip_id": name, "camera_terms": terms, "text": f"The camera is {term}."}
    return row("captions", **{**facts, **changes})


def latent(name: str, latent_id: str = "", **changes: Any) -> dict[str, Any]:
    made = {"latent_id": latent_id or f"latent-{name}", "clip_id": name, "text": "The camera is static."}
    return row("latents", **{**made, "latents": b"l" * 64, "text_embedding": b"t" * 32, **changes})


def pair(name: str, split: str = "train", pair_id: str = "", **changes: Any) -> dict[str, Any]:
    clips = {"pair_id": pair_id or f"pair-{name}", "driving_clip_id": name, "target_clip_id": name, "capture_id": name}
    labels = {"latent_id": f"latent-{name}", "pose_id": f"pose-{name}", "weight": 0.5, "num_frames": 9, "frame_step": 1}
    return row(
        "pairs", **{**clips, **labels, "kind": "same_view", "source_kind": "internet", "split": split, **changes}
    )


NAMES = {"a": "train", "b": "train", "c": "test"}


def small_lake(home: str | Path) -> Lake:
    """Sources, clips, videos and labels of `NAMES`, and a first set of pairs."""
    lake = Lake(home)
    makers = {"sources": source, "clips": clip, "clip_videos": clip_video, "poses": pose, "captions": caption}
    rows = {table: [make(name) for name in NAMES] for table, make in {**makers, "latents": latent}.items()}
    lake.append("filled", rows)
    lake.append("paired", {"pairs": [pair(name, split) for name, split in NAMES.items()]})
    return lake


def add(lake: Lake, run_id: str, name: str) -> None:
    """One more clip with everything, without a pair."""
    made = {"sources": source, "clips": clip, "clip_videos": clip_video, "poses": pose, "captions": caption}
    lake.append(run_id, {table: [make(name)] for table, make in {**made, "latents": latent}.items()})
