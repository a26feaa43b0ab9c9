"""What is measured at the start and the end of each stage, with nothing random left.

The loss of a step is mostly the luck of its sigma and noise; these are the same pairs, sigmas and noise every time.
"""

from dataclasses import replace

import torch

from model.dimo import Batch, DiMo
from training.config import TrainConfig
from training.data import TrainingData
from training.objective import Conditions, training_loss
from training.precision import computing
from training.stages import StagePoint

PROBE_BATCHES = 2
PROBE_SEED = 20_260_203


def probe(
    model: DiMo,
    data: TrainingData,
    held_out: TrainingData,
    point: StagePoint,
    config: TrainConfig,
) -> dict[str, float | None]:
    """`fixed_loss` on training pairs of the stage's kinds, `test_loss` on held-out ones (None where there are none),
    `leak_gap`: how much worse the loss gets when drivers are shuffled. A gap of about 0 means that the driver is
    ignored; a large one before any training means that the answer leaks through it."""
    true, shuffled = _loss(model, data, point, config)
    try:
        held_out.mix(point)
    except ValueError:  # no test pairs of these kinds
        test = None
    else:
        test, _ = _loss(model, held_out, point, config)
    return {"fixed_loss": true, "test_loss": test, "leak_gap": shuffled - true}


def _loss(model: DiMo, data: TrainingData, point: StagePoint, config: TrainConfig) -> tuple[float, float]:
    """Mean flow loss with the true and with a shuffled driver."""
    device = next(model.parameters()).device
    model.eval()
    sums = [0.0, 0.0]
    pairs = data.fixed_of_stage(point, PROBE_BATCHES * config.batch_size, PROBE_SEED)
    for index in range(PROBE_BATCHES):
        batch = data.batch(pairs[index::PROBE_BATCHES]).to(device)
        generator = torch.Generator().manual_seed(PROBE_SEED + index)
        n = len(batch.target)
        nothing = torch.zeros(n, dtype=torch.bool, device=device)
        conditions = Conditions(
            ((torch.arange(n) + 0.5) / n).to(device),
            torch.randn(batch.target.shape, generator=generator).to(device),
            nothing,
            nothing,
            None,
        )
        for i, seen in enumerate((batch, _with_other_drivers(batch))):
            sums[i] += sum(_sample_loss(model, seen, conditions, k, config.bf16) for k in range(n)) / n
    model.train()
    return sums[0] / PROBE_BATCHES, sums[1] / PROBE_BATCHES


def _sample_loss(model: DiMo, batch: Batch, conditions: Conditions, k: int, bf16: bool) -> float:
    """Flow loss of sample k by itself: all at once, without checkpoints, would take more memory than training."""
    only = slice(k, k + 1)
    one = replace(
        conditions,
        sigma=conditions.sigma[only],
        noise=conditions.noise[only],
        drop_text=conditions.drop_text[only],
        drop_motion=conditions.drop_motion[only],
    )
    with torch.inference_mode(), computing(batch.target.device, bf16):
        return float(training_loss(model, batch.map(lambda x: x[only]), one, 0, 0).flow)


def _with_other_drivers(batch: Batch) -> Batch:
    """Each sample gets the driver of the next one."""
    others = batch.driving.map(lambda x: x.roll(1, dims=0))
    return replace(batch, driving=others, same_view=torch.zeros_like(batch.same_view))
