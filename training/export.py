"""The trained model as a pipeline folder: everything that generation needs, and what it was made of."""

import json
import os
import shutil
from pathlib import Path
from statistics import median_low
from typing import Any

from huggingface_hub import ModelCard

from opendimo.model.base_folder import base_folder
from opendimo.model.dimo import DiMo
from opendimo.model.pipeline import DiMoPipeline
from opendimo.training.config import TrainConfig
from opendimo.training.release import Release

FACTS = "training.json"
WINDOW = ("num_frames", "frame_step", "width", "height")


def export_pipeline(model: Path, out: Path, config: TrainConfig, release: Release) -> Path:
    """Write `out`, whole or not at all. Its model card and `training.json` say what `facts_of` does; the window that
    the model was trained on is what it generates by default. The geometry head stays behind."""
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    facts = facts_of(config, release)
    pipeline = DiMoPipeline.from_base(base_folder(config.base), DiMo.load(model), **facts["window"], training=facts)
    pipeline.save_pretrained(part)
    os.replace(part, out)
    return out


def facts_of(config: TrainConfig, release: Release) -> dict[str, Any]:
    """The release, its hash, the config, the window, and under which licences data and base model were given."""
    base = base_folder(config.base)
    return {
        "release": release.id,
        "release_sha256": release.sha256,
        "base": (name := _name(config.base)),
        "config": config.identity() | {"base": name},
        "window": _window(release),
        "licences": {"base": base_licence(base), "data": release.manifest["by_licence"]},
        "attributions": _attributions(release),
    }


def _name(base: str) -> str:
    """What a base model may be called in public: of a folder its own name alone, where it lies is nobody's business."""
    return Path(base).name if Path(base).is_dir() else base


def read_facts(pipeline: Path) -> dict[str, Any]:
    """What `training.json` of a pipeline folder says; nothing where it is missing, as of a model not trained by us."""
    if not (pipeline / FACTS).is_file():
        return {}
    facts: dict[str, Any] = json.loads((pipeline / FACTS).read_text())
    return facts


def base_licence(base: Path) -> str:
    """What the model card of a base model says."""
    if not (base / "README.md").is_file():
        return "not stated"
    stated = ModelCard.load(base / "README.md").data
    return str(stated.get("license_name") or stated.get("license") or "not stated")


def _window(release: Release) -> dict[str, float]:
    """The window of its pairs, and `fps`: how many of its frames are a second, in the median of the driving clips."""
    pairs = release.read("pairs", ["latent_id", "driving_clip_id"])
    [row] = release.read("latents", list(WINDOW), f"latent_id = '{pairs[0]['latent_id']}'")
    clips = release.read("clips", ["clip_id", "fps_num", "fps_den"])
    rates = {clip["clip_id"]: clip["fps_num"] / clip["fps_den"] for clip in clips}
    fps = median_low(rates[pair["driving_clip_id"]] for pair in pairs)
    return row | {"fps": fps / row["frame_step"]}


def _attributions(release: Release) -> list[str]:
    """Whom the sources of the release's clips name, each with the licence."""
    pairs = release.read("pairs", ["driving_clip_id", "target_clip_id"])
    clips = {clip for pair in pairs for clip in pair.values()}
    used = {row["source_id"] for row in release.read("clips", ["clip_id", "source_id"]) if row["clip_id"] in clips}
    sources = release.read("sources", ["source_id", "licence", "attribution"])
    named = (row for row in sources if row["source_id"] in used and row["attribution"])
    return sorted({f"{row['attribution']} ({row['licence'] or 'licence not stated'})" for row in named})
