"""The training loop: train on a release; write checkpoints, metrics and a pipeline."""

import logging
import math
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing, nullcontext
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch

from opendimo.model.adapters import halve_frozen
from opendimo.model.base_folder import base_folder
from opendimo.model.batch import Batch
from opendimo.model.dimo import DiMo
from opendimo.model.flow import scheduler_shift
from opendimo.storage_schemas.ids import stable_id
from opendimo.storage_schemas.lake.files import write_json
from opendimo.training import checkpoints
from opendimo.training.averaging import Average
from opendimo.training.blocks import prepare_blocks
from opendimo.training.config import TrainConfig
from opendimo.training.data import TrainingData, timed
from opendimo.training.driver_check import DriverCheck, fixed_loss
from opendimo.training.export import export_pipeline
from opendimo.training.fitting import check_fits
from opendimo.training.initial import initial_model, standardise, starts_from
from opendimo.training.latents import check_latents
from opendimo.training.log import MetricsLog, gpu_memory
from opendimo.training.no_text import empty_prompt
from opendimo.training.optimizer import PartsOptimizer
from opendimo.training.parallel import World, joined
from opendimo.training.recipe import settings_of
from opendimo.training.release import Release
from opendimo.training.result import TrainingStopped, TrainResult
from opendimo.training.samples import Samples
from opendimo.training.saving import Saver
from opendimo.training.schedule import StagePoint, stage_at
from opendimo.training.spikes import Spikes, stage_norms
from opendimo.training.step import Stepper
from opendimo.training.summary import SAMPLES
from opendimo.training.throughput import Throughput, device_name
from opendimo.training.watchdog import Watchdog

logger = logging.getLogger(__name__)

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
    should_stop: Callable[[], bool] = lambda: False,
) -> TrainResult:
    """Train to the end of stage `until_stage` (1-based; None: the last), from the newest checkpoint in `out` if any.

    Returns at once if that stage is done already. Raises `ValueError` if `out` holds a run that cannot be resumed
    (other release or config, or `resume=False`), if another process trains in `out`, or if the release has no pairs
    for a stage. Raises `FloatingPointError` if the loss or gradient norm is not finite, and `OSError` if a checkpoint
    could not be written.

    `should_stop` is asked after every step: if it is true in any process, all save a checkpoint and raise
    `TrainingStopped`.
    """
    out = Path(out)
    with joined(config.collective_timeout) as world, checkpoints.locked(out, world):
        run = _Run(release, config, out, resume, world, should_stop)
        return run.train_until(until_stage, on_progress or (lambda *_: None))


class _Run:
    """One training run, new or resumed, in this process and those it is joined with."""

    def __init__(
        self,
        release: Release,
        config: TrainConfig,
        out: Path,
        resume: bool,
        world: World,
        should_stop: Callable[[], bool],
    ) -> None:
        self.release, self.config, self.out, self.world = release, config, out, world
        self.should_stop = should_stop
        self.samples = world.samples(config.batch_size, math.lcm(*(stage.views for stage in config.schedule.stages)))
        world.check_shards(config.shard_size)
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
            self.watchdog = Watchdog(self.world)
            saver = Saver(self.out, self.world, self.stage_ends, self.should_stop)
            with self.watchdog.watching(), closing(saver) as self.saver:
                self._train_steps(end, on_progress)
            self.checkpoint = checkpoints.latest(self.out)
        assert self.checkpoint is not None
        averaged = self.checkpoint / "ema"
        trained = averaged if averaged.exists() else self.checkpoint / "model"
        if self.step == schedule.steps:
            self.world.on_first(lambda: self._export(trained, pipeline))
        exported = pipeline if pipeline.exists() else None
        return TrainResult(self.step, schedule.steps, self.checkpoint, self.out / "metrics.jsonl", exported)

    def _export(self, model: Path, pipeline: Path) -> None:
        if not pipeline.exists():
            export_pipeline(model, pipeline, self.config, self.release)

    def _load(self) -> None:
        """Load or initialise model and optimizer, and validate the data of all stages before the first step."""
        config, world = self.config, self.world
        torch.manual_seed(config.seed)  # modules that the base model lacks are initialised at random
        self.device = world.device
        world.on_first(lambda: check_fits(config, world.size, world.device))
        base = base_folder(config.base)
        shift = scheduler_shift(base) if config.shift is None else config.shift
        self.model = DiMo.load(self.checkpoint / "model", base) if self.checkpoint else initial_model(config)
        if self.step >= config.schedule.geometry_steps:
            self.model.geometry = None
        self.model.to(self.device).train()
        prepare_blocks(self.model, config.gradient_checkpointing, compiled=config.compile)
        if config.lora_rank is not None and config.bf16 and world.size == 1:  # FSDP shards weights of one dtype only
            halve_frozen(self.model.transformer)
        world.shard(self.model, config.bf16, config.shard_size)
        self.optimizer = PartsOptimizer(
            self.model,
            config.optimizer,
            betas=config.betas,
            weight_decay=config.weight_decay,
            fused=self.device.type == "cuda",
        )
        self.average: Average | None = None
        if self.checkpoint:
            checkpoints.load_optimizer(self.checkpoint, self.optimizer)
            if config.ema_decay is not None and (self.checkpoint / "ema").exists():
                self.average = Average.restored(self.model, config.ema_decay, DiMo.load(self.checkpoint / "ema", base))
        no_text = world.on_first(lambda: empty_prompt(config.base, self.out)).to(self.device)
        self.stepper = Stepper(self.model, self.optimizer, config, world, no_text=no_text, shift=shift)
        share, workers = config.reference_share, config.loader_workers
        self.data = TrainingData(self.release, "train", config.model, reference_share=share, workers=workers)
        points = [stage_at(end - 1, config.schedule) for end in sorted(self.stage_ends)]
        mixes = [self.data.mix(point) for point in points]  # fail now, rather than after days, if a stage has no pairs
        check_latents(self.data.latents.values(), config.base, config.preset)
        self.held_out = TrainingData(self.release, "test", config.model, reference_share=share)
        kinds = sorted({kind for mix in mixes for kind in mix})
        self.driver_check = DriverCheck(self.data, self.held_out, kinds, config, no_text, shift)
        self.videos = Samples(self.data, self.held_out, config, shift) if config.samples.every else None
        norms = world.on_first(lambda: stage_norms(self.out, self.metrics_bytes, self._stage_start()))
        self.spikes = Spikes(config.spike_factor, norms)
        self.throughput = Throughput(config, device_name(self.device), world.size)

    def _stage_start(self) -> int:
        """Return the step at which the stage of the last step began."""
        return stage_at(max(0, self.step - 1), self.config.schedule).start

    def _train_steps(self, end: int, on_progress: Progress) -> None:
        project = self.config.wandb_project
        log = MetricsLog(self.out, self.metrics_bytes, self.step, project) if self.world.is_first else None
        with closing(log) if log else nullcontext():
            self._train_logged(end, log, on_progress)

    def _train_logged(self, end: int, log: MetricsLog | None, on_progress: Progress) -> None:
        config, schedule = self.config, self.config.schedule

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
        for stored, waited in timed(batches):
            point = stage_at(self.step, schedule)
            self.watchdog.at(self.step, "in")
            if self.step == 0:
                record(self._start_event(point.name))
            if self.step == point.start:
                mix = self.data.mix(point)
                if missing := sorted(set(point.mix) - set(mix)):
                    logger.warning("%s: the release has no %s pairs to train on", point.name, " or ".join(missing))
                record(self._event("stage_start") | {"mix": mix})
                self.spikes.clear()
            self._end_geometry()
            record(self._step(stored.to(self.device).as_floats(), point, waited))
            self.watchdog.at(self.step, "after")
            stage_done = self.step == point.end
            if stage_done:
                record(self._event("stage_end"))
            if stage_done or (self.step % config.follow.every == 0 and point.trains_generator):
                record(self.driver_check.measure(self.model, self.step, point.name))
            if self.videos and (stage_done or self.step % (config.samples.every or 1) == 0):
                file = self.out / SAMPLES / f"step-{self.step:06d}.mp4"
                written = self.videos.write(self.model, file if self.world.is_first else None)
                if log and written:
                    log.video(SAMPLES, file, self.step)
            stopping, failed = self.world.any(self.step < end and self.should_stop(), self.saver.failed)
            if failed:
                self.saver.wait()  # raises the error
            if stopping or stage_done or self.step % config.checkpoint_every == 0:
                self._end_geometry()
                self._save(log)
            if stopping or stage_done:
                self.saver.wait()
            if stopping:
                raise TrainingStopped(f"stopped after step {self.step} of {schedule.steps}; a checkpoint is saved")
            self.watchdog.at(self.step, "waiting for the batch of")

    def _step(self, batch: Batch, point: StagePoint, waited: float) -> dict[str, Any]:
        """Run one optimizer step and return its record. `waited`: seconds that the batch took to arrive.

        Raises `FloatingPointError` if the loss or the gradient norm is not finite.
        """
        config, started = self.config, time.perf_counter()
        if self.step == math.ceil(config.schedule.encoder_steps) and config.init_model is None:
            standardise(self.model, batch.driving, config, self.world)
            self.optimizer.forget(self.model.control)
        if self.average is None and config.ema_decay is not None and point.trains_generator:
            self.average = Average(self.model, config.ema_decay)
        result = self.stepper.compute(batch, self.step)
        pairs = self.data.choose(self.step, config.schedule, config.batch_size, config.seed)
        if not result.is_finite:
            raise FloatingPointError(
                f"step {self.step}: loss {result.losses['loss']}, gradient norm {result.grad_norm}; no weights were "
                f"updated. Inspect pairs {', '.join(p.pair_id for p in pairs)}, or lower the learning rate"
            )
        spike = self.spikes.is_spike(result.grad_norm)
        if spike:
            logger.warning("step %d is skipped: its gradient norm is %.3g", self.step, result.grad_norm)
        else:
            self.stepper.update(self.step)
            if self.average is not None:
                self.average.update()
        self.step += 1
        seconds = time.perf_counter() - started
        return {
            "step": self.step,
            "stage": point.name,
            "bucket": pairs[0].bucket,
            **result.losses,
            "geometry_weight": point.geometry_weight,
            "lr": point.lr,
            "encoder_lr": point.encoder_lr,
            "grad_norm": result.grad_norm,
            "grad_norms": result.grad_norms,
            "skipped": spike,
            **result.by_group(pairs),
            "kinds": Counter(pair.kind for pair in pairs),
            "seconds": round(seconds, 4),
            "data_seconds": round(waited, 4),
            "samples_per_second": round(config.batch_size / (seconds + waited), 3),
            **self.throughput.mfu(config.batch_size, seconds + waited, self.data.latents[pairs[0].bucket]),
            **gpu_memory(),
        }

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

    def _end_geometry(self) -> None:
        """Remove the geometry head and its optimizer state once the weight of the geometric loss is 0."""
        if self.model.geometry is None or self.step < self.config.schedule.geometry_steps:
            return
        self.optimizer.remove("geometry")
        self.model.geometry = None

    def _save(self, log: MetricsLog | None) -> None:
        bytes_ = log.flush() if log else 0
        state = checkpoints.new_state(self.step, self.release, self.config.identity(), bytes_)
        finish = log.write_held if log else lambda: None
        self.saver.save(state, self.model, self.optimizer, self.average, finish)

    def _event(self, event: str) -> dict[str, Any]:
        point = stage_at(self.step - (event == "stage_end"), self.config.schedule)
        return {
            "event": event,
            "step": self.step,
            "stage": point.name,
            "fixed_loss": fixed_loss(self.model, self.data, point, self.config),
            "test_loss": fixed_loss(self.model, self.held_out, point, self.config),
        }
