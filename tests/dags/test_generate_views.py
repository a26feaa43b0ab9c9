"""`dimo generate --cameras`, by the function behind it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from opendimo.dags.generate import CONSISTENCY, animate
from opendimo.model.config import DiMoConfig
from opendimo.model.dimo import DiMo
from opendimo.model.pipeline import DiMoPipeline
from opendimo.model.tiny import make_tiny_base
from opendimo.storage_schemas.media.video import decode, probe
from opendimo.training.generate import Sampling


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random tiny pipeline whose control draws bone maps in the target's camera."""
    folder = tmp_path_factory.mktemp("views")
    base = make_tiny_base(folder / "base")
    model = DiMo.from_base(base, replace(DiMoConfig.tiny(), control="hvg_pose", view_attention=True))
    DiMoPipeline.from_base(base, model, num_frames=9, height=32, width=64).save_pretrained(folder / "pipeline")
    return folder / "pipeline"


def test_each_camera_gets_a_video_and_the_record_says_how_far_they_agree(
    pipeline: Path, data: Path, tmp_path: Path
) -> None:
    reference = tmp_path / "me.png"
    Image.new("RGB", (64, 32), "grey").save(reference)
    driving, out = data / "internet" / "juggle_static_fullbody.mp4", tmp_path / "views.mp4"
    made = animate(pipeline, reference, driving, "A man.", out, Sampling(2), cameras="orbit:3")
    assert made == out and (probe(out).width, probe(out).height) == (3 * 64, 32)
    each = [decode(tmp_path / f"views-{k}.mp4") for k in range(3)]
    assert [video.shape for video in each] == 3 * [(9, 32, 64, 3)]
    record = json.loads((tmp_path / "views.json").read_text())
    assert record["cameras"] == "orbit:3" and record[CONSISTENCY].startswith("view consistency: not measured")
    before = out.stat().st_mtime_ns
    assert animate(pipeline, reference, driving, "A man.", out, Sampling(2), cameras="orbit:3") == out
    assert out.stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="ask for 1 to 64"):
        animate(pipeline, reference, driving, "A man.", out, Sampling(2), cameras="orbit:0")
