"""Load batches from a release: targets and texts from cached latents, driving frames from the videos of clips."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from opendimo.model.batch import Batch
from opendimo.model.config import DiMoConfig
from opendimo.model.controls import control_class
from opendimo.training.latents import LatentFormat, latent_formats
from opendimo.training.pool import Pool
from opendimo.training.reading import BatchReader, ReadingError, Request
from opendimo.training.references import References, still_clips
from opendimo.training.release import Pair, Pairs, Release, read_pairs
from opendimo.training.schedule import Schedule, StagePoint, stage_at

logger = logging.getLogger(__name__)
AHEAD = 2
"""Number of batches that each loader process prefetches; their images are uint8 until they are used."""


class TrainingData:
    """Pairs of one split of a release, and batches of them in the format of a model.

    `reference_share`: share of the samples whose reference shows another window of the target clip; applies only in
    reference mode `prefix`, to clips with several windows and a static camera (`training.references`).
    `workers`: processes that load batches ahead; 0: this one loads each when it is needed.
    `left_out`: message about pairs that the model's control cannot use, or "".
    """

    def __init__(
        self,
        release: Release,
        split: str,
        model: DiMoConfig,
        cache_bytes: int = 1 << 30,
        reference_share: float = 0.5,
        workers: int = 0,
    ) -> None:
        self.release, self.model, self.left_out = release, model, ""
        self.pairs = self._usable(read_pairs(release, split), split)
        self._pool = Pool(self.pairs)
        self._pools = {1: self._pool}
        self._cache_bytes, self._workers = cache_bytes, workers
        varied = model.reference == "prefix" and reference_share > 0 and len(self.pairs) > 0
        self._references = References(self.pairs, still_clips(release), reference_share) if varied else None

    @cached_property
    def latents(self) -> dict[str, LatentFormat]:
        """Return the format of the latents of each bucket. Raises the `ValueError` of `latent_formats`."""
        return latent_formats(self.release, self.pairs)

    @cached_property
    def _reader(self) -> BatchReader:
        return self._new_reader(self._cache_bytes, None)

    def _new_reader(self, cache_bytes: int, threads: int | None) -> BatchReader:
        images, cameras = not control_class(self.model.control).reads_poses, self._reads_cameras
        common: dict[str, Any] = {"images": images, "cameras": cameras, "cache_bytes": cache_bytes, "threads": threads}
        return BatchReader(self.release, self.model.encoder, self.latents, **common)

    @property
    def _reads_cameras(self) -> bool:
        return control_class(self.model.control).sees_cameras or self.model.sees_cameras

    def _usable(self, pairs: Pairs, split: str) -> Pairs:
        """Return the pairs without those that lack what the model reads: pose labels, cameras; log their number."""
        needs: list[tuple[str, Callable[[Pairs], NDArray[np.bool_]]]] = []
        if control_class(self.model.control).reads_poses:
            needs.append((f"control {self.model.control!r} reads pose labels", _labelled))
        if self._reads_cameras:
            needs.append(("the model reads the cameras of both views", partial(_filmed, self.release)))
        lacking = list[str]()
        for what, has in needs:
            usable = has(pairs)
            if left_out := len(pairs) - int(usable.sum()):
                counts = f"{left_out} of {len(pairs)} {split} pairs"
                lacking.append(f"{counts} are left out: {what}, which they lack")
                logger.warning(lacking[-1])
            pairs = pairs.where(usable)
        self.left_out = "; ".join(lacking)
        return pairs

    def mix(self, point: StagePoint) -> dict[str, float]:
        """Return the share of each kind of pair in a stage, of those available. Raises `ValueError` if none is."""
        try:
            return self._pool_of(point.views).mix(point)
        except ValueError as error:
            raise ValueError(f"{error} ({self.left_out})" if self.left_out else str(error)) from None

    def choose(self, step: int, schedule: Schedule, batch_size: int, seed: int) -> list[Pair]:
        """Return the pairs of the batch of `step`, which are of one bucket."""
        return self.pairs.take(self._rows(step, schedule, batch_size, seed))

    def _rows(self, step: int, schedule: Schedule, batch_size: int, seed: int) -> NDArray[np.int64]:
        return self._pool_of(stage_at(step, schedule).views).choose(step, schedule, batch_size, seed)

    def _pool_of(self, views: int) -> Pool:
        if views not in self._pools:
            self._pools[views] = Pool(self.pairs, views)
        return self._pools[views]

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
        """Return a pair of the same bucket with another motion: from another capture, and if possible subject.

        Raises `ValueError` if there is none.
        """
        return self.pairs[self._pool.other_driver(pair, seed)]

    def batches(
        self, start: int, stop: int, schedule: Schedule, batch_size: int, seed: int, samples: slice = slice(None)
    ) -> Iterator[Batch]:
        """Yield the batches of steps [start, stop) in storage formats (`Batch.as_floats` makes them ready for a model).

        `samples`: which samples of each batch to load; a sample is the same whichever others are loaded. Loader
        processes are spawned, because Lance hangs in forked ones. Raises the errors of `BatchReader.read`.
        """

        def requests() -> Iterator[Request]:
            for step in range(start, stop):
                rows = self._rows(step, schedule, batch_size, seed)
                references = self.references(step, schedule, batch_size, seed)
                wordings = self.wordings(step, len(rows), seed)
                yield Request(self.pairs.take(rows[samples]), references[samples], wordings[samples])

        reader, ahead = self._reader, dict[str, Any]()
        if self._workers:
            reader = self._new_reader(self._cache_bytes // self._workers, threads=1)
            ahead = {"prefetch_factor": AHEAD, "multiprocessing_context": "spawn"}
        pin = torch.cuda.is_available()
        batches = DataLoader(
            reader, sampler=requests(), batch_size=None, num_workers=self._workers, pin_memory=pin, **ahead
        )
        for batch in batches:
            if isinstance(batch, ReadingError):
                raise batch.error
            yield batch

    def batch(
        self,
        pairs: Sequence[Pair],
        references: Sequence[str] | None = None,
        wordings: Sequence[float] | None = None,
    ) -> Batch:
        """Return one batch on the CPU, in float32, of pairs of one bucket (`release.chunks`).

        The reference is latent frame 0 of the target, or of the latents with the ids `references`; a causal VAE
        encodes it from frame 0 alone. Texts are in their first wording, or as `wordings` picks. Raises the errors of
        `BatchReader.read`.
        """
        request = Request(pairs, references or [pair.latent_id for pair in pairs], wordings or [0.0] * len(pairs))
        return self._reader.read(request).as_floats()

    @staticmethod
    def wordings(step: int, samples: int, seed: int) -> list[float]:
        """Return, for each sample of the batch of `step`, a number in [0, 1) that picks the wording of its text.

        It depends on (seed, step, slot) alone, so that a resumed run draws the same.
        """
        return np.random.default_rng([seed, step, *b"wording"]).random(samples).tolist()

    def references(self, step: int, schedule: Schedule, batch_size: int, seed: int) -> list[str]:
        """Return, for each sample of the batch of `step`, the id of the latents whose frame 0 is its reference.

        All views of a group have the reference of the first one.
        """
        views = stage_at(step, schedule).views
        firsts = self._rows(step, schedule, batch_size, seed)[::views]
        return [one for one in self._reference_ids(firsts, step, seed) for _ in range(views)]

    def other_moments(self, pairs: Sequence[Pair], seed: int) -> list[str]:
        """Return, for each pair, the id of the latents whose frame 0 is its reference, drawn as in training.

        That is another window of the target clip for `reference_share` of the pairs, if it has one; else the pair's.
        """
        return self._reference_ids(self.pairs.rows_of(pairs), 0, seed)

    def _reference_ids(self, rows: np.ndarray, step: int, seed: int) -> list[str]:
        if self._references is None:
            return [pair.latent_id for pair in self.pairs.take(rows)]
        return self._references.draw(rows, step, seed)


def _labelled(pairs: Pairs) -> NDArray[np.bool_]:
    """Return which pairs [N] have a pose label."""
    return pairs.codes("pose_id") >= 0


def _filmed(release: Release, pairs: Pairs) -> NDArray[np.bool_]:
    """Return which pairs [N] are of one view, or of two views with known cameras in metres."""
    known = release.scan("clips", ["clip_id"], "metric AND world_to_camera IS NOT NULL AND K IS NOT NULL")["clip_id"]
    views = [pairs.texts(name) for name in ("driving_clip_id", "target_clip_id")]
    codes = [pairs.codes(name) for name in ("driving_clip_id", "target_clip_id")]
    driving, target = (
        pc.is_in(texts, value_set=known).to_numpy(zero_copy_only=False)[code]
        for texts, code in zip(views, codes, strict=True)
    )
    same = pairs.codes("kind") == pairs.texts("kind").index("same_view").as_py()
    return np.asarray(same | (driving & target))


def timed(batches: Iterator[Batch]) -> Iterator[tuple[Batch, float]]:
    """Yield each batch with the seconds that it was waited for."""
    while True:
        started = time.perf_counter()
        batch = next(batches, None)
        if batch is None:
            return
        yield batch, time.perf_counter() - started
