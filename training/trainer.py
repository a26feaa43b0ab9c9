"""The training loop: train on a release; write checkpoints, metrics and a pipeline."""

import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch.distributed.tensor import DTensor

from opendimo.model.base_folder import base_folder
from opendimo.model.batch import Batch
from opendimo.model.dimo import DiMo
from opendimo.model.encoder.tokens import MotionEncoder
from opendimo.model.flow import scheduler_shift
from opendimo.storage_schemas.ids import stable_id
from opendimo.storage_schemas.lake.files import write_json
from opendimo.training import checkpoints
from opendimo.training.config import TrainConfig
from opendimo.training.data import TrainingData
from opendimo.training.driver_check import DriverCheck, fixed_loss
from opendimo.training.export import export_pipeline
from opendimo.training.initial import initial_model, starts_from
from opendimo.training.latents import check_latents
from opendimo.training.log import MetricsLog
from opendimo.training.no_text import empty_prompt
from opendimo.training.objective import (
    Conditions,
    Terms,
    draw,
    encoder_loss,
    seed_of,
    some_frames,
    training_loss,
    with_text,
    without_some_hands,
)
from opendimo.training.optimizer import PartsOptimizer
from opendimo.training.parallel import World, joined, whole_part
from opendimo.training.precision import computing
from opendimo.training.recipe import settings_of
from opendimo.training.release import Release
from opendimo.training.result import TrainResult
from opendimo.training.schedule import stage_at

logger = logging.getLogger(__name__)

STANDARDISED_FRAMES = 512
"""Approximate number of driving frames over which motion tokens are standardised."""
FRAMES_SHARE = 1 / 3
"""Share of the frames of a window used in encoder-only steps: frames of a window are similar and each costs time."""
Progress = Callable[[int, int, dict[str, Any]], None]
"""Called with the steps done, the total number of steps, and the record just logged."""


def train(
    release: Release,
    config: TrainConfig,
    out: str | Path,
    *,
    resume: bool = True,
    until_stage: int | None = None,
    on_progress: Progress | None = None,
) -> TrainResult:
    """Train to the end of stage `until_stage` (1-based; None: the last), from the newest checkpoint in `out` if any.

    Returns at once if that stage is done already. Raises `ValueError` if `out` holds a run that cannot be resumed
    (other release or config, or `resume=False`), if another process trains in `out`, or if the release has no pairs
    for a stage. Raises `FloatingPointError` if the loss or gradient norm is not finite.
    """
    out = Path(out)
    with joined() as world, _locked(out, world):
        return _Run(release, config, out, resume, world).train_until(until_stage, on_progress or (lambda *_: None))


@contextmanager
def _locked(out: Path, world: World) -> Iterator[None]:
    """Create the folder of a run and keep other runs out of it. Raises `ValueError` if one trains there."""
    lock = FileLock(out / ".lock", timeout=0)

    def acquire() -> None:
        out.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout:
            raise ValueError(f"another process is training in {out}: wait for it, or choose another folder") from None

    world.on_first(acquire)
    try:
        yield
    finally:
        lock.release()


class _Run:
    """One training run, new or resumed, in this process and those it is joined with."""

    def __init__(self, release: Release, config: TrainConfig, out: Path, resume: bool, world: World) -> None:
        self.release, self.config, self.out, self.world = release, config, out, world
        self.samples = world.samples(config.batch_size)
        self.stage_ends = set(accumulate(config.schedule.stage_steps))
        self.checkpoint = checkpoints.latest(out)
        self.step = self.metrics_bytes = 0
        if self.checkpoint:
            if not resume:
                raise ValueError(f"{out} already holds a run: resume it, or choose another folder")
            state = checkpoints.read_state(self.checkpoint)
            checkpoints.check_same_run(state, release, config.identity(), out)
            self.step, self.metrics_bytes = state["step"], state["metrics_bytes"]

    def train_until(self, stage: int | None, on_progress: Progress) -> TrainResult:
        """Train to the end of a stage; export the pipeline after the last stage."""
        schedule = self.config.schedule
        if stage is not None and not 1 <= stage <= len(schedule.stages):
            raise ValueError(f"there is no stage {stage}: the schedule has {len(schedule.stages)}")
        end = sum(schedule.stage_steps[:stage])
        pipeline = self.out / "pipeline"
        if self.step < end:
            self._load()
            self._train_steps(end, on_progress)
        assert self.checkpoint is not None
        trained = self.checkpoint / "model"
        if self.step == schedule.steps:
            self.world.on_first(lambda: self._export(trained, pipeline))
        exported = pipeline if pipeline.exists() else None
        return TrainResult(self.step, schedule.steps, self.checkpoint, self.out / "metrics.jsonl", exported)

    def _export(self, model: Path, pipeline: Path) -> None:
        if not pipeline.exists():
            export_pipeline(model, pipeline, self.config, self.release)

    def _load(self) -> None:
        """Load or initialise model and optimizer, and validate the data of all stages before the first step."""
        config = self.config
        torch.manual_seed(config.seed)  # modules that the base model lacks are initialised at random
        self.device = self.world.device
        self.shift = scheduler_shift(base_folder(config.base)) if config.shift is None else config.shift
        if self.checkpoint:
            self.model = DiMo.load(self.checkpoint / "model")
        else:
            self.model = initial_model(config)
        if self.step >= config.schedule.geometry_steps:
            self.model.geometry = None
        self.model.to(self.device).train()
        if config.gradient_checkpointing:
            self.model.transformer.enable_gradient_checkpointing()
            if self.model.control._supports_gradient_checkpointing:
                self.model.control.enable_gradient_checkpointing()
        self.world.shard(self.model, config.bf16)
        self.optimizer = PartsOptimizer(
            self.model, config.optimizer, betas=config.betas, weight_decay=config.weight_decay
        )
        if self.checkpoint:
            checkpoints.load_optimizer(self.checkpoint, self.optimizer)
        self.no_text = self.world.on_first(lambda: empty_prompt(config.base, self.out)).to(self.device)
        self.data = TrainingData(
            self.release,
            "train",
            config.model,
            reference_share=config.reference_share,
            workers=config.loader_workers,
        )
        points = [stage_at(end - 1, config.schedule) for end in sorted(self.stage_ends)]
        mixes = [self.data.mix(point) for point in points]  # fail now, rather than after days, if a stage has no pairs
        check_latents(self.data.latents, config.base, config.preset)
        self.held_out = TrainingData(self.release, "test", config.model, reference_share=config.reference_share)
        kinds = sorted({kind for mix in mixes for kind in mix})
        self.driver_check = DriverCheck(self.data, self.held_out, kinds, config, self.no_text, self.shift)

    def _train_steps(self, end: int, on_progress: Progress) -> None:
        config, schedule = self.config, self.config.schedule
        log = MetricsLog(self.out / "metrics.jsonl", self.metrics_bytes) if self.world.is_first else None

        def record(entry: dict[str, Any]) -> None:
            if log is None:
                return
            log.write(entry)
            if "fixed_loss" in entry:
                logger.info("%s %s: fixed loss %.4f", entry["stage"], entry["event"], entry["fixed_loss"])
            if entry.get("warning"):
                logger.warning("%s", entry["warning"])
            on_progress(self.step, schedule.steps, entry)

        batches = self.data.batches(self.step, end, schedule, config.batch_size, config.seed, self.samples)
        for stored, waited in _timed(batches):
            point = stage_at(self.step, schedule)
            if self.step == 0:
                record(self._start_event(point.name))
            if self.step == point.start:
                mix = self.data.mix(point)
                if missing := sorted(set(point.mix) - set(mix)):
                    logger.warning("%s: the release has no %s pairs to train on", point.name, " or ".join(missing))
                record(self._event("stage_start") | {"mix": mix})
            self._end_geometry()
            started = time.perf_counter()
            batch = stored.to(self.device).as_floats()
            if self.step == math.ceil(schedule.encoder_steps) and config.init_model is None:
                self._standardise(batch)
            losses, grad_norm = self._optimize(batch)
            self.step += 1
            record(
                {
                    "step": self.step,
                    "stage": point.name,
                    **losses,
                    "geometry_weight": point.geometry_weight,
                    "lr": point.lr,
                    "encoder_lr": point.encoder_lr,
                    "grad_norm": grad_norm,
                    "kinds": Counter(p.kind for p in self._pairs(self.step - 1)),
                    "seconds": round(time.perf_counter() - started, 4),
                    "data_seconds": round(waited, 4),
                }
            )
            stage_done = self.step == point.end
            if stage_done:
                record(self._event("stage_end"))
            if stage_done or (self.step % config.follow.every == 0 and point.trains_generator):
                record(self.driver_check.measure(self.model, self.step, point.name))
            if stage_done or self.step % config.checkpoint_every == 0:
                self._end_geometry()
                self._save(log.bytes if log else 0)
        if log:
            log.close()

    def _start_event(self, stage: str) -> dict[str, Any]:
        """Write the settings of the run to `config.json`; return the event that names them and the initial weights."""
        if self.world.is_first:
            write_json(self.out / "config.json", settings_of(self.config))
        return {
            "event": "start",
            "step": 0,
            "stage": stage,
            "config_id": stable_id(self.config.identity()),
            "starts_from": starts_from(self.config),
        }

    def _standardise(self, batch: Batch) -> None:
        """Standardise the motion tokens before the generator reads them, and reset the control's optimizer state."""
        if not isinstance(getattr(self.model.control, "motion_encoder", None), MotionEncoder):
            return
        count = batch.driving.body.shape[1] * self.config.batch_size
        frames = batch.driving.map(lambda x: self.world.gathered(x[:, :: max(1, count // STANDARDISED_FRAMES)]))
        with whole_part(self.model.control, self.world) as control, computing(self.device, self.config.bf16):
            control.motion_encoder.standardise(frames.body, frames.hands, frames.hand_ok)
        self.optimizer.forget(self.model.control)

    def _end_geometry(self) -> None:
        """Remove the geometry head and its optimizer state once the weight of the geometric loss is 0."""
        if self.model.geometry is None or self.step < self.config.schedule.geometry_steps:
            return
        self.optimizer.remove("geometry")
        self.model.geometry = None

    def _optimize(self, batch: Batch) -> tuple[dict[str, float | None], float]:
        """Run one optimizer step; return the loss terms and the gradient norm before clipping."""
        config, point = self.config, stage_at(self.step, self.config.schedule)
        self.optimizer.set_rates({"generator": point.lr, "motion": point.motion_lr, "encoder": point.encoder_lr})
        encoder = getattr(self.model.control, "motion_encoder", None)
        if encoder is not None and self.world.size == 1:
            encoder.requires_grad_(point.trains_encoder)  # saves time; sharded weights ignore later changes of it
        conditions = draw(
            batch,
            self.step,
            config.seed,
            shift=self.shift,
            text_dropout=point.text_dropout,
            motion_dropout=point.motion_dropout,
            first=self.samples.start,
        )
        torch.manual_seed(seed_of(config.seed, self.step))  # for random operations that take no generator
        batch = with_text(batch, conditions.drop_text, self.no_text)
        driving = without_some_hands(batch.driving, point.hand_dropout, conditions.augment_seeds or ())
        self.optimizer.zero_grad()
        losses = self.world.mean(self._backpropagate(replace(batch, driving=driving), conditions))
        if encoder is not None and not point.trains_encoder:
            encoder.zero_grad()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.grad_clip)
        grad_norm = float(norm.full_tensor() if isinstance(norm, DTensor) else norm)
        if not (math.isfinite(losses["loss"] or 0.0) and grad_norm < float("inf")):
            pairs = ", ".join(p.pair_id for p in self._pairs(self.step))
            raise FloatingPointError(
                f"step {self.step}: loss {losses['loss']}, gradient norm {grad_norm}; no weights were updated. "
                f"Inspect pairs {pairs}, or lower the learning rate"
            )
        self.optimizer.step()
        return losses, grad_norm

    def _backpropagate(self, batch: Batch, conditions: Conditions) -> dict[str, float | None]:
        """Add the gradients of this process's samples, `micro_batch` at a time; return the mean loss terms."""
        config, point, count = self.config, stage_at(self.step, self.config.schedule), len(batch.target)
        size = min(config.micro_batch or count, count)
        weight = point.geometry_weight if self.model.geometry is not None else 0.0
        losses: dict[str, float | None] = {}

        def add(loss: Callable[..., Terms], part: Batch, draws: Conditions, weight: float) -> None:
            with computing(self.device, config.bf16):
                terms = loss(
                    self.model, part, draws, weight, config.joints_weight, point.perspective, self.world.gathered
                )
            share = len(part.target) / count
            (share * terms.loss).backward()
            for name, value in terms.as_floats().items():
                losses[name] = losses.get(name) if value is None else (losses.get(name) or 0.0) + share * value

        if not point.trains_generator and self.model.geometry is not None:
            frames = some_frames(batch.driving, FRAMES_SHARE, seed_of(config.seed, self.step))
            add(encoder_loss, replace(batch, driving=frames), conditions, weight)
            return losses
        if size < count and weight > 0:  # the head's batch norm needs the whole batch; it takes little memory
            add(encoder_loss, batch, conditions, weight)
            weight = 0.0
        for start in range(0, count, size):
            chosen = slice(start, start + size)
            add(training_loss, batch.part(chosen), conditions.part(chosen), weight)
        return losses

    def _save(self, metrics_bytes: int) -> None:
        state = {
            "step": self.step,
            "release": self.release.id,
            "release_sha256": self.release.sha256,
            "config": self.config.identity(),
            "metrics_bytes": metrics_bytes,
        }
        self.checkpoint = checkpoints.save(self.out, state, self.model, self.optimizer, self.world)
        self.world.on_first(lambda: checkpoints.prune(self.out, self.stage_ends))

    def _pairs(self, step: int) -> list[Any]:
        return self.data.choose(step, self.config.schedule, self.config.batch_size, self.config.seed)

    def _event(self, event: str) -> dict[str, Any]:
        point = stage_at(self.step - (event == "stage_end"), self.config.schedule)
        return {
            "event": event,
            "step": self.step,
            "stage": point.name,
            "fixed_loss": fixed_loss(self.model, self.data, point, self.config),
            "test_loss": fixed_loss(self.model, self.held_out, point, self.config),
        }


def _timed(batches: Iterator[Batch]) -> Iterator[tuple[Batch, float]]:
    """Yield each batch with the seconds that it was waited for."""
    while True:
        started = time.perf_counter()
        batch = next(batches, None)
        if batch is None:
            return
        yield batch, time.perf_counter() - started
