"""`dimo plan train`: estimate the cost of a full-size training run without weights, data or a GPU."""

from dataclasses import replace
from typing import Annotated

import typer

from opendimo.dags.options import Assignments, ConfigFile, Encoder, Json, Variant
from opendimo.training.config import PresetName

DEFAULT_GPUS = [1, 8]


def train(
    preset: Annotated[PresetName, typer.Option(help="Preset of full size.")] = "wan2.2-ti2v-5b",
    variant: Variant = "full",
    encoder: Encoder = None,
    config: ConfigFile = None,
    assignments: Assignments = None,
    gpus: Annotated[
        list[int], typer.Option(min=1, help="Number of GPUs that the training state is sharded over. Repeatable.")
    ] = DEFAULT_GPUS,
    samples: Annotated[int, typer.Option(min=1, help="Batch size per GPU.")] = 1,
    gpu_gib: Annotated[float, typer.Option(min=1, help="Memory of one GPU, in GiB.")] = 80.0,
    tflops: Annotated[float, typer.Option(min=1, help="Assumed sustained throughput of one GPU, in TFLOP/s.")] = 250.0,
    json_: Json = False,
) -> None:
    """Estimate parameters, FLOPs, memory and time of a full-size training run.

    Counts are taken from the real model classes without weights. The time is computed from --tflops; nothing is
    benchmarked. For GPUs that are too small (--gpu-gib) it shows the nearest set-up that fits. `dimo train` refuses
    what does not fit, too.

    Example: dimo plan train --preset hunyuanvideo-1.5 --gpus 8 --gpus 64
    """
    from opendimo.dags.show import as_json, duration, table
    from opendimo.training.budget import budget
    from opendimo.training.fitting import GIB, fit
    from opendimo.training.recipe import Recipe

    file = str(config) if config else None
    run = Recipe(preset, preset, variant, encoder, file, tuple(assignments or ())).config()
    cost = budget(run)
    run = replace(run, micro_batch=samples)
    fits = {n: fit(run, n, gpu_gib * GIB, cost) for n in gpus}
    memory = {n: found.needed for n, found in fits.items()}
    flops = cost.flops and cost.flops * run.batch_size * run.schedule.steps
    seconds = {n: flops and flops / (n * tflops * 1e12) for n in gpus}
    if json_:
        numbers = {"parameters": cost.parameters, "activation_bytes": cost.activation_bytes, "memory": memory}
        advice = {n: {"fits": found.fits, "nearest": found.nearest} for n, found in fits.items()}
        activations = {str(choice).lower(): count for choice, count in cost.activations.items()}
        return as_json(vars(cost) | numbers | {"activations": activations, "seconds": seconds, "fit": advice})
    frames, height, width = cost.video
    frozen = ", frozen" if cost.frozen else ""
    parts = [(f"base model{frozen}", cost.base), ("motion attention", cost.motion), ("control", cost.control)]
    if cost.adapters:
        parts.append(("adapters", cost.adapters))
    rows = [(name, f"{count / 1e9:.3f} B") for name, count in [*parts, ("geometry head", cost.head)]]
    table(
        f"{preset}, {variant}: parameters", ("part", "parameters"), [*rows, ("total", f"{cost.parameters / 1e9:.3f} B")]
    )
    base_pflop, total_pflop = (None if x is None else f"{x / 1e15:.3f}" for x in (cost.base_flops, cost.flops))
    table(
        f"Training step of one sample: {frames} frames of {height} x {width}, {cost.tokens} tokens with the reference",
        ("PFLOP, base model", "PFLOP, total"),
        [(base_pflop, total_pflop or "depends on the drawn controls")],
    )
    chosen = cost.checkpointing
    table(
        "Activations of one sample",
        ("gradient_checkpointing", "GiB"),
        [
            (f"{str(choice).lower()}{' (chosen)' if choice == chosen else ''}", f"{count / GIB:.1f}")
            for choice, count in cost.activations.items()
        ],
    )
    return table(
        f"{run.schedule.steps} steps, batch size {run.batch_size}, {samples} per GPU, {tflops:g} TFLOP/s per GPU",
        ("GPUs", "GiB per GPU", "time", f"fits into {gpu_gib:g} GiB"),
        [
            (n, f"{memory[n] / GIB:.0f}", duration(seconds[n]), "yes" if fits[n].fits else _no(fits[n].nearest))
            for n in gpus
        ],
    )


def _no(nearest: str | None) -> str:
    return f"no; the nearest that does: {nearest}" if nearest else "no, nor any smaller set-up"
