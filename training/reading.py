"""Samples of a release, read many at a time: one call a column, videos decoded in threads, the last ones kept."""

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
    """The items used last, up to so many bytes of tensors. Threads may share it."""

    def __init__(self, limit: int) -> None:
        self._limit, self.held = limit, 0
        self._items: OrderedDict[Any, tuple[Any, int]] = OrderedDict()
        self._lock = Lock()

    def get(self, keys: Sequence[Key], read: Callable[[list[Key]], Sequence[Value]]) -> list[Value]:
        """The items of `keys`, in their order; `read` makes those that are not held, in one call."""
        with self._lock:
            found = {key: self._items[key][0] for key in dict.fromkeys(keys) if key in self._items}
            for key in found:
                self._items.move_to_end(key)
        if missing := [key for key in dict.fromkeys(keys) if key not in found]:
            new = dict(zip(missing, read(missing), strict=True))  # without the lock: others read meanwhile
            found |= new
            with self._lock:
                for key, value in new.items():
                    self._keep(key, value)
        return [found[key] for key in keys]

    def _keep(self, key: Hashable, value: Any) -> None:
        if key in self._items:  # another thread was faster
            return
        size = held_bytes(value)
        self._items[key] = value, size
        self.held += size
        while self.held > self._limit:
            _, (_, size) = self._items.popitem(last=False)
            self.held -= size


def held_bytes(value: Any) -> int:
    """Memory of a tensor, or of a dataclass of tensors: all that a view keeps alive."""
    if isinstance(value, Tensor):
        return int(value.untyped_storage().nbytes())
    return sum(held_bytes(getattr(value, f.name)) for f in fields(value))


@dataclass(frozen=True)
class _Drive:
    """What decides a sample's driving side."""

    clip_id: str
    start: int
    num_frames: int
    frame_step: int
    pose_id: str | None

    @classmethod
    def of(cls, pair: Pair) -> "_Drive":
        return cls(pair.driving_clip_id, pair.driving_start, pair.num_frames, pair.frame_step, pair.pose_id)


class SampleReader:
    """Latents [C, L, h, w] and texts [n, D] in float16 as they are stored, and driving sides with pictures as bytes."""

    def __init__(self, release: Release, encoder: EncoderConfig, latents: LatentFormat, cache_bytes: int) -> None:
        self._release, self._encoder, self._format = release, encoder, latents
        self._cache = ByteCache(cache_bytes)
        self._decoders = ThreadPoolExecutor(DECODERS, "decode")

    def latents(self, ids: Sequence[str]) -> list[Tensor]:
        """Latents by id."""
        return self._blobs("latents", ids, self._format.shape)

    def texts(self, ids: Sequence[str]) -> list[Tensor]:
        """Text embeddings by id of the latents."""
        return self._blobs("text_embedding", ids, (-1, self._format.text_width))

    def drivings(self, pairs: Sequence[Pair]) -> list[Driving]:
        """Driving sides of pairs."""
        asked = {_Drive.of(pair): pair for pair in pairs}
        size = self._format.width, self._format.height

        def read(missing: list[_Drive]) -> list[Driving]:
            wanted = [asked[drive] for drive in missing]
            return read_drivings(self._release, wanted, self._encoder, size, self._decoders)

        return self._cache.get([_Drive.of(pair) for pair in pairs], read)

    def _blobs(self, column: str, ids: Sequence[str], shape: tuple[int, ...]) -> list[Tensor]:
        def read(missing: list[tuple[str, str]]) -> list[Tensor]:
            blobs = self._release.blobs("latents", column, [key for _, key in missing])
            return [torch.from_numpy(np.frombuffer(bytearray(b), np.float16).reshape(shape)) for b in blobs]

        return self._cache.get([(column, key) for key in ids], read)
