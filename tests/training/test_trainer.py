"""Bit-exact resume, rejected runs, and decreasing losses."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from opendimo.model.adapters import merge_adapters
from opendimo.model.dimo import DiMo
from opendimo.storage_schemas.ids import stable_id
from opendimo.storage_schemas.media.video import decode
from opendimo.storage_schemas.releases.release import Release
from opendimo.training import checkpoints
from opendimo.training.checkpoints import latest, read_state, steps_done
from opendimo.training.config import SamplePolicy, TrainConfig
from opendimo.training.evaluation.cases import spread, window_cases
from opendimo.training.evaluation.known import Known
from opendimo.training.log import MetricsLog, read_metrics
from opendimo.training.recipe import Recipe
from opendimo.training.release import read_pairs
from opendimo.training.result import TrainingStopped
from opendimo.training.schedule import three_stages
from opendimo.training.spikes import Spikes
from opendimo.training.trainer import train


@pytest.fixture(scope="module")
def undisturbed(release: Release, config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run."""
    out = tmp_path_factory.mktemp("undisturbed")
    train(release, config, out)
    return out


class Killed(Exception):
    """Simulated crash."""


def crash_after(step: int) -> object:
    def progress(done: int, _total: int, record: dict) -> None:
        if done == step and "event" not in record:
            raise Killed

    return progress


def records(out: Path) -> list[dict]:
    """Return all records without wall times."""
    times = ("seconds", "data_seconds", "samples_per_second")
    return [{k: v for k, v in record.items() if k not in times} for record in read_metrics(out / "metrics.jsonl")]


def weights(out: Path, models: tuple[str, ...] = ("model", "ema")) -> dict[str, torch.Tensor]:
    parts = [p for model in models for p in sorted((latest(out) / model).rglob("*.safetensors"))]
    return {f"{p.parent.parent.name}/{p.parent.name}/{k}": v for p in parts for k, v in load_file(p).items()}


def moments(checkpoint: Path) -> dict[str, torch.Tensor]:
    return {name: value for file in (checkpoint / "optimizer").iterdir() for name, value in load_file(file).items()}


def assert_same_run(a: Path, b: Path) -> None:
    assert records(a) == records(b)
    one, other = weights(a), weights(b)
    assert one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)
    one, other = moments(latest(a)), moments(latest(b))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_resuming_twice_is_the_same_run_bit_by_bit(
    release: Release, config: TrainConfig, undisturbed: Path, tmp_path: Path
) -> None:
    for step in (5, 8):  # both are after the newest checkpoint: steps are repeated, records truncated
        with pytest.raises(Killed):
            train(release, config, tmp_path, on_progress=crash_after(step))
    result = train(release, config, tmp_path)
    assert result.steps_done == 12 and result.pipeline == tmp_path / "pipeline"
    assert [r["step"] for r in records(tmp_path) if "event" not in r] == list(range(1, 13))
    assert_same_run(undisturbed, tmp_path)


def test_stage_by_stage_is_the_same_run(
    release: Release, config: TrainConfig, undisturbed: Path, tmp_path: Path
) -> None:
    done = [train(release, config, tmp_path, until_stage=stage) for stage in (1, 2, 3)]
    assert [r.steps_done for r in done] == [5, 9, 12]
    assert [r.pipeline is None for r in done] == [True, True, False]
    assert_same_run(undisturbed, tmp_path)


def test_killed_at_any_moment_it_resumes(
    release: Release, config: TrainConfig, undisturbed: Path, tmp_path: Path
) -> None:
    script = (
        "import sys, torch; torch.set_num_threads(1)\n"
        "from dataclasses import replace\n"
        "from opendimo.storage_schemas.releases.release import open_release\n"
        "from opendimo.training.config import preset\n"
        "from opendimo.training.schedule import three_stages\n"
        "from opendimo.training.trainer import train\n"
        "config = replace(preset('tiny', sys.argv[2]), schedule=three_stages((5, 4, 3), lr=1e-3),\n"
        "                 batch_size=2, checkpoint_every=3, seed=7, ema_decay=0.9)\n"
        "train(open_release(sys.argv[1], 'small@1'), config, sys.argv[3])\n"
    )
    root = Path(__file__).parents[2]
    metrics = tmp_path / "metrics.jsonl"
    process = subprocess.Popen(
        [sys.executable, "-c", script, release.lake_uri, config.base, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(root / ".src"), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 240
    while not (metrics.exists() and len(metrics.read_bytes().splitlines()) >= 6):  # about step 5
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    train(release, config, tmp_path)
    assert_same_run(undisturbed, tmp_path)


def test_a_finished_run_returns_at_once(release: Release, config: TrainConfig, undisturbed: Path) -> None:
    before = (undisturbed / "metrics.jsonl").stat().st_mtime_ns
    assert train(release, config, undisturbed).steps_done == 12
    assert (undisturbed / "metrics.jsonl").stat().st_mtime_ns == before


def test_the_checkpoint_names_its_release(release: Release, undisturbed: Path) -> None:
    state = read_state(latest(undisturbed))
    assert (state["release"], state["release_sha256"], state["step"]) == ("small@1", release.sha256, 12)
    facts = json.loads((undisturbed / "pipeline" / "training.json").read_text())
    assert facts["release_sha256"] == release.sha256
    assert facts["window"] == {"num_frames": 9, "frame_step": 2, "width": 64, "height": 64, "fps": 12}


def test_a_run_stores_its_settings(undisturbed: Path, config: TrainConfig) -> None:
    again = Recipe(config.base, file=str(undisturbed / "config.json")).config()
    assert again == config
    start = read_metrics(undisturbed / "metrics.jsonl")[0]
    assert (start["event"], start["config_id"]) == ("start", stable_id(config.identity()))


def test_checkpoints_sort_by_number(tmp_path: Path) -> None:
    for step in ("999999", "1000000"):  # as text, the first is greater
        (tmp_path / "checkpoints" / f"step-{step}").mkdir(parents=True)
    assert latest(tmp_path).name == "step-1000000"


def test_old_checkpoints_go_but_not_the_ends_of_stages(undisturbed: Path) -> None:
    kept = sorted(p.name for p in (undisturbed / "checkpoints").iterdir())
    assert kept == ["step-000005", "step-000009", "step-000012"]


def test_another_release_or_config_is_refused(
    release: Release, config: TrainConfig, undisturbed: Path, tmp_path: Path
) -> None:
    changed = SimpleNamespace(id=release.id, sha256="0" * 64, read=release.read, blobs=release.blobs)
    with pytest.raises(ValueError, match="trained on small@1"):
        train(changed, config, undisturbed)
    with pytest.raises(ValueError, match="changed in batch_size, seed"):
        train(release, replace(config, batch_size=3, seed=8), undisturbed)
    with pytest.raises(ValueError, match="resume it"):
        train(release, config, undisturbed, resume=False)
    moved = shutil.copytree(config.base, tmp_path / "elsewhere")
    assert train(release, replace(config, base=str(moved)), undisturbed).steps_done == 12


def test_a_run_of_an_older_version_goes_on(
    release: Release, config: TrainConfig, undisturbed: Path, tmp_path: Path
) -> None:
    with pytest.raises(Killed):
        train(release, config, tmp_path, on_progress=crash_after(4))
    file = latest(tmp_path) / "state.json"
    state = json.loads(file.read_text())
    state["config"]["gradient_checkpointing"] = False
    file.write_text(json.dumps(state))
    train(release, replace(config, gradient_checkpointing="full"), tmp_path)
    assert_same_run(undisturbed, tmp_path)


def test_an_error_closes_the_metrics(
    release: Release, config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed, close = [], MetricsLog.close

    def spy(log: MetricsLog) -> None:
        closed.append(log)
        close(log)

    monkeypatch.setattr(MetricsLog, "close", spy)
    with pytest.raises(Killed):
        train(release, config, tmp_path, on_progress=crash_after(1))
    assert len(closed) == 1


def test_a_second_process_is_refused(release: Release, config: TrainConfig, tmp_path: Path) -> None:
    def again(*_: object) -> None:
        with pytest.raises(ValueError, match="another process"):
            train(release, config, tmp_path)
        raise Killed

    with pytest.raises(Killed):
        train(release, config, tmp_path, on_progress=again)


def test_a_loss_that_is_not_finite_stops_the_run(release: Release, config: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match="Inspect pairs"):
        train(release, replace(config, schedule=three_stages((5, 4, 3), lr=1e30)), tmp_path)


def test_a_step_tells_its_loss_by_group_and_its_gradients_by_part(undisturbed: Path) -> None:
    steps = [r for r in records(undisturbed) if "event" not in r]
    for step in steps:
        assert step["flow_by_kind"].keys() == step["kinds"].keys() and set(step["flow_by_source"]) <= {
            "internet",
            "unreal",
            "multiview",
        }
        mean = sum(step["flow_by_kind"][kind] * count for kind, count in step["kinds"].items()) / 2
        assert mean == pytest.approx(step["flow"], rel=1e-5)
        assert math.hypot(*step["grad_norms"].values()) == pytest.approx(step["grad_norm"])
        assert not step["skipped"]
    assert steps[0]["grad_norms"].keys() == {"generator", "motion", "control", "geometry"}
    assert steps[-1]["grad_norms"].keys() == {"generator", "motion", "control"}  # the head has ended


def test_tensorboard_shows_each_step_once_after_a_resume(release: Release, config: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train(release, config, tmp_path, until_stage=1, on_progress=crash_after(4))
    train(release, config, tmp_path, until_stage=1)
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    losses = board.Scalars("step/loss")
    steps = [r for r in records(tmp_path) if "event" not in r]
    assert [event.step for event in losses] == [1, 2, 3, 4, 5]
    assert [event.value for event in losses] == pytest.approx([step["loss"] for step in steps])
    assert {"driver_check/gap", "stage_end/fixed_loss", "step/grad_norms.control"} <= set(board.Tags()["scalars"])


def test_the_pipeline_has_the_moving_average_of_the_weights(
    release: Release, config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(config, checkpoint_every=1, schedule=replace(config.schedule, encoder_steps=1.0))
    monkeypatch.setattr(checkpoints, "KEEP", 12)
    train(release, config, tmp_path)
    name = "transformer/diffusion_pytorch_model.safetensors"
    files = [tmp_path / "checkpoints" / f"step-{step:06d}" / "model" / name for step in range(1, 13)]
    states = [load_file(file)["blocks.0.attn1.to_q.weight"] for file in files]
    expected = states[0]  # the average starts with the weights before the first step with the generator
    for state in states[1:]:
        expected = 0.9 * expected + 0.1 * state
    exported = load_file(tmp_path / "pipeline" / name)
    torch.testing.assert_close(exported["blocks.0.attn1.to_q.weight"], expected)
    assert not torch.equal(expected, states[-1])


def test_adapters_train_resume_and_are_merged_into_the_pipeline(
    release: Release, config: TrainConfig, tmp_path: Path
) -> None:
    config = replace(config, lora_rank=4)
    train(release, config, tmp_path / "once")
    for step in (5, 8):
        with pytest.raises(Killed):
            train(release, config, tmp_path / "twice", on_progress=crash_after(step))
    train(release, config, tmp_path / "twice")
    assert_same_run(tmp_path / "once", tmp_path / "twice")
    stored = {name for name in weights(tmp_path / "once") if name.split("/")[1] == "transformer"}
    assert stored and all("lora_" in name or "motion" in name for name in stored)
    assert not any("base_layer" in name for name in moments(latest(tmp_path / "once")))
    merged = DiMo.load(latest(tmp_path / "once") / "ema", Path(config.base)).transformer
    merge_adapters(merged)
    exported = load_file(tmp_path / "once" / "pipeline" / "transformer" / "diffusion_pytorch_model.safetensors")
    assert all(torch.equal(exported[name], weight) for name, weight in merged.state_dict().items())
    base = DiMo.from_base(Path(config.base), config.model).transformer.state_dict()
    changed = {name for name, weight in base.items() if not torch.equal(weight, exported[name])}
    assert "blocks.0.attn1.to_q.weight" in changed and "patch_embedding.weight" not in changed


def test_sample_videos_show_driver_clip_and_truth_and_change_nothing(
    release: Release, config: TrainConfig, undisturbed: Path, tmp_path: Path
) -> None:
    policy = SamplePolicy(every=4, clips=2, steps=2)
    train(release, replace(config, samples=policy), tmp_path)
    assert_same_run(undisturbed, tmp_path)
    names = sorted(path.name for path in (tmp_path / "samples").iterdir())
    assert names == [f"step-{step:06d}.mp4" for step in (4, 5, 8, 9, 12)]
    frames = decode((tmp_path / "samples" / names[-1]).read_bytes())
    assert frames.shape == (9, 2 * 64, 3 * 64, 3)
    cases = window_cases(Known(release), spread(read_pairs(release, "test"), 2))
    for row, case in enumerate(cases):
        for column, window in ((0, case.driver), (2, case.target)):
            shown = frames[:, 64 * row : 64 * (row + 1), 64 * column : 64 * (column + 1)].astype(int)
            assert np.abs(shown - Known(release).frames(window)).mean() < 6  # the video is compressed


def test_a_stopped_run_saves_its_last_step_and_goes_on(
    release: Release, config: TrainConfig, undisturbed: Path, tmp_path: Path
) -> None:
    for step in (4, 10):
        asked = iter(range(20))
        with pytest.raises(TrainingStopped, match=rf"stopped after step {step} of 12; a checkpoint is saved"):
            begun = steps_done(tmp_path)
            train(release, config, tmp_path, should_stop=lambda: begun + next(asked) + 1 >= step)  # noqa: B023
        assert steps_done(tmp_path) == step
    train(release, config, tmp_path)
    assert_same_run(undisturbed, tmp_path)
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in board.Scalars("step/loss")] == list(range(1, 13))


def test_a_step_with_a_spike_is_skipped_and_the_run_goes_on(
    release: Release, config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Spikes, "LEAST", 2)
    config = replace(config, spike_factor=1.0001, checkpoint_every=1, schedule=three_stages((6, 1, 1), lr=1e-3))
    train(release, config, tmp_path, until_stage=1)
    steps = [r for r in records(tmp_path) if "event" not in r]
    norms = [step["grad_norm"] for step in steps]
    expected = [k >= 2 and norm > 1.0001 * median(norms[:k]) for k, norm in enumerate(norms)]
    assert [step["skipped"] for step in steps] == expected and 0 < sum(expected) < 6


def test_spikes_are_judged_by_recent_steps_of_their_stage() -> None:
    spikes = Spikes(10, [1.0] * 50)
    assert [spikes.is_spike(norm) for norm in (9.9, 10.1, 1.0)] == [False, True, False]
    spikes.clear()
    assert not spikes.is_spike(1000.0)
    assert not any(Spikes(None, [1.0] * 60).is_spike(norm) for norm in (1e3, 1e6))


def test_events_tell_the_fixed_loss_and_whether_the_driver_is_followed(undisturbed: Path) -> None:
    events = [r for r in records(undisturbed) if "event" in r]
    assert [(e["event"], e["stage"], e["step"]) for e in events] == [
        ("start", "single_view", 0),
        ("stage_start", "single_view", 0),
        ("stage_end", "single_view", 5),
        ("driver_check", "single_view", 5),
        ("stage_start", "mixed_view", 5),
        ("stage_end", "mixed_view", 9),
        ("driver_check", "mixed_view", 9),
        ("stage_start", "multi_view", 9),
        ("stage_end", "multi_view", 12),
        ("driver_check", "multi_view", 12),
    ]
    assert all(e["test_loss"] is not None for e in events if e["event"].startswith("stage"))
