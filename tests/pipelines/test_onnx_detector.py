"""Person detectors in ONNX files: all exported layouts give the same people, from frames of any shape."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from opendimo.pipelines.clips.cut import ClipsConfig, clips_of
from opendimo.pipelines.clips.stage import ClipsStage
from opendimo.pipelines.people.batches import OnnxDetector
from opendimo.pipelines.people.boxes import iou
from opendimo.pipelines.people.onnx_boxes import OnnxBoxes, OnnxConfig
from opendimo.storage_schemas.settings import load_settings
from tests.pipelines.clip_sources import source_row
from tests.pipelines.test_cutting import made

pytest.importorskip("onnxruntime", reason="needs the extra onnx")
onnx = pytest.importorskip("onnx", reason="needs the extra dev")
from tests.pipelines.onnx_models import LAYOUTS, SQUARE, write_model  # noqa: E402

BROWN, RED = (150, 90, 90), (255, 20, 20)  # brown is redder than grey: not normalised as in training, it would be found


def picture(size: tuple[int, int], *squares: tuple[float, float], scale: float) -> np.ndarray:
    """Return a brown picture (width, height) with red squares that have `SQUARE` pixels after scaling."""
    image = np.full((size[1], size[0], 3), BROWN, np.uint8)
    half = SQUARE / scale / 2
    for x, y in squares:
        image[round(y - half) : round(y + half), round(x - half) : round(x + half)] = RED
    return image


def box(x: float, y: float, scale: float) -> np.ndarray:
    half = SQUARE / scale / 2
    return np.float32([x - half, y - half, x + half, y + half])


@pytest.mark.parametrize(
    ("kind", "layout"), [*(("yolox", layout) for layout in LAYOUTS), ("rtmdet", "nms"), ("rtmdet", "no nms")]
)
@pytest.mark.parametrize(("size", "scale"), [((320, 256), 0.5), ((640, 320), 0.25), ((200, 256), 0.5), ((80, 64), 2.0)])
def test_people_are_found_where_they_are(
    tmp_path: Path, kind: str, layout: str, size: tuple[int, int], scale: float
) -> None:
    path = write_model(tmp_path / f"tiny_{kind}.onnx", layout, normalised=kind == "rtmdet")
    centre = size[0] / 2, size[1] / 2
    (found,) = OnnxBoxes(OnnxConfig(str(path))).detect([picture(size, centre, scale=scale)])
    expected = np.clip(box(*centre, scale), 0, np.tile(size, 2))
    assert iou(found[0, :4], expected) > 0.6 and found[0, 4] > 0.5
    assert (found[:, :4] >= 0).all() and (found[:, 2] <= size[0]).all() and (found[:, 3] <= size[1]).all()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_two_people_are_two_boxes_and_nobody_is_none(tmp_path: Path, layout: str) -> None:
    boxes = OnnxBoxes(OnnxConfig(str(write_model(tmp_path / "yolox.onnx", layout))))
    centres = (70.0, 70.0), (250.0, 180.0)
    both, nobody = boxes.detect([picture((320, 256), *centres, scale=0.5), picture((320, 256), scale=0.5)])
    assert len(nobody) == 0
    for centre in centres:
        assert max(iou(row[:4], box(*centre, 0.5)) for row in both) > 0.6
    assert all(min(np.abs((row[:2] + row[2:4]) / 2 - c).max() for c in centres) < 66 for row in both)


@pytest.mark.parametrize("batch", ["N", 1, 4])
def test_any_number_of_frames_per_call_gives_the_same_people(tmp_path: Path, batch: int | str) -> None:
    boxes = OnnxBoxes(OnnxConfig(str(write_model(tmp_path / "yolox.onnx", "grid", batch=batch)), batch=3))
    assert boxes.batch == (3 if batch == "N" else batch)
    images = [picture((320, 256), (80.0 + 16 * k, 100.0), scale=0.5) for k in range(5)]
    together, alone = boxes.detect(images), [boxes.detect([image])[0] for image in images]
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    assert len({tuple(found[0]) for found in together}) > 1


def constant_model(path: Path, *shapes: tuple[int, ...], channels: int = 3) -> Path:
    """Write a model whose outputs are zeros of `shapes`."""
    from onnx import TensorProto, helper

    values = [helper.make_tensor(f"zero{k}", TensorProto.FLOAT, s, np.zeros(s).ravel()) for k, s in enumerate(shapes)]
    nodes = [helper.make_node("Constant", [], [f"out{k}"], value=value) for k, value in enumerate(values)]
    outputs = [helper.make_tensor_value_info(f"out{k}", TensorProto.FLOAT, shape) for k, shape in enumerate(shapes)]
    given = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, channels, 128, 128])
    graph = helper.make_graph(nodes, "zeros", [given], outputs)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


@pytest.mark.parametrize(
    ("shapes", "channels", "message"),
    [
        ([(1, 84, 8400)], 3, r"\[1, 84, 8400\] is not that of YOLOX, \[1, 336, '5 \+ C'\] for an input of 128 x 128"),
        ([(1, 300, 4), (1, 200, 80)], 3, "are not those of RTMDet or YOLOX"),
        ([(1, 300, 7), (1, 300), (1, 1)], 3, "are not those of RTMDet or YOLOX"),
        ([(1, 100, 5), (1, 100)], 3, "say kind = 'rtmdet' or 'yolox'"),
        ([(1, 84, 85)], 1, r"the input is not \[N, 3, height, width\] but input \[1, 1, 128, 128\]"),
    ],
)
def test_other_layouts_are_refused_by_name(
    tmp_path: Path, shapes: list[tuple[int, ...]], channels: int, message: str
) -> None:
    path = constant_model(tmp_path / "model.onnx", *shapes, channels=channels)
    with pytest.raises(ValueError, match=message) as caught:
        OnnxBoxes(OnnxConfig(str(path)))
    assert str(path) in str(caught.value)


def test_what_cannot_be_used_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no ONNX file at"):
        OnnxBoxes(OnnxConfig(str(tmp_path / "missing.onnx")))
    (tmp_path / "yolox.onnx").write_bytes(b"no model")
    with pytest.raises(ValueError, match="cannot be loaded"):
        OnnxBoxes(OnnxConfig(str(tmp_path / "yolox.onnx")))
    path = write_model(tmp_path / "yolox.onnx", "grid")
    with pytest.raises(ValueError, match="kind is 'detr'"):
        OnnxBoxes(OnnxConfig(str(path), kind="detr"))
    with pytest.raises(ValueError, match="CUDAExecutionProvider"):
        OnnxBoxes(OnnxConfig(str(path), device="cuda"))


def test_clips_are_cut_with_a_detector_in_a_file(tmp_path: Path) -> None:
    model = write_model(tmp_path / "yolox.onnx", "pixels")
    (tmp_path / "clips.toml").write_text(f'[people.onnx]\npath = "{model}"\nbatch = 4\n')
    config = load_settings(tmp_path / "clips.toml", ClipsConfig)
    assert config.people.onnx == OnnxConfig(str(model), batch=4)
    moves = [(100.0 + 2 * k, 100.0) for k in range(50)]
    path = made(tmp_path / "a.mp4", [picture((320, 256), centre, scale=0.5) for centre in moves])
    assert config.people.onnx is not None
    (clip,) = clips_of(source_row(path), config, OnnxDetector(config.people.onnx, 6))["clips"]
    assert clip["people"] == 1 and clip["person_share"] == 1
    overlaps = [iou(found, box(*centre, 0.5)) for found, centre in zip(clip["track"], moves, strict=True)]
    assert np.median(overlaps) > 0.6


def test_work_keys_hold_the_content_of_the_file_not_its_path(tmp_path: Path) -> None:
    def stage(name: str, layout: str, device: str = "cpu") -> ClipsStage:
        path = write_model(tmp_path / f"{name}_yolox.onnx", layout)
        people = replace(ClipsConfig().people, onnx=OnnxConfig(str(path), device=device))
        return ClipsStage(str(tmp_path), ClipsConfig(people=people))

    a, b, other = stage("a", "grid"), stage("b", "grid", "cuda"), stage("c", "pixels")
    assert a.weights == b.weights != other.weights and "ONNX" in a.weights
    assert a.config.identity() == b.config.identity()
    assert (a.needs.gpus, b.needs.gpus) == (0, 1)
