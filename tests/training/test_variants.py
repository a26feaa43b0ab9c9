"""Every variant of the ablation and comparison tables trains, by its name."""

import json
import math
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from opendimo.model.controls import CONTROLS
from opendimo.model.controls.implicit import ImplicitControl
from opendimo.storage_schemas.releases.release import Release
from opendimo.training.checkpoints import latest
from opendimo.training.config import FULL_SIZE, TrainConfig, preset
from opendimo.training.log import read_metrics
from opendimo.training.schedule import three_stages
from opendimo.training.trainer import train
from opendimo.training.variants import VARIANTS, with_variant
from tests.model.test_im_animation import CONFIG, published


def records(out: Path) -> list[dict]:
    return [r for r in read_metrics(out / "metrics.jsonl") if "event" not in r]


@pytest.fixture(scope="module")
def runs(release: Release, config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of two-step runs, by variant, the first step of the encoder alone; each run is created on demand."""
    return tmp_path_factory.mktemp("variants")


def short(config: TrainConfig) -> TrainConfig:
    return replace(config, schedule=replace(three_stages((2, 1, 1), lr=1e-3), encoder_steps=1.0))


def run(release: Release, config: TrainConfig, runs: Path, name: str) -> Path:
    if not (runs / name).exists():
        train(release, with_variant(short(config), name), runs / name, until_stage=1)
    return runs / name


QUICK = ("full", "channel_concat", "no_geometry", "smpl_ctrl", "mimicmotion", "smpl_vq")
"""One variant per combination of loss terms; the others are slow tests."""


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in VARIANTS]
)
def test_a_variant_trains_and_every_term_is_finite(
    name: str, release: Release, config: TrainConfig, runs: Path
) -> None:
    out = run(release, config, runs, name)
    terms = ("loss", "flow", "weighted_flow", "geometry", "reconstruction", "commitment")
    for record in records(out):
        assert all(math.isfinite(record[t]) for t in terms if record.get(t) is not None)
    checks = [r for r in read_metrics(out / "metrics.jsonl") if r.get("event") == "driver_check"]
    assert checks and all(math.isfinite(check["gap"]) for check in checks)


@pytest.mark.parametrize(
    ("name", "terms"),
    [
        ("full", {"geometry"}),
        ("channel_concat", {"geometry"}),
        ("no_geometry", set()),
        ("smpl_ctrl", set()),
        ("mimicmotion", {"weighted_flow"}),
        ("smpl_vq", {"reconstruction", "commitment"}),
    ],
)
def test_the_log_tells_the_terms_that_a_variant_has(
    name: str, terms: set[str], release: Release, config: TrainConfig, runs: Path
) -> None:
    last = records(run(release, config, runs, name))[-1]
    logged = {t for t in ("weighted_flow", "geometry", "reconstruction", "commitment") if last.get(t) is not None}
    assert logged == terms
    flow = last["flow"] if last.get("weighted_flow") is None else last["weighted_flow"]
    geometry = last["geometry_weight"] * (last["geometry"] or 0)
    extra = (last.get("reconstruction") or 0) + (last.get("commitment") or 0)
    assert last["loss"] == pytest.approx(flow + geometry + extra, rel=1e-5)


def test_a_checkpoint_remembers_its_variant_and_refuses_another(
    release: Release, config: TrainConfig, runs: Path
) -> None:
    out = run(release, config, runs, "pose2d")
    state = json.loads((latest(out) / "state.json").read_text())
    assert state["config"]["variant"] == "pose2d" and state["config"]["model"]["control"] == "pose2d"
    with pytest.raises(ValueError, match="changed in model, variant"):
        train(release, with_variant(short(config), "smpl_vq"), out)


def test_resuming_a_codebook_is_the_same_run_bit_by_bit(release: Release, config: TrainConfig, tmp_path: Path) -> None:
    config = with_variant(replace(config, schedule=three_stages((4, 1, 1), lr=1e-3), checkpoint_every=2), "smpl_vq")

    class Killed(Exception):
        pass

    def crash(done: int, _total: int, record: dict) -> None:
        if done == 3 and "event" not in record:  # one step after the newest checkpoint
            raise Killed

    with pytest.raises(Killed):
        train(release, config, tmp_path / "resumed", on_progress=crash)
    for out in ("resumed", "whole"):
        train(release, config, tmp_path / out, until_stage=1)
    one, other = (records(tmp_path / out) for out in ("resumed", "whole"))
    assert [r["loss"] for r in one] == [r["loss"] for r in other]


def test_the_trainer_moves_the_control(release: Release, config: TrainConfig, runs: Path) -> None:
    for name in ("smpl_render", "channel_concat"):
        out = run(release, config, runs, name)
        control = CONTROLS[with_variant(config, name).model.control].from_pretrained(latest(out) / "model" / "control")
        zero_initialised = [p for n, p in control.named_parameters() if n.startswith(("outs", "widening"))]
        assert zero_initialised and all(p.any() for p in zero_initialised)


def test_the_help_names_every_variant_without_importing_torch() -> None:
    code = "import sys, opendimo.dags.options as o; print('torch' in sys.modules, o.Variant.__metadata__[0].help)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == f"False Ablation or comparison method: {', '.join(VARIANTS)}."


def test_unknown_names_are_refused_with_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no variant 'hgv': choose one of full, smpl_ctrl"):
        with_variant(preset("tiny", tmp_path), "hgv")
    with pytest.raises(
        ValueError, match=r"no preset 'wan': choose one of tiny, lite, wan2.2-ti2v-5b, hunyuanvideo-1.5"
    ):
        preset("wan", tmp_path)
    with pytest.raises(ValueError, match="no encoder 'huge': choose one of tiny, base, paper"):
        preset("tiny", tmp_path, "huge")


def test_a_variant_changes_one_thing(tmp_path: Path) -> None:
    config = preset("hunyuanvideo-1.5", tmp_path, "paper")
    assert config.model.encoder.width == 1024 and config.bf16 and config.gradient_checkpointing
    for name in VARIANTS:
        changed = with_variant(config, name)
        parts = [
            f.name for f in fields(config.model) if getattr(changed.model, f.name) != getattr(config.model, f.name)
        ]
        rescheduled = changed.schedule != config.schedule
        if name == "no_geometry":  # encoder-only steps need the head
            assert parts == ["geometry"] and changed.schedule == config.schedule.without_geometry()
        elif name in ("hvg", "hvg_no_view"):
            assert parts == (["control", "view_attention"] if name == "hvg" else ["control"])
            assert [stage.views for stage in changed.schedule.stages] == [1, 2, 2] and changed.micro_batch == 2
        else:
            assert len(parts) + rescheduled == (name != "full")
        assert changed.variant == name
    assert set(FULL_SIZE) == {"lite", "wan2.2-ti2v-5b", "hunyuanvideo-1.5"}


def test_a_control_without_an_encoder_cannot_start_from_weights(
    release: Release, config: TrainConfig, tmp_path: Path
) -> None:
    wrong = replace(with_variant(config, "pose2d"), init_encoder=str(tmp_path / "weights.safetensors"))
    with pytest.raises(ValueError, match="control 'pose2d' has no motion encoder"):
        train(release, wrong, tmp_path / "run")


def test_a_run_can_start_from_given_weights_of_the_encoder(
    release: Release, config: TrainConfig, tmp_path: Path
) -> None:
    file = tmp_path / "weights.safetensors"
    save_file(weights := published(), file)
    still = replace(config, model=replace(config.model, encoder=CONFIG), schedule=three_stages((1, 1, 1), lr=1e-12))
    train(release, replace(still, init_encoder=str(file)), tmp_path / "run", until_stage=1)
    control = ImplicitControl.from_pretrained(latest(tmp_path / "run") / "model" / "control")
    started = weights["encoder.transformer.0.mlp.c_fc.weight"]
    assert torch.allclose(control.motion_encoder.body.layers[0].linear1.weight, started, atol=1e-6)


def test_where_the_encoders_weights_lie_may_change_but_not_their_name(config: TrainConfig) -> None:
    one, moved, other = (replace(config, init_encoder=p).identity() for p in ("/a/w.pt", "/b/w.pt", "/a/v.pt"))
    assert one == moved != other
