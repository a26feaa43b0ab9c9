"""Write the videos and ground truth of a take in the layout of real data.

`unreal` is a BEDLAM2 render job, `multiview` a folder of synchronised videos with `calib_opencv.json` (world Z up),
`internet` a video file. Ground truth that the layout cannot hold is written to `truth/<kind>/<name>.npz`.
"""

import json
from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from opendimo.model.body.skeleton import JOINTS, PARENTS
from opendimo.pipelines.studio.cameras import SENSOR, Camera
from opendimo.pipelines.studio.film import Person, film
from opendimo.pipelines.studio.motions import FPS, Motion, mannequin
from opendimo.pipelines.studio.scene import Scene
from opendimo.pipelines.studio.script import LEAD_IN, Take
from opendimo.storage_schemas.conventions import HALF_PIXEL
from opendimo.storage_schemas.media import video

Array = NDArray[np.float64]
Size = tuple[int, int]

JOB = "studio_job"
Z_UP_FROM_WORLD = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])


def publish(take: Take, size: Size, out: Path) -> None:
    """Render a take at `size` (width, height) and write its files below `out`."""
    folder = out / take.kind / {"unreal": f"{JOB}/mp4", "multiview": take.name, "internet": ""}[take.kind]
    folder.mkdir(parents=True, exist_ok=True)
    shown = [replace(person, motion=person.motion.cut(LEAD_IN, None)) for person in take.people]
    pictures = list(film(Scene(take.scene), shown, list(take.views), size))
    for view, name in enumerate(take.files):
        (folder / f"{name}.mp4").write_bytes(video.encode((views[view] for views in pictures), Fraction(FPS)))
    _write_truth(out / "truth" / take.kind / f"{take.name}.npz", take, shown, size)
    match take.kind:
        case "unreal":
            _write_motions(folder.parent / "motions_npz", take.people)
            for name, camera in zip(take.files, take.views, strict=True):
                _write_camera(folder.parent / "ground_truth/meta_exr_csv", name, camera)
        case "multiview":
            _write_calibration(folder / "calib_opencv.json", take, size)


def write_broken(out: Path) -> None:
    """Write a file that is named like a video but is not one, as found in real collections."""
    folder = out / "internet"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "broken.mp4").write_text("This file is no video; it shows what becomes of one.\n")


def write_job(takes: Iterable[Take], out: Path) -> None:
    """Write the files that describe the complete render job: `be_seq.csv` and `camera_labels.json`."""
    rows = ["Index,Type,Body,X,Y,Z,Yaw,Pitch,Roll,Comment", "0,Comment,None,0,0,0,0,0,0,note=synthetic"]
    labels = {}
    for take in takes:
        if take.kind != "unreal":
            continue
        for name, camera in zip(take.files, take.views, strict=True):
            pose = ",".join(f"{value:.6f}" for value in (*camera.position[0], *camera.angles[0]))
            hfov = np.degrees(2 * np.arctan(SENSOR[0] / 2 / camera.focal[0]))
            facts = f"sequence_name={name};frames={take.frames};hdri=none;camera_hfov={hfov:.6f}"
            rows.append(f"{len(rows) - 1},Group,None,{pose},{facts}")
            for person in take.people:
                place = ",".join(f"{value:.6f}" for value in (*person.position, person.yaw, 0, 0))
                facts = f"start_frame={LEAD_IN};texture_body=none"
                rows.append(f"{len(rows) - 1},Body,{body_name(person)},{place},{facts}")
            labels[name] = {
                "camera_motion": list(camera.terms),
                "frames": take.frames,
                "bodies": [body_name(person) for person in take.people],
            }
    folder = out / "unreal" / JOB
    folder.joinpath("be_seq.csv").write_text("\n".join(rows) + "\n")
    folder.joinpath("camera_labels.json").write_text(json.dumps(labels, indent=1))


def body_name(person: Person) -> str:
    """Return BEDLAM's name of a body: `<subject>_<animation>`."""
    return f"{person.name}_{person.motion.name}"


def _write_camera(folder: Path, name: str, camera: Camera) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["name,x,y,z,yaw,pitch,roll,focal_length,sensor_width,sensor_height,hfov"]
    for i, focal in enumerate(camera.focal):
        hfov = np.degrees(2 * np.arctan(SENSOR[0] / 2 / focal))
        numbers = (*camera.position[i], *camera.angles[i], focal, *SENSOR, hfov)
        lines.append(f"{name}_{i:04d}.png," + ",".join(f"{number:.6f}" for number in numbers))
    folder.joinpath(f"{name}_camera.csv").write_text("\n".join(lines) + "\n")


def _write_motions(folder: Path, people: tuple[Person, ...]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for person in people:
        np.savez(folder / f"{body_name(person)}.npz", **motion_arrays(person.motion))  # type: ignore[arg-type]


def motion_arrays(motion: Motion) -> dict[str, NDArray[np.generic]]:
    """Return a motion with the keys of BEDLAM2's files, plus rest joints and tree, so that no body model is needed."""
    frames = len(motion.transl)
    body, hands = motion.rotations[:, :22].reshape(frames, 66), motion.rotations[:, 22:].reshape(frames, 90)
    rest = mannequin().rest_joints(motion.tensors()[-1]).numpy()
    return {
        "poses": np.concatenate([body, np.zeros((frames, 9)), hands], axis=1).astype(np.float32),
        "trans": motion.transl.astype(np.float32),
        "betas": np.pad(motion.betas, (0, 16 - len(motion.betas))).astype(np.float32),
        "gender": np.array("neutral"),
        "mocap_frame_rate": np.array(FPS),
        "rest_joints": rest,
        "parents": np.array(PARENTS),
        "joint_names": np.array(JOINTS),
    }


def _write_calibration(path: Path, take: Take, size: Size) -> None:
    entries = {}
    for name, camera in zip(take.files, take.views, strict=True):
        rotation = camera.world_to_camera[0, :, :3] @ Z_UP_FROM_WORLD.T
        translation = camera.world_to_camera[0, :, 3]
        entries[name] = {
            "size": list(size),
            "K": (camera.K(size)[0] - HALF_PIXEL).tolist(),
            "dist": [0.0, 0.0, 0.0, 0.0],
            "R": rotation.tolist(),
            "t": translation.tolist(),
            "centre": (-rotation.T @ translation).tolist(),
        }
    convention = "OpenCV: x_cam = R @ X_world + t, camera x right, y down, z forward; metres; world Z up; K in pixels"
    path.write_text(json.dumps({"convention": convention, "gravity_down": [0, 0, -1], "cameras": entries}, indent=1))


def _write_truth(path: Path, take: Take, people: list[Person], size: Size) -> None:
    """Write K [N, T, 3, 3], world_to_camera [N, T, 3, 4] and camera terms [N] of the views, and joints [P, T, 52, 3] of
    the people, as npz. The world is y down, in metres."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        path,
        views=np.array(take.files),
        K=np.stack([camera.K(size) for camera in take.views]),
        world_to_camera=np.stack([camera.world_to_camera for camera in take.views]),
        camera_terms=np.array([" ".join(camera.terms) for camera in take.views]),
        joints=np.stack([person.joints() for person in people]) if people else np.zeros((0, take.frames, 52, 3)),
    )
