"""How much of a person is in view, and how much of it another person covers."""

from pathlib import Path

import numpy as np

from opendimo.pipelines.people.boxes import occlusion
from opendimo.pipelines.people.detector import DetectorConfig
from opendimo.pipelines.people.visibility import LIMBS, of_joints, of_landmarks
from opendimo.storage_schemas.media import video


def test_what_is_in_view_is_counted_by_joints() -> None:
    landmarks = np.tile(np.float32([50, 50, 0.9]), (33, 1))
    assert of_landmarks(landmarks, (100, 100)) == (1.0, 0.0, 0.0)
    landmarks[23:, 1] = 120  # from the hips down below the picture
    landmarks[15, 2] = 0.1  # the left wrist is hidden
    seen = of_landmarks(landmarks, (100, 100))
    assert np.isclose(seen.body, 5 / 12) and np.isclose(seen.outside, 10 / 33)
    assert seen.crosses == 1 and len(LIMBS) == 12


def test_joints_of_a_render_count_where_they_lie_in_the_picture() -> None:
    joints = np.tile(np.float32([50, 50]), (22, 1))
    joints[21] = np.nan
    joints[[7, 8], 1] = 101
    seen = of_joints(joints, (100, 100))
    assert np.isclose(seen.body, 9 / 12) and np.isclose(seen.outside, 3 / 22)


def test_occlusion_is_the_share_of_the_box_that_another_covers() -> None:
    tracks = np.float32([[[0, 0, 10, 10]] * 4, [[5, 0, 15, 10]] * 2 + [[20, 0, 30, 10]] * 2])
    assert occlusion(tracks, 0) == 0.25 and occlusion(tracks[:1], 0) == 0.0
    tracks[1, 1] = np.nan
    assert occlusion(tracks, 0) == 0.125


def test_body_in_view_is_that_of_the_real_videos(data: Path) -> None:
    from opendimo.pipelines.people.detector import Detector

    detector = Detector(DetectorConfig())
    scores = {}
    for name in ("juggle_static_fullbody", "dance_balloon_static"):
        images = video.decode(data / f"internet/{name}.mp4", start=10, stop=51, step=40, size=(854, 480))
        seen = [detector.search(image)[0].visibility for image in images]
        scores[name] = np.mean(seen, axis=0)
    body, outside, crosses = scores["juggle_static_fullbody"]
    assert body > 0.9 and outside < 0.02 and crosses < 0.3
    body, outside, crosses = scores["dance_balloon_static"]  # from the thighs up
    assert 0.5 < body < 0.8 and outside > 0.15 and crosses == 1
