"""Clips with exact bodies, to measure labels from one view on: renders, and motion capture in the studio."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from opendimo.pipelines.studio import cameras as studio
from opendimo.pipelines.studio.bvh import read_bvh
from opendimo.pipelines.studio.deepmimic import read_deepmimic
from opendimo.pipelines.studio.film import Person, film
from opendimo.pipelines.studio.motions import FPS, Motion
from opendimo.pipelines.studio.retarget import retarget
from opendimo.pipelines.studio.scene import OPEN_RADIUS, Scene
from opendimo.storage_schemas.conventions import project, transform
from opendimo.storage_schemas.media.video import decode
from tests.pipelines.render_jobs import ingest

SIZE = 640, 360
FRAMES = 45
ACROBATICS = ("cartwheel", "crawl")
"""Motions that a landmark model trained on upright people is not asked for."""


@dataclass(frozen=True)
class PoseClip:
    """A clip of one person: frames [T, H, W, 3], boxes `track` [T, 4], and true `joints` [T, 52, 3], camera axes."""

    name: str
    frames: np.ndarray
    fps: float
    track: np.ndarray
    joints: np.ndarray


def bedlam_clips(data: Path) -> Iterator[PoseClip]:
    """Yield the first body of each sequence of `mini_bedlam1` and `mini_bedlam2`."""
    for job in ("mini_bedlam1", "mini_bedlam2"):
        for row in ingest(data / "ue5" / job).rows["sources"]:
            joints = transform(row["truth_joints"][0], row["world_to_camera"])
            pictures = decode(Path(row["local_path"]), size=(854, 480))
            K = row["K"] * np.array([[854 / row["width"]], [480 / row["height"]], [1]])
            yield PoseClip(f"{job}/{row['name']}", pictures, 30.0, boxes(project(joints, K)), joints)


def studio_clips(data: Path, count: int = 40, seed: int = 11) -> Iterator[PoseClip]:
    """Yield renders of the mannequin with motions of the data folder, each from a direction of its own."""
    motions = list(captured(data))
    random = np.random.default_rng(seed)
    for number in range(count):
        motion = motions[number % len(motions)]
        start = int(random.integers(0, max(1, len(motion.transl) - FRAMES)))
        motion = motion.cut(start, start + FRAMES)
        centre = motion.transl[:, [0, 2]].mean(0)
        motion = Motion(motion.name, motion.rotations, motion.transl - [centre[0], 0, centre[1]], motion.betas)
        camera = studio.static(len(motion.transl), float(random.uniform(-180, 180)), float(random.uniform(3.0, 4.2)))
        person = Person(motion.name, motion, look=number)
        pictures = np.stack([f[0] for f in film(Scene(seed + number), [person], [camera], SIZE)])
        joints = transform(person.joints(), camera.world_to_camera)
        track = boxes(project(joints, camera.K(SIZE)))
        yield PoseClip(f"studio/{number} {motion.name}", pictures, float(FPS), track, joints)


def captured(data: Path) -> Iterator[Motion]:
    """Yield the motion capture of the data folder on the mannequin, without acrobatics, within the open place."""
    for path in sorted((data / "mocap").glob("*.bvh")) + sorted((data / "mocap").glob("humanoid3d_*.json")):
        if any(word in path.name for word in ACROBATICS):
            continue
        motion = retarget(read_bvh(path) if path.suffix == ".bvh" else read_deepmimic(path), path.stem)
        assert np.abs(motion.transl[:, [0, 2]]).max() < OPEN_RADIUS
        yield motion


def boxes(pixels: np.ndarray) -> np.ndarray:
    """Return the boxes [T, 4] of projected joints [T, N, 2], widened: joints lie inside the body."""
    low, high = pixels.min(axis=1), pixels.max(axis=1)
    margin = 0.08 * (high - low).max(axis=1, keepdims=True)
    return np.concatenate([low - margin, high + margin], axis=1)
