"""AdamW with moments of 8 bits (Dettmers et al., arXiv 2110.02861, in torchao). Needs the extra `adamw8bit`.

Moments are quantised in blocks of 256 values, each with a scale. Here a block never crosses a row of its parameter, so
that any number of processes can load the codes and scales that others saved, without rounding them again.
"""

from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

BLOCK, LEAST = 256, 4096
"""Values that share a scale; the least number of values of a parameter whose moments have 8 bits, as in the paper."""


def has_small_moments(parameter: Tensor) -> bool:
    """Whether the moments of a parameter are quantised: it is large, and its rows consist of whole blocks."""
    return parameter.numel() >= LEAST and prod(parameter.shape[1:]) % BLOCK == 0


def adamw8bit(groups: Any, betas: tuple[float, float], weight_decay: float) -> torch.optim.Optimizer:
    """Return AdamW over parameters for which `has_small_moments` is true. Raises `ValueError` without torchao."""
    try:
        from torchao.optim import AdamW8bit
    except ImportError as error:
        raise ValueError(f"optimizer adamw8bit needs torchao: install opendimo[adamw8bit] ({error})") from error

    class RowsAdamW8bit(AdamW8bit):  # type: ignore[misc]  # torchao has no types
        """Quantises the moments of every shard, which torchao decides by the size of the shard."""

        def _new_buffer(self, p: Tensor, signed: bool) -> Tensor:
            local = p.to_local() if isinstance(p, DTensor) else p
            # a process may have no row of a small parameter
            new = self._subclass_zeros(local, signed, BLOCK) if local.numel() else torch.zeros_like(local)
            return _like_shard(new, p)

    optimizer: torch.optim.Optimizer = RowsAdamW8bit(groups, betas=betas, weight_decay=weight_decay, block_size=BLOCK)
    return optimizer


def codes_and_scales(moment: Tensor, parameter: Tensor) -> dict[str, Tensor]:
    """Return the content of an 8-bit moment: codes [rows, ...], uint8, and scales [rows, blocks per row], float32.

    They are sharded by rows as the parameter is.
    """
    local = moment.to_local() if isinstance(moment, DTensor) else moment
    if not local.numel():
        return {name: torch.empty_like(x) for name, x in empty_codes_and_scales(parameter).items()}
    scales = local.scale.view(local.shape[0], -1)  # type: ignore[attr-defined]
    return {"codes": _like_shard(local.codes, parameter), "scales": _like_shard(scales, parameter, _blocks(parameter))}  # type: ignore[attr-defined]


def empty_codes_and_scales(parameter: Tensor) -> dict[str, Tensor]:
    """Return tensors to load the content of an 8-bit moment into."""
    local = parameter.to_local() if isinstance(parameter, DTensor) else parameter
    codes = torch.zeros_like(local, dtype=torch.uint8)
    scales = torch.zeros(local.shape[0], _blocks(parameter)[1], device=local.device)
    return {"codes": _like_shard(codes, parameter), "scales": _like_shard(scales, parameter, _blocks(parameter))}


def moment_of(content: dict[str, Tensor], parameter: Tensor, *, signed: bool) -> Tensor:
    """Return the moment with a content, of which `codes_and_scales` is the inverse."""
    from torchao.optim.subclass_8bit import OptimState8bit

    codes, scales = (x.to_local() if isinstance(x, DTensor) else x for x in (content["codes"], content["scales"]))
    if not codes.numel():
        return _like_shard(codes.to(parameter.dtype), parameter)
    zeros = OptimState8bit.zeros(codes.shape, signed, BLOCK, codes.device, dtype=parameter.dtype)
    moment = OptimState8bit(codes, scales.flatten(), zeros.qmap, signed, dtype=parameter.dtype)
    return _like_shard(moment, parameter)


def _blocks(parameter: Tensor) -> tuple[int, int]:
    """Shape of the scales of a parameter."""
    return parameter.shape[0], prod(parameter.shape[1:]) // BLOCK


def _like_shard(local: Tensor, parameter: Tensor, shape: tuple[int, ...] | None = None) -> Tensor:
    """Return a tensor of which `local` is this process's shard; it is sharded as a parameter is."""
    if not isinstance(parameter, DTensor):
        return local
    size = torch.Size(shape or parameter.shape)
    stride = torch.empty(size, device="meta").stride()
    return DTensor.from_local(
        local, parameter.device_mesh, parameter.placements, run_check=False, shape=size, stride=stride
    )
