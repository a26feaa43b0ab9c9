"""Export the trained model as a pipeline folder with everything that generation needs, and its provenance."""

import json
import os
import shutil
from collections import Counter
from pathlib import Path
from statistics import median_low
from typing import Any

from huggingface_hub import ModelCard

from opendimo.model.adapters import has_adapters, merge_adapters
from opendimo.model.base_folder import base_folder
from opendimo.model.dimo import DiMo
from opendimo.model.pipeline import DiMoPipeline
from opendimo.training.config import TrainConfig
from opendimo.training.release import Release

FACTS = "training.json"
WINDOW = ("num_frames", "frame_step", "width", "height")


def export_pipeline(model: Path, out: Path, config: TrainConfig, release: Release) -> Path:
    """Write the pipeline folder `out` atomically, without the geometry head and with adapters merged; return `out`.

    Its model card and `training.json` contain `facts_of`. By default it generates windows as in training.
    """
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    facts = facts_of(config, release)
    base = base_folder(config.base)
    trained = DiMo.load(model, base)
    if has_adapters(trained.transformer):
        merge_adapters(trained.transformer)
    pipeline = DiMoPipeline.from_base(base, trained, **facts["window"], training=facts)
    pipeline.save_pretrained(part)
    os.replace(part, out)
    return out


def facts_of(config: TrainConfig, release: Release) -> dict[str, Any]:
    """Return the provenance of a model: release, its hash, config, window, licences of data and base, attributions."""
    base = base_folder(config.base)
    return {
        "release": release.id,
        "release_sha256": release.sha256,
        "base": (name := _public_name(config.base)),
        "config": config.identity() | {"base": name},
        "window": _window(release),
        "licences": {"base": base_licence(base), "data": release.manifest["by_licence"]},
        "attributions": _attributions(release),
    }


def _public_name(base: str) -> str:
    """Return the name of a base model to publish: of a local folder only its last part, as its path is private."""
    return Path(base).name if Path(base).is_dir() else base


def read_facts(pipeline: Path) -> dict[str, Any]:
    """Return `training.json` of a pipeline folder; empty if it is missing, as for a model trained by other software."""
    if not (pipeline / FACTS).is_file():
        return {}
    facts: dict[str, Any] = json.loads((pipeline / FACTS).read_text())
    return facts


def base_licence(base: Path) -> str:
    """Return the licence in the model card of a base model, or "not stated"."""
    if not (base / "README.md").is_file():
        return "not stated"
    metadata = ModelCard.load(base / "README.md").data
    return str(metadata.get("license_name") or metadata.get("license") or "not stated")


def _window(release: Release) -> dict[str, float]:
    """Return the window of most of the release's pairs and its frame rate `fps`, the median over driving clips."""
    pairs = release.read("pairs", ["latent_id", "driving_clip_id"])
    windows = {row.pop("latent_id"): tuple(row.values()) for row in release.read("latents", ["latent_id", *WINDOW])}
    [(window, _)] = Counter(windows[pair["latent_id"]] for pair in pairs).most_common(1)
    row = dict(zip(WINDOW, window, strict=True))
    clips = release.read("clips", ["clip_id", "fps_num", "fps_den"])
    rates = {clip["clip_id"]: clip["fps_num"] / clip["fps_den"] for clip in clips}
    fps = median_low(rates[pair["driving_clip_id"]] for pair in pairs)
    return row | {"fps": fps / row["frame_step"]}


def _attributions(release: Release) -> list[str]:
    """Return the attributions, with licences, of the sources of all clips that the release's pairs use."""
    pairs = release.read("pairs", ["driving_clip_id", "target_clip_id"])
    clips = {clip for pair in pairs for clip in pair.values()}
    used = {row["source_id"] for row in release.read("clips", ["clip_id", "source_id"]) if row["clip_id"] in clips}
    sources = release.read("sources", ["source_id", "licence", "attribution"])
    named = (row for row in sources if row["source_id"] in used and row["attribution"])
    return sorted({f"{row['attribution']} ({row['licence'] or 'licence not stated'})" for row in named})
