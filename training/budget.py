"""Estimate parameters, FLOPs per step and memory of a full-size preset, without weights or a GPU.

The real model classes are built and run on torch's meta device, with one and with two blocks; the result is
extrapolated to all blocks, which are identical.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from opendimo.model.adapters import adapted_layers
from opendimo.model.backbones.hunyuan import HunyuanMotionTransformer3DModel
from opendimo.model.backbones.interface import Generator
from opendimo.model.backbones.wan import WanMotionTransformer3DModel
from opendimo.model.batch import Driving
from opendimo.model.config import DiMoConfig
from opendimo.model.dimo import DiMo, generator_settings
from opendimo.model.latent_geometry import LatentGeometry
from opendimo.model.signal import Signal
from opendimo.model.vae import Strides
from opendimo.training.config import Checkpointing, TrainConfig
from opendimo.training.counting import HALF, Counted, counted

TRAINED_BYTES = 16
"""Bytes per trained parameter: float32 weight, gradient and the two moments of Adam."""
SMALLER_MOMENTS, AVERAGE = -6, 4
"""Bytes per trained parameter that 8-bit moments save and a moving average needs."""
TEXT_TOKENS = 128


@dataclass(frozen=True)
class FullSize:
    """A base model at its published size; `video`: (frames, height, width) that the preset trains on."""

    transformer: type[Generator]
    geometry: LatentGeometry
    channels: int
    text_dim: int
    video: tuple[int, int, int]
    settings: Mapping[str, int] = field(default_factory=dict)
    """Arguments of the transformer that are not its published ones."""


_TI2V_5B = FullSize(WanMotionTransformer3DModel, LatentGeometry(Strides(4, 16), patch=2), 48, 4096, (121, 480, 832))
FULL_SIZE = {
    "lite": _TI2V_5B,
    "wan2.2-ti2v-5b": _TI2V_5B,
    "hunyuanvideo-1.5": FullSize(
        HunyuanMotionTransformer3DModel, LatentGeometry(Strides(4, 16), patch=1), 32, 3584, (121, 480, 848)
    ),
}


@dataclass(frozen=True)
class Budget:
    """Estimated cost of training a preset.

    `base`, `adapters`, `motion`, `control`, `head`: parameters of each part; with adapters, the base is frozen.
    `tokens`: tokens of a sample, including those of the reference. `base_flops`, `flops`: FLOPs of a training step of
    one sample (forward and backward, recomputation not counted) of the base model alone and of the whole model; `flops`
    is None for controls that draw, whose cost depends on the drawing. `block_bytes`: a transformer block in bfloat16.
    `activations`: bytes that one sample needs, by choice of `gradient_checkpointing`; `checkpointing`: the choice.
    `trained_bytes`: per trained parameter.
    """

    preset: str
    variant: str
    video: tuple[int, int, int]
    base: int
    adapters: int
    motion: int
    control: int
    head: int
    tokens: int
    base_flops: float
    flops: float | None
    block_bytes: int
    activations: dict[Checkpointing | None, int]
    checkpointing: Checkpointing | None
    trained_bytes: int

    @property
    def activation_bytes(self) -> int:
        """Return the bytes of activations of one sample."""
        return self.activations[self.checkpointing]

    @property
    def parameters(self) -> int:
        """Return the number of parameters of all parts."""
        return self.base + self.adapters + self.motion + self.control + self.head

    @property
    def frozen(self) -> int:
        """Return the number of parameters that are not trained."""
        return self.base if self.adapters else 0

    def memory(self, gpus: int, samples: int = 1, shard_size: int | None = None) -> float:
        """Return the bytes on each of `gpus`, with `samples` per GPU at a time and the state sharded over `shard_size`.

        `shard_size`: None: all GPUs. With several GPUs two blocks are gathered at once: the one being computed and the
        one being prefetched. Frozen weights are in bfloat16 on a single GPU, otherwise in float32.
        """
        gathered = 2 * self.block_bytes if gpus > 1 else 0
        frozen = (2 * HALF if gpus > 1 else HALF) * self.frozen
        state = self.trained_bytes * (self.parameters - self.frozen) + frozen
        return state / (shard_size or gpus) + gathered + samples * self.activation_bytes


def budget(config: TrainConfig) -> Budget:
    """Estimate the cost of a full-size preset, in any variant. Raises `ValueError` for other presets."""
    if config.preset not in FULL_SIZE:
        raise ValueError(f"no budget for preset {config.preset!r}: choose one of {', '.join(FULL_SIZE)}")
    return estimated(FULL_SIZE[config.preset], config)


def estimated(size: FullSize, config: TrainConfig) -> Budget:
    """Estimate the cost of training a base model of some size."""
    with torch.device("meta"):
        dimo = DiMo.around(_generator(size, config.model), config.model)
        latents = torch.empty(1, size.channels, *size.geometry.latent_shape(*size.video))
        present, grid = torch.ones(1, dtype=torch.bool), dimo.transformer.grid(latents)
        encoder = config.model.encoder
        driving = Driving.zeros(1, size.video[0], encoder.body_size, encoder.hand_size)
        layers = dimo.transformer.config["num_layers"]
        passes = 3.0 if config.lora_rank is None else 2.0  # frozen weights need no gradients
        base = _extrapolate(size, config.model, layers, latents, None)
        if dimo.control.draws:
            full, flops = base, None
        else:
            control = dimo.control.eval()  # a quantiser in training mode reads values, which meta tensors lack
            full = _extrapolate(size, config.model, layers, latents, control(driving, present, grid))
            flops = passes * full.flops + 3.0 * (counted(control, lambda: control(driving, present, grid)).flops)
    [block] = {
        type(b): b for b in dimo.transformer.modules() if type(b).__name__ in dimo.transformer._repeated_blocks
    }.values()
    adapted = adapted_layers(dimo.transformer)
    tokens = (grid.frames + 1) * grid.height * grid.width
    inputs = HALF * tokens * grid.dim
    motion = sum(p.numel() for name, p in dimo.transformer.named_parameters() if "motion" in name)
    return Budget(
        preset=config.preset,
        variant=config.variant,
        video=size.video,
        base=_count(dimo.transformer) - motion,
        adapters=(config.lora_rank or 0) * sum(x.in_features + x.out_features for x in adapted.values()),
        motion=motion,
        control=_count(dimo.control),
        head=0 if dimo.geometry is None else _count(dimo.geometry),
        tokens=tokens,
        base_flops=passes * base.flops,
        flops=flops,
        block_bytes=HALF * _count(block),
        activations={
            None: layers * full.kept,
            # the input of every block, and all activations of the block in the backward pass
            "full": layers * inputs + full.kept,
            "selective": layers * (inputs + full.products) + full.kept,
        },
        checkpointing=config.gradient_checkpointing,
        trained_bytes=TRAINED_BYTES
        + (SMALLER_MOMENTS if config.optimizer == "adamw8bit" else 0)
        + (0 if config.ema_decay is None else AVERAGE),
    )


def _extrapolate(size: FullSize, config: DiMoConfig, layers: int, latents: Tensor, signal: Signal | None) -> Counted:
    """Return the FLOPs of a generator of `layers` blocks, and the bytes that one block saves for the backward pass."""
    counts = []
    text, text_ok = (
        torch.empty(1, TEXT_TOKENS, size.text_dim),
        torch.ones(1, TEXT_TOKENS, dtype=torch.bool, device="cpu"),
    )
    for blocks in (1, 2):
        generator = _generator(size, config, num_layers=blocks)
        arguments = latents, torch.empty(1), text, text_ok, signal, latents[:, :, :1]
        counts.append(counted(generator, partial(generator, *arguments)))
    one, two = counts
    flops = one.flops + (layers - 1) * (two.flops - one.flops)
    return Counted(flops, two.kept - one.kept, two.products - one.products)


def _generator(size: FullSize, config: DiMoConfig, **changes: int) -> Generator:
    return size.transformer(**generator_settings(config) | {**size.settings, **changes})


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
