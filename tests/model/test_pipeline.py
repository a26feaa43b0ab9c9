from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan
from PIL import Image

from model.dimo import DiMo
from model.latents import decode, encode
from model.pipeline import DiMoPipeline

Make = Callable[..., DiMo]


@pytest.fixture
def make_pipeline(tiny_base: Path, make_dimo: Make) -> Callable[..., DiMoPipeline]:
    def make(**changes: Any) -> DiMoPipeline:
        pipeline = DiMoPipeline.from_base(tiny_base, make_dimo(trained=True, **changes))
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    return make


def inputs(seed: int = 0) -> dict[str, Any]:
    g = np.random.default_rng(seed)
    return {
        "reference": Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 160, 3), dtype=np.uint8)),
        "body": torch.from_numpy(g.random((5, 3, 64, 64), dtype=np.float32)),
        "hands": torch.from_numpy(g.random((5, 2, 3, 32, 32), dtype=np.float32)),
        "hand_ok": torch.ones(5, 2, dtype=torch.bool),
        "prompt": "The camera arcs left.",
        "num_frames": 5,
        "height": 32,
        "width": 48,
        "num_inference_steps": 2,
    }


def generate(pipeline: DiMoPipeline, **changes: Any) -> Any:
    return pipeline(**{**inputs(), **changes}, generator=torch.Generator().manual_seed(0))


def test_it_goes_to_disk_and_back_and_generates(make_pipeline: Callable[..., DiMoPipeline], tmp_path: Path) -> None:
    pipeline = make_pipeline()
    frames = generate(pipeline)
    assert frames.shape == (5, 32, 48, 3) and frames.dtype == np.uint8
    assert frames.std() > 1
    pipeline.save_pretrained(tmp_path)
    assert (tmp_path / "model_index.json").is_file()
    assert len(list(tmp_path.glob("*/*.safetensors"))) == 4
    loaded = DiMoPipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    torch.testing.assert_close(generate(loaded, output_type="latent"), generate(pipeline, output_type="latent"))


def test_it_generates_in_half_precision(make_pipeline: Callable[..., DiMoPipeline], tmp_path: Path) -> None:
    make_pipeline().save_pretrained(tmp_path)
    pipeline = DiMoPipeline.from_pretrained(tmp_path, torch_dtype=torch.bfloat16)
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline.transformer.dtype == torch.bfloat16
    frames = generate(make_pipeline()).astype(float)
    assert np.abs(generate(pipeline) - frames).mean() < 0.1 * frames.std()


def test_frames_come_as_images_or_latents_too(make_pipeline: Callable[..., DiMoPipeline]) -> None:
    pipeline = make_pipeline()
    images = generate(pipeline, output_type="pil")
    assert [image.size for image in images] == [(48, 32)] * 5
    assert generate(pipeline, output_type="latent").shape == (1, 8, 2, 8, 12)


def test_driver_and_prompt_change_the_video(make_pipeline: Callable[..., DiMoPipeline]) -> None:
    pipeline = make_pipeline()
    first = generate(pipeline, output_type="latent")
    for change in ({"body": inputs(1)["body"]}, {"hands": inputs(1)["hands"]}, {"prompt": "The camera zooms in."}):
        assert (generate(pipeline, output_type="latent", **change) - first).abs().max() > 1e-3


def test_guidance_scales_weigh_text_and_motion(make_pipeline: Callable[..., DiMoPipeline]) -> None:
    pipeline = make_pipeline()

    def latents(**changes: Any) -> torch.Tensor:
        return generate(pipeline, output_type="latent", **changes)

    # at scale 0 of one of them what remains is the prediction without it
    deaf = {"guidance_scale": 1.0, "motion_guidance_scale": 0.0}
    assert torch.equal(latents(**deaf), latents(**deaf, body=inputs(1)["body"]))
    mute = {"guidance_scale": 0.0, "motion_guidance_scale": 1.0}
    assert torch.equal(latents(**mute), latents(**mute, prompt="Something else."))
    # one step, and so a result that is linear in the scales
    points = {
        (s, m): latents(guidance_scale=s, motion_guidance_scale=m, num_inference_steps=1)
        for s, m in ((1.0, 1.0), (4.0, 1.0), (1.0, 3.0), (4.0, 3.0))
    }
    expected = points[4.0, 1.0] + points[1.0, 3.0] - points[1.0, 1.0]
    torch.testing.assert_close(points[4.0, 3.0], expected, rtol=1e-3, atol=1e-3)
    assert (points[4.0, 1.0] - points[1.0, 1.0]).abs().max() > 1e-3


@pytest.mark.parametrize(("scales", "rows"), [((1.0, 1.0), 1), ((5.0, 1.0), 2), ((1.0, 2.0), 2), ((5.0, 2.0), 3)])
def test_each_guidance_costs_one_evaluation_more(
    scales: tuple[float, float], rows: int, make_pipeline: Callable[..., DiMoPipeline]
) -> None:
    pipeline, seen = make_pipeline(), []
    pipeline.transformer.patch_embedding.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    generate(pipeline, guidance_scale=scales[0], motion_guidance_scale=scales[1])
    assert seen == [rows, rows]


@pytest.mark.parametrize("mode", ["prefix", "first_frame"])
def test_the_reference_stays_clean_at_every_step(mode: str, make_pipeline: Callable[..., DiMoPipeline]) -> None:
    pipeline, seen = make_pipeline(reference=mode), []
    pipeline.transformer.patch_embedding.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    latents = generate(pipeline, output_type="latent")
    frames = [x[:, :, 0] for x in seen]
    assert len(frames) == 2 and all(torch.equal(f, frames[0][:1].expand_as(f)) for f in frames)
    assert seen[0].shape[2] == latents.shape[2] + (mode == "prefix")
    assert not torch.equal(seen[0][:, :, 1:], seen[1][:, :, 1:])
    assert torch.equal(latents[:, :, 0], frames[0][:1]) == (mode == "first_frame")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_frames": 6}, r"num_frames is 6, not 4 k \+ 1: take 5 or 9"),
        ({"height": 36}, "height is 36, not a multiple of 8: take 32"),
        ({"width": 4}, "width is 4, not a multiple of 8: take 8"),
        ({"num_frames": 9}, r"body must have shape \[9, 3, 64, 64\], not \[5, 3, 64, 64\]"),
        ({"hand_ok": torch.ones(5)}, r"hand_ok must have shape \[5, 2\]"),
    ],
)
def test_impossible_sizes_are_refused_with_a_way_out(
    change: dict[str, Any], message: str, make_pipeline: Callable[..., DiMoPipeline]
) -> None:
    with pytest.raises(ValueError, match=message):
        generate(make_pipeline(), **change)


def test_the_reference_is_cropped_around_its_centre() -> None:
    image = Image.new("RGB", (200, 100), (0, 0, 255))
    image.paste((255, 0, 0), (50, 0, 150, 100))
    pixels = DiMoPipeline._pixels(image, 32, 32)
    assert pixels.shape == (1, 3, 1, 32, 32)
    assert pixels[:, 0].mean() > 0.99 and pixels[:, 2].mean() < 0.01


def test_long_prompts_are_cut_with_a_warning(
    make_pipeline: Callable[..., DiMoPipeline], caplog: pytest.LogCaptureFixture
) -> None:
    embedding = make_pipeline().encode_prompt("zebra " * 100)
    assert embedding.shape == (1, 64, 32)
    assert "only 64 are read" in caplog.text


def test_latents_are_normalised_by_the_statistics_of_the_vae(tiny_base: Path) -> None:
    vae = AutoencoderKLWan.from_pretrained(tiny_base / "vae")
    video = torch.rand(1, 3, 5, 32, 32)
    with torch.no_grad():
        raw = encode(vae, video)
        assert raw.shape == (1, 8, 2, 8, 8)
        vae.register_to_config(latents_mean=[0.5] * 8, latents_std=[2.0] * 8)
        torch.testing.assert_close(encode(vae, video), (raw - 0.5) / 2)
        decoded = decode(vae, encode(vae, video))
        assert decoded.shape == video.shape
        vae.register_to_config(latents_mean=[0.0] * 8, latents_std=[1.0] * 8)
        torch.testing.assert_close(decoded, decode(vae, raw), rtol=1e-4, atol=1e-4)
