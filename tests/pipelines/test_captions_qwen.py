"""Tests of Qwen2.5-VL through transformers and qwen-vl-utils, with tiny random weights in the real file format."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from opendimo.pipelines.captions.qwen import QwenCaptioner, QwenLocal
from opendimo.pipelines.captions.stage import CaptionsConfig, CaptionsStage, plan
from opendimo.pipelines.engine.stage import PermanentError
from opendimo.pipelines.quality.policy import Policy
from tests.pipelines.caption_lake import clip_row, make_lake, sliding_picture
from tests.pipelines.tiny_qwen import make_tiny_qwen


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    return make_tiny_qwen(tmp_path_factory.mktemp("weights") / "tiny-qwen2.5-vl")


def config(weights: Path) -> QwenLocal:
    return QwenLocal(str(weights), device="cpu", frames=4, max_pixels=16 * 28 * 28, max_new_tokens=12)


@pytest.fixture(scope="module")
def captioner(weights: Path) -> QwenCaptioner:
    torch.set_num_threads(1)
    return QwenCaptioner(config(weights))


class Spy:
    """Wraps the model and records its inputs."""

    def __init__(self, model) -> None:
        self.model, self.inputs = model, []

    def generate(self, **inputs):
        self.inputs.append(inputs)
        return self.model.generate(**inputs)


@pytest.fixture
def spied(captioner):
    spy = Spy(captioner.model)
    captioner.model, model = spy, captioner.model
    yield captioner, spy
    captioner.model = model


def test_frames_and_their_times_reach_the_model(spied):
    captioner, spy = spied
    answer = captioner.ask(sliding_picture()[::12], 2.0, ["What does the camera do?"])
    assert isinstance(answer, str)
    inputs = spy.inputs[0]
    assert inputs["video_grid_thw"][0, 0] == 2  # 4 frames, two per token
    # at 2 frames/s a pair of frames lasts 1 s (0.083 s at 24 frames/s, which transformers assumes by default)
    assert inputs["second_per_grid_ts"].tolist() == [1.0]
    video_token = captioner.processor.video_token_id
    assert int((inputs["input_ids"] == video_token).sum()) == int(inputs["video_grid_thw"].prod()) // 4


def test_answers_depend_on_the_picture(spied):
    captioner, spy = spied
    captioner.ask(sliding_picture()[::12], 2.0, ["?"])
    captioner.ask(np.zeros_like(sliding_picture()[::12]), 2.0, ["?"])
    one, other = (i["pixel_values_videos"] for i in spy.inputs)
    assert not torch.equal(one, other)


def test_a_second_turn_shows_the_video_once(spied):
    captioner, spy = spied
    captioner.ask(sliding_picture()[::12], 2.0, ["question", "answer", "again"])
    text = captioner.processor.tokenizer.decode(spy.inputs[0]["input_ids"][0])
    assert text.count("<|vision_start|>") == 1
    assert text.index("question") < text.index("answer") < text.index("again")


def test_garbage_ends_as_the_measured_caption_with_the_answer_kept(weights, tmp_path):
    lake = make_lake(tmp_path / "lake", [clip_row("x")])
    stage = CaptionsStage(lake.uri, CaptionsConfig(vlm=config(weights)))
    stage.setup()
    batch = plan(lake, stage, Policy()).all()
    outcome = stage.run(batch)
    outcome.check(batch)
    [row] = outcome.rows["captions"]
    assert row["captioner"] == "image_motion"
    assert [t["term"] for t in row["camera_terms"]] == ["pan_right"]
    assert row["agreement"] is None
    assert "asked again" in row["raw_answer"]
    assert json.loads(row["evidence"])["model"]["error"]
    lake.append("captions", {"captions": outcome.rows["captions"]})  # random text can still be stored


def test_weights_are_known_by_content(weights, tmp_path):
    copy = tmp_path / "elsewhere"
    shutil.copytree(weights, copy)
    assert QwenLocal(str(copy)).fingerprint() == QwenLocal(str(weights)).fingerprint()
    file = copy / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert QwenLocal(str(copy)).fingerprint() != QwenLocal(str(weights)).fingerprint()


def test_missing_weights_are_said_to_be_missing(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(PermanentError, match="empty"):
        QwenCaptioner(QwenLocal(str(tmp_path / "empty"), device="cpu"))
