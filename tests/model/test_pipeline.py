from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from opendimo.model.controls import CONTROLS
from opendimo.model.dimo import DiMo
from opendimo.model.pipeline import DiMoPipeline
from opendimo.model.pipeline.pictures import fitted, open_image
from opendimo.model.vae import encode
from opendimo.storage_schemas.media.video import centre_crop
from tests.model.pipelines import WINDOW, driving, picture, sampled, tiny_pipeline

Make = Callable[..., DiMoPipeline]


@pytest.fixture
def make_pipeline(tiny_bases: dict[str, Path], make_dimo: Callable[..., DiMo]) -> Make:
    def make(family: str = "wan", **changes: Any) -> DiMoPipeline:
        return tiny_pipeline(tiny_bases[family], make_dimo(family=family, trained=True, **changes))

    return make


def loaded(path: Path, **options: Any) -> DiMoPipeline:
    pipeline = DiMoPipeline.from_pretrained(path, **options)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.mark.parametrize("control", CONTROLS)
def test_it_goes_to_disk_and_back_and_generates_the_same_bits(
    control: str, family: str, make_pipeline: Make, tmp_path: Path
) -> None:
    pipeline = make_pipeline(family, control=control)
    pipeline.save_pretrained(tmp_path)
    assert len(list(tmp_path.glob("*/*.safetensors"))) == 4
    again = loaded(tmp_path)
    assert type(again.control) is CONTROLS[control]
    assert {name: again.config[name] for name in WINDOW} == WINDOW
    assert torch.equal(sampled(again), sampled(pipeline))


def test_it_generates_in_half_precision(family: str, make_pipeline: Make, tmp_path: Path) -> None:
    make_pipeline(family).save_pretrained(tmp_path)
    pipeline = loaded(tmp_path, dtype=torch.bfloat16)
    assert pipeline.transformer.dtype == pipeline.control.dtype == torch.bfloat16
    latents = sampled(make_pipeline(family))
    assert (sampled(pipeline).float() - latents).abs().mean() < 0.1 * latents.std()


@pytest.mark.parametrize("control", CONTROLS)
def test_every_control_works_in_half_precision(control: str, family: str, make_pipeline: Make) -> None:
    assert sampled(make_pipeline(family, control=control).to(torch.bfloat16)).isfinite().all()


def test_size_and_length_are_those_of_training_unless_asked_for(make_pipeline: Make) -> None:
    pipeline = make_pipeline()
    assert sampled(pipeline).shape == (1, 8, 3, 8, 16)
    assert sampled(pipeline, num_frames=5, height=48, width=32).shape == (1, 8, 2, 12, 8)


def test_frames_come_as_arrays_tensors_and_images(make_pipeline: Make) -> None:
    pipeline = make_pipeline()
    array, tensor = (sampled(pipeline, output_type=kind) for kind in ("np", "pt"))
    assert array.shape == (1, 9, 32, 64, 3) and array.dtype == np.float32
    assert tensor.shape == (1, 9, 3, 32, 64)
    assert np.array_equal(tensor.permute(0, 1, 3, 4, 2).numpy(), array)
    assert 0 <= array.min() < array.max() <= 1 and array.std() > 0.01
    [images] = sampled(pipeline, output_type="pil")
    assert [image.size for image in images] == [(64, 32)] * 9
    assert np.array_equal(np.asarray(images[3]), (255 * array[0, 3]).round().astype(np.uint8))


def test_a_tuple_comes_where_no_dict_is_asked_for(make_pipeline: Make) -> None:
    out = make_pipeline()(picture(), driving(), "", num_inference_steps=1, output_type="latent", return_dict=False)
    assert isinstance(out, tuple) and out[0].shape == (1, 8, 3, 8, 16)


def test_the_same_seed_gives_the_same_bits_and_another_one_does_not(make_pipeline: Make) -> None:
    pipeline = make_pipeline()
    first = sampled(pipeline)
    assert torch.equal(sampled(pipeline), first)
    assert not torch.equal(sampled(pipeline, generator=torch.Generator().manual_seed(1)), first)


def test_given_noise_is_where_sampling_begins(make_pipeline: Make) -> None:
    pipeline = make_pipeline()
    noise = torch.randn(1, 8, 3, 8, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(sampled(pipeline, latents=noise, generator=None), sampled(pipeline))
    with pytest.raises(ValueError, match=r"latents must have shape \[1, 8, 3, 8, 16\], not \[1, 8, 2, 8, 16\]"):
        sampled(pipeline, latents=noise[:, :, :2])


def test_driver_and_prompt_change_the_video(make_pipeline: Make) -> None:
    pipeline = make_pipeline()
    first = sampled(pipeline)
    for change in ({"driving": driving(seed=1)}, {"prompt": "The camera zooms in."}):
        assert (sampled(pipeline, **change) - first).abs().max() > 1e-3


@pytest.mark.parametrize("mode", ["prefix", "first_frame"])
def test_the_reference_stays_clean_at_every_step(mode: str, family: str, make_pipeline: Make) -> None:
    pipeline, seen, shown = make_pipeline(family, reference=mode), [], []
    transformer = pipeline.transformer
    entrance = transformer.patch_embedding if family == "wan" else transformer.x_embedder.proj
    entrance.register_forward_pre_hook(lambda _, args: seen.append(args[0].clone()))

    def look(_: Any, step: int, t: torch.Tensor, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        shown.append((tensors["latents"][:, :, :1].clone(), tensors["reference_latents"].clone()))
        return {}

    names = ("latents", "reference_latents")
    sampled(pipeline, callback_on_step_end=look, callback_on_step_end_tensor_inputs=names)
    clean = encode(pipeline.vae, fitted(picture(), 32, 64)).detach()
    assert len(seen) == len(shown) == 2
    assert all(torch.equal(reference, clean) for _, reference in shown)
    assert seen[0].shape[2] == 3 + (mode == "prefix")
    if family == "hunyuan":  # the condition's channels; latent frame 0 is predicted in either mode
        assert all(torch.equal(x[:, 8:16, :1], clean.expand(len(x), -1, -1, -1, -1)) for x in seen)
    if family == "wan" or mode == "prefix":
        assert all(torch.equal(x[:, :8, :1], clean.expand(len(x), -1, -1, -1, -1)) for x in seen)
    given = family == "wan" and mode == "first_frame"
    assert all(torch.equal(first, clean) == given for first, _ in shown)


def test_a_callback_sees_every_step_and_may_change_the_latents(make_pipeline: Make) -> None:
    pipeline, steps = make_pipeline(), []

    def silence(pipe: Any, step: int, t: torch.Tensor, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        assert pipe is pipeline and list(tensors) == ["latents"]
        steps.append((step, float(t)))
        return {"latents": torch.zeros_like(tensors["latents"])}

    assert not sampled(pipeline, callback_on_step_end=silence).any()
    assert [step for step, _ in steps] == [0, 1]
    # from noise evenly to data, shifted by 3 once: 3 s / (1 + 2 s)
    assert [t for _, t in steps] == pytest.approx([1000, 750])


def test_sampling_shows_its_progress(make_pipeline: Make, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline = make_pipeline()
    pipeline.set_progress_bar_config(disable=False)
    sampled(pipeline)
    assert "2/2" in capsys.readouterr().err


def test_offloading_goes_through_all_models_in_the_order_of_use(make_pipeline: Make) -> None:
    pipeline = make_pipeline()
    models = {name for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}
    order = pipeline.model_cpu_offload_seq.split("->")
    assert set(order) == models and len(order) == len(models)
    assert order.index("control") < order.index("transformer") < order.index("vae")


def test_offloaded_it_gives_the_same_bits(family: str, make_pipeline: Make) -> None:
    # not the empty prompt: it is one token, whose products vary by 7e-7 with the memory address of the weights
    given = {"negative_prompt": "The camera shakes.", "output_type": "pt"}
    expected = sampled(make_pipeline(family), **given)
    pipeline = make_pipeline(family)
    pipeline.enable_model_cpu_offload(device="cpu")  # the hooks used for a GPU, on the CPU
    assert all(hasattr(getattr(pipeline, name), "_hf_hook") for name in pipeline.model_cpu_offload_seq.split("->"))
    assert torch.equal(sampled(pipeline, **given), expected)


def test_the_vae_of_hunyuan_works_in_tiles_until_it_is_told_not_to(make_pipeline: Make, tmp_path: Path) -> None:
    make_pipeline("hunyuan").save_pretrained(tmp_path)
    pipeline = loaded(tmp_path)
    assert pipeline.vae.use_tiling
    pipeline.vae.disable_tiling()
    sampled(pipeline, output_type="pt")
    assert not pipeline.vae.use_tiling


@pytest.mark.parametrize("shape", [(90, 160), (160, 90), (33, 64), (20, 30)])
def test_the_reference_is_cut_as_the_frames_of_targets_are(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (*shape, 3), dtype=np.uint8)
    [expected] = centre_crop(pixels[None], 64, 32)
    assert np.array_equal((255 * fitted(Image.fromarray(pixels), 32, 64)[0, :, 0]).permute(1, 2, 0).round(), expected)


def test_the_reference_may_be_a_file_and_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it a quarter turn clockwise
    Image.new("L", (30, 20)).save(tmp_path / "phone.jpg", exif=exif)
    image = open_image(tmp_path / "phone.jpg")
    assert (image.size, image.mode) == ((20, 30), "RGB")
