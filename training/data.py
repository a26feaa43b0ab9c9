"""Batches from a release: targets and text from cached latents, driving frames from the pixels of clips."""

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import partial
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model.body.rotations import axis_angle_to_matrix, matrix_to_6d
from model.dimo import Batch, DiMoConfig
from model.driving import body_crops, hand_crops
from storage_schemas.video import decode
from training.release import Pair, Release, read_pairs
from training.sampling import available, choose
from training.stages import Schedule, StagePoint, stage_at


@dataclass
class Driving:
    """A driving window: crops as bytes (they are kept in memory), pose targets in 6-D."""

    body: Tensor  # [T, 3, S, S] uint8
    hands: Tensor  # [T, 2, 3, s, s] uint8
    hand_ok: Tensor  # [T, 2] bool
    body6d: Tensor  # [T, 21, 6]
    hands6d: Tensor  # [T, 2, 15, 6]
    pose_ok: Tensor  # [T] bool
    hands_pose_ok: Tensor  # [T, 2] bool


@dataclass
class Target:
    """A target window: normalised latents and the text embedding."""

    latents: Tensor  # [C, L, h, w]
    text: Tensor  # [n, D]


class TrainingData:
    """The pairs of one split of a release, and batches of them, sized for a model."""

    def __init__(self, release: Release, split: str, model: DiMoConfig, cache_bytes: int = 1 << 30) -> None:
        self.release, self.model = release, model
        self.pairs: dict[tuple[str, str], list[Pair]] = defaultdict(list)  # (kind, source kind)
        for pair in read_pairs(release, split):
            self.pairs[pair.kind, pair.source_kind].append(pair)
        self._cache = ByteCache(cache_bytes)

    def pool(self, point: StagePoint) -> dict[str, list[Pair]]:
        """Pairs by kind that a stage may draw from."""
        return {kind: [p for source in point.sources for p in self.pairs[kind, source]] for kind in point.mix}

    def mix(self, point: StagePoint) -> dict[str, float]:
        """The shares of a stage that this release can serve. Raises `ValueError` where it can serve none."""
        return available(point.mix, {kind: len(pairs) for kind, pairs in self.pool(point).items()})

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
        stacked = {f.name: torch.stack([getattr(d, f.name) for d in drivings]) for f in fields(Driving)}
        return Batch(
            target=latents,
            reference=latents[:, :, :1],
            text=torch.stack([self._padded(target.text) for target in targets]),
            weight=torch.tensor([pair.weight for pair in pairs]),
            **{**stacked, "body": stacked["body"].float() / 255, "hands": stacked["hands"].float() / 255},
        )

    def _padded(self, text: Tensor) -> Tensor:
        """[n, D] -> [text_length, D], cut or padded with zeros as Wan does."""
        text = text[: self.model.text_length]
        return torch.nn.functional.pad(text, (0, 0, 0, self.model.text_length - len(text)))

    def _read_target(self, pair: Pair) -> Target:
        [row] = self.release.rows("latents", [pair.latent_id], ["shape", "text_shape"])
        [latents] = self.release.blobs("latents", "latents", [pair.latent_id])
        [text] = self.release.blobs("latents", "text_embedding", [pair.latent_id])
        return Target(_halves(latents, row["shape"]), _halves(text, row["text_shape"]))

    def _read_driving(self, pair: Pair) -> Driving:
        chosen = pair.driving_frames
        [video] = self.release.blobs("clip_videos", "video", [pair.driving_clip_id])
        frames = decode(video, start=int(chosen[0]), stop=int(chosen[-1]) + 1, step=pair.frame_step)
        [clip] = self.release.rows("clips", [pair.driving_clip_id], ["track"])
        body = body_crops(frames, clip["track"][chosen], self.model.body_size)
        t = len(chosen)
        if pair.pose_id is None:
            return Driving(
                _bytes(body),
                torch.zeros(t, 2, 3, self.model.hand_size, self.model.hand_size, dtype=torch.uint8),
                torch.zeros(t, 2, dtype=torch.bool),
                torch.zeros(t, 21, 6),
                torch.zeros(t, 2, 15, 6),
                torch.zeros(t, dtype=torch.bool),
                torch.zeros(t, 2, dtype=torch.bool),
            )
        columns = ["body_pose", "hand_pose", "joints_2d", "valid", "hand_valid"]
        [pose] = self.release.rows("poses", [pair.pose_id], columns)
        hands, hand_ok = hand_crops(frames, pose["joints_2d"][chosen], pose["hand_valid"][chosen], self.model.hand_size)
        return Driving(
            _bytes(body),
            _bytes(hands),
            hand_ok,
            _sixd(pose["body_pose"][chosen]),
            _sixd(pose["hand_pose"][chosen]),
            torch.from_numpy(np.asarray(pose["valid"], bool)[chosen]),
            torch.from_numpy(pose["hand_valid"][chosen] > 0.5),
        )


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


def _bytes(crops: Tensor) -> Tensor:
    return (crops * 255).round().to(torch.uint8)


def _sixd(axis_angle: np.ndarray) -> Tensor:
    """[..., 3] axis-angle -> [..., 6]; NaN where there is no label becomes the identity (its weight is 0)."""
    return matrix_to_6d(axis_angle_to_matrix(torch.nan_to_num(torch.from_numpy(axis_angle))))
