"""Load batches from a release: targets and texts from cached latents, driving frames from the videos of clips."""

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
from opendimo.training.schedule import Schedule, StagePoint

logger = logging.getLogger(__name__)
AHEAD = 2
"""Number of batches to prefetch, each in a thread; their images are uint8 until they are used."""


class TrainingData:
    """Pairs of one split of a release, and batches of them in the format of a model.

    `reference_share`: share of the samples whose reference shows another window of the target clip; applies only in
    reference mode `prefix`, to clips with several windows and a static camera (`training.references`).
    `left_out`: message about pairs that the model's control cannot use, or "".
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
        varied = model.reference == "prefix" and reference_share > 0 and len(self.pairs) > 0
        self._references = References(self.pairs, still_clips(release), reference_share) if varied else None

    @cached_property
    def latents(self) -> LatentFormat:
        """Return the format of the pairs' latents. Raises the `ValueError` of `LatentFormat.of`."""
        return LatentFormat.of(self.release, self.pairs)

    @cached_property
    def _reader(self) -> SampleReader:
        return SampleReader(self.release, self.model.encoder, self.latents, self._cache_bytes)

    def _usable(self, pairs: Pairs, split: str) -> Pairs:
        """Return the pairs without those that lack a pose label that the model's control needs; log their number."""
        if not control_class(self.model.control).reads_poses:
            return pairs
        labelled = pairs.codes("pose_id") >= 0
        if left_out := len(pairs) - int(labelled.sum()):
            counts = f"{left_out} of {len(pairs)} {split} pairs"
            self.left_out = f"{counts} are left out: control {self.model.control!r} reads pose labels, which they lack"
            logger.warning(self.left_out)
        return pairs.where(labelled)

    def mix(self, point: StagePoint) -> dict[str, float]:
        """Return the share of each kind of pair in a stage, of those available. Raises `ValueError` if none is."""
        try:
            return self._pool.mix(point)
        except ValueError as error:
            raise ValueError(f"{error} ({self.left_out})" if self.left_out else str(error)) from None

    def choose(self, step: int, schedule: Schedule, batch_size: int, seed: int) -> list[Pair]:
        """Return the pairs of the batch of `step`."""
        return self.pairs.take(self._pool.choose(step, schedule, batch_size, seed))

    def fixed(self, kind: str, count: int, seed: int, sources: Sequence[str] | None = None) -> list[Pair]:
        """Return `count` pairs of a kind, always the same, spread over captures: see `Pool.fixed`."""
        return self.pairs.take(self._pool.fixed(kind, count, seed, sources))

    def fixed_of_stage(self, point: StagePoint, count: int, seed: int) -> list[Pair]:
        """Return `count` fixed pairs in the mix and from the sources of a stage. Raises the `ValueError` of `mix`."""
        mix = self.mix(point)
        bounds = np.rint(count * np.cumsum([0.0, *mix.values()])).astype(int)
        shares = dict(zip(mix, np.diff(bounds).tolist(), strict=True))
        return [pair for kind, n in shares.items() for pair in self.fixed(kind, n, seed, point.sources)]

    def other_driver(self, pair: Pair, seed: int) -> Pair:
        """Return a pair with the same window length and another motion: from another capture, and if possible subject.

        Raises `ValueError` if there is none.
        """
        return self.pairs[self._pool.other_driver(pair, seed)]

    def batches(
        self, start: int, stop: int, schedule: Schedule, batch_size: int, seed: int, samples: slice = slice(None)
    ) -> Iterator[Batch]:
        """Yield the batches of steps [start, stop), prefetching `AHEAD` in threads (in a fork Lance hangs).

        `samples`: which samples of each batch to load; a sample is the same whichever others are loaded.
        """

        def load(step: int) -> Batch:
            rows = self._pool.choose(step, schedule, batch_size, seed)
            references = self._reference_ids(rows, step, seed)
            return self._load(self.pairs.take(rows[samples]), references[samples])

        with ThreadPoolExecutor(AHEAD, "read ahead") as threads:
            ahead: deque[Future[Batch]] = deque()
            try:
                for step in range(start, stop):
                    # load the first one alone: it opens tables that later ones reuse
                    batch = ahead.popleft().result() if ahead else load(step)
                    next_steps = range(step + 1 + len(ahead), min(step + 1 + AHEAD, stop))
                    ahead.extend(threads.submit(load, later) for later in next_steps)
                    yield _with_floats(batch)
            finally:
                for future in ahead:
                    future.cancel()

    def batch(self, pairs: Sequence[Pair], references: Sequence[str] | None = None) -> Batch:
        """Return one batch on the CPU.

        The reference is latent frame 0 of the target, or of the latents with the ids `references`; a causal VAE
        encodes it from frame 0 alone.
        """
        return _with_floats(self._load(pairs, references))

    def references(self, step: int, schedule: Schedule, batch_size: int, seed: int) -> list[str]:
        """Return, for each sample of the batch of `step`, the id of the latents whose frame 0 is its reference."""
        return self._reference_ids(self._pool.choose(step, schedule, batch_size, seed), step, seed)

    def other_moments(self, pairs: Sequence[Pair], seed: int) -> list[str]:
        """Return, for each pair, the id of the latents whose frame 0 is its reference, drawn as in training.

        That is another window of the target clip for `reference_share` of the pairs, if it has one; else the pair's.
        """
        return self._reference_ids(self.pairs.rows_of(pairs), 0, seed)

    def _reference_ids(self, rows: np.ndarray, step: int, seed: int) -> list[str]:
        if self._references is None:
            return [pair.latent_id for pair in self.pairs.take(rows)]
        return self._references.draw(rows, step, seed)

    def _load(self, pairs: Sequence[Pair], references: Sequence[str] | None) -> Batch:
        """Return a batch with float16 latents and texts and uint8 images, as they are cached."""
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
    """Convert a batch to float32, images to [0, 1]."""
    driving = replace(batch.driving, body=batch.driving.body.float() / 255, hands=batch.driving.hands.float() / 255)
    return replace(
        batch,
        target=batch.target.float(),
        reference=batch.reference.float(),
        text=batch.text.float(),
        driving=driving,
    )
