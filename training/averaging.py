"""Exponential moving average of weights (EMA)."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.fsdp import FSDPModule

from opendimo.model.dimo import DiMo


class Average:
    """Moving average of a model's weights, sharded as they are; it starts with their current values.

    A base model that is frozen below adapters is left out.
    """

    def __init__(self, model: DiMo, decay: float) -> None:
        self._model, self._decay = model, decay
        _shard_again(model)
        generator = model.transformer.named_parameters("transformer")
        frozen = {name for name, weight in generator if not weight.requires_grad}
        self._current = {name: weight for name, weight in model.named_parameters() if name not in frozen}
        self._weights = {name: weight.detach().clone() for name, weight in self._current.items()}

    @classmethod
    def restored(cls, model: DiMo, decay: float, averaged: DiMo) -> "Average":
        """Return the average with the weights of another model, which are whole."""
        average = cls(model, decay)
        options = StateDictOptions(full_state_dict=True)
        with average.applied():  # writes to the weights of `model`, which then become the average
            set_model_state_dict(model, averaged.state_dict(), options=options)
        return average

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the current weights."""
        self._drop_removed()
        current = [self._current[name].detach() for name in self._weights]
        torch._foreach_lerp_(list(self._weights.values()), current, 1 - self._decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Exchange the weights of the model and the average within the context."""
        self._drop_removed()
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        _shard_again(self._model)
        for name, average in self._weights.items():
            weight = self._current[name].detach().clone()
            self._current[name].copy_(average)
            average.copy_(weight)

    def _drop_removed(self) -> None:
        """Forget the weights of a geometry head that was removed from the model."""
        if self._model.geometry is None:
            for name in [name for name in self._weights if name.startswith("geometry.")]:
                del self._weights[name], self._current[name]


def _shard_again(model: DiMo) -> None:
    """Free whole weights, which FSDP keeps after a forward pass without a backward pass."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()
