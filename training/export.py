"""The trained model as a pipeline folder: everything that generation needs, and what it was trained on."""

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from model.dimo import DiMo
from model.pipeline import DiMoPipeline
from training.config import TrainConfig
from training.release import Release

FACTS = "training.json"
WINDOW = ("num_frames", "frame_step", "width", "height")


def export_pipeline(model: Path, out: Path, config: TrainConfig, release: Release) -> Path:
    """Write `out`, whole or not at all. `training.json` holds the release, its hash, the config, and the window that
    the model was trained on, which is what it generates best. The geometry head stays behind."""
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    DiMoPipeline.from_base(Path(config.base), DiMo.load(model)).save_pretrained(part)
    facts = {
        "release": release.id,
        "release_sha256": release.sha256,
        "config": asdict(config) | {"base": Path(config.base).name},
        "window": _window(release),
    }
    (part / FACTS).write_text(json.dumps(facts, indent=1, sort_keys=True))
    os.replace(part, out)
    return out


def read_facts(pipeline: Path) -> dict[str, Any]:
    """What `training.json` of a pipeline folder says."""
    facts: dict[str, Any] = json.loads((pipeline / FACTS).read_text())
    return facts


def _window(release: Release) -> dict[str, int]:
    pair = release.read("pairs", ["latent_id"])[0]
    [row] = release.read("latents", list(WINDOW), f"latent_id = '{pair['latent_id']}'")
    return row
