"""RTMW landmarks by a tiny model with the inputs and outputs of the published one."""

from pathlib import Path

import numpy as np
import pytest

from opendimo.pipelines.poses.landmarker import Landmarker
from opendimo.pipelines.poses.landmarks import Rtmlib
from tests.pipelines.onnx_models import write_whole_body

FRAMES = 4


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_whole_body(tmp_path_factory.mktemp("rtmw") / "tiny.onnx")


def scene() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return frames of a grey figure with a red mark that moves, its track [T, 4], and the mark's centres [T, 2]."""
    frames = np.full((FRAMES, 240, 320, 3), 90, np.uint8)
    track = np.tile(np.float32([100, 40, 180, 220]), (FRAMES, 1))
    centres = np.stack([120.0 + 10 * np.arange(FRAMES), 100.0 + 5 * np.arange(FRAMES)], 1)
    for frame, (x, y) in zip(frames, centres.astype(int), strict=True):
        frame[y - 3 : y + 3, x - 3 : x + 3] = 255, 0, 0
    return frames, track, centres


def test_points_are_where_the_model_sees_them_in_the_frame(model: Path) -> None:
    frames, track, centres = scene()
    found = Landmarker(Rtmlib(str(model))).detect(frames, track)
    assert found.body_found.all() and not found.world_found.any()
    seen = found.body[..., 3] > 0
    assert seen.sum() == FRAMES * 21  # MediaPipe's points that COCO-WholeBody has
    # the reddest row and column are the first of the mark's, which is 6 pixels wide
    off = found.body[seen][:, :2].reshape(FRAMES, 21, 2) - centres[:, None]
    assert np.abs(off).max() < 5
    assert np.abs(np.diff(off, axis=0)).max() < 2.5  # it follows the mark
    assert found.hands_found.all() and np.abs(found.hands[..., :2] - centres[:, None, None]).max() < 5


def test_frames_without_a_person_have_no_landmarks(model: Path) -> None:
    frames, track, _ = scene()
    frames[2] = 0
    found = Landmarker(Rtmlib(str(model))).detect(frames, track)
    assert found.body_found.tolist() == [True, True, False, True]


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"tiny\.onnx: not an RTMW model: .* 133 points"):
        Landmarker(Rtmlib(str(write_whole_body(tmp_path / "tiny.onnx", keypoints=17))))


def test_another_input_size_than_the_models_is_named(model: Path) -> None:
    with pytest.raises(ValueError, match="takes 288 x 384, not 192 x 256: set input_width and input_height"):
        Landmarker(Rtmlib(str(model), input_width=192, input_height=256))
