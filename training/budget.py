"""What a preset costs before anything is bought: parameters, FLOPs of a step and memory.

No weights are needed: the real classes are built on torch's meta device, run there with one and with two blocks, and
extended to all blocks, which are alike.
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from opendimo.model.backbones.hunyuan import HunyuanMotionTransformer3DModel
from opendimo.model.backbones.interface import Generator
from opendimo.model.backbones.wan import WanMotionTransformer3DModel
from opendimo.model.batch import Driving
from opendimo.model.config import DiMoConfig
from opendimo.model.dimo import DiMo, generator_settings
from opendimo.model.latent_geometry import LatentGeometry
from opendimo.model.signal import Signal
from opendimo.model.vae import Strides
from opendimo.training.config import TrainConfig
from opendimo.training.counting import HALF, Counted, counted

TRAINED_BYTES = 16
"""A parameter in float32, its gradient and the two moments of Adam."""
TEXT_TOKENS = 128


@dataclass(frozen=True)
class FullSize:
    """A family of base models at its published size, and the video it is trained on: frames, height, width."""

    transformer: type[Generator]
    geometry: LatentGeometry
    channels: int
    text_dim: int
    video: tuple[int, int, int]


FULL_SIZE = {
    "wan2.2-ti2v-5b": FullSize(
        WanMotionTransformer3DModel, LatentGeometry(Strides(4, 16), patch=2), 48, 4096, (121, 480, 832)
    ),
    "hunyuanvideo-1.5": FullSize(
        HunyuanMotionTransformer3DModel, LatentGeometry(Strides(4, 16), patch=1), 32, 3584, (121, 480, 848)
    ),
}


@dataclass(frozen=True)
class Budget:
    """Parameters by part; `tokens` of a sample, the reference's included; floating-point operations of a training step
    of one sample (forward and backward, recomputation not counted) of the base model alone and of everything, None for
    controls that draw, whose cost depends on what there is to draw;
    `block_bytes` of a block in bfloat16; `activation_bytes` of one sample with every block checkpointed."""

    preset: str
    variant: str
    video: tuple[int, int, int]
    base: int
    motion: int
    control: int
    head: int
    tokens: int
    base_flops: float
    flops: float | None
    block_bytes: int
    activation_bytes: int

    @property
    def parameters(self) -> int:
        """Of all parts."""
        return self.base + self.motion + self.control + self.head

    def memory(self, gpus: int, samples: int = 1) -> float:
        """Bytes on each of `gpus` that share the state of training (fully sharded), with `samples` on each at a time;
        two blocks are gathered at once, one at work and one on its way."""
        gathered = 2 * self.block_bytes if gpus > 1 else 0
        return TRAINED_BYTES * self.parameters / gpus + gathered + samples * self.activation_bytes


def budget(config: TrainConfig) -> Budget:
    """Of a full-size preset, in any variant. Raises `ValueError` for a preset that has no full size."""
    if config.preset not in FULL_SIZE:
        raise ValueError(f"no budget for preset {config.preset!r}: there are {', '.join(FULL_SIZE)}")
    size = FULL_SIZE[config.preset]
    with torch.device("meta"):
        dimo = DiMo.around(_generator(size, config.model), config.model)
        latents = torch.empty(1, size.channels, *size.geometry.latent_shape(*size.video))
        present, grid = torch.ones(1, dtype=torch.bool), dimo.transformer.grid(latents)
        encoder = config.model.encoder
        driving = Driving.zeros(1, size.video[0], encoder.body_size, encoder.hand_size)
        layers = dimo.transformer.config["num_layers"]
        base = _extended(size, config.model, layers, latents, None)
        if dimo.control.draws:
            full, flops = base, None
        else:
            control = dimo.control.eval()  # in training a quantiser looks at values, and there are none here
            full = _extended(size, config.model, layers, latents, control(driving, present, grid))
            flops = 3.0 * (full.flops + counted(control, lambda: control(driving, present, grid)).flops)
    [block] = {
        type(b): b for b in dimo.transformer.modules() if type(b).__name__ in dimo.transformer._repeated_blocks
    }.values()
    tokens = (grid.frames + 1) * grid.height * grid.width
    motion = sum(p.numel() for name, p in dimo.transformer.named_parameters() if "motion" in name)
    return Budget(
        preset=config.preset,
        variant=config.variant,
        video=size.video,
        base=_count(dimo.transformer) - motion,
        motion=motion,
        control=_count(dimo.control),
        head=0 if dimo.geometry is None else _count(dimo.geometry),
        tokens=tokens,
        base_flops=3.0 * base.flops,
        flops=flops,
        block_bytes=HALF * _count(block),
        # checkpointing keeps the input of every block, and all of the one whose gradient is computed
        activation_bytes=layers * HALF * tokens * grid.dim + full.kept,
    )


def _extended(size: FullSize, config: DiMoConfig, layers: int, latents: Tensor, signal: Signal | None) -> Counted:
    """Operations of a generator of so many blocks, and what one block keeps."""
    counts = []
    text, text_ok = (
        torch.empty(1, TEXT_TOKENS, size.text_dim),
        torch.ones(1, TEXT_TOKENS, dtype=torch.bool, device="cpu"),
    )
    for few in (1, 2):
        generator = _generator(size, config, num_layers=few)
        arguments = latents, torch.empty(1), text, text_ok, signal, latents[:, :, :1]
        counts.append(counted(generator, partial(generator, *arguments)))
    one, two = counts
    return Counted(one.flops + (layers - 1) * (two.flops - one.flops), two.kept - one.kept)


def _generator(size: FullSize, config: DiMoConfig, **changes: int) -> Generator:
    return size.transformer(**generator_settings(config) | changes)


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
