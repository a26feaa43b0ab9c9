"""TransNetV2: loading the published weights, and turning its predictions into cuts."""

import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from opendimo.pipelines.clips.cut import ClipsConfig
from opendimo.pipelines.clips.frame import Frame
from opendimo.pipelines.clips.shots import ShotsConfig
from opendimo.pipelines.clips.stage import ClipsStage
from opendimo.pipelines.clips.transnet import TransNetCuts
from opendimo.pipelines.clips.transnet_model import TransNetV2, load_model

# names and shapes of the published file, in its order, for F = 16, D = 1024; smaller ones have the same names
PUBLISHED = {
    "SDDCNN.0.DDCNN.0.Conv3D_1.layers.0.weight": (32, 3, 1, 3, 3),
    "SDDCNN.0.DDCNN.0.Conv3D_8.layers.1.weight": (16, 32, 3, 1, 1),
    "SDDCNN.0.DDCNN.0.bn.running_var": (64,),
    "SDDCNN.1.DDCNN.0.Conv3D_2.layers.0.weight": (64, 64, 1, 3, 3),
    "SDDCNN.2.DDCNN.1.bn.weight": (256,),
    "frame_sim_layer.projection.weight": (128, 448),
    "frame_sim_layer.fc.weight": (128, 101),
    "color_hist_layer.fc.weight": (128, 101),
    "fc1.weight": (1024, 4864),
    "cls_layer1.weight": (1, 1024),
    "cls_layer2.bias": (1,),
}


def tiny() -> TransNetV2:
    torch.manual_seed(0)
    model = TransNetV2(filters=2, stacks=3, blocks=2, hidden=8, projected=4, compared=6, coloured=6)
    for name, buffer in model.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
    return model.eval()


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.save(tiny().state_dict(), tmp_path / "tiny.pth")
    return tmp_path / "tiny.pth"


def pictures(count: int) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 255, (count, 27, 48, 3), np.uint8))


def test_names_and_shapes_are_those_of_the_published_file() -> None:
    full = TransNetV2(filters=16, stacks=3, blocks=2, hidden=1024, projected=128, compared=128, coloured=128)
    shapes = {name: tuple(tensor.shape) for name, tensor in full.state_dict().items()}
    assert PUBLISHED.items() <= shapes.items() and len(shapes) == 6 * (4 * 2 + 5) + 4 + 2 + 2 + 4


def test_both_kinds_of_file_give_the_same_answers(weights: Path, tmp_path: Path) -> None:
    save_file(tiny().state_dict(), tmp_path / "tiny.safetensors")
    frames = torch.from_numpy(np.stack(pictures(100)))[None]
    with torch.inference_mode():
        answers = [m(frames) for m in (tiny(), load_model(weights), load_model(tmp_path / "tiny.safetensors"))]
    assert answers[0].shape == (1, 100) and float(answers[0].std()) > 0
    assert torch.equal(answers[0], answers[1]) and torch.equal(answers[0], answers[2])


@pytest.mark.parametrize("count", [1, 76])
def test_a_stream_is_answered_in_windows_of_100_every_50(weights: Path, count: int) -> None:
    """The result equals that of the authors' code, which splits a whole video into windows."""
    frames = np.stack(pictures(count))
    after = 25 + 50 - (count % 50 or 50)
    padded = np.concatenate([frames[:1].repeat(25, 0), frames, frames[-1:].repeat(after, 0)])
    model = load_model(weights)
    with torch.inference_mode():
        windows = [model(torch.from_numpy(padded[k : k + 100])[None])[0, 25:75] for k in range(0, len(padded) - 99, 50)]
    wanted = torch.cat(windows)[:count]
    got = list(TransNetCuts(str(weights), 0.5).probabilities(iter(frames)))
    assert np.allclose(got, wanted.numpy(), atol=1e-6)


def test_a_shot_begins_after_the_last_frame_of_a_transition(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cuts = TransNetCuts(str(weights), 0.5)

    def probabilities(pictures: Iterator[np.ndarray]) -> Iterator[float]:
        yield from (0.9 if k in (10, 30, 31, 32) else 0.1 for k, _ in enumerate(pictures))

    monkeypatch.setattr(cuts, "probabilities", probabilities)
    frames = [Frame(k, None, np.zeros((90, 160, 3), np.uint8)) for k in range(60)]
    got = list(cuts(frames))
    assert [frame.number for _, frame in got] == list(range(60))
    assert [frame.number for begins, frame in got if begins] == [11, 33]


def test_other_files_are_named(tmp_path: Path, weights: Path) -> None:
    text, other, evil = tmp_path / "text.pth", tmp_path / "other.pth", tmp_path / "evil.pth"
    text.write_text("hello")
    torch.save({"fc1.bias": torch.zeros(3)}, other)
    evil.write_bytes(pickle.dumps(print))  # objects other than tensors are not unpickled
    with pytest.raises(ValueError, match=r"text.pth is not a PyTorch file of tensors"):
        load_model(text)
    with pytest.raises(ValueError, match=r"other.pth does not hold PyTorch weights of TransNetV2"):
        load_model(other)
    with pytest.raises(ValueError, match=r"evil.pth is not a PyTorch file of tensors"):
        load_model(evil)
    with pytest.raises(ValueError, match=r"no TransNetV2 weights at .*nowhere.pth"):
        load_model(tmp_path / "nowhere.pth")


def test_weights_are_part_of_what_is_asked_for_and_their_place_is_not(weights: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved.pth"
    moved.write_bytes(weights.read_bytes())
    stages = [ClipsStage("lake", ClipsConfig(shots=ShotsConfig(weights=str(path)))) for path in (weights, moved)]
    assert stages[0].weights == stages[1].weights != ClipsStage("lake").weights
    assert stages[0].config.identity() == stages[1].config.identity() != ClipsConfig()
