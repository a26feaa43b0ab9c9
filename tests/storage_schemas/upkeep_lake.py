"""A small lake with a row of everything that upkeep looks at."""

from typing import Any

from storage_schemas.lake import Lake
from tests.storage_schemas.small_rows import video_row


def source(name: str, **changes: Any) -> dict[str, Any]:
    texts = ("kind", "uri", "local_path", "name", "annotation_sha256", "container", "codec", "view")
    numbers = ("size", "width", "height", "rotation", "fps_num", "fps_den", "fetched_at")
    row = {"source_id": f"s-{name}", "capture_id": name, "content_sha256": f"c-{name}", "work_key": f"w-{name}"}
    return dict.fromkeys(texts, "") | dict.fromkeys(numbers, 1) | row | {"licence": "CC-BY-4.0"} | changes


def clip(name: str) -> dict[str, Any]:
    texts = {"source_id": f"s-{name}", "capture_id": name, "view": "main", "kind": "internet", "name": name}
    numbers = dict.fromkeys(("start_frame", "end_frame", "frames", "fps_num", "fps_den"), 1)
    sizes = dict.fromkeys(("source_width", "source_height", "width", "height"), 64)
    scores = ("people", "person_share", "person_height", "sharpness", "motion", "subject_motion", "exposure")
    rest = {"licence": "CC-BY-4.0", "frame_hashes": [], "work_key": f"w-{name}"}
    return {"clip_id": name} | texts | numbers | sizes | dict.fromkeys(scores, 1.0) | rest


def pair(name: str) -> dict[str, Any]:
    window = {"driving_start": 0, "target_start": 0, "num_frames": 9, "frame_step": 1, "latent_id": f"l-{name}"}
    clips = {"driving_clip_id": name, "target_clip_id": name, "capture_id": name}
    rest = {"kind": "same_view", "source_kind": "internet", "split": "train", "weight": 1.0, "work_key": "w"}
    return {"pair_id": f"p-{name}"} | window | clips | rest


def small_lake(home: str, names: str = "abc") -> Lake:
    """A source, a clip with 20 KB of video and a pair by each name."""
    lake = Lake(home)
    lake.append("sources", {"sources": [source(name) for name in names]})
    videos = [video_row(name, name.encode() * 20_000) for name in names]
    lake.append("clips", {"clips": [clip(name) for name in names], "clip_videos": videos})
    lake.append("pairs", {"pairs": [pair(name) for name in names]})
    return lake
