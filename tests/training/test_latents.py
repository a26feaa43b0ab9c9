"""Latents of another base model, mixed formats or another window are rejected before the first step."""

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest

from opendimo.model.base_folder import encoders_id
from opendimo.model.tiny import make_tiny_base
from opendimo.storage_schemas.releases.release import Release
from opendimo.training.config import TrainConfig
from opendimo.training.latents import LatentFormat, check_latents, latent_formats
from opendimo.training.release import Pairs, read_pairs
from opendimo.training.trainer import train
from tests.training.made_pairs import rig


@pytest.fixture(scope="module")
def latents(release: Release) -> LatentFormat:
    [latents] = latent_formats(release, read_pairs(release, "train")).values()
    return latents


def test_latents_are_those_of_the_base_model_that_made_them(latents: LatentFormat, base: Path) -> None:
    assert latents == LatentFormat(encoders_id(base), 9, 2, 64, 64, (8, 3, 16, 16), 32)
    check_latents([latents], base, "tiny")


def test_a_base_model_with_other_weights_is_refused(
    release: Release, config: TrainConfig, base: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(base, tmp_path / "other")
    (other / "tokenizer" / "more.txt").write_text("changed")
    with pytest.raises(ValueError, match=r"the VAE and text encoder of .*other are Auto"):
        train(release, replace(config, base=str(other)), tmp_path / "out")


def test_latents_made_for_another_base_model_are_refused(release: Release, config: TrainConfig, tmp_path: Path) -> None:
    other = make_tiny_base(tmp_path / "other", family="hunyuan")
    with pytest.raises(ValueError, match=r"have shape \(8, 3, 16, 16\).* makes|were made by AutoencoderKLWan"):
        train(release, replace(config, base=str(other)), tmp_path / "out")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": (8, 5, 16, 16)}, r"have shape \(8, 5, 16, 16\), but the VAE of .* makes \(8, 3, 16, 16\)"),
        ({"shape": (48, 3, 16, 16)}, r"have shape \(48, 3, 16, 16\)"),
        ({"num_frames": 10}, "num_frames is 10, not 4 k"),
        ({"text_width": 64}, "text embeddings are 64 wide, but the transformer of .* reads 32"),
        (
            {"vae": "AutoencoderKLWan+UMT5EncoderModel:0"},
            "were made by AutoencoderKLWan.UMT5EncoderModel:0, but the VAE",
        ),
    ],
)
def test_what_does_not_fit_is_named(
    latents: LatentFormat, base: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        check_latents([replace(latents, **changes)], base)


def test_a_preset_that_states_its_window_wants_that(latents: LatentFormat, base: Path) -> None:
    with pytest.raises(ValueError, match=r"wan2\.2-ti2v-5b trains on 121 frames of 480 x 832.* 9 frames of 64 x 64"):
        check_latents([latents], base, "wan2.2-ti2v-5b")


def rows(*changes: dict[str, object]) -> tuple[SimpleNamespace, Pairs]:
    """A release of two latents and one unused row, and pairs of them."""
    pairs = Pairs.of(rig("one", 2, windows=1))
    usual = {"vae": "v", "num_frames": 9, "frame_step": 2, "width": 64, "height": 64}
    shapes = {"shape": [8, 3, 16, 16], "text_shape": [5, 32]}
    listed = [
        {"latent_id": name, **usual, **shapes, **change}
        for name, change in zip(["one 0 0", "one 1 0", "unused"], changes, strict=False)
    ]
    return SimpleNamespace(scan=lambda _, columns: pa.Table.from_pylist(listed).select(columns)), pairs


def test_texts_may_differ_in_length_and_unused_latents_in_everything() -> None:
    latents = latent_formats(*rows({}, {"text_shape": [9, 32]}, {"vae": "other", "width": 128}))
    assert latents == {"64x64x9": LatentFormat("v", 9, 2, 64, 64, (8, 3, 16, 16), 32)}


@pytest.mark.parametrize(
    "change", [{"vae": "w"}, {"shape": [8, 3, 16, 8]}, {"text_shape": [5, 64]}, {"vae": "w", "width": 32}]
)
def test_latents_of_several_models_or_of_two_formats_in_a_bucket_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"mixes latents.*with the same base model and windows"):
        latent_formats(*rows({}, change))


def test_latents_of_several_shapes_are_buckets() -> None:
    formats = latent_formats(*rows({}, {"width": 32, "shape": [8, 3, 16, 8]}))
    assert {bucket: one.shape for bucket, one in formats.items()} == {
        "64x64x9": (8, 3, 16, 16),
        "32x64x9": (8, 3, 16, 8),
    }


def test_pairs_of_another_window_than_their_latents_are_refused() -> None:
    with pytest.raises(ValueError, match="num_frames of the pairs is not that of their latents"):
        latent_formats(*rows({"num_frames": 13}, {"num_frames": 13}))
