"""What decides a training run, and the presets."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

from opendimo.model.config import DiMoConfig
from opendimo.model.encoder.config import ENCODERS
from opendimo.training.stages import Schedule, three_stages

OptimizerName = Literal["adamw", "muon"]
"""AdamW for all parameters, or Muon for the matrices of transformer layers (`optimizer.py`)."""


@dataclass(frozen=True)
class FollowPolicy:
    """When to check whether the driver is followed, and what is too little.

    Every `every` steps, on `pairs` pairs of each kind. From step `from_step` on a warning is given where the gap is
    below `least_gap`.
    """

    every: int
    pairs: int = 16
    least_gap: float = 0.05
    from_step: int = 1000


@dataclass(frozen=True)
class TrainConfig:
    """A training run. `base` is the pretrained model, a folder in the diffusers layout or ORG/NAME of the hub,
    `init_encoder` weights for the motion encoder, and `init_model` a folder with a trained 3DiMo to start from; where
    they lie may change between resumes, everything else may not.
    `shift`: of the noise levels, None: that of the base model's scheduler.
    `optimizer`: AdamW, or Muon for the matrices of transformer layers; `betas` are AdamW's.
    `joints_weight`: of the places of joints, in metres, within the geometric loss [ours].
    `reference_share`: of the samples whose reference shows another moment of the clip (mode `prefix` only) [ours].
    `follow`: when to check that the driver is followed."""

    preset: str
    base: str
    model: DiMoConfig
    schedule: Schedule
    batch_size: int
    shift: float | None
    checkpoint_every: int
    follow: FollowPolicy
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
    gradient_checkpointing: bool = False

    def identity(self) -> dict[str, Any]:
        """Everything that must be the same on resume, JSON-able; of weights that it starts from just their names."""
        names = {
            name: None if place is None else Path(place).name
            for name, place in (("init_encoder", self.init_encoder), ("init_model", self.init_model))
        }
        return {name: value for name, value in asdict(self).items() if name != "base"} | names

    def from_trained(self, folder: str | Path) -> Self:
        """Return the same run, started from the 3DiMo in `folder`: all of it is trained from the first step on."""
        schedule = replace(self.schedule, encoder_steps=0.0, reading_steps=0.0)
        return replace(self, init_model=str(folder), schedule=schedule)


def preset(name: str, base: str | Path, encoder: str | None = None) -> TrainConfig:
    """`tiny` (a laptop, about a minute) or one of `FULL_SIZE` (the paper's numbers), with the motion encoder `encoder`
    of `ENCODERS` (None: tiny, or base at full size). Raises `ValueError` for an unknown name."""
    if encoder is not None and encoder not in ENCODERS:
        raise ValueError(f"no encoder {encoder!r}: there are {', '.join(ENCODERS)}")
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
            gradient_checkpointing=True,
        )
    else:
        raise ValueError(f"no preset {name!r}: there are tiny, {', '.join(FULL_SIZE)}")
    return config if encoder is None else replace(config, model=replace(config.model, encoder=ENCODERS[encoder]))


FULL_SIZE = ("wan2.2-ti2v-5b", "hunyuanvideo-1.5")
