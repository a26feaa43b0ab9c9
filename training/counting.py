"""Count FLOPs and saved activations of a forward pass on the meta device, without computing anything."""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from opendimo.training.blocks import MATRIX_PRODUCTS

HALF = 2
"""Bytes of a bfloat16 number."""


@dataclass(frozen=True)
class Counted:
    """FLOPs of a forward pass, and bytes of the tensors, in bfloat16, that it saves for the backward pass (`kept`).

    `products`: bytes of the results of matrix products and attention, which selective checkpointing keeps.
    """

    flops: int
    kept: int
    products: int


def counted(module: nn.Module, forward: Callable[[], object]) -> Counted:
    """Count a forward pass of a module on the meta device; saved weights are not counted, views of one tensor once."""
    weights = {_memory(p) for p in module.parameters()}
    kept: dict[int, int] = {}

    def keep(x: Tensor) -> Tensor:
        if _memory(x) not in weights:
            kept[_memory(x)] = max(kept.get(_memory(x), 0), HALF * x.numel())
        return x

    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x)
    with hooks, FlopCounterMode(display=False) as counter, _Products() as products, _FusedAttention() as attention:
        forward()
    flops = counter.get_total_flops() + attention.flops
    return Counted(flops, sum(kept.values()), products.bytes + attention.bytes)


def _memory(x: Tensor) -> int:
    return int(x.untyped_storage()._cdata)


class _Products(TorchDispatchMode):
    """Add up the results of matrix products."""

    bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in MATRIX_PRODUCTS:
            self.bytes += HALF * result.numel()
        return result


class _FusedAttention(TorchFunctionMode):
    """Count attention as a fused kernel, which saves no scores; on the meta device torch would decompose it."""

    flops = bytes = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is not scaled_dot_product_attention:
            return func(*args, **kwargs)
        q, k, v = (*args, *(kwargs.pop(name) for name in ("query", "key", "value") if name in kwargs))[:3]
        self.flops += (
            4 * prod(q.shape) * k.shape[-2]
        )  # a multiplication and an addition, for scores and for weighted sums
        self.bytes += HALF * q.numel()
        return _SaveForBackward.apply(q, k, v)


class _SaveForBackward(torch.autograd.Function):
    """Save what a fused kernel saves: its inputs and its output, all [..., n, d]."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:  # type: ignore[override]
        out = torch.empty_like(q)
        ctx.save_for_backward(q, k, v, out)
        return out
