"""What a run logs, in TensorBoard and Weights & Biases."""

import io
import json
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from opendimo.storage_schemas.media.video import encode
from opendimo.training.log import BOARD, GIF_FRAMES, GIF_SIDE, MetricsLog


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A video of 50 frames of 720 x 96 pixels, which become brighter."""
    frames = np.arange(50, dtype=np.uint8)[:, None, None, None] * 5 + np.zeros((1, 96, 720, 3), np.uint8)
    file = tmp_path / "step-000002.mp4"
    file.write_bytes(encode(frames, Fraction(24)))
    return file


def board(out: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(out / BOARD), size_guidance={"images": 0, "scalars": 0})
    accumulator.Reload()
    return accumulator


def test_sample_videos_move_in_tensorboard(clip: Path, tmp_path: Path) -> None:
    log = MetricsLog(tmp_path)
    log.video("samples", clip, 2)
    log.close()
    [shown] = board(tmp_path).Images("samples")
    image = Image.open(io.BytesIO(shown.encoded_image_string))
    assert shown.step == 2 and image.format == "GIF"
    assert image.n_frames <= GIF_FRAMES and image.n_frames > GIF_FRAMES / 2
    assert max(image.size) == GIF_SIDE and image.size == (shown.width, shown.height)
    image.seek(image.n_frames - 1)
    assert np.asarray(image.convert("RGB")).mean() > 200


def test_all_numbers_are_curves(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path)
    log.write({"step": 1, "stage": "one", "loss": 0.5, "flow_by_kind": {"same_view": 0.25}})
    log.write({"event": "driver_check", "step": 1, "gap": 0.1, "tokens": {"spread": 0.4}})
    log.close()
    found = board(tmp_path)
    assert found.Scalars("step/flow_by_kind.same_view")[0].value == 0.25
    assert found.Scalars("driver_check/tokens.spread")[0].value == pytest.approx(0.4)


def test_a_resumed_run_goes_on_in_its_run_of_weights_and_biases(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    out = tmp_path / "run"
    out.mkdir()
    (out / "config.json").write_text(json.dumps({"batch_size": 3}))
    for step in (1, 2):
        log = MetricsLog(out, wandb_project="opendimo-test")
        log.write({"step": step, "stage": "one", "loss": 1 / step})
        log.video("samples", clip, step)
        log.close()
    run_id = (out / "wandb-id").read_text()
    stored = list((out / "wandb").glob(f"offline-run-*/run-{run_id}.wandb"))
    assert len(stored) == 2
    deadline = time.monotonic() + 60  # a process of its own writes the file
    while not all(b"step/loss" in file.read_bytes() for file in stored):
        assert time.monotonic() < deadline, "the curves were not written"
        time.sleep(0.2)
    assert list((out / "wandb").rglob("samples_*.mp4"))


def test_without_the_package_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    with pytest.raises(ValueError, match=r"pip install 'opendimo\[wandb\]'"):
        MetricsLog(tmp_path, wandb_project="any")
