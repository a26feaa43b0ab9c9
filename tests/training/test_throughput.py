"""Model FLOPs utilisation."""

from dataclasses import replace

import pytest

from opendimo.training.budget import budget
from opendimo.training.config import preset
from opendimo.training.latents import LatentFormat
from opendimo.training.throughput import Throughput

LANDSCAPE = LatentFormat("vae", 121, 1, 832, 480, (48, 31, 30, 52), 4096)


def test_a_step_at_the_peak_rate_is_fully_used() -> None:
    config = preset("wan2.2-ti2v-5b", "base")
    flops = budget(config).flops
    assert flops is not None
    measured = Throughput(config, "NVIDIA H100 80GB HBM3", processes=8)
    least = 64 * flops / (8 * 989e12)
    assert measured.mfu(64, least, LANDSCAPE) == {"mfu": 1.0}
    assert measured.mfu(64, 4 * least, LANDSCAPE) == {"mfu": 0.25}
    half = replace(LANDSCAPE, width=416)
    assert measured.mfu(64, least, half)["mfu"] == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(("name", "device"), [("tiny", "NVIDIA H100"), ("lite", "Unknown GPU"), ("lite", None)])
def test_of_unknown_devices_and_sizes_nothing_is_said(name: str, device: str | None) -> None:
    assert Throughput(preset(name, "base"), device, 1).mfu(1, 1.0, LANDSCAPE) == {}
