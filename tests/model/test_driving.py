import numpy as np
import pytest
import torch

from opendimo.model.driving.crops import driving_crops
from opendimo.model.encoder.config import EncoderConfig

RED, GREEN = (255, 0, 0), (0, 255, 0)
WHOLE = np.tile([0.0, 0, 200, 120], (4, 1))
"""Track of a person who fills the scene."""


def sizes(body: int = 44, hand: int = 24, *, hands: bool = True) -> EncoderConfig:
    return EncoderConfig(body_size=body, hand_size=hand, hands=hands)


def body_crops(frames: np.ndarray, track: np.ndarray, size: int) -> torch.Tensor:
    return driving_crops(frames, track, None, None, sizes(size)).body / 255


def scene(frames: int = 4, height: int = 120, width: int = 200) -> np.ndarray:
    return np.zeros((frames, height, width, 3), np.uint8)


def test_the_crop_is_the_square_around_all_boxes_of_the_window() -> None:
    frames = scene()
    frames[:, 30:70, 60:100] = RED
    track = np.tile([60.0, 30, 100, 70], (4, 1))
    crops = body_crops(frames, track, size=44)  # a side of 40 plus its margin: crop pixels equal frame pixels
    assert crops.shape == (4, 3, 44, 44) and crops.dtype == torch.float32
    red = torch.zeros(44, 44)
    red[2:42, 2:42] = 1
    torch.testing.assert_close(crops[:, 0], red.expand(4, -1, -1))
    assert (crops[:, 1:] == 0).all()


def test_moving_through_the_frame_is_seen_as_motion() -> None:
    frames, track = scene(), np.empty((4, 4))
    for t in range(4):
        frames[t, 50:60, 40 + 20 * t : 50 + 20 * t] = RED
        track[t] = 40 + 20 * t, 50, 50 + 20 * t, 60
    columns = [(crop[0] > 0.5).nonzero()[:, 1].float().mean() for crop in body_crops(frames, track, size=77)]
    steps = np.diff(columns)
    np.testing.assert_allclose(steps, 20, atol=0.6)  # the square is 77 pixels wide: 70 and its margin


def test_unseen_frames_take_the_square_of_the_others() -> None:
    frames = scene()
    frames[:, 30:70, 60:100] = RED
    track = np.tile([60.0, 30, 100, 70], (4, 1))
    track[1] = np.nan
    crops = body_crops(frames, track, size=44)
    assert torch.equal(crops[0], crops[1])


def test_outside_of_the_frame_is_black() -> None:
    crops = body_crops(np.full_like(scene(), 255), np.tile([-20.0, 0, 20, 120], (4, 1)), size=66)
    assert (crops[..., 0] == 0).all() and (crops[..., 33, -1] == 1).all()


def test_a_window_without_the_person_is_refused() -> None:
    with pytest.raises(ValueError, match="visible in no frame of the driving window"):
        body_crops(scene(), np.full((4, 4), np.nan), size=44)


def hands_scene() -> tuple[np.ndarray, np.ndarray]:
    """Draw a red left hand, 16 pixels wide, that moves by 10 pixels per frame, and a green right hand at rest."""
    frames, joints = scene(), np.zeros((4, 52, 3), np.float32)
    joints[..., 2] = 1
    for t in range(4):
        for x, colour, wrist, fingers in ((40 + 10 * t, RED, 20, range(22, 37)), (150, GREEN, 21, range(37, 52))):
            frames[t, 50:66, x : x + 16] = colour
            joints[t, wrist, :2] = x, 50
            joints[t, [*fingers], :2] = np.linspace((x, 50), (x + 16, 66), 15)
    return frames, joints


def test_each_hand_is_followed_in_its_own_crop() -> None:
    frames, joints = hands_scene()
    _, crops, ok, _ = driving_crops(frames, WHOLE, joints, np.ones((4, 2)), sizes())  # a side of 16 and its margin
    assert crops.shape == (4, 2, 3, 24, 24) and ok.all()
    for hand, channel in ((0, 0), (1, 1)):
        middle = crops[:, hand, :, 5:19, 5:19]
        assert (middle[:, channel] == 255).all()
        assert (crops[:, hand, channel, 0] == 0).all()
        assert (crops[:, hand, 1 - channel] == 0).all()


def test_hands_without_labels_or_out_of_the_frame_are_missing() -> None:
    frames, joints = hands_scene()
    valid = np.ones((4, 2))
    valid[0, 0] = 0
    joints[1, 25, 0] = np.nan
    joints[2, 37:52, 0] += 500
    joints[2, 21, 0] += 500
    _, crops, ok, boxes = driving_crops(frames, WHOLE, joints, valid, sizes())
    assert ok.tolist() == [[False, True], [False, True], [True, False], [True, True]]
    assert (crops[~ok] == 0).all()
    assert (crops[ok].amax((1, 2, 3)) == 255).all()
    assert torch.equal(boxes[~ok], torch.tensor([0.0, 0, 1]).expand(3, 3))


def test_boxes_tell_where_the_hand_crops_are_in_the_body_crop() -> None:
    frames, joints = hands_scene()
    body, hands, _, boxes = driving_crops(frames, WHOLE, joints, np.ones((4, 2)), sizes(220, 24))
    for t, hand, channel in ((0, 0, 0), (3, 0, 0), (2, 1, 1)):
        x, y, half = (110 * boxes[t, hand] + torch.tensor([110, 110, 0])).round().int().tolist()  # pixels of 220
        assert half == 12
        assert torch.equal(body[t, :, y - half : y + half, x - half : x + half], hands[t, hand])
        assert hands[t, hand, channel].max() == 255


def test_without_joints_or_a_hand_encoder_there_are_no_hands() -> None:
    frames, joints = hands_scene()
    unknown = driving_crops(frames, WHOLE, None, None, sizes())
    unwanted = driving_crops(frames, WHOLE, joints, np.ones((4, 2)), sizes(hands=False))
    for crops in (unknown, unwanted):
        assert crops.hands.shape == (4, 2, 3, 24, 24) and crops.hand_boxes.shape == (4, 2, 3)
        assert not crops.hand_ok.any() and not crops.hands.any()
        assert torch.equal(crops.body, driving_crops(frames, WHOLE, joints, np.ones((4, 2)), sizes()).body)
