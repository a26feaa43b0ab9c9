"""Invalid arguments and missing files raise errors with one clear line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.callbacks import SDCFGCutoffCallback
from PIL import Image

from opendimo.model.dimo import DiMo
from opendimo.model.pipeline import DiMoPipeline
from opendimo.model.pipeline.card import model_card
from tests.model.pipelines import driving, sampled, tiny_pipeline


@pytest.fixture(scope="module")
def pipeline(tiny_base: Path, make_dimo: Callable[..., DiMo]) -> DiMoPipeline:
    return tiny_pipeline(tiny_base, make_dimo(trained=True))


@pytest.fixture
def folder(pipeline: DiMoPipeline, tmp_path: Path) -> Path:
    pipeline.save_pretrained(tmp_path / "pipeline")
    return tmp_path / "pipeline"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_frames": 6}, r"num_frames is 6, not 4 k \+ 1: take 5 or 9"),
        ({"num_frames": 0}, r"num_frames is 0, not 4 k \+ 1: take 1"),
        ({"height": 36}, "height is 36, not a multiple of 8: take 32 or 40"),
        ({"width": 4}, "width is 4, not a multiple of 8: take 8"),
        ({"callback_on_step_end_tensor_inputs": ("noise",)}, r"callbacks can receive .*, not \['noise'\]"),
        ({"output_type": "mp4"}, "output_type is 'mp4': take one of np, pil, pt, latent"),
        ({"num_inference_steps": 0}, "num_inference_steps is 0: take 1 or more"),
        ({"num_videos_per_prompt": 0}, "num_videos_per_prompt is 0: take 1 or more"),
        ({"prompt": None}, "give either prompt or prompt_embeds"),
        ({"prompt_embeds": torch.zeros(1, 3, 32)}, "give either prompt or prompt_embeds"),
        ({"prompt": []}, r"prompt must be a text or a list of texts, not \[\]"),
        ({"prompt": ["a", None]}, "prompt must be a text or a list of texts"),
        ({"prompt": ["a"] * 3, "negative_prompt": ["b"] * 2}, "2 negative prompts for 3 prompts: give one or as many"),
        ({"generator": [torch.Generator()] * 2}, "2 generators for 1 videos: give one or as many"),
        ({"callback_on_step_end": SDCFGCutoffCallback()}, "SDCFGCutoffCallback sets the guidance scale to 0"),
        ({"num_frames": 13}, r"one sample and 13 frames is needed, not of \[B, T\] = \[1, 9\]"),
    ],
)
def test_what_cannot_be_made_is_refused_with_a_way_out(
    change: dict[str, Any], message: str, pipeline: DiMoPipeline
) -> None:
    with pytest.raises(ValueError, match=message):
        sampled(pipeline, **change)


@pytest.mark.parametrize(
    ("base", "stated"),
    [("Wan-AI/Tiny@main", "base_model: Wan-AI/Tiny\n"), ("tiny", None), (None, None)],
)
def test_the_card_names_a_base_model_of_the_hub_to_the_hub(
    base: str | None, stated: str | None, pipeline: DiMoPipeline
) -> None:
    facts = {"base": base, "licences": {"base": "apache-2.0"}} if base else None
    config = dict(pipeline.config) | {"training": facts}
    _, front_matter, _ = model_card(config, "Wan", "Implicit").split("---\n", 2)
    assert "library_name: diffusers" in front_matter and "license" not in front_matter
    assert (stated or "") in front_matter and ("base_model" in front_matter) == (stated is not None)


def test_a_reference_that_is_the_first_frame_allows_no_windows(tiny_base: Path, make_dimo: Callable[..., DiMo]) -> None:
    pipeline = tiny_pipeline(tiny_base, make_dimo(reference="first_frame"))
    with pytest.raises(ValueError, match=r"17, more than the 9 of training.*train with reference 'prefix'"):
        sampled(pipeline, num_frames=17, driving=driving(17))


@pytest.mark.parametrize("content", [None, b"no image"])
def test_a_reference_that_cannot_be_read_is_named(
    content: bytes | None, pipeline: DiMoPipeline, tmp_path: Path
) -> None:
    path = tmp_path / "me.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"me\.png.*not a readable image"):
        sampled(pipeline, reference=path)


def test_a_part_without_its_weights_is_named(folder: Path) -> None:
    (folder / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"transformer lacks its weights, \*\.safetensors: copy the whole pipeline"):
        DiMoPipeline.from_pretrained(folder)


def test_a_missing_shard_of_weights_is_named(pipeline: DiMoPipeline, tmp_path: Path) -> None:
    pipeline.save_pretrained(tmp_path, max_shard_size="100KB")
    shard = sorted((tmp_path / "transformer").glob("*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(ValueError, match=f"transformer lacks its weights, {shard.name}"):
        DiMoPipeline.from_pretrained(tmp_path)


def test_a_missing_part_is_named(folder: Path) -> None:
    (folder / "control").rename(folder / "elsewhere")
    with pytest.raises(ValueError, match="lacks the folder control: copy the whole pipeline"):
        DiMoPipeline.from_pretrained(folder)


def test_a_folder_that_is_no_pipeline_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no pipeline at .*: model_index\.json is missing"):
        DiMoPipeline.from_pretrained(tmp_path)


def test_weights_in_shards_load(pipeline: DiMoPipeline, tmp_path: Path) -> None:
    pipeline.save_pretrained(tmp_path, max_shard_size="100KB")
    assert len(list((tmp_path / "transformer").glob("*.safetensors"))) > 1
    again = DiMoPipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    assert torch.equal(sampled(again), sampled(pipeline))


def test_a_prompt_that_is_too_long_is_cut_with_a_warning(
    pipeline: DiMoPipeline, caplog: pytest.LogCaptureFixture
) -> None:
    embeds, mask = pipeline.encode_prompt("zebra " * 600)
    assert embeds.shape == (1, 512, 32) and mask.all()
    assert "the prompt is too long: only its first 512 tokens are used" in caplog.text


def test_a_prompt_that_fits_gives_no_warning(pipeline: DiMoPipeline, caplog: pytest.LogCaptureFixture) -> None:
    assert pipeline.encode_prompt("The camera arcs left.")[0].shape[1] < 20
    assert not caplog.records


def test_the_card_says_what_the_model_was_made_of(
    tiny_base: Path, make_dimo: Callable[..., DiMo], tmp_path: Path
) -> None:
    facts = {
        "release": "dance@3",
        "release_sha256": "ab" * 32,
        "base": "tiny",
        "licences": {"base": "apache-2.0", "data": {"CC-BY-4.0": 7}},
        "attributions": ["Ann (CC-BY-4.0)"],
        "config": {"seed": 7, "model": {"control": "implicit"}},
    }
    pipeline = tiny_pipeline(tiny_base, make_dimo(), training=facts)
    pipeline.save_pretrained(tmp_path / "one")
    DiMoPipeline.from_pretrained(tmp_path / "one").save_pretrained(tmp_path / "two")
    card = (tmp_path / "two" / "README.md").read_text()
    assert card == (tmp_path / "one" / "README.md").read_text()
    for said in ("dance@3", "ab" * 32, "| data: CC-BY-4.0 | 7 pairs |", "apache-2.0", "- Ann (CC-BY-4.0)", "64 x 32"):
        assert said in card
    assert "| model.control | implicit |" in card and "DiMoPipeline.from_pretrained" in card
    assert json.loads((tmp_path / "two" / "training.json").read_text()) == facts


def test_a_grey_reference_is_no_error(pipeline: DiMoPipeline) -> None:
    assert sampled(pipeline, reference=Image.new("L", (40, 40))).isfinite().all()
