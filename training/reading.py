"""Read samples of a release in bulk: one call per column, videos decoded in threads, recent samples cached."""

import os
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from threading import Lock
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from opendimo.model.batch import Driving
from opendimo.model.encoder.config import EncoderConfig
from opendimo.training.driving import read_drivings
from opendimo.training.latents import LatentFormat
from opendimo.training.release import Pair, Release

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")
DECODERS = min(8, os.cpu_count() or 1)


class ByteCache:
    """Thread-safe LRU cache of tensors, or dataclasses of tensors, up to `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self._limit, self.held = limit, 0
        self._items: OrderedDict[Any, tuple[Any, int]] = OrderedDict()
        self._lock = Lock()

    def get(self, keys: Sequence[Key], read: Callable[[list[Key]], Sequence[Value]]) -> list[Value]:
        """Return the items of `keys`, in their order; call `read` once for all that are not cached."""
        with self._lock:
            items = {key: self._items[key][0] for key in dict.fromkeys(keys) if key in self._items}
            for key in items:
                self._items.move_to_end(key)
        if missing := [key for key in dict.fromkeys(keys) if key not in items]:
            new = dict(zip(missing, read(missing), strict=True))  # without the lock, so that threads read in parallel
            items |= new
            with self._lock:
                for key, value in new.items():
                    self._keep(key, value)
        return [items[key] for key in keys]

    def _keep(self, key: Hashable, value: Any) -> None:
        if key in self._items:  # another thread has cached it meanwhile
            return
        size = held_bytes(value)
        self._items[key] = value, size
        self.held += size
        while self.held > self._limit:
            _, (_, size) = self._items.popitem(last=False)
            self.held -= size


def held_bytes(value: Any) -> int:
    """Return the bytes of a tensor, or of a dataclass of tensors, including all storage that a view keeps alive."""
    if isinstance(value, Tensor):
        return int(value.untyped_storage().nbytes())
    return sum(held_bytes(getattr(value, f.name)) for f in fields(value))


@dataclass(frozen=True)
class _DrivingKey:
    """Cache key of a driving window."""

    clip_id: str
    start: int
    num_frames: int
    frame_step: int
    pose_id: str | None

    @classmethod
    def of(cls, pair: Pair) -> "_DrivingKey":
        return cls(pair.driving_clip_id, pair.driving_start, pair.num_frames, pair.frame_step, pair.pose_id)


class SampleReader:
    """Read latents [C, L, h, w] and texts [n, D], in float16 as stored, and driving windows with uint8 images."""

    def __init__(self, release: Release, encoder: EncoderConfig, latents: LatentFormat, cache_bytes: int) -> None:
        self._release, self._encoder, self._format = release, encoder, latents
        self._cache = ByteCache(cache_bytes)
        self._decoders = ThreadPoolExecutor(DECODERS, "decode")

    def latents(self, ids: Sequence[str]) -> list[Tensor]:
        """Return latents by id."""
        return self._blobs("latents", ids, self._format.shape)

    def texts(self, ids: Sequence[str]) -> list[Tensor]:
        """Return text embeddings by id of the latents."""
        return self._blobs("text_embedding", ids, (-1, self._format.text_width))

    def drivings(self, pairs: Sequence[Pair]) -> list[Driving]:
        """Return the driving windows of pairs."""
        by_key = {_DrivingKey.of(pair): pair for pair in pairs}
        size = self._format.width, self._format.height

        def read(missing: list[_DrivingKey]) -> list[Driving]:
            uncached = [by_key[key] for key in missing]
            return read_drivings(self._release, uncached, self._encoder, size, self._decoders)

        return self._cache.get([_DrivingKey.of(pair) for pair in pairs], read)

    def _blobs(self, column: str, ids: Sequence[str], shape: tuple[int, ...]) -> list[Tensor]:
        def read(missing: list[tuple[str, str]]) -> list[Tensor]:
            blobs = self._release.blobs("latents", column, [key for _, key in missing])
            return [torch.from_numpy(np.frombuffer(bytearray(b), np.float16).reshape(shape)) for b in blobs]

        return self._cache.get([(column, key) for key in ids], read)
