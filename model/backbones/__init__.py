"""Video transformers that hear motion: one file per family of pretrained models, one interface (`interface.py`)."""

import json
from pathlib import Path
from typing import Any

from model.backbones.wan import WanMotionTransformer3DModel

GENERATORS: dict[str, Any] = {
    "WanTransformer3DModel": WanMotionTransformer3DModel,
    "WanMotionTransformer3DModel": WanMotionTransformer3DModel,
}
"""Our class for the `_class_name` in the config.json of a base model or of a trained one."""


def generator_class(path: Path) -> Any:
    """The `Generator` for a `transformer` folder. Raises `ValueError` where it is none, or of a family not known."""
    config = Path(path) / "config.json"
    if not config.is_file():
        raise ValueError(f"no transformer at {path}: expected a folder in the diffusers layout with config.json")
    name = json.loads(config.read_text()).get("_class_name")
    if name not in GENERATORS:
        raise ValueError(f"{config} is of {name}: no generator for it; there are {', '.join(GENERATORS)}")
    return GENERATORS[name]
