"""Videos with known cameras, and the terms that geometry gives them: the truth for terms told from the picture."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from opendimo.pipelines.cameras.geometry import camera_motion
from opendimo.pipelines.cameras.terms import words
from opendimo.pipelines.studio import cameras as studio
from opendimo.pipelines.studio.film import Person, film
from opendimo.pipelines.studio.motions import act
from opendimo.pipelines.studio.scene import Scene
from opendimo.storage_schemas.conventions import project
from opendimo.storage_schemas.media.video import frames
from tests.pipelines.camera_files import bedlam_cameras, bedlam_subject

STUDIO_SIZE = 640, 360
STUDIO_FPS = 30.0


@dataclass(frozen=True)
class KnownClip:
    """A video without its cameras: frames [T, H, W, 3], the person's boxes [T, 4] or None, and the true terms."""

    name: str
    frames: np.ndarray
    fps: float
    track: np.ndarray | None
    terms: frozenset[str]


def unreal_clips(data: Path) -> Iterator[KnownClip]:
    """Yield the renders of `ue5/*`; the box is that of the first body's joints, widened to hold the limbs."""
    for version in (1, 2):
        root = data / f"ue5/mini_bedlam{version}"
        folder = root / "ground_truth" / ("camera" if version == 1 else "meta_exr_csv")
        labels = np.load(root / f"processed_labels/mini_bedlam{version}.npz")
        for path in sorted(folder.glob("*_camera.csv")):
            sequence = path.name.removesuffix("_camera.csv")
            poses, K = bedlam_cameras(path)
            subject = bedlam_subject(root / f"processed_labels/mini_bedlam{version}.npz", sequence, poses)
            track = np.full((len(poses), 4), np.nan)
            for name, joints in zip(labels["imgname"], labels["gtkps"], strict=True):
                frame = int(str(name)[-8:-4])
                if str(name).startswith(sequence) and np.isnan(track[frame, 0]):
                    track[frame] = _box(joints[:, :2])
            motion = camera_motion(poses, K, 30.0, subject)
            pictures = np.stack(list(frames(root / f"mp4/{sequence}.mp4")))
            yield KnownClip(f"ue5/{version}/{sequence}", pictures, 30.0, track, words(motion.terms))


def virtual_clips(data: Path) -> Iterator[KnownClip]:
    """Yield the virtual cameras inside a static real video; the person has no box."""
    folder = data / "internet/virtual_camera"
    for name, label in json.loads((folder / "virtual_camera.json").read_text()).items():
        if isinstance(label, dict) and "camera_motion" in label:
            pictures = np.stack(list(frames(folder / name)))
            yield KnownClip(f"virtual/{name}", pictures, label["fps"], None, frozenset(label["camera_motion"]))


def studio_cameras(count: int) -> dict[str, studio.Camera]:
    """Return cameras of `count` frames that make one move each, or two at a time, from different places."""
    base = studio.static(count, 10, 3.6, 1.4)
    far = studio.static(count, -25, 4.2, 1.2)
    return {
        "static": base,
        "dolly_in": studio.dolly(far, 0.9),
        "dolly_out": studio.dolly(base, -0.7),
        "truck_left": studio.truck(base, -0.9),
        "truck_right": studio.truck(far, 0.8),
        "pedestal_up": studio.pedestal(base, 0.7),
        "pedestal_down": studio.pedestal(far, -0.6),
        "arc_left": studio.arc(base, -22),
        "arc_right": studio.arc(far, 25),
        "pan_left": studio.pan(base, -16),
        "pan_right": studio.pan(far, 14),
        "tilt_up": studio.tilt(far, 11),
        "tilt_down": studio.tilt(base, -10),
        "zoom_in": studio.zoom(base, 1.35),
        "zoom_out": studio.zoom(far, 0.75),
        "shake": studio.shake(base, 0.5, 3),
        "dolly_in_pan_left": studio.pan(studio.dolly(far, 0.9), -14),
        "truck_right_shake": studio.shake(studio.truck(base, 0.9), 0.35, 4),
        "pan_right_tilt_up": studio.tilt(studio.pan(base, 15), 10),
    }


def studio_clips(count: int = 60, seed: int = 7) -> Iterator[KnownClip]:
    """Yield renders of a person in the studio, each with its own scene, motion and camera."""
    actions = ("wave", "squat", "jumping-jacks", "walk-circle", "punches", "turn")
    for number, (name, camera) in enumerate(studio_cameras(count).items()):
        motion = act(actions[number % len(actions)], count, np.random.default_rng((seed, number)))
        person = Person(name, motion, look=number)
        pictures = np.stack([f[0] for f in film(Scene(seed + number), [person], [camera], STUDIO_SIZE)])
        K, poses = camera.K(STUDIO_SIZE), camera.world_to_camera
        joints = person.joints()
        in_camera = np.einsum("tij,tnj->tni", poses[:, :, :3], joints) + poses[:, None, :, 3]
        track = np.stack([_box(points) for points in project(in_camera, K)])
        terms = words(camera_motion(poses, K, STUDIO_FPS, in_camera[:, 0]).terms)
        yield KnownClip(f"studio/{name}", pictures, STUDIO_FPS, track, terms)


def _box(points: np.ndarray) -> np.ndarray:
    """Return the box of projected joints [N, 2], widened by a tenth of its height: joints lie inside the body."""
    low, high = points.min(axis=0), points.max(axis=0)
    margin = 0.06 * (high[1] - low[1])
    return np.concatenate([low - margin, high + margin])
