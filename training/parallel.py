"""Train one model in several processes: each computes a part of every batch and holds a part of the training state.

Weights, gradients and optimizer state are sharded by FSDP2 from outside; the model does not know about processes. The
mean gradient over processes is the gradient of one process that computes the whole batch, because every process has
equally many samples, and the geometry head sees the motion tokens of all of them (`World.gathered`).
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Self, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, set_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from opendimo.model.adapters import add_adapters, has_adapters, rank_of
from opendimo.model.dimo import DiMo
from opendimo.training.blocks import repeated_blocks

T = TypeVar("T")
Part = TypeVar("Part", bound=nn.Module)


@dataclass(frozen=True)
class World:
    """The processes of a run: this one is number `rank` of `size`, and computes on `device`.

    `group`: by which `on_first` communicates; None: the group of all processes. `timeout`: seconds after which a
    collective operation fails if another process does not take part.
    """

    rank: int
    size: int
    device: torch.device
    group: dist.ProcessGroup | None = None
    timeout: float = 1800.0

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and reports progress."""
        return self.rank == 0

    def samples(self, batch_size: int, views: int = 1) -> slice:
        """Return the samples of a batch that this process computes; groups of `views` stay together.

        Raises `ValueError` if the batch cannot be divided equally.
        """
        if batch_size % (self.size * views):
            lower = max(1, batch_size // (self.size * views)) * self.size * views
            groups = f" in groups of {views} views" if views > 1 else ""
            raise ValueError(
                f"a batch of {batch_size} cannot be divided among {self.size} processes{groups}: set batch_size={lower}"
            )
        share = batch_size // self.size
        return slice(self.rank * share, (self.rank + 1) * share)

    def on_first(self, function: Callable[[], T]) -> T:
        """Call a function in the first process only; return its result, or raise its exception, in every process."""
        if self.size == 1:
            return function()
        outcome: list[Any] = [None, None]
        if self.is_first:
            try:
                outcome[0] = function()
            except Exception as error:
                outcome[1] = error
        dist.broadcast_object_list(outcome, src=0, group=self.group)
        if outcome[1] is not None:
            raise outcome[1]
        return outcome[0]  # type: ignore[no-any-return]

    def mean(self, values: dict[str, float | None]) -> dict[str, float | None]:
        """Return the mean over all processes of each number; None, which is None in all of them, stays."""
        if self.size == 1:
            return values
        known = [name for name, value in values.items() if value is not None]
        total = torch.tensor([values[name] for name in known], dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return values | dict(zip(known, (total / self.size).tolist(), strict=True))

    def any(self, *flags: bool) -> list[bool]:
        """Return whether each flag is true in any process."""
        if self.size == 1:
            return list(flags)
        total = torch.tensor(flags, dtype=torch.int32, device=self.device)
        dist.all_reduce(total)
        return total.bool().tolist()  # type: ignore[no-any-return]

    def with_own_group(self) -> Self:
        """Return a copy with a process group of its own, on the CPU, for a thread that communicates during training."""
        if self.size == 1:
            return self
        # its type allows for processes that are not in it
        group: Any = dist.new_group(backend="gloo", timeout=timedelta(seconds=self.timeout))
        return replace(self, group=group)

    def destroy_own_group(self) -> None:
        """Destroy the group that `with_own_group` made."""
        if self.group is not None:
            dist.destroy_process_group(self.group)

    def gathered(self, part: Tensor) -> Tensor:
        """Concatenate the parts [n, ...] of all processes along axis 0, with gradients; parts have equal shapes."""
        if self.size == 1:
            return part
        if part.dtype == torch.bool:  # not every backend gathers it
            return self.gathered(part.to(torch.uint8)).bool()
        return _Gathered.apply(part)  # type: ignore[no-any-return]

    def check_shards(self, shard_size: int | None) -> None:
        """Raise `ValueError` if the processes cannot be divided into groups of `shard_size`."""
        if shard_size is None or self.size % shard_size == 0:
            return
        divisors = (n for n in range(1, self.size + 1) if self.size % n == 0)
        nearest = min(divisors, key=lambda n: abs(n - shard_size))
        raise ValueError(
            f"{self.size} processes cannot be divided into groups of shard_size={shard_size}: set shard_size={nearest}"
        )

    def shard(self, model: DiMo, bf16: bool, shard_size: int | None = None) -> None:
        """Shard the parameters of a model over the processes, per transformer block. `bf16`: gather in bfloat16.

        `shard_size`: number of processes that share the state of a replica; None: all. Raises `ValueError` if it does
        not divide the number of processes, or if the model changes buffers during training, which would differ between
        processes.
        """
        self.check_shards(shard_size)
        if self.size == 1:
            return
        if model.config.control == "smpl_vq":
            raise ValueError("control 'smpl_vq' learns its codebook from whole batches: train it in one process")
        whole = MixedPrecisionPolicy(reduce_dtype=torch.float32, cast_forward_inputs=False)
        policy = replace(whole, param_dtype=torch.bfloat16) if bf16 else whole
        mesh = None
        if shard_size is not None:
            groups = self.size // shard_size, shard_size
            mesh = init_device_mesh(self.device.type, groups, mesh_dim_names=("replicate", "shard"))
        for block in list(repeated_blocks(model.transformer)):
            fully_shard(block, mesh=mesh, mp_policy=policy)
        for part in (model.transformer, model.control):
            fully_shard(part, mesh=mesh, mp_policy=policy)
        if model.geometry is not None:  # its batch norms need weights of the dtype of their inputs, float32
            fully_shard(model.geometry, mesh=mesh, mp_policy=whole)


class _Gathered(torch.autograd.Function):
    """All-gather along axis 0; the gradient of a part is its share of the sum of all processes' gradients."""

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:  # type: ignore[override]
        ctx.rows = len(part)
        parts = [torch.empty_like(part) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, part.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        first = dist.get_rank() * ctx.rows
        return total[first : first + ctx.rows]


@contextmanager
def joined(timeout: float = World.timeout) -> Iterator[World]:
    """Join the processes that `torchrun` or Ray Train started, or be the only one. `timeout`: see `World`.

    A process group that exists already (Ray Train makes one) is used and left open.
    """
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    device = torch.device("cuda", torch.cuda.current_device()) if cuda else torch.device("cpu")
    ours = not dist.is_initialized() and int(os.environ.get("WORLD_SIZE", "1")) > 1
    if ours:
        dist.init_process_group("nccl" if cuda else "gloo", timeout=timedelta(seconds=timeout))
    try:
        if dist.is_initialized():
            yield World(dist.get_rank(), dist.get_world_size(), device, timeout=timeout)
        else:
            yield World(0, 1, device)
    finally:
        if ours:
            dist.destroy_process_group()


def whole_copy(model: DiMo, world: World) -> DiMo | None:
    """Return a copy of a model with whole weights on the CPU, in the first process; None in the others.

    A base model that is frozen below adapters has no weights in the copy.
    """
    frozen = has_adapters(model.transformer)
    weights: dict[str, Tensor] = {}
    for name, shard in model.state_dict().items():
        if frozen and name.startswith("transformer.") and "motion" not in name and "lora_" not in name:
            continue
        whole = shard.full_tensor() if isinstance(shard, DTensor) else shard
        if world.is_first:
            weights[name] = whole.detach().to("cpu", copy=True)
    if not world.is_first:
        return None
    parts = (model.transformer, model.control, model.geometry)
    with torch.device("meta"):
        copies = [None if part is None else _new(part) for part in parts]
    copy = DiMo(model.config, *copies)  # type: ignore[arg-type]
    copy.load_state_dict(weights, strict=not frozen, assign=True)
    return copy


@contextmanager
def whole_part(part: Part, world: World) -> Iterator[Part]:
    """Yield a part of a model with whole weights; changes made in every process alike are written back to the shards.

    Without shards, yield the part itself.
    """
    if world.size == 1:
        yield part
        return
    copy = _new(part).to(world.device)
    options = StateDictOptions(full_state_dict=True)
    copy.load_state_dict(get_model_state_dict(part, options=options))
    yield copy.train(part.training)
    set_model_state_dict(part, copy.state_dict(), options=options)


def _new(part: nn.Module) -> Any:
    """Return a new module with the class and config that a part had before `fully_shard`, which replaces the class."""
    config: Any = part.config
    own: Any = next(cls for cls in type(part).__mro__ if not issubclass(cls, FSDPModule))
    # diffusers takes values that were passed by position for defaults, and would leave them out
    new = own.from_config({key: value for key, value in config.items() if key != "_use_default_values"})
    if has_adapters(part):
        add_adapters(new, rank_of(part))
    return new
