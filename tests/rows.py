"""Rows of the tables of a lake: what a test says about one, and something small or empty in all other columns."""

from typing import Any

from opendimo.storage_schemas.ids import sha256_bytes
from opendimo.storage_schemas.rows import filled_row

FRAMES = 12


def row(table: str, frames: int = FRAMES, /, **values: Any) -> dict[str, Any]:
    """A row of `table`: `values`, and something empty in every other column that must not be null."""
    return filled_row(table, frames, **values)


def _named(table: str, name: str, facts: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return row(table, **{"work_key": f"w-{name}", **facts, **changes})


def source(name: str, **changes: Any) -> dict[str, Any]:
    facts = {"source_id": f"s-{name}", "capture_id": name, "content_sha256": f"file of {name}", "licence": "CC-BY-4.0"}
    return _named("sources", name, {**facts, "fps_num": 30, "fps_den": 1}, changes)


def capture(name: str, **changes: Any) -> dict[str, Any]:
    facts = {"capture_id": name, "kind": "internet", "views": ["main"], "sync_method": "single", "take": "one"}
    return _named("captures", name, facts, changes)


def clip(name: str, **changes: Any) -> dict[str, Any]:
    facts = {"clip_id": name, "source_id": f"s-{name}", "capture_id": name, "kind": "internet", "name": name}
    numbers = {"frames": FRAMES, "fps_num": 30, "fps_den": 1, "sharpness": 50.0, "person_share": 1.0}
    return _named("clips", name, {**facts, **numbers, "video_sha256": f"video of {name}"}, changes)


def clip_video(name: str, data: bytes = b"bytes", **changes: Any) -> dict[str, Any]:
    return _named("clip_videos", name, {"clip_id": name, "video": data, "sha256": sha256_bytes(data)}, changes)


def pose(name: str, pose_id: str = "", **changes: Any) -> dict[str, Any]:
    facts = {"pose_id": pose_id or f"pose-{name}", "clip_id": name, "estimator": "monocular", "weight": 0.5}
    return _named("poses", name, {**facts, "valid": [True] * FRAMES, "reprojection": 0.02}, changes)


def caption(name: str, term: str = "static", **changes: Any) -> dict[str, Any]:
    terms = [{"term": term, "speed": "slow", "start_frame": 0, "end_frame": FRAMES}]
    facts = {"caption_id": f"caption-{name}", "clip_id": name, "camera_terms": terms, "text": f"The camera is {term}."}
    return _named("captions", name, facts, changes)


def latent(name: str, latent_id: str = "", **changes: Any) -> dict[str, Any]:
    facts = {"latent_id": latent_id or f"latent-{name}", "clip_id": name, "text": "The camera is static."}
    return _named("latents", name, {**facts, "latents": b"l" * 64, "text_embedding": b"t" * 32}, changes)


def pair(name: str, split: str = "train", pair_id: str = "", **changes: Any) -> dict[str, Any]:
    clips = {"pair_id": pair_id or f"pair-{name}", "driving_clip_id": name, "target_clip_id": name, "capture_id": name}
    labels = {"latent_id": f"latent-{name}", "pose_id": f"pose-{name}", "weight": 0.5, "num_frames": 9, "frame_step": 1}
    kinds = {"kind": "same_view", "source_kind": "internet", "split": split}
    return _named("pairs", name, {**clips, **labels, **kinds}, changes)
