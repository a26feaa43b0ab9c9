"""Train a generator by low-rank adapters (LoRA): the base model's weights stay as they are.

Adapters are added to all linear layers of the base model's transformer blocks. The added motion modules are trained
whole. Adapters are stored as pytorch_lora_weights.safetensors, which `DiMoPipeline.load_lora_weights` reads as well.
Needs the extra `lora`.
"""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from opendimo.model.backbones.interface import Generator

ADAPTERS, MOTION = "pytorch_lora_weights.safetensors", "motion.safetensors"
PREFIX = "transformer."
"""Prefix of the names of adapters in a file: the component of the pipeline that they belong to."""


def add_adapters(transformer: Generator, rank: int) -> None:
    """Add adapters of a rank, which have no effect at first, and freeze the weights of the base model.

    Raises `ImportError` without the package peft.
    """
    from peft import LoraConfig

    targets = list(adapted_layers(transformer))
    transformer.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=targets))
    for name, weight in transformer.named_parameters():
        weight.requires_grad_("motion" in name or "lora_" in name)


def adapted_layers(transformer: Generator) -> dict[str, nn.Linear]:
    """Return the layers that get adapters, by name."""
    return {
        f"{name}.{part}": module
        for name, block in transformer.named_modules()
        if type(block).__name__ in transformer._repeated_blocks
        for part, module in block.named_modules()
        if isinstance(module, nn.Linear) and "motion" not in part
    }


def halve_frozen(transformer: Generator) -> None:
    """Convert the weights of layers with adapters to bfloat16, in which they are multiplied anyway."""
    for module in transformer.modules():
        if isinstance(base := getattr(module, "base_layer", None), nn.Linear):
            base.to(torch.bfloat16)


def has_adapters(transformer: nn.Module) -> bool:
    """Return whether adapters were added that are not merged."""
    return bool(getattr(transformer, "peft_config", None))


def rank_of(transformer: nn.Module) -> int:
    """Return the rank of the adapters of a generator that has some."""
    configs: dict[str, Any] = transformer.peft_config  # type: ignore[assignment]
    return int(next(iter(configs.values())).r)


def save_adapters(transformer: Generator, folder: Path) -> None:
    """Write adapters and motion modules; not the weights of the base model."""
    from peft import get_peft_model_state_dict

    folder.mkdir(parents=True, exist_ok=True)
    adapters = get_peft_model_state_dict(transformer)
    save_file({f"{PREFIX}{name}": _stored(weight) for name, weight in adapters.items()}, folder / ADAPTERS)
    motion = {name: _stored(weight) for name, weight in transformer.state_dict().items() if "motion" in name}
    save_file(motion, folder / MOTION)


def load_adapters(transformer: Generator, folder: Path) -> None:
    """Add the adapters that `save_adapters` wrote to a generator with the same base model, and load the motion modules.

    Raises `ValueError` if they do not fit it.
    """
    from peft import set_peft_model_state_dict

    adapters = {name.removeprefix(PREFIX): weight for name, weight in load_file(folder / ADAPTERS).items()}
    rank = next(len(weight) for name, weight in adapters.items() if "lora_A" in name)
    add_adapters(transformer, rank)
    try:
        loaded: Any = set_peft_model_state_dict(transformer, adapters)
        wrong = loaded.unexpected_keys
        wrong += transformer.load_state_dict(load_file(folder / MOTION), strict=False).unexpected_keys
    except RuntimeError as error:
        raise ValueError(f"the adapters in {folder} do not fit the base model: {error}") from error
    if wrong:
        raise ValueError(f"the adapters in {folder} do not fit the base model: it has no {wrong[0]}")


def merge_adapters(transformer: Generator) -> None:
    """Add the adapters to the weights of the base model, and remove them."""
    transformer.fuse_lora()
    transformer.unload_lora()
    for weight in transformer.parameters():
        weight.requires_grad_(True)


def _stored(weight: Tensor) -> Tensor:
    return weight.detach().to(torch.float32).cpu().contiguous()
