"""The optimizer of a run: AdamW, AdamW with moments of 8 bits, or Muon for the matrices of transformer layers.

AdamW updates all that the others are not for.

Muon (Jordan et al. 2024, in torch) makes the update of each matrix orthogonal. Updates are scaled as in "Muon is
Scalable for LLM Training" (arXiv 2502.16982), so that one learning rate serves both kinds of parameters.
"""

import math
import re
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal, get_args

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.tensor import DTensor

from opendimo.model.dimo import DiMo
from opendimo.training.config import OptimizerName
from opendimo.training.eight_bit import (
    adamw8bit,
    codes_and_scales,
    empty_codes_and_scales,
    has_small_moments,
    moment_of,
)

Part = Literal["generator", "motion", "encoder"]
"""What has a learning rate of its own: the base model's weights, the cross-attentions added to it, and the control
with its geometry head."""
STATE_KEYS = ("step", "exp_avg", "exp_avg_sq", "momentum_buffer")
"""Names of the state of a parameter in AdamW and Muon."""
SIGNED = {"exp_avg": True, "exp_avg_sq": False}
"""Moments that may have 8 bits, and whether they have negative values."""
_IN_LAYERS = re.compile(r"(^|\.)(blocks|layers)\.\d+\.")


def is_layer_matrix(name: str, parameter: nn.Parameter) -> bool:
    """Whether a parameter is one that Muon is for: a matrix of a transformer layer."""
    return parameter.ndim == 2 and name.endswith("weight") and _IN_LAYERS.search(name) is not None


def _is_for(optimizer: OptimizerName, name: str, parameter: nn.Parameter) -> bool:
    """Whether an optimizer updates a parameter; if not, AdamW does."""
    match optimizer:
        case "muon":
            return is_layer_matrix(name, parameter)
        case "adamw8bit":
            return has_small_moments(parameter)
    return True


def muon(groups: Any, weight_decay: float) -> torch.optim.Optimizer:
    """Return Muon over matrices, whose learning rate means the same as AdamW's."""
    return torch.optim.Muon(groups, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")


class PartsOptimizer:
    """One or two optimizers of torch over the weights of a model that are not frozen.

    The parts of the model have learning rates of their own.
    """

    def __init__(
        self,
        model: DiMo,
        name: OptimizerName,
        *,
        betas: tuple[float, float],
        weight_decay: float,
        fused: bool = False,
    ) -> None:
        """`fused`: update all parameters in AdamW by one kernel.

        Raises `ValueError` for an unknown `name`, and if the package that the optimizer needs is not installed.
        """
        if name not in get_args(OptimizerName):
            raise ValueError(f"no optimizer {name!r}: choose one of {', '.join(get_args(OptimizerName))}")
        groups: dict[str, dict[tuple[str, Part], dict[str, nn.Parameter]]] = {}
        for module, part, weight_name, parameter in _parameters(model):
            if not parameter.requires_grad:
                continue
            kind = name if _is_for(name, weight_name, parameter) else "adamw"
            groups.setdefault(kind, {}).setdefault((module, part), {})[weight_name] = parameter
        make: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
            "adamw": partial(torch.optim.AdamW, betas=betas, weight_decay=weight_decay, fused=fused),
            "adamw8bit": partial(adamw8bit, betas=betas, weight_decay=weight_decay),
            "muon": partial(muon, weight_decay=weight_decay),
        }
        self._optimizers = {
            kind: make[kind](
                [
                    {"params": list(some.values()), "names": list(some), "module": module, "part": part}
                    for (module, part), some in found.items()
                ]
            )
            for kind, found in sorted(groups.items())
        }
        self._fused = fused

    def set_rates(self, rates: dict[Part, float]) -> None:
        """Set the learning rate of each part."""
        for group in self._groups():
            if isinstance(group["lr"], Tensor):  # it is an input of a compiled function
                group["lr"].fill_(rates[group["part"]])
            else:
                group["lr"] = rates[group["part"]]

    def forget(self, module: nn.Module) -> None:
        """Drop the moments of a module's parameters: it starts anew."""
        for optimizer in self._optimizers.values():
            for parameter in module.parameters():
                optimizer.state.pop(parameter, None)

    def remove(self, module: str) -> None:
        """Drop the parameters of a module of the model, and their moments."""
        for optimizer in self._optimizers.values():
            for group in [group for group in optimizer.param_groups if group["module"] == module]:
                for parameter in group["params"]:
                    optimizer.state.pop(parameter, None)
                optimizer.param_groups.remove(group)

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for optimizer in self._optimizers.values():
            optimizer.zero_grad(set_to_none=True)

    def clip(self, limit: float) -> dict[str, float]:
        """Scale all gradients so that their norm is at most `limit`; return the norm before, by part of the model.

        Parts: `generator`, `motion`, `control`, `geometry`. The norms are those of whole gradients if they are sharded.
        """
        gradients: dict[str, list[Tensor]] = {}
        for group in self._groups():
            name = group["part"] if group["module"] == "transformer" else group["module"]
            gradients.setdefault(name, []).extend(p.grad for p in group["params"] if p.grad is not None)
        norms = {name: _norm(some) for name, some in gradients.items() if some}
        total = math.sqrt(sum(norm**2 for norm in norms.values()))
        if total > limit:
            torch._foreach_mul_(list(chain.from_iterable(gradients.values())), limit / total)
        return norms

    def step(self) -> None:
        """Update all parameters that have gradients."""
        for optimizer in self._optimizers.values():
            optimizer.step()

    def state(self) -> dict[str, Tensor]:
        """Return the state, named by parameter, so that any number of processes can load it.

        8-bit moments are there as their codes and scales.
        """
        state: dict[str, Tensor] = {}
        for name, parameter, values, small in self._states():
            for key, value in values.items():
                if small and key in SIGNED:
                    content = codes_and_scales(value, parameter)
                    state |= {f"{name}.{key}.{part}": tensor for part, tensor in content.items()}
                else:
                    state[f"{name}.{key}"] = value
        return state

    def load(self, folder: Path) -> None:
        """Restore what `write_state` wrote of the same modules."""
        reader = HuggingFaceStorageReader(str(folder))
        stored = reader.read_metadata().state_dict_metadata
        state: dict[str, Tensor] = {}
        for name, parameter, _, small in self._states():
            for key in STATE_KEYS:
                if small and f"{name}.{key}.codes" in stored:
                    content = empty_codes_and_scales(parameter)
                    state |= {f"{name}.{key}.{part}": tensor for part, tensor in content.items()}
                elif f"{name}.{key}" in stored:
                    state[f"{name}.{key}"] = torch.zeros(()) if key == "step" else torch.zeros_like(parameter)
        dcp.load(state, storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=_alone())
        for name, parameter, values, small in self._states():
            for key in STATE_KEYS:
                if small and f"{name}.{key}.codes" in state:
                    content = {part: state[f"{name}.{key}.{part}"] for part in ("codes", "scales")}
                    values[key] = moment_of(content, parameter, signed=SIGNED[key])
                elif f"{name}.{key}" in state:
                    on_device = key == "step" and self._fused  # a fused kernel reads the step on the device
                    values[key] = state[f"{name}.{key}"].to(parameter.device if on_device else None)

    def _states(self) -> Iterator[tuple[str, nn.Parameter, dict[str, Tensor], bool]]:
        """Yield every parameter's name, the parameter, its state, which may be changed, and if moments have 8 bits."""
        for kind, optimizer in self._optimizers.items():
            for group in optimizer.param_groups:
                for name, parameter in zip(group["names"], group["params"], strict=True):
                    yield f"{group['module']}.{name}", parameter, optimizer.state[parameter], kind == "adamw8bit"

    def _groups(self) -> Iterator[dict[str, Any]]:
        return chain.from_iterable(optimizer.param_groups for optimizer in self._optimizers.values())


def write_state(state: dict[str, Tensor], folder: Path, group: dist.ProcessGroup | None = None) -> None:
    """Write the state of an optimizer to safetensors files; if it is sharded, every process of `group` writes its part.

    `group`: None: all processes.
    """
    writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
    dcp.save(state, storage_writer=writer, process_group=group, no_dist=_alone())


def _norm(gradients: list[Tensor]) -> float:
    norm = torch.nn.utils.get_total_norm(gradients)
    return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)


def _alone() -> bool:
    return not dist.is_initialized()


def _parameters(model: DiMo) -> Iterator[tuple[str, Part, str, nn.Parameter]]:
    """Module of the model, part, name within the module, and parameter."""
    for name, parameter in model.transformer.named_parameters():
        yield "transformer", "motion" if "motion" in name else "generator", name, parameter
    for name, parameter in model.control.named_parameters():
        yield "control", "encoder", name, parameter
    if model.geometry is not None:
        for name, parameter in model.geometry.named_parameters():
            yield "geometry", "encoder", name, parameter
