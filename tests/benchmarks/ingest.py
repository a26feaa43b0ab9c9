"""Cutting one video into clips, against decoding it once and encoding it once with nothing in between.

The person detector's time is given apart: the first comparison is of a render, whose people are known.
"""

import tempfile
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from pipelines.cut import ClipsConfig, clips_of
from pipelines.people.detector import Detector
from storage_schemas.video import encode, frames, probe
from tests.benchmarks.side_by_side import compare

SIZE = (640, 480)
FRAMES = 120


def main() -> None:
    """Ours with known people, then ours with the detector, against the bare pass."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        path.write_bytes(encode(drifting_texture(), Fraction(30)))
        source, config = source_row(path), ClipsConfig()
        config = replace(config, shots=replace(config.shots, max_frames=FRAMES))
        detector = Detector(config.people.detector)

        def bare() -> bytes:
            return encode(frames(path), Fraction(30), crf=config.crf)

        compare(
            "clips, people known / bare decode + encode", lambda: clips_of(source | truth(), config, detector), bare
        )
        compare("clips with the detector / bare decode + encode", lambda: clips_of(source, config, detector), bare)


def drifting_texture() -> list[np.ndarray]:
    """Smooth noise that drifts: it costs a codec about what real pictures do."""
    noise = np.random.default_rng(0).integers(0, 255, (SIZE[1] // 4, SIZE[0] // 2, 3), np.uint8)
    large = cv2.resize(noise, (2 * SIZE[0], SIZE[1]), interpolation=cv2.INTER_CUBIC)
    return [np.ascontiguousarray(large[:, k : k + SIZE[0]]) for k in range(FRAMES)]


def source_row(path: Path) -> dict:
    """A row of `sources` for a file."""
    info = probe(path)
    facts = {"width": info.width, "height": info.height, "rotation": 0, "fps_num": 30, "fps_den": 1}
    names = dict.fromkeys(
        ("source_id", "capture_id", "view", "kind", "name", "content_sha256", "annotation_sha256"), "bench"
    )
    return names | facts | {"local_path": str(path), "work_key": "bench"}


def truth() -> dict:
    """A body that stands before a camera, as renders have it."""
    joints = np.zeros((1, FRAMES, 22, 3), np.float32)
    joints[..., 1] = np.linspace(-0.8, 0.8, 22)
    joints[..., 2] = 4
    camera = np.eye(3, 4, dtype=np.float32)[None]
    K = np.array([[[500, 0, SIZE[0] / 2], [0, 500, SIZE[1] / 2], [0, 0, 1]]], np.float32)
    return {"truth_joints": joints, "world_to_camera": camera, "K": K, "metric": True}


if __name__ == "__main__":
    main()
