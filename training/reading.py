"""Read batches of a release: one call per column, videos decoded in threads, recent samples cached."""

import os
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import cached_property
from threading import Lock
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from opendimo.model.batch import Batch, Driving
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
class ReadingError:
    """An error that was raised while a batch was read."""

    error: Exception


@dataclass(frozen=True)
class _DrivingKey:
    """Cache key of a driving window. `target`: clip of the target, if its camera is read."""

    clip_id: str
    start: int
    num_frames: int
    frame_step: int
    pose_id: str | None
    bucket: str
    target: str | None

    @classmethod
    def of(cls, pair: Pair, cameras: bool) -> "_DrivingKey":
        window = pair.driving_clip_id, pair.driving_start, pair.num_frames, pair.frame_step
        return cls(*window, pair.pose_id, pair.bucket, pair.target_clip_id if cameras else None)


@dataclass(frozen=True)
class Request:
    """What to read for a batch: its pairs, of one bucket, and for each the id of the latents whose frame 0 is its
    reference, and a number in [0, 1) that picks one of the wordings of its text (0: the first)."""

    pairs: Sequence[Pair]
    references: Sequence[str]
    wordings: Sequence[float]


class BatchReader(Dataset[Batch | ReadingError]):
    """Read batches in storage formats: latents and texts in float16, images in uint8.

    `latents`: format of the latents of each bucket. Index it by `Request`. Errors in the data are returned, so that
    they also arrive unchanged from another process. `images`: whether driving videos are decoded. `cameras`: whether
    those of targets are read. `threads` that decode; None: one per processor, up to `DECODERS`. It is pickled without
    its cache.
    """

    def __init__(
        self,
        release: Release,
        encoder: EncoderConfig,
        latents: Mapping[str, LatentFormat],
        *,
        images: bool,
        cameras: bool,
        cache_bytes: int,
        threads: int | None = None,
    ) -> None:
        self._release, self._encoder, self._formats = release, encoder, latents
        self._images, self._cameras, self._cache_bytes, self._threads = images, cameras, cache_bytes, threads

    def __getitem__(self, request: Request) -> "Batch | ReadingError":
        try:
            return self.read(request)
        except (ValueError, KeyError, OSError) as error:
            return ReadingError(error)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_cache", "_decoders")}

    def read(self, request: Request) -> Batch:
        """Return a batch. Raises `ValueError` for a video or label that cannot be used."""
        pairs, ids = request.pairs, [pair.latent_id for pair in request.pairs]
        buckets = sorted({pair.bucket for pair in pairs})
        if len(buckets) != 1:
            raise ValueError(f"a batch is of one bucket, not of {', '.join(buckets)}")
        form = self._formats[buckets[0]]
        latents = self._blobs("latents", [*ids, *request.references], form.shape)
        texts = self._texts(ids, request.wordings, form.text_width)
        lengths = torch.tensor([len(text) for text in texts])
        return Batch(
            target=torch.stack(latents[: len(ids)]),  # [B, C, L, h, w]
            reference=torch.stack([one[:, :1] for one in latents[len(ids) :]]),
            text=pad_sequence(texts, batch_first=True),  # [B, n of the longest, D]
            text_ok=torch.arange(int(lengths.max())) < lengths[:, None],
            weight=torch.tensor([pair.weight for pair in pairs]),
            same_view=torch.tensor([pair.kind == "same_view" for pair in pairs]),
            driving=_stack(self._drivings(pairs, (form.width, form.height))),
        )

    @cached_property
    def _cache(self) -> ByteCache:
        return ByteCache(self._cache_bytes)

    @cached_property
    def _decoders(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._threads or DECODERS, "decode")

    def _drivings(self, pairs: Sequence[Pair], size: tuple[int, int]) -> list[Driving]:
        keys = [_DrivingKey.of(pair, self._cameras) for pair in pairs]
        by_key = dict(zip(keys, pairs, strict=True))

        def read(missing: list[_DrivingKey]) -> list[Driving]:
            uncached = [by_key[key] for key in missing]
            decoders, images, cameras = self._decoders, self._images, self._cameras
            return read_drivings(self._release, uncached, self._encoder, size, decoders, images, cameras)

        return self._cache.get(keys, read)

    def _texts(self, ids: Sequence[str], wordings: Sequence[float], width: int) -> list[Tensor]:
        """Return the embedding [n, D] of the chosen wording of each text."""

        def read(missing: list[tuple[str, str]]) -> list[Tensor]:
            rows = self._release.rows("latents", [key for _, key in missing], ["text_shape"])
            return [torch.tensor(row["text_shape"][:-1]) for row in rows]

        embeddings = self._blobs("text_embedding", ids, (-1, width))  # [tokens of all wordings, D]
        tokens = self._cache.get([("text_shape", key) for key in ids], read)
        return [
            embedding.split(counts.tolist())[int(wording * len(counts))]
            for embedding, counts, wording in zip(embeddings, tokens, wordings, strict=True)
        ]

    def _blobs(self, column: str, ids: Sequence[str], shape: tuple[int, ...]) -> list[Tensor]:
        def read(missing: list[tuple[str, str]]) -> list[Tensor]:
            blobs = self._release.blobs("latents", column, [key for _, key in missing])
            return [torch.from_numpy(np.frombuffer(bytearray(b), np.float16).reshape(shape)) for b in blobs]

        return self._cache.get([(column, key) for key in ids], read)


def _stack(samples: Sequence[Driving]) -> Driving:
    """Stack samples along a new axis 0; by numpy, which takes huge pages: a quarter of the time of torch's memory."""
    columns = {f.name: [getattr(sample, f.name).numpy() for sample in samples] for f in fields(Driving)}
    return Driving(**{name: torch.from_numpy(np.stack(column)) for name, column in columns.items()})
