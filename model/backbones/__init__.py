"""Motion-conditioned video transformers: one file per family of base models, one interface (`interface.py`)."""

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
"""Generator class by the `_class_name` in the config.json of a base model or of a trained model."""


def generator_class(model: Path) -> type[Generator]:
    """Return the `Generator` class for the folder of a base model or of a trained model.

    Raises `ValueError` if the folder has no transformer, or one of an unsupported class.
    """
    name = part_config(model, "transformer").get("_class_name")
    if name not in GENERATORS:
        raise ValueError(
            f"the transformer of {model} is of unsupported class {name}; supported are {', '.join(GENERATORS)}"
        )
    return GENERATORS[name]
