"""A training step of 3DiMo against the plain backbone on the same tokens: time, memory, and FLOPs that explain them.

Three sides: the plain backbone; the same with motion attention, tokens given; all of 3DiMo with encoder and head.
On a GPU: the shape of Wan2.2-TI2V-5B at 121 frames in bfloat16 with random weights, and the model FLOPs utilisation.
"""

import argparse
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from diffusers import WanTransformer3DModel
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from opendimo.model.backbones.wan import WanMotionTransformer3DModel
from opendimo.model.batch import Batch, Driving
from opendimo.model.dimo import DiMo, DiMoConfig
from opendimo.model.encoder.config import ENCODERS, EncoderConfig
from opendimo.model.signal import MotionTokens, Signal

SIDES = ("plain backbone", "with motion attention", "all of 3DiMo")
PEAK = {"H100": 989e12, "H200": 989e12}
"""Dense bfloat16 FLOPs a second by the vendor's data sheet."""


@dataclass(frozen=True)
class Size:
    """A backbone (arguments of the Wan class), an encoder, and the video: samples, frames and latents [L, h, w]."""

    backbone: dict[str, int]
    encoder: EncoderConfig
    samples: int
    latents: tuple[int, int, int]

    @property
    def frames(self) -> int:
        """Of the video."""
        return 4 * (self.latents[0] - 1) + 1


SMALL = {
    "num_attention_heads": 6, "attention_head_dim": 64, "ffn_dim": 1536, "num_layers": 8, "text_dim": 64,
}  # fmt: skip
SIZES = {
    "small": Size(SMALL, ENCODERS["tiny"], 1, (8, 24, 24)),
    "ti2v-5b": Size({}, ENCODERS["base"], 1, (31, 30, 52)),
}


def main() -> None:
    """All sides in turn, each in a process of its own, so that each has its own peak of memory."""
    cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.motion", description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="ti2v-5b" if cuda else "small")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile", action="store_true", help="torch.compile of the repeated block")
    chosen = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    measured: dict[str, list[tuple[float, float, float]]] = {side: [] for side in SIDES}
    for _ in range(1 if cuda else chosen.rounds):  # on a GPU one process measures many steps
        for side in SIDES:
            with spawn.Pool(1) as pool:
                steps = chosen.rounds if cuda else 1
                measured[side] += pool.apply(measure, (chosen.size, side, steps, chosen.compile))
    show(chosen.size, measured)


def measure(size: str, side: str, steps: int, compiled: bool) -> list[tuple[float, float, float]]:
    """Seconds, peak bytes and FLOPs of `steps` training steps (forward and backward), after one to warm up."""
    cuda = torch.cuda.is_available()
    step, flops = build(SIZES[size], side, torch.device("cuda" if cuda else "cpu"), compiled)
    step()
    found = []
    for _ in range(steps):
        started = time.perf_counter()
        step()
        if cuda:
            torch.cuda.synchronize()
        seconds = time.perf_counter() - started
        peak = torch.cuda.max_memory_allocated() if cuda else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found.append((seconds, float(peak), flops))
    return found


def build(size: Size, side: str, device: torch.device, compiled: bool) -> tuple[Callable[[], None], float]:
    """A training step of one side, and its FLOPs (counted on the meta device, recomputation not counted)."""

    def made(on: torch.device) -> Callable[[], None]:
        with on:
            return _step(size, side, on, compiled and on.type != "meta")

    counted = made(torch.device("meta"))
    with FlopCounterMode(display=False) as counter:
        counted()
    torch.manual_seed(0)
    return made(device), float(counter.get_total_flops())


def _step(size: Size, side: str, device: torch.device, compiled: bool) -> Callable[[], None]:
    large = device.type == "cuda"
    dtype = torch.bfloat16 if large else torch.float32
    batch = random_batch(size).map(lambda x: x.to(dtype) if x.is_floating_point() else x)
    samples = len(batch.target)
    noise, sigma = torch.randn_like(batch.target), torch.full((samples,), 0.5)
    keep = torch.zeros(samples, dtype=torch.bool)
    if side == "plain backbone":
        model: torch.nn.Module = WanTransformer3DModel(in_channels=48, out_channels=48, **(TI2V | size.backbone))
        first = torch.cat([batch.reference, batch.target], dim=2)
        clean = torch.zeros(samples, first[0, 0, :1, ::2, ::2].numel())
        per_token = torch.cat([clean, torch.full((samples, batch.target[0, 0, :, ::2, ::2].numel()), 500.0)], dim=1)

        def forward() -> Tensor:
            text = torch.nn.functional.pad(batch.text, (0, 0, 0, 512 - batch.text.shape[1]))
            return model(first, per_token, text, return_dict=False)[0]  # type: ignore[no-any-return]

    else:
        transformer = WanMotionTransformer3DModel(motion_dim=size.encoder.dim, **size.backbone)
        if side == "with motion attention":
            model = transformer
            tokens = torch.randn(samples, size.frames, 15, size.encoder.dim, dtype=dtype)
            signal = Signal(motion=MotionTokens(tokens, ~keep))

            def forward() -> Tensor:
                return transformer(  # type: ignore[no-any-return]
                    batch.target, 1000 * sigma, batch.text, batch.text_ok, signal, batch.reference
                ).sample

        else:
            dimo = DiMo.around(transformer, replace(DiMoConfig(), encoder=size.encoder))
            model = dimo

            def forward() -> Tensor:
                said = dimo(batch, sigma=sigma, noise=noise, drop_motion=keep, augment_seeds=None)
                return said.velocity + 0 * dimo.poses(said.features)[0].mean()

    model.to(dtype).train()
    for part in model.modules():
        if large and getattr(part, "_supports_gradient_checkpointing", False):
            part.enable_gradient_checkpointing()
        if compiled and getattr(part, "_repeated_blocks", None):
            part.compile_repeated_blocks(fullgraph=True)

    def step() -> None:
        model.zero_grad(set_to_none=True)
        forward().float().square().mean().backward()

    return step


TI2V = {
    "patch_size": (1, 2, 2), "num_attention_heads": 24, "attention_head_dim": 128, "text_dim": 4096, "ffn_dim": 14336,
    "num_layers": 30,
}  # fmt: skip


def random_batch(size: Size) -> Batch:
    """Random numbers in the shapes of a size."""
    n, t, e = size.samples, size.frames, size.encoder
    target = torch.randn(n, 48, *size.latents)
    driving = Driving(
        body=torch.rand(n, t, 3, e.body_size, e.body_size),
        hands=torch.rand(n, t, 2, 3, e.hand_size, e.hand_size),
        hand_ok=torch.ones(n, t, 2, dtype=torch.bool),
        hand_boxes=torch.rand(n, t, 2, 3),
        body6d=torch.randn(n, t, 21, 6),
        hands6d=torch.randn(n, t, 2, 15, 6),
        joints_3d=torch.randn(n, t, 52, 3),
        joints_2d=torch.rand(n, t, 52, 3),
        landmarks_2d=torch.rand(n, t, 52, 3),
        K=torch.eye(3).expand(n, t, 3, 3),
        target_from_driver=torch.eye(3, 4).expand(n, t, 3, 4),
        target_K=torch.eye(3).expand(n, t, 3, 3),
        target_ok=torch.ones(n, t, dtype=torch.bool),
        pose_ok=torch.ones(n, t, dtype=torch.bool),
        hands_pose_ok=torch.ones(n, t, 2, dtype=torch.bool),
    )
    text_dim = size.backbone.get("text_dim", 4096)
    return Batch(
        target=target,
        reference=target[:, :, :1],
        text=torch.randn(n, 64, text_dim),
        text_ok=torch.ones(n, 64, dtype=torch.bool),
        weight=torch.ones(n),
        same_view=torch.ones(n, dtype=torch.bool),
        driving=driving,
    )


def show(size: str, measured: dict[str, list[tuple[float, float, float]]]) -> None:
    """A row a side; ratios are taken round by round."""
    plain = measured[SIDES[0]]
    table = Table("side", "s/step, median", "min - max", "/ plain", "FLOPs / plain", "peak GiB", "MFU", title=size)
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    peak_flops = next((flops for part, flops in PEAK.items() if part in name), None)
    for side, rounds in measured.items():
        seconds, peaks, flops = zip(*rounds, strict=True)
        ratio = statistics.median(a[0] / b[0] for a, b in zip(rounds, plain, strict=True))
        middle = statistics.median(seconds)
        table.add_row(
            side,
            f"{middle:.3f}",
            f"{min(seconds):.3f} - {max(seconds):.3f}",
            f"{ratio:.3f}",
            f"{flops[0] / plain[0][2]:.3f}",
            f"{max(peaks) / 2**30:.2f}",
            f"{flops[0] / middle / peak_flops:.1%}" if peak_flops else "-",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
