"""Batches from a release: targets and text from cached latents, driving frames from the pixels of clips."""

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import fields, replace
from functools import cached_property

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from opendimo.model.batch import Batch, Driving
from opendimo.model.config import DiMoConfig
from opendimo.model.controls import control_class
from opendimo.training.latents import LatentFormat
from opendimo.training.pool import Pool
from opendimo.training.reading import SampleReader
from opendimo.training.references import References, still_clips
from opendimo.training.release import Pair, Pairs, Release, read_pairs
from opendimo.training.stages import Schedule, StagePoint

logger = logging.getLogger(__name__)
AHEAD = 2
"""Batches that are read while one is trained on, each in a thread; their pictures are bytes until they are used."""


class TrainingData:
    """The pairs of one split of a release, and batches of them, sized for a model.

    `reference_share`: of the samples whose reference shows another window of the target clip, in the mode `prefix` and
    where the clip has another and its camera stands still (`training.references`). Raises `ValueError` where the
    release's latents are not all alike.
    """

    def __init__(
        self,
        release: Release,
        split: str,
        model: DiMoConfig,
        cache_bytes: int = 1 << 30,
        reference_share: float = 0.5,
    ) -> None:
        self.release, self.model, self.left_out = release, model, ""
        self.pairs = self._usable(read_pairs(release, split), split)
        self._pool = Pool(self.pairs)
        self._cache_bytes = cache_bytes
        moves = model.reference == "prefix" and reference_share > 0 and len(self.pairs) > 0
        self._references = References(self.pairs, still_clips(release), reference_share) if moves else None

    @cached_property
    def latents(self) -> LatentFormat:
        """What the latents of the pairs have in common. Raises `ValueError` where they are not all alike."""
        return LatentFormat.of(self.release, self.pairs)

    @cached_property
    def _reader(self) -> SampleReader:
        return SampleReader(self.release, self.model.encoder, self.latents, self._cache_bytes)

    def _usable(self, pairs: Pairs, split: str) -> Pairs:
        """All pairs but those that a control that reads poses cannot use."""
        if not control_class(self.model.control).reads_poses:
            return pairs
        labelled = pairs.codes("pose_id") >= 0
        if left_out := len(pairs) - int(labelled.sum()):
            of = f"{left_out} of {len(pairs)} {split} pairs"
            self.left_out = f"{of} are left out: control {self.model.control!r} reads pose labels, which they lack"
            logger.warning(self.left_out)
        return pairs.where(labelled)

    def mix(self, point: StagePoint) -> dict[str, float]:
        """The shares of a stage that this release can serve. Raises `ValueError` where it can serve none."""
        try:
            return self._pool.mix(point)
        except ValueError as error:
            raise ValueError(f"{error} ({self.left_out})" if self.left_out else str(error)) from None

    def choose(self, step: int, schedule: Schedule, batch_size: int, seed: int) -> list[Pair]:
        """The pairs of the batch of `step`."""
        return self.pairs.take(self._pool.choose(step, schedule, batch_size, seed))

    def fixed(self, kind: str, count: int, seed: int, sources: Sequence[str] | None = None) -> list[Pair]:
        """`count` pairs of a kind, always the same, spread over captures: see `Pool.fixed`."""
        return self.pairs.take(self._pool.fixed(kind, count, seed, sources))

    def fixed_of_stage(self, point: StagePoint, count: int, seed: int) -> list[Pair]:
        """`count` fixed pairs in the mix of a stage, of its sources. Raises `ValueError` as `mix`."""
        mix = self.mix(point)
        bounds = np.rint(count * np.cumsum([0.0, *mix.values()])).astype(int)
        shares = dict(zip(mix, np.diff(bounds).tolist(), strict=True))
        return [pair for kind, n in shares.items() for pair in self.fixed(kind, n, seed, point.sources)]

    def other_driver(self, pair: Pair, seed: int) -> Pair:
        """Return a pair of the same window length whose driver certainly moves in another way: it is of another
        capture, and of another subject where there is one. Raises `ValueError` where there is none."""
        return self.pairs[self._pool.other_driver(pair, seed)]

    def batches(self, start: int, stop: int, schedule: Schedule, batch_size: int, seed: int) -> Iterator[Batch]:
        """The batches of steps [start, stop), `AHEAD` of them read ahead in threads (never in a fork: Lance hangs)."""

        def load(step: int) -> Batch:
            rows = self._pool.choose(step, schedule, batch_size, seed)
            return self._load(self.pairs.take(rows), self._reference_ids(rows, step, seed))

        with ThreadPoolExecutor(AHEAD, "read ahead") as threads:
            ahead: deque[Future[Batch]] = deque()
            try:
                for step in range(start, stop):
                    # the first one alone: it opens tables, which those after it use
                    batch = ahead.popleft().result() if ahead else load(step)
                    following = range(step + 1 + len(ahead), min(step + 1 + AHEAD, stop))
                    ahead.extend(threads.submit(load, later) for later in following)
                    yield _with_floats(batch)
            finally:
                for future in ahead:
                    future.cancel()

    def batch(self, pairs: Sequence[Pair], references: Sequence[str] | None = None) -> Batch:
        """One batch on the CPU. The reference is latent frame 0, which a causal VAE makes of frame 0 alone, of the
        target, or of the latents whose ids are given."""
        return _with_floats(self._load(pairs, references))

    def references(self, step: int, schedule: Schedule, batch_size: int, seed: int) -> list[str]:
        """Ids of the latents whose frame 0 is the reference of each sample of the batch of `step`."""
        return self._reference_ids(self._pool.choose(step, schedule, batch_size, seed), step, seed)

    def other_moments(self, pairs: Sequence[Pair], seed: int) -> list[str]:
        """Return ids of latents whose frame 0 is a reference for each pair, as drawn for training.

        Another window of the target clip in `reference_share` of the pairs, where it has one; else the pair's own.
        """
        return self._reference_ids(self.pairs.rows_of(pairs), 0, seed)

    def _reference_ids(self, rows: np.ndarray, step: int, seed: int) -> list[str]:
        if self._references is None:
            return [pair.latent_id for pair in self.pairs.take(rows)]
        return self._references.draw(rows, step, seed)

    def _load(self, pairs: Sequence[Pair], references: Sequence[str] | None) -> Batch:
        """A batch with latents and texts in half precision and pictures as bytes, as they are kept."""
        reader, ids = self._reader, [pair.latent_id for pair in pairs]
        latents = reader.latents([*ids, *(references or ids)])
        texts = reader.texts(ids)
        lengths = torch.tensor([len(text) for text in texts])
        return Batch(
            target=torch.stack(latents[: len(ids)]),  # [B, C, L, h, w]
            reference=torch.stack([one[:, :1] for one in latents[len(ids) :]]),
            text=pad_sequence(texts, batch_first=True),  # [B, n of the longest, D]
            text_ok=torch.arange(int(lengths.max())) < lengths[:, None],
            weight=torch.tensor([pair.weight for pair in pairs]),
            same_view=torch.tensor([pair.kind == "same_view" for pair in pairs]),
            driving=_stack(reader.drivings(pairs)),
        )


def _stack(samples: Sequence[Driving]) -> Driving:
    return Driving(**{f.name: torch.stack([getattr(s, f.name) for s in samples]) for f in fields(Driving)})


def _with_floats(batch: Batch) -> Batch:
    """The same in single precision, RGB in [0, 1]."""
    driving = replace(batch.driving, body=batch.driving.body.float() / 255, hands=batch.driving.hands.float() / 255)
    return replace(
        batch,
        target=batch.target.float(),
        reference=batch.reference.float(),
        text=batch.text.float(),
        driving=driving,
    )
