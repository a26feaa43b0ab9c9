"""Configuration of a training run, and the presets."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator

from opendimo.model.config import DiMoConfig
from opendimo.model.encoder.config import ENCODERS
from opendimo.training.schedule import Schedule, three_stages

PresetName = Literal["tiny", "lite", "wan2.2-ti2v-5b", "hunyuanvideo-1.5"]
Checkpointing = Literal["full", "selective"]
"""What is computed again in the backward pass: whole transformer blocks, or all but matrix products and attention."""
OptimizerName = Literal["adamw", "adamw8bit", "muon"]
"""AdamW, AdamW with moments of 8 bits, or Muon for the matrices of transformer layers (`optimizer.py`)."""


@dataclass(frozen=True)
class FollowPolicy:
    """When to run the driver check (`driver_check.py`), and when to warn.

    The check runs every `every` steps on `pairs` pairs of each kind. From step `from_step` on it warns if the gap is
    below `least_gap`. Raises `ValueError` if `every` or `pairs` is below 1.
    """

    every: int
    pairs: int = 16
    least_gap: float = 0.05
    from_step: int = 1000

    def __post_init__(self) -> None:
        if min(self.every, self.pairs) < 1:
            raise ValueError("every and pairs of the driver check must be 1 or more")


@dataclass(frozen=True)
class SamplePolicy:
    """When to write sample videos (`samples.py`): every `every` steps (None: never), and then at the end of each stage.

    `clips`: number of pairs. `steps`: denoising steps. Raises `ValueError` if a number is below 1.
    """

    every: int | None = None
    clips: int = 4
    steps: int = 20

    def __post_init__(self) -> None:
        if min(self.every or 1, self.clips, self.steps) < 1 or self.every == 0:
            raise ValueError("every, clips and steps of sample videos must be 1 or more")


FREE = (
    "base",
    "micro_batch",
    "loader_workers",
    "samples",
    "wandb_project",
    "gradient_checkpointing",
    "compile",
    "shard_size",
    "check_memory",
    "collective_timeout",
)
"""Settings of a run that may differ when it is resumed."""
_CHOICES = {True: "full", False: None}
"""Values of `gradient_checkpointing` in configs of older versions."""


@dataclass(frozen=True)
class TrainConfig:
    """Configuration of a training run. Values marked [ours] are not from the paper.

    Raises `ValueError` for a number outside its range.

    `base`: the pretrained model, a folder in the diffusers layout or ORG/NAME on the Hugging Face hub.
    `init_encoder`: weights to initialise the motion encoder from.
    `init_model`: folder of a trained 3DiMo to start from.
    The paths of these three may change between resumes, and so may the settings in `FREE`; everything else may not.
    `lora_rank`: rank of adapters that are trained instead of the base model's weights (`model.adapters`); None: all
    weights are trained [ours].
    `micro_batch`: samples per process whose gradients are computed at a time; they are added up over the batch. None:
    all. Fewer need less memory and give the same gradients, apart from rounding.
    `gradient_checkpointing`: what is computed again in the backward pass, to save memory; None: nothing.
    `compile`: compile the transformer blocks (`blocks.py`).
    `shard_size`: processes over which the training state is sharded; groups of that size hold replicas of it and
    average their gradients. None: all processes.
    `check_memory`: refuse a full-size run that is estimated not to fit into memory (`fitting.py`).
    `collective_timeout`: seconds that a process waits for another one before the run fails (`watchdog.py`).
    `loader_workers`: processes that read batches ahead, for each process that trains; 0: it reads them itself.
    `ema_decay`: decay per step of a moving average of the weights, which the exported pipeline then has; None: none
    [ours].
    `spike_factor`: the update of a step is skipped if its gradient norm is above this factor of the median of recent
    steps of the stage (`spikes.py`); None: never [ours].
    `shift`: of the noise levels; None: the shift of the base model's scheduler.
    `optimizer`: AdamW, AdamW with moments of 8 bits, or Muon for the matrices of transformer layers; `betas` are
    AdamW's.
    `joints_weight`: weight of the joint positions, in metres, within the geometric loss [ours].
    `reference_share`: share of the samples whose reference shows another moment of the clip (only in reference mode
    `prefix`) [ours].
    `follow`: when to run the driver check. `samples`: when to write sample videos.
    `wandb_project`: project of Weights & Biases that gets all numbers and sample videos; None: TensorBoard only.
    """

    preset: str
    base: str
    model: DiMoConfig
    schedule: Schedule
    batch_size: int
    shift: float | None
    checkpoint_every: int
    follow: FollowPolicy
    samples: SamplePolicy = SamplePolicy()
    variant: str = "full"
    init_encoder: str | None = None
    init_model: str | None = None
    seed: int = 0
    grad_clip: float = 1.0
    optimizer: OptimizerName = "adamw"
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    reference_share: float = 0.5
    joints_weight: float = 1.0
    bf16: bool = False
    gradient_checkpointing: Annotated[
        Checkpointing | None, BeforeValidator(lambda given: _CHOICES[given] if isinstance(given, bool) else given)
    ] = None
    compile: bool = False
    shard_size: int | None = None
    check_memory: bool = True
    collective_timeout: float = 1800.0
    lora_rank: int | None = None
    micro_batch: int | None = None
    loader_workers: int = 0
    ema_decay: float | None = None
    spike_factor: float | None = None
    wandb_project: str | None = None

    def __post_init__(self) -> None:
        positive = (
            "batch_size",
            "checkpoint_every",
            "grad_clip",
            "lora_rank",
            "micro_batch",
            "shard_size",
            "collective_timeout",
        )
        if low := [name for name in positive if getattr(self, name) is not None and getattr(self, name) <= 0]:
            raise ValueError(f"{', '.join(low)} must be positive")
        if self.ema_decay is not None and not 0 <= self.ema_decay < 1:
            raise ValueError("ema_decay must be 0 or more and below 1")
        if self.spike_factor is not None and self.spike_factor <= 1:
            raise ValueError("spike_factor must be above 1")
        if self.loader_workers < 0:
            raise ValueError("loader_workers must be 0 or more")
        if not 0 <= self.reference_share <= 1:
            raise ValueError("reference_share must be between 0 and 1")
        for stage in self.schedule.stages:
            for name in ("batch_size", "micro_batch"):
                if (getattr(self, name) or 0) % stage.views:
                    raise ValueError(f"{name} must be a multiple of the {stage.views} views of stage {stage.name}")
            if stage.views > 1 and self.model.reference != "prefix":
                raise ValueError(f"stage {stage.name} has several views of one reference: set model.reference=prefix")

    def identity(self) -> dict[str, Any]:
        """Return the settings that must be equal on resume, JSON-serialisable; of initial weights only the name."""
        names = {
            name: None if path is None else Path(path).name
            for name, path in (("init_encoder", self.init_encoder), ("init_model", self.init_model))
        }
        return {name: value for name, value in asdict(self).items() if name not in FREE} | names

    def from_trained(self, folder: str | Path) -> Self:
        """Return the config started from the 3DiMo in `folder`; all parts are then trained from step 0."""
        schedule = replace(self.schedule, encoder_steps=0.0, reading_steps=0.0)
        return replace(self, init_model=str(folder), schedule=schedule)


def preset(name: str, base: str | Path, encoder: str | None = None) -> TrainConfig:
    """Return the preset `tiny` (about a minute on a laptop) or one of `FULL_SIZE`: two with the paper's numbers, and
    `lite`, which trains adapters of Wan2.2-TI2V-5B on one GPU.

    `encoder`: a motion encoder of `ENCODERS`; None: `tiny`, or `base` at full size. Raises `ValueError` for an unknown
    preset or encoder.
    """
    if encoder is not None and encoder not in ENCODERS:
        raise ValueError(f"no encoder {encoder!r}: choose one of {', '.join(ENCODERS)}")
    if name == "tiny":
        config = TrainConfig(
            name,
            str(base),
            DiMoConfig.tiny(),
            replace(
                three_stages((90, 90, 60), lr=2e-4),
                encoder_steps=40,
                motion_lr=0.25,
                encoder_lr_alone=10.0,
                encoder_lr=1.0,
                warmup=10,
                final_lr=0.05,
            ),
            batch_size=4,
            shift=None,
            checkpoint_every=30,
            follow=FollowPolicy(every=60, pairs=8, from_step=240),
        )
    elif name in FULL_SIZE:
        config = TrainConfig(
            name,
            str(base),
            DiMoConfig(),
            replace(three_stages((10_000, 15_000, 5_000), lr=1e-5), encoder_steps=500, perspective_full=5_000),
            batch_size=64,
            shift=None,
            checkpoint_every=500,
            follow=FollowPolicy(every=500),
            bf16=True,
            gradient_checkpointing="full",
            micro_batch=1,
            loader_workers=8,
            spike_factor=10.0,
            samples=SamplePolicy(every=1000),
        )
        if name == "lite":
            schedule = replace(config.schedule, stages=three_stages((10_000, 15_000, 5_000), lr=1e-4).stages)
            config = replace(config, schedule=schedule, batch_size=8, lora_rank=32, loader_workers=4)
    else:
        raise ValueError(f"no preset {name!r}: choose one of tiny, {', '.join(FULL_SIZE)}")
    return config if encoder is None else replace(config, model=replace(config.model, encoder=ENCODERS[encoder]))


FULL_SIZE = ("lite", "wan2.2-ti2v-5b", "hunyuanvideo-1.5")
