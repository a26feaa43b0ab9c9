"""diffusers' ways to load a pipeline and to change it: its generic class, quantisation, LoRA."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline, QuantoConfig
from diffusers.quantizers import PipelineQuantizationConfig
from peft import LoraConfig, get_peft_model_state_dict

from opendimo.model.dimo import DiMo
from opendimo.model.pipeline import DiMoPipeline
from tests.model.pipelines import sampled, tiny_pipeline


@pytest.fixture
def pipeline(family: str, tiny_bases: dict[str, Path], make_dimo: Callable[..., DiMo]) -> DiMoPipeline:
    return tiny_pipeline(tiny_bases[family], make_dimo(family=family, trained=True))


def test_the_generic_class_of_diffusers_loads_a_saved_pipeline(pipeline: DiMoPipeline, tmp_path: Path) -> None:
    pipeline.save_pretrained(tmp_path)
    again = DiffusionPipeline.from_pretrained(tmp_path, trust_remote_code=True)
    assert type(again) is DiMoPipeline
    again.set_progress_bar_config(disable=True)
    assert torch.equal(sampled(again), sampled(pipeline))


def test_our_class_runs_no_code_of_the_folder(pipeline: DiMoPipeline, tmp_path: Path) -> None:
    pipeline.save_pretrained(tmp_path)
    (tmp_path / "pipeline.py").write_text("raise RuntimeError('run')\n")
    assert type(DiMoPipeline.from_pretrained(tmp_path)) is DiMoPipeline


def test_a_pipeline_saved_without_code_loads(pipeline: DiMoPipeline, tmp_path: Path) -> None:
    pipeline.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    (tmp_path / "model_index.json").write_text(json.dumps(index | {"_class_name": "DiMoPipeline"}))
    (tmp_path / "pipeline.py").unlink()
    assert type(DiMoPipeline.from_pretrained(tmp_path)) is DiMoPipeline


def test_a_quantisation_reaches_diffusers(
    pipeline: DiMoPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.save_pretrained(tmp_path)
    monkeypatch.setattr("diffusers.quantizers.quanto.quanto_quantizer.is_optimum_quanto_available", lambda: False)
    config = PipelineQuantizationConfig(quant_mapping={"transformer": QuantoConfig("int8")})
    with pytest.raises(ImportError, match="requires optimum-quanto library"):
        DiMoPipeline.from_pretrained(tmp_path, quantization_config=config)


@pytest.fixture
def lora(pipeline: DiMoPipeline, tmp_path: Path) -> Path:
    """Save a random LoRA of the self-attention and of the motion attention, in peft's format; leave no trace."""
    transformer = pipeline.transformer
    torch.manual_seed(0)
    config = LoraConfig(r=4, target_modules=["to_q", "to_v"], init_lora_weights=False)
    transformer.add_adapter(config, adapter_name="made")
    weights = get_peft_model_state_dict(transformer, adapter_name="made")
    assert any(".motion.to_q" in name for name in weights) and any(".attn" in name for name in weights)
    DiMoPipeline.save_lora_weights(tmp_path / "lora", weights)
    transformer.delete_adapters("made")
    transformer.unload_lora()
    return tmp_path / "lora"


def test_a_lora_changes_the_video_until_it_is_unloaded(pipeline: DiMoPipeline, lora: Path) -> None:
    before = sampled(pipeline)
    pipeline.load_lora_weights(lora)
    changed = sampled(pipeline)
    assert (changed - before).abs().max() > 0.01
    assert torch.equal(sampled(pipeline, attention_kwargs={"scale": 0.0}), before)
    pipeline.unload_lora_weights()
    assert torch.equal(sampled(pipeline), before)
