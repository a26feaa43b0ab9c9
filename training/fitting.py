"""Compare the memory that a full-size run needs with what there is, and find the nearest set-up that fits."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace

import psutil
import torch

from opendimo.training.budget import Budget, budget
from opendimo.training.config import FULL_SIZE, Checkpointing, TrainConfig, preset

GIB = 2**30


@dataclass(frozen=True)
class Fit:
    """Bytes that each process of a run needs and has; `nearest`: what to change, None if it fits or nothing helps."""

    needed: float
    available: float
    nearest: str | None

    @property
    def fits(self) -> bool:
        """Whether the run fits."""
        return self.needed <= self.available

    def __str__(self) -> str:
        what = f"each process needs about {self.needed / GIB:.0f} GiB and has {self.available / GIB:.0f}"
        if self.fits:
            return what
        return f"{what}: {f'the nearest that fits is {self.nearest}' if self.nearest else 'no smaller set-up fits'}"


def fit(config: TrainConfig, processes: int, available: float, cost: Budget | None = None) -> Fit:
    """Return whether a full-size run fits into `available` bytes per process. `cost`: if its budget is known already.

    The nearest set-up is sought in this order: fewer samples at a time, more checkpointing, more shards, 8-bit moments,
    all of these, more processes, and the preset `lite`. Raises the `ValueError` of `budget`.
    """
    cost = cost or budget(config)
    samples = min(config.micro_batch or config.batch_size, max(1, config.batch_size // processes))
    needed = cost.memory(processes, samples, config.shard_size)
    if needed <= available:
        return Fit(needed, available, None)
    set_ups = (text for text, bytes_ in _smaller(config, cost, processes, samples) if bytes_ <= available)
    return Fit(needed, available, next(set_ups, None))


def check_fits(config: TrainConfig, processes: int, device: torch.device) -> None:
    """Raise `ValueError`, with the nearest set-up that fits, if a full-size run does not fit into memory."""
    if config.preset not in FULL_SIZE or not config.check_memory:
        return
    found = fit(config, processes, available_bytes(device))
    if not found.fits:
        raise ValueError(f"the run does not fit: {found}; to try it anyway, set check_memory=false")


def available_bytes(device: torch.device) -> float:
    """Return the memory of a GPU, or this process's share of the memory of the machine that is free."""
    if device.type == "cuda":
        return float(torch.cuda.get_device_properties(device).total_memory)
    return psutil.virtual_memory().available / int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def _smaller(config: TrainConfig, cost: Budget, processes: int, samples: int) -> Iterator[tuple[str, float]]:
    """Yield set-ups that need less memory, nearest first, and the bytes that each process needs in them."""
    shards, settings = config.shard_size, list[str]()

    def now(*more: str) -> tuple[str, float]:
        return " ".join([*settings, *more]), cost.memory(processes, samples, shards)

    while samples > 1:
        samples //= 2
        settings[:] = [f"micro_batch={samples}"]
        yield now()
    stronger: dict[Checkpointing | None, tuple[Checkpointing, ...]] = {
        None: ("selective", "full"),
        "selective": ("full",),
        "full": (),
    }
    few = list(settings)
    for choice in stronger[config.gradient_checkpointing]:
        cost = replace(cost, checkpointing=choice)
        settings = [*few, f"gradient_checkpointing={choice}"]
        yield now()
    if shards is not None and shards < processes:
        shards = None
        settings.append("shard_size=none")
        yield now()
    if config.optimizer == "adamw":
        smaller = replace(config, optimizer="adamw8bit", gradient_checkpointing=cost.checkpointing)
        cost = replace(cost, trained_bytes=budget(smaller).trained_bytes)
        settings.append("optimizer=adamw8bit")
        yield now()
    for more in range(processes + 1, config.batch_size + 1):
        if config.batch_size % more == 0:
            processes = more
            yield now(f"with {more} processes")
    if config.preset == "wan2.2-ti2v-5b":
        lite = budget(replace(preset("lite", config.base), variant=config.variant, model=config.model))
        for count in (1, 2, 4, 8):
            yield f"preset lite with {count} process{'es' if count > 1 else ''}", lite.memory(count)
