"""Batches from a release: targets and text from cached latents, driving frames from the pixels of clips."""

import logging
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from functools import partial
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from model.batch import Batch, Driving
from model.config import DiMoConfig
from model.controls import control_class
from training.driving import read_driving
from training.release import Pair, Release, read_pairs
from training.sampling import available, choose
from training.stages import Schedule, StagePoint, stage_at

logger = logging.getLogger(__name__)


@dataclass
class Target:
    """A target window: normalised latents and the text embedding."""

    latents: Tensor  # [C, L, h, w]
    text: Tensor  # [n, D]


class TrainingData:
    """The pairs of one split of a release, and batches of them, sized for a model."""

    def __init__(self, release: Release, split: str, model: DiMoConfig, cache_bytes: int = 1 << 30) -> None:
        self.release, self.model, self.left_out = release, model, ""
        self.pairs: dict[tuple[str, str], list[Pair]] = defaultdict(list)  # (kind, source kind)
        for pair in self._usable(read_pairs(release, split), split):
            self.pairs[pair.kind, pair.source_kind].append(pair)
        self._cache = ByteCache(cache_bytes)

    def _usable(self, pairs: list[Pair], split: str) -> list[Pair]:
        """All pairs but those that a control that reads poses cannot use."""
        if not control_class(self.model.control).reads_poses:
            return pairs
        labelled = [pair for pair in pairs if pair.pose_id is not None]
        if left_out := len(pairs) - len(labelled):
            of = f"{left_out} of {len(pairs)} {split} pairs"
            self.left_out = f"{of} are left out: control {self.model.control!r} reads pose labels, which they lack"
            logger.warning(self.left_out)
        return labelled

    def pool(self, point: StagePoint) -> dict[str, list[Pair]]:
        """Pairs by kind that a stage may draw from."""
        return {kind: [p for source in point.sources for p in self.pairs[kind, source]] for kind in point.mix}

    def mix(self, point: StagePoint) -> dict[str, float]:
        """The shares of a stage that this release can serve. Raises `ValueError` where it can serve none."""
        try:
            return available(point.mix, {kind: len(pairs) for kind, pairs in self.pool(point).items()})
        except ValueError as error:
            raise ValueError(f"{error} ({self.left_out})" if self.left_out else str(error)) from None

    def choose(self, step: int, point: StagePoint, batch_size: int, seed: int) -> list[Pair]:
        """The pairs of the batch of `step`."""
        pool = self.pool(point)
        sizes = {kind: len(pairs) for kind, pairs in pool.items()}
        return [pool[kind][index] for kind, index in choose(step, available(point.mix, sizes), sizes, batch_size, seed)]

    def batches(self, start: int, stop: int, schedule: Schedule, batch_size: int, seed: int) -> Iterator[Batch]:
        """The batches of steps [start, stop), read one ahead in a thread (never in a fork: Lance hangs)."""

        def load(step: int) -> Batch:
            return self.batch(self.choose(step, stage_at(step, schedule), batch_size, seed))

        with ThreadPoolExecutor(1) as pool:
            ahead = pool.submit(load, start)
            for step in range(start, stop):
                batch = ahead.result()
                if step + 1 < stop:
                    ahead = pool.submit(load, step + 1)
                yield batch

    def batch(self, pairs: list[Pair]) -> Batch:
        """One batch on the CPU. The reference is the first latent frame, which a causal VAE makes of frame 0 alone."""
        targets = [self._cache.get(("target", p.latent_id), partial(self._read_target, p)) for p in pairs]
        drivings = [
            self._cache.get(("driving", p.driving_clip_id, p.driving_start, p.pose_id), partial(self._read_driving, p))
            for p in pairs
        ]
        if len(shapes := {tuple(target.latents.shape) for target in targets}) > 1:
            raise ValueError(f"the release mixes latents of shapes {sorted(shapes)}: encode all windows at one size")
        latents = torch.stack([target.latents for target in targets])  # [B, C, L, h, w]
        lengths = torch.tensor([len(target.text) for target in targets])
        return Batch(
            target=latents,
            reference=latents[:, :, :1],
            text=pad_sequence([target.text for target in targets], batch_first=True),  # [B, n of the longest, D]
            text_ok=torch.arange(int(lengths.max())) < lengths[:, None],
            weight=torch.tensor([pair.weight for pair in pairs]),
            same_view=torch.tensor([pair.kind == "same_view" for pair in pairs]),
            driving=_stack(drivings),
        )

    def _read_target(self, pair: Pair) -> Target:
        [row] = self.release.rows("latents", [pair.latent_id], ["shape", "text_shape"])
        [latents] = self.release.blobs("latents", "latents", [pair.latent_id])
        [text] = self.release.blobs("latents", "text_embedding", [pair.latent_id])
        return Target(_halves(latents, row["shape"]), _halves(text, row["text_shape"]))

    def _read_driving(self, pair: Pair) -> Driving:
        return read_driving(self.release, pair, self.model.encoder)


class ByteCache:
    """The samples read last, up to so many bytes."""

    def __init__(self, limit: int) -> None:
        self._limit, self._held = limit, 0
        self._items: OrderedDict[Any, tuple[Any, int]] = OrderedDict()
        self._lock = Lock()  # the thread that reads ahead and the trainer's own reads

    def get(self, key: Any, read: Callable[[], Any]) -> Any:
        """The sample of `key`, read where it is not held."""
        with self._lock:
            if key in self._items:
                self._items.move_to_end(key)
                return self._items[key][0]
            value = read()
            size = sum(getattr(value, f.name).nbytes for f in fields(value))
            self._items[key] = (value, size)
            self._held += size
            while self._held > self._limit and len(self._items) > 1:
                self._held -= self._items.popitem(last=False)[1][1]
            return value


def _halves(data: bytes, shape: list[int]) -> Tensor:
    return torch.from_numpy(np.frombuffer(data, np.float16).reshape(shape).astype(np.float32))


def _stack(samples: list[Driving]) -> Driving:
    """Samples of `read_driving` as a batch, with RGB in [0, 1]."""
    stacked = Driving(**{f.name: torch.stack([getattr(s, f.name) for s in samples]) for f in fields(Driving)})
    return replace(stacked, body=stacked.body.float() / 255, hands=stacked.hands.float() / 255)
