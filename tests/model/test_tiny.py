import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from opendimo.model.tiny import make_tiny_base

CLASSES = {
    "wan": ("WanTransformer3DModel", "AutoencoderKLWan", "UMT5EncoderModel"),
    "hunyuan": ("HunyuanVideo15Transformer3DModel", "AutoencoderKLHunyuanVideo15", "Qwen2_5_VLTextModel"),
}


def weights(base: Path) -> dict[str, torch.Tensor]:
    return {f"{f.parent.name}.{k}": v for f in base.glob("*/*.safetensors") for k, v in load_file(f).items()}


def test_a_tiny_base_is_of_the_real_classes(family: str, tiny_bases: dict[str, Path]) -> None:
    index = json.loads((tiny_bases[family] / "model_index.json").read_text())
    assert tuple(index[part][1] for part in ("transformer", "vae", "text_encoder")) == CLASSES[family]


def test_a_tiny_base_follows_its_seed_and_leaves_that_of_others_alone(
    family: str, tiny_bases: dict[str, Path], tmp_path: Path
) -> None:
    before = torch.random.get_rng_state()
    same, other = (weights(make_tiny_base(tmp_path / str(seed), seed, family)) for seed in (0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    first = weights(tiny_bases[family])
    assert first.keys() == same.keys() and all(torch.equal(value, same[key]) for key, value in first.items())
    assert any(not torch.equal(value, other[key]) for key, value in first.items())


def test_an_unknown_family_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown family 'flux'; choose one of wan, hunyuan"):
        make_tiny_base(tmp_path, family="flux")
