"""Pipelines that were saved when the packages had other names load."""

import json
from collections.abc import Callable
from pathlib import Path

import torch

from opendimo.model.dimo import DiMo
from opendimo.model.pipeline import DiMoPipeline
from tests.model.pipelines import sampled, tiny_pipeline


def test_a_pipeline_of_packages_without_opendimo_loads(
    tiny_base: Path, make_dimo: Callable[..., DiMo], tmp_path: Path
) -> None:
    pipeline = tiny_pipeline(tiny_base, make_dimo(trained=True))
    pipeline.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["transformer"][0].startswith("opendimo.model.") and index["control"][0].startswith("opendimo.model.")
    for part in ("transformer", "control"):
        index[part][0] = index[part][0].removeprefix("opendimo.")
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    again = DiMoPipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    assert torch.equal(sampled(again), sampled(pipeline))
