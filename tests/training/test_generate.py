"""Generate videos from a real driving clip, with a trained run and with a tiny random pipeline on disk."""

import tomllib
from fractions import Fraction
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from opendimo.model.dimo import DiMo, DiMoConfig
from opendimo.model.pipeline import DiMoPipeline, plugs
from opendimo.model.tiny import make_tiny_base
from opendimo.pipelines.generation.driving import find_person, read_video
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.media.video import decode, encode, probe
from opendimo.storage_schemas.releases.release import Release
from opendimo.training.config import TrainConfig
from opendimo.training.export import base_licence, read_facts
from opendimo.training.generate import Placing, Sampling, generate, load_pipeline
from opendimo.training.pipeline_folder import find_pipeline
from opendimo.training.trainer import train

PLUGINS = {"find_person": find_person, "read_video": read_video}


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    Image.new("RGB", (90, 120), (200, 30, 30)).save(tmp_path / "reference.png")
    return tmp_path / "reference.png"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random pipeline on disk: nine frames of 64 x 48, with frame step 2."""
    base = make_tiny_base(tmp_path_factory.mktemp("base"))
    torch.manual_seed(0)
    dimo = DiMo.from_base(base, DiMoConfig.tiny())
    for block in dimo.transformer.blocks:
        torch.nn.init.normal_(block.motion.to_out.weight, std=0.3)
    out = tmp_path_factory.mktemp("pipeline")
    window = {"num_frames": 9, "frame_step": 2, "height": 48, "width": 64}
    DiMoPipeline.from_base(base, dimo, **window).save_pretrained(out)
    return out


@pytest.fixture
def dance(data: Path) -> Path:
    return data / "internet" / "dance_balloon_static.mp4"


def test_a_clip_comes_out_of_a_trained_run_and_follows_its_driver(
    release: Release, lake: Lake, config: TrainConfig, reference: Path, tmp_path: Path
) -> None:
    train(release, config, tmp_path / "run")

    def labels(clip_id: str, frames: np.ndarray) -> dict[str, np.ndarray]:
        [row] = lake.read("clips", ["track"], f"clip_id = '{clip_id}'")
        [pose] = lake.read("poses", ["body_pose", "joints_2d", "hand_valid", "valid"], f"clip_id = '{clip_id}'")
        n = len(frames)
        unknown = {
            "K": np.tile(np.eye(3), (n, 1, 1)),
            "joints_3d": np.zeros((n, 52, 3)),
            "hand_pose": np.zeros((n, 2, 15, 3)),
        }
        return {name: np.asarray(values)[:n] for name, values in {**row, **pose}.items()} | unknown

    def generated(clip_id: str, **options: float) -> np.ndarray:
        frames = decode(lake.blobs("clip_videos", "video", [clip_id])[0])
        out = generate(
            tmp_path / "run",
            reference,
            frames,
            "The camera is static.",
            tmp_path / "clip.mp4",
            Sampling(num_inference_steps=2, **options),
            find_person=lambda frames, fps, poses: labels(clip_id, frames),
        )
        facts = probe(out)
        assert (facts.width, facts.height, facts.frames) == (64, 64, 9)
        return decode(out)

    one = generated("street a")
    assert (one == generated("street a")).all()
    assert (one != generated("rig one b", motion_guidance_scale=5.0)).any()
    card = (tmp_path / "run" / "pipeline" / "README.md").read_text()
    assert release.id in card and release.sha256 in card and "| data: unknown |" in card


def test_a_real_video_drives_a_pipeline_from_disk(folder: Path, dance: Path, reference: Path, tmp_path: Path) -> None:

    def generated(seed: int, name: str) -> np.ndarray:
        sampling = Sampling(num_inference_steps=3)
        out = generate(
            folder, reference, dance, "The camera arcs left.", tmp_path / name, sampling, seed=seed, **PLUGINS
        )
        facts = probe(out)
        assert (facts.width, facts.height, facts.frames, facts.fps) == (64, 48, 9, Fraction(15))
        return decode(out)

    one = generated(0, "one.mp4")
    assert (one == generated(0, "two.mp4")).all()
    assert (one != generated(1, "three.mp4")).any()
    assert one.std() > 1


def test_a_driving_video_is_read_from_a_start(dance: Path) -> None:
    frames, fps = read_video(dance, 5, None, 1.5)
    assert fps == 30 and np.array_equal(frames, decode(dance, start=45, stop=50))


def test_a_video_longer_than_in_training_comes_out_whole(
    folder: Path, dance: Path, reference: Path, tmp_path: Path
) -> None:
    sampling = Sampling(num_inference_steps=2, num_frames=25)
    out = generate(folder, reference, dance, "", tmp_path / "a.mp4", sampling, **PLUGINS)
    assert probe(out).frames == 25


def test_all_but_the_vae_is_in_the_precision_asked_for(folder: Path) -> None:
    pipeline = load_pipeline(folder, Placing("bfloat16"))
    parts = (pipeline.text_encoder, pipeline.control, pipeline.transformer, pipeline.vae)
    assert [part.dtype for part in parts] == [torch.bfloat16] * 3 + [torch.float32]


def test_without_a_gpu_there_is_full_precision_and_nothing_to_offload_from(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert Placing() == Placing("float32", offload=False)
    with pytest.raises(ValueError, match="offload needs a GPU and PyTorch sees none: generate without offload"):
        load_pipeline(folder, Placing(offload=True))


def test_every_step_is_reported_in_any_precision_and_order(
    folder: Path, dance: Path, reference: Path, tmp_path: Path
) -> None:
    steps: list[None] = []
    sampling = Sampling(num_inference_steps=2, guidance_in_sequence=True)
    how = {"placing": Placing("bfloat16"), "on_step": lambda: steps.append(None)}
    out = generate(folder, reference, dance, "", tmp_path / "a.mp4", sampling, **how, **PLUGINS)
    assert len(steps) == 2 and decode(out).std() > 1


@pytest.mark.parametrize(("rate", "fps"), [(None, 30), (60, 30), (24, 30), (12.0, 15), (11, 10)])
def test_a_driving_video_is_read_at_the_rate_asked_for_as_nearly_as_whole_steps_allow(
    rate: float | None, fps: int, dance: Path
) -> None:
    frames, actual = read_video(dance, 5, rate)
    assert actual == fps and np.array_equal(frames, decode(dance, stop=150)[:: 30 // fps][:5])


def test_a_pipeline_that_knows_the_rate_of_its_clips_follows_that_rate(
    folder: Path, dance: Path, reference: Path
) -> None:
    pipeline = DiMoPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.register_to_config(fps=10.0)
    made = pipeline(reference, dance, "", num_inference_steps=1, output_type="latent", **PLUGINS)
    assert made.fps == 10


def test_the_finder_and_the_reader_are_known_by_their_entry_points(
    folder: Path, dance: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Uses the entry points in pyproject.toml, independent of the installed packages."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    stated = {group: EntryPoint(*next(iter(named.items())), group) for group, named in project["entry-points"].items()}
    monkeypatch.setattr(plugs, "entry_points", lambda group: [stated[group]])
    pipeline = DiMoPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    made = pipeline(Image.new("RGB", (64, 48)), dance, "", num_inference_steps=1)
    assert made.frames.shape == (1, 9, 48, 64, 3) and made.fps == 15


@pytest.mark.parametrize(
    ("driving", "message"),
    [
        ("nobody.mp4", r"nobody\.mp4: no person was detected in its first 17 frames; choose another driving video"),
        ("short.mp4", r"short\.mp4: .*ends too early: requested frames \[0, 17\), got 10; choose another driving"),
        ("text.mp4", r"text\.mp4: .*; choose another driving video"),
        ("missing.mp4", r"missing\.mp4.*; choose another driving video"),
    ],
)
def test_driving_videos_that_cannot_drive_are_named(
    driving: str, message: str, folder: Path, reference: Path, tmp_path: Path
) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (20, 96, 128, 3), dtype=np.uint8)
    (tmp_path / "nobody.mp4").write_bytes(encode(noise, Fraction(24)))
    (tmp_path / "short.mp4").write_bytes(encode(noise[:10], Fraction(24)))
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(ValueError, match=message):
        generate(folder, reference, tmp_path / driving, "", tmp_path / "out.mp4", **PLUGINS)


def test_an_unfinished_run_cannot_generate(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no pipeline"):
        find_pipeline(tmp_path)
    (tmp_path / "runs/1/pipeline").mkdir(parents=True)
    (tmp_path / "runs/1/pipeline/model_index.json").write_text("{}")
    with pytest.raises(ValueError, match=r"finished run in .*runs/1: pass that folder"):
        find_pipeline(tmp_path / "runs")
    (tmp_path / "runs/0").mkdir()
    (tmp_path / "runs/0/model_index.json").write_text("{}")  # a saved pipeline, newer than the run
    with pytest.raises(ValueError, match=r"finished run in .*runs/0: pass that folder"):
        find_pipeline(tmp_path / "runs")


def test_a_pipeline_that_we_did_not_train_has_no_facts(folder: Path) -> None:
    assert not (folder / "training.json").exists() and read_facts(folder) == {}


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: apache-2.0\n---\nWan", "apache-2.0"),
        ("---\nlicense: other\nlicense_name: tencent-hunyuan-community\n---\n", "tencent-hunyuan-community"),
        ("no front matter", "not stated"),
        (None, "not stated"),
    ],
)
def test_the_licence_of_the_base_is_what_its_card_says(card: str | None, licence: str, tmp_path: Path) -> None:
    if card is not None:
        (tmp_path / "README.md").write_text(card)
    assert base_licence(tmp_path) == licence
