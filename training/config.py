"""What decides a training run, and the presets."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from model.dimo import DiMoConfig
from training.stages import Schedule, three_stages


@dataclass(frozen=True)
class TrainConfig:
    """A training run. `base` is the pretrained model, a folder in the diffusers layout; where it lies may change
    between resumes, everything else may not."""

    preset: str
    base: str
    model: DiMoConfig
    schedule: Schedule
    batch_size: int
    shift: float
    checkpoint_every: int
    seed: int = 0
    grad_clip: float = 1.0
    weight_decay: float = 0.0
    bf16: bool = False
    gradient_checkpointing: bool = False

    def identity(self) -> dict[str, Any]:
        """Everything that must be the same on resume, JSON-able."""
        return {name: value for name, value in asdict(self).items() if name != "base"}


def preset(name: str, base: str | Path) -> TrainConfig:
    """`tiny` (a laptop, about a minute) or `wan2.2-ti2v-5b` (the paper's numbers). Raises `ValueError` otherwise."""
    match name:
        case "tiny":
            return TrainConfig(
                name,
                str(base),
                DiMoConfig.tiny(),
                three_stages((90, 90, 60), lr=3e-3),
                batch_size=4,
                shift=1.0,
                checkpoint_every=30,
            )
        case "wan2.2-ti2v-5b":
            return TrainConfig(
                name,
                str(base),
                DiMoConfig(),
                three_stages((10_000, 15_000, 5_000), lr=1e-5),
                batch_size=64,
                shift=5.0,
                checkpoint_every=500,
                bf16=True,
                gradient_checkpointing=True,
            )
        case _:
            raise ValueError(f"no preset {name!r}: there are tiny and wan2.2-ti2v-5b")
