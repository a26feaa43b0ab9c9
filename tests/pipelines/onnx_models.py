"""Write tiny detectors in the layouts of RTMDet and YOLOX: they find red squares. Other classes are random."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CLASSES, STRIDES, SQUARE = 80, (8, 16, 32), 64  # pixels of the input, side of the boxes
LAYOUTS = ("grid", "pixels", "nms", "no nms")


def write_model(
    path: Path, layout: str, normalised: bool = False, size: tuple[int, int] = (128, 160), batch: int | str = "N"
) -> Path:
    """Write a detector for inputs of `size` (height, width); `normalised` as RTMDet's.

    Layouts: `grid` and `pixels` are YOLOX's [N, A, 85], not decoded and decoded; `nms` is MMDeploy's [N, K, 5] and
    [N, K]; `no nms` [N, A, 4] and [N, A, 80].
    """
    graph = _Graph()
    parts = [_head(graph, stride, normalised) for stride in STRIDES]
    raw = graph.add("Concat", parts, axis=1)  # [N, A, 85]
    outputs = {"grid": [raw]}.get(layout) or _decoded(graph, raw, layout, size)
    kinds = [TensorProto.INT64 if layout == "nms" and k else TensorProto.FLOAT for k in range(len(outputs))]
    names = ["output"] if len(outputs) == 1 else ["dets", "labels"]
    for name, output in zip(names, outputs, strict=True):
        graph.nodes.append(helper.make_node("Identity", [output], [name]))
    shapes = {"nms": [[batch, 20, 5], [batch, 20]], "no nms": [[batch, None, 4], [batch, None, CLASSES]]}
    values = [
        helper.make_tensor_value_info(name, kind, shape)
        for name, kind, shape in zip(names, kinds, shapes.get(layout, [[batch, None, 5 + CLASSES]]), strict=True)
    ]
    given = helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, *size])
    made = helper.make_graph(graph.nodes, "tiny", [given], values, graph.constants)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


class _Graph:
    """Collects nodes and constants."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, value: object, kind: type = np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, kind), name))
        return name

    def add(self, operator: str, inputs: list[str], outputs: int = 1, **attributes: object) -> str:
        names = [f"n{len(self.nodes)}_{k}" for k in range(outputs)]
        self.nodes.append(helper.make_node(operator, inputs, names, **attributes))
        return names[0]


def _head(graph: _Graph, stride: int, normalised: bool) -> str:
    """Return [N, cells, 85] of one grid; only the grid of 8 pixels finds something."""
    pads = [(SQUARE - stride) // 2] * 4  # the mean of a whole square, so that the cell at its centre is the best
    pooled = graph.add("AveragePool", ["images"], kernel_shape=[SQUARE, SQUARE], strides=[stride, stride], pads=pads)
    box = np.float32([0.5, 0.5, np.log(SQUARE / stride), np.log(SQUARE / stride)])
    red, least = (6.0, 20.0) if normalised else (0.1, 20.0)  # red less green, in the units of the input
    weights = np.random.default_rng(stride).normal(0, 0.01, (1 + CLASSES, 3))
    weights[0], weights[1] = (0, -red, red), 0  # BGR
    bias = np.full(1 + CLASSES, -3.0)
    bias[0], bias[1] = -least if stride == 8 else -1000, 5.0
    boxes = graph.add("Conv", [pooled, graph.constant(np.zeros((4, 3, 1, 1))), graph.constant(box)])
    scores = graph.add("Conv", [pooled, graph.constant(weights[:, :, None, None]), graph.constant(bias)])
    both = graph.add("Concat", [boxes, graph.add("Sigmoid", [scores])], axis=1)
    flat = graph.add("Reshape", [both, graph.constant([0, 5 + CLASSES, -1], np.int64)])
    return graph.add("Transpose", [flat], perm=[0, 2, 1])


def _decoded(graph: _Graph, raw: str, layout: str, size: tuple[int, int]) -> list[str]:
    cells, strides = [], []
    for stride in STRIDES:
        y, x = np.mgrid[: size[0] // stride, : size[1] // stride]
        cells.append(np.stack([x.ravel(), y.ravel()], 1))
        strides += [stride] * x.size
    stride = graph.constant(np.array(strides)[:, None])

    def part(first: int, last: int) -> str:
        ends = [graph.constant([value], np.int64) for value in (first, last, 2)]
        return graph.add("Slice", [raw, *ends])

    centre = graph.add("Mul", [graph.add("Add", [part(0, 2), graph.constant(np.concatenate(cells))]), stride])
    sides = graph.add("Mul", [graph.add("Exp", [part(2, 4)]), stride])
    if layout == "pixels":
        return [graph.add("Concat", [centre, sides, part(4, 5 + CLASSES)], axis=2)]
    half = graph.add("Mul", [sides, graph.constant(0.5)])
    corners = graph.add("Concat", [graph.add("Sub", [centre, half]), graph.add("Add", [centre, half])], axis=2)
    scores = graph.add("Mul", [part(4, 5), part(5, 5 + CLASSES)])
    if layout == "no nms":
        return [corners, scores]
    best = graph.add("ReduceMax", [scores], axes=[2], keepdims=1)  # [N, A, 1]
    top = graph.add("TopK", [best, graph.constant([20], np.int64)], outputs=2, axis=1)  # [N, 20, 1]
    index = top[:-1] + "1"
    four = graph.add("Expand", [index, graph.constant([1, 1, 4], np.int64)])
    kept = graph.add("GatherElements", [corners, four], axis=1)
    labels = graph.add("GatherElements", [graph.add("ArgMax", [scores], axis=2, keepdims=1), index], axis=1)
    last = graph.constant([2], np.int64)
    return [graph.add("Concat", [kept, top], axis=2), graph.add("Squeeze", [labels, last])]


def write_whole_body(path: Path, size: tuple[int, int] = (384, 288), keypoints: int = 133) -> Path:
    """Write a whole-body model with RTMW's input and outputs: every point lies on the reddest pixel.

    `input` [N, 3, H, W]: normalised BGR. `simcc_x` [N, K, 2 W], `simcc_y` [N, K, 2 H]: scores by half pixel.
    """
    height, width = size
    graph = _Graph()
    pick = graph.constant(np.array([-1, -1, 2], np.float32).reshape(1, 3, 1, 1) / 4)
    red = graph.add("Conv", ["input", graph.add("Identity", [pick])])  # [N, 1, H, W]
    outputs = []
    for name, axis, length in (("simcc_x", 2, width), ("simcc_y", 3, height)):
        profile = graph.add("ReduceMax", [red], axes=[axis], keepdims=0)  # [N, 1, length]
        column = graph.add("Unsqueeze", [profile, graph.constant([3], np.int64)])  # [N, 1, length, 1]
        twice = graph.add("Expand", [column, graph.constant([1, keypoints, length, 2], np.int64)])
        graph.nodes.append(
            helper.make_node("Reshape", [twice, graph.constant([0, keypoints, 2 * length], np.int64)], [name])
        )
        outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", keypoints, 2 * length]))
    given = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, height, width])
    made = helper.make_graph(graph.nodes, "tiny", [given], outputs, graph.constants)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path
