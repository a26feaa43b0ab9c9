"""Sample videos during training: the same held-out pairs each time, as OUT/samples/step-N.mp4.

Each row of the video is a pair: driver, generated clip, and truth (the target's view of the driving motion).
"""

import logging
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from opendimo.model.base_folder import base_folder
from opendimo.model.batch import Batch
from opendimo.model.dimo import DiMo
from opendimo.model.flow import TIMESTEPS, shifted
from opendimo.model.sampling import MOTION_GUIDANCE
from opendimo.model.signal import Signal
from opendimo.model.vae import decode, load_vae
from opendimo.storage_schemas.media.video import encode
from opendimo.training.config import TrainConfig
from opendimo.training.data import TrainingData
from opendimo.training.driver_check import SEED
from opendimo.training.evaluation.cases import spread, window_cases
from opendimo.training.evaluation.known import Known
from opendimo.training.full_disk import is_full
from opendimo.training.precision import computing
from opendimo.training.release import Pairs

logger = logging.getLogger(__name__)


class Samples:
    """The sample videos of one run; of held-out pairs if there are any, else of training pairs."""

    def __init__(self, train: TrainingData, held_out: TrainingData, config: TrainConfig, shift: float) -> None:
        """`shift`: of noise levels."""
        self._data = held_out if len(held_out.pairs) else train
        self._config, self._shift = config, shift
        self._pairs = spread(_of_largest_bucket(self._data.pairs), config.samples.clips)
        self._cases = window_cases(Known(self._data.release), self._pairs)

    def write(self, model: DiMo, file: Path | None) -> bool:
        """Generate the clips, and write the video unless `file` is None; every process of a run has to call it.

        Returns whether it was written: not if the disk is full.
        """
        policy, device = self._config.samples, next(model.parameters()).device
        batch = self._data.batch(self._pairs, self._data.other_moments(self._pairs, SEED)).to(device)
        model.eval()
        with torch.no_grad(), computing(device, self._config.bf16):
            latents = sample(model, batch, self._shift, MOTION_GUIDANCE, policy.steps)
        model.train()
        if file is None:
            return False
        known, vae = Known(self._data.release), load_vae(base_folder(self._config.base))
        vae.to(device)  # type: ignore[arg-type]
        with torch.no_grad():
            clips = (255 * decode(vae, latents.float()).clamp(0, 1)).round().byte().permute(0, 2, 3, 4, 1).cpu().numpy()
        rows = [
            np.concatenate([known.frames(case.driver), clip, known.frames(case.target)], axis=2)  # [T, H, 3 W, 3]
            for case, clip in zip(self._cases, clips, strict=True)
        ]
        part = file.with_name(f".{file.name}.part")
        try:
            file.parent.mkdir(exist_ok=True)
            part.write_bytes(encode(np.concatenate(rows, axis=1), self._cases[0].fps))
            part.replace(file)
        except OSError as error:
            part.unlink(missing_ok=True)
            if not is_full(error):
                raise
            logger.warning("%s is not written: the disk is full", file)
            return False
        return True


def _of_largest_bucket(pairs: Pairs) -> Pairs:
    """Return the pairs of the bucket with the most pairs, so that their clips fit in one video."""
    codes = pairs.codes("bucket")
    return pairs.where(codes == np.bincount(codes).argmax()) if len(codes) else pairs


def sample(model: DiMo, batch: Batch, shift: float, guidance: float, steps: int) -> Tensor:
    """Sample latents [B, C, L, h, w] by Euler steps from fixed noise.

    `shift`: of noise levels. `guidance`: classifier-free guidance scale for the motion; 1 disables it, 0 ignores the
    driver.
    """
    device = batch.target.device
    noise = torch.randn(batch.target.shape, generator=torch.Generator().manual_seed(SEED)).to(device)
    grid = model.transformer.grid(noise)
    signals: list[tuple[float, Signal]] = [
        (weight, model.control(batch.driving, torch.full((len(noise),), present, device=device), grid))
        for weight, present in ((guidance, True), (1 - guidance, False))
        if weight
    ]
    latents = noise
    for sigma, next_sigma in pairwise(shifted(torch.linspace(1, 0, steps + 1), shift).tolist()):
        timestep = torch.full((len(noise),), sigma * TIMESTEPS, device=device)
        velocity = sum(
            weight * model.transformer(latents, timestep, batch.text, batch.text_ok, signal, batch.reference).sample
            for weight, signal in signals
        )
        latents = latents + (next_sigma - sigma) * velocity
    if model.transformer.first_frame_is_given:
        latents = torch.cat([batch.reference, latents[:, :, 1:]], dim=2)
    return latents
