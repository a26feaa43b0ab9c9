"""Shared fixtures: tiny base models, models built on them, and batches for them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from opendimo.model.backbones.inject import MotionCrossAttention
from opendimo.model.dimo import Batch, DiMo, DiMoConfig, Driving
from opendimo.model.signal import MotionTokens, Signal
from opendimo.model.tiny import FAMILIES, LATENT_CHANNELS, TEXT_DIM, make_tiny_base
from tests.model.pipelines import same_target


@pytest.fixture(scope="session")
def tiny_bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {family: make_tiny_base(tmp_path_factory.mktemp(family), family=family) for family in FAMILIES}


@pytest.fixture(scope="session")
def tiny_base(tiny_bases: dict[str, Path]) -> Path:
    return tiny_bases["wan"]


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    """Run a test for each family of base models."""
    return request.param


@pytest.fixture(scope="session")
def make_dimo(tiny_bases: dict[str, Path]) -> Callable[..., DiMo]:
    """Build a model on a tiny base; `trained` randomises zero-initialised layers, so that motion has an effect."""

    def make(*, family: str = "wan", trained: bool = False, **changes: Any) -> DiMo:
        torch.manual_seed(1)
        dimo = DiMo.from_base(tiny_bases[family], replace(DiMoConfig.tiny(), **{"text_length": 512, **changes}))
        with torch.no_grad():
            for module in dimo.transformer.modules():
                if trained and isinstance(module, MotionCrossAttention):
                    module.to_out.weight.normal_(std=0.3)
            if trained and dimo.geometry is not None:
                for head in filter(None, (dimo.geometry.body, dimo.geometry.hand)):
                    head[-1].weight.normal_(std=0.1)
        return dimo

    return make


@pytest.fixture
def inputs() -> dict[str, Any]:
    """Return arguments of a generator: two samples of three latent frames; the second text is shorter."""
    g = torch.Generator().manual_seed(0)
    return {
        "hidden_states": torch.randn(2, LATENT_CHANNELS, 3, 16, 16, generator=g),
        "timestep": torch.tensor([900.0, 300.0]),
        "encoder_hidden_states": torch.randn(2, 12, TEXT_DIM, generator=g),
        "encoder_attention_mask": torch.arange(12) < torch.tensor([[12], [7]]),
        "motion": Signal(MotionTokens(torch.randn(2, 9, 15, 64, generator=g), torch.tensor([True, True]))),
        "reference": torch.randn(2, LATENT_CHANNELS, 1, 16, 16, generator=g),
    }


@pytest.fixture(scope="session")
def make_batch() -> Callable[..., Batch]:
    """Build batches of random samples of nine frames of 64 x 64 pixels, three latent frames."""

    def make(samples: int = 2, seed: int = 0) -> Batch:
        g = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> torch.Tensor:
            return torch.randn(samples, *shape, generator=g)

        driving = Driving(
            body=normal(9, 3, 32, 32).sigmoid(),
            hands=normal(9, 2, 3, 16, 16).sigmoid(),
            hand_ok=normal(9, 2) > -0.5,
            hand_boxes=0.5 * normal(9, 2, 3).sigmoid(),
            body6d=normal(9, 21, 6),
            hands6d=normal(9, 2, 15, 6),
            joints_3d=normal(9, 52, 3) + torch.tensor([0.0, 0.0, 5.0]),
            joints_2d=normal(9, 52, 3).sigmoid(),
            landmarks_2d=normal(9, 52, 3).sigmoid(),
            K=torch.tensor([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]]).expand(samples, 9, 3, 3),
            **same_target(9, samples),
            pose_ok=normal(9) > -0.5,
            hands_pose_ok=normal(9, 2) > -0.5,
        )
        return Batch(
            target=normal(LATENT_CHANNELS, 3, 16, 16),
            reference=normal(LATENT_CHANNELS, 1, 16, 16),
            text=normal(12, TEXT_DIM),
            text_ok=torch.ones(samples, 12, dtype=torch.bool),
            weight=normal().sigmoid(),
            same_view=torch.ones(samples, dtype=torch.bool),
            driving=driving,
        )

    return make
