"""List all clips as columns in a script, which `clips.html` filters, sorts and pages in the browser."""

import json
import math
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from opendimo.pipelines.engine.columns import Column, look_up
from opendimo.pipelines.engine.revisions import best_poses, newest
from opendimo.pipelines.quality.policy import Policy
from opendimo.pipelines.report.previews import Preview
from opendimo.pipelines.report.scores import SCORES, Score
from opendimo.storage_schemas.lake.lake import Lake

KEPT = "kept"
AS_STORED = ["name", "kind", "view", "licence", "attribution"]
LISTED = [
    *AS_STORED, "source_id", "start_frame", "frames", "fps_num", "fps_den", "width", "height", "video_sha256",
]  # fmt: skip
"""Columns of `clips` that the list is made of, besides the scores."""
NUMBERS = (
    Score("seconds", "Length", "seconds"),
    *SCORES,
    Score("pose_weight", "Pose weight", "quality of the best label"),
    Score("agreement", "Camera agreement", "overlap of the camera terms of two estimators"),
)


@dataclass(frozen=True)
class Number:
    """A column of numbers, and the policy's limits on it."""

    score: Score
    low: float | None
    high: float | None


def number_columns(policy: Policy) -> list[Number]:
    """Return the columns of numbers, in the order of the page."""
    return [Number(s, *(getattr(policy, name) if name else None for name in (s.low, s.high))) for s in NUMBERS]


def clip_script(lake: Lake, clips: pa.Table, previews: dict[str, Preview], numbers: list[Number]) -> bytes:
    """Return JavaScript that assigns the clips to `CLIPS`, by columns, in the order of their sources and first frames.

    `clips` has the columns `clip_id`, `LISTED`, `reason` and the scores. Contents of `CLIPS`: `count`; `texts`: for
    each column the distinct `values` in alphabetical order, and per clip the index of its value in `codes`, so that
    codes sort like values; `numbers`: columns with limits, null if not measured; `stored`: 1 if the clip has a video;
    `previews`: links of video and poster by index of the clip.
    """
    sources = lake.dataset("sources").to_table(columns=["source_id", "name"])
    clips = clips.append_column("source", look_up(clips["source_id"], sources, "source_id", "name"))
    clips = clips.sort_by([(name, "ascending") for name in ("source", "source_id", "start_frame", "clip_id")])
    ids = clips["clip_id"]
    captions = newest(lake, "captions", ["clip_id"], ["camera_terms", "text", "agreement"])
    captions = captions.append_column("terms", _terms(captions["camera_terms"]))
    size = pc.binary_join_element_wise(clips["width"].cast(pa.string()), clips["height"].cast(pa.string()), "×")
    texts: dict[str, Column] = {
        **{name: clips[name] for name in (*AS_STORED, "source")},
        "verdict": pc.fill_null(clips["reason"], KEPT),
        "terms": look_up(ids, captions, "clip_id", "terms"),
        "caption": look_up(ids, captions, "clip_id", "text"),
        "size": size,
    }
    seconds = pc.divide(pc.multiply(clips["frames"], clips["fps_den"]).cast(pa.float64()), clips["fps_num"])
    weights = look_up(ids, best_poses(lake, []), "clip_id", "weight")
    measured = clips.append_column("seconds", seconds).append_column("pose_weight", weights)
    measured = measured.append_column("agreement", look_up(ids, captions, "clip_id", "agreement"))
    data = {
        "count": clips.num_rows,
        "texts": {name: _coded(column) for name, column in texts.items()},
        "numbers": [
            {"name": n.score.column, "low": n.low, "high": n.high, "values": _rounded(measured[n.score.column])}
            for n in numbers
        ],
        "stored": clips["video_sha256"].is_valid().cast(pa.uint8()).to_pylist(),
        "previews": {
            row: [preview.video, preview.poster]
            for row, clip_id in enumerate(ids.to_pylist())
            if (preview := previews.get(clip_id))
        },
    }
    return f"const CLIPS = {json.dumps(data, separators=(',', ':'))};\n".encode()


def _terms(column: Column) -> pa.Array:
    """Return the distinct camera terms of each clip, in the order of their first frames, joined by commas."""
    terms = [dict.fromkeys(entry["term"].replace("_", " ") for entry in entries) for entries in column.to_pylist()]
    return pa.array([", ".join(names) for names in terms], pa.string())


def _coded(column: Column) -> dict[str, Any]:
    texts = [text or "" for text in column.to_pylist()]
    values = sorted(set(texts), key=lambda text: (text.casefold(), text))
    codes = {text: code for code, text in enumerate(values)}
    return {"values": values, "codes": [codes[text] for text in texts]}


def _rounded(column: Column) -> list[float | None]:
    """Round to five significant digits; null if not finite."""
    return [
        None if value is None or not math.isfinite(value) else float(f"{value:.5g}") for value in column.to_pylist()
    ]
