"""Video transformers that hear motion: one file per family of pretrained models, one interface (`interface.py`)."""

from pathlib import Path

from opendimo.model.backbones.hunyuan import HunyuanMotionTransformer3DModel
from opendimo.model.backbones.interface import Generator
from opendimo.model.backbones.wan import WanMotionTransformer3DModel
from opendimo.model.base_folder import part_config

GENERATORS: dict[str, type[Generator]] = {
    name: kind
    for kind in (WanMotionTransformer3DModel, HunyuanMotionTransformer3DModel)
    for name in (kind.__name__, kind.base.__name__)
}
"""Our class for the `_class_name` in the config.json of a base model or of a trained one."""


def generator_class(model: Path) -> type[Generator]:
    """The `Generator` for the folder of a base model, or of a trained one.

    Raises `ValueError` where it has no transformer, or one of a family not known.
    """
    name = part_config(model, "transformer").get("_class_name")
    if name not in GENERATORS:
        raise ValueError(
            f"the transformer of {model} is of class {name}: no generator for it, only for {', '.join(GENERATORS)}"
        )
    return GENERATORS[name]
