"""Video transformers that hear motion: one file per family of pretrained models, one interface (`interface.py`)."""

import json
from pathlib import Path

from model.backbones.hunyuan import HunyuanMotionTransformer3DModel
from model.backbones.interface import Generator
from model.backbones.wan import WanMotionTransformer3DModel

GENERATORS: dict[str, type[Generator]] = {
    name: kind
    for kind in (WanMotionTransformer3DModel, HunyuanMotionTransformer3DModel)
    for name in (kind.__name__, kind.base.__name__)
}
"""Our class for the `_class_name` in the config.json of a base model or of a trained one."""


def generator_class(path: Path) -> type[Generator]:
    """The `Generator` for a `transformer` folder. Raises `ValueError` where it is none, or of a family not known."""
    config = Path(path) / "config.json"
    if not config.is_file():
        raise ValueError(f"no transformer at {path}: expected a folder in the diffusers layout with config.json")
    name = json.loads(config.read_text()).get("_class_name")
    if name not in GENERATORS:
        raise ValueError(f"{config} is of {name}: no generator for it; there are {', '.join(GENERATORS)}")
    return GENERATORS[name]
