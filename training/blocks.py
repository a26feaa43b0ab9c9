"""Save memory and time in the transformer blocks of a generator, from outside: the model does not know.

Activation checkpointing keeps only a part of what the forward pass of a block computes, and computes the rest again in
the backward pass. Compilation is regional: all blocks share one compiled graph, which takes seconds instead of minutes.
"""

from collections.abc import Iterator
from functools import partial
from types import MethodType
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from opendimo.model.dimo import DiMo
from opendimo.training.config import Checkpointing

_aten = torch.ops.aten
MATRIX_PRODUCTS = frozenset({_aten.mm.default, _aten.addmm.default, _aten.bmm.default, _aten.baddbmm.default})
ATTENTION = frozenset(
    {
        _aten._scaled_dot_product_flash_attention.default,
        _aten._scaled_dot_product_efficient_attention.default,
        _aten._scaled_dot_product_cudnn_attention.default,
        _aten._scaled_dot_product_flash_attention_for_cpu.default,
    }
)
KEPT = MATRIX_PRODUCTS | ATTENTION
"""Operations whose results selective checkpointing keeps: they take nearly all of the time of a block."""


def repeated_blocks(generator: nn.Module) -> Iterator[nn.Module]:
    """Yield the transformer blocks of a generator."""
    names: Any = generator._repeated_blocks
    return (module for module in generator.modules() if type(module).__name__ in names)


def prepare_blocks(model: DiMo, checkpointing: Checkpointing | None, *, compiled: bool) -> None:
    """Checkpoint and compile the blocks of the generator; checkpoint the control as well if it can be.

    Call it before the model is sharded: weights must be gathered outside of what is computed again or compiled.
    """
    if checkpointing is not None and model.control._supports_gradient_checkpointing:
        model.control.enable_gradient_checkpointing()
    for block in repeated_blocks(model.transformer):
        if checkpointing is not None:
            block.forward = MethodType(_FORWARDS[checkpointing], block)
        if compiled:
            block.forward = torch.compile(block.forward)


def _full(block: nn.Module, *arguments: Any) -> Any:
    """Run a block; keep its inputs only. Blocks draw no random numbers."""
    forward = type(block).forward  # not a variable of a closure, by which each block would be compiled anew
    if not torch.is_grad_enabled():
        return forward(block, *arguments)
    return checkpoint(forward, block, *arguments, use_reentrant=False, preserve_rng_state=False)


def _selective(block: nn.Module, *arguments: Any) -> Any:
    """Run a block; keep its inputs and the results of matrix products and attention."""
    forward = type(block).forward
    if not torch.is_grad_enabled():
        return forward(block, *arguments)
    contexts = partial(create_selective_checkpoint_contexts, _policy)
    return checkpoint(forward, block, *arguments, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)


def _policy(_context: Any, operation: Any, *_: Any, **__: Any) -> CheckpointPolicy:
    return CheckpointPolicy.MUST_SAVE if operation in KEPT else CheckpointPolicy.PREFER_RECOMPUTE


_FORWARDS = {"full": _full, "selective": _selective}
