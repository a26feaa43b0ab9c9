"""A tiny base, models on it and batches for it, shared by the tests of the model."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from model.dimo import Batch, DiMo, DiMoConfig, Driving
from model.tiny import LATENT_CHANNELS, TEXT_DIM, make_tiny_base


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def make_dimo(tiny_base: Path) -> Callable[..., DiMo]:
    """A model on the tiny base; `trained` moves the zero-initialised projections, so that motion has an effect."""

    def make(*, trained: bool = False, **changes: Any) -> DiMo:
        torch.manual_seed(1)
        dimo = DiMo.from_base(tiny_base, replace(DiMoConfig.tiny(), **changes))
        with torch.no_grad():
            for block in dimo.transformer.blocks:
                if trained:
                    block.motion.to_out.weight.normal_(std=0.3)
        return dimo

    return make


@pytest.fixture(scope="session")
def make_batch() -> Callable[..., Batch]:
    """Random samples of nine frames of 64 x 64 pixels, three latent frames."""

    def make(samples: int = 2, seed: int = 0) -> Batch:
        g = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> torch.Tensor:
            return torch.randn(samples, *shape, generator=g)

        driving = Driving(
            body=normal(9, 3, 64, 64).sigmoid(),
            hands=normal(9, 2, 3, 32, 32).sigmoid(),
            hand_ok=normal(9, 2) > -0.5,
            hand_boxes=0.5 * normal(9, 2, 3).sigmoid(),
            body6d=normal(9, 21, 6),
            hands6d=normal(9, 2, 15, 6),
            joints_3d=normal(9, 52, 3) + torch.tensor([0.0, 0.0, 5.0]),
            joints_2d=normal(9, 52, 3).sigmoid(),
            K=torch.tensor([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]]).expand(samples, 9, 3, 3),
            pose_ok=normal(9) > -0.5,
            hands_pose_ok=normal(9, 2) > -0.5,
        )
        return Batch(
            target=normal(LATENT_CHANNELS, 3, 16, 16),
            reference=normal(LATENT_CHANNELS, 1, 16, 16),
            text=normal(12, TEXT_DIM),
            text_ok=torch.ones(samples, 12, dtype=torch.bool),
            weight=normal().sigmoid(),
            driving=driving,
        )

    return make
