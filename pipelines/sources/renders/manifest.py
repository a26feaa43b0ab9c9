"""The layout of the render manifest: converts a validated manifest to shots, cameras and bodies in our conventions."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opendimo.model.body.skeleton import BODY_JOINTS, JOINTS
from opendimo.pipelines.engine.stage import DataError
from opendimo.pipelines.sources.config import SourcesConfig
from opendimo.pipelines.sources.items import fingerprint
from opendimo.pipelines.sources.renders import jobs, motion
from opendimo.pipelines.sources.renders.cameras import Cameras, turn_clockwise, unit_intrinsics
from opendimo.pipelines.sources.renders.declared_axes import World, look, look_by_angles, look_by_quaternion
from opendimo.pipelines.sources.renders.manifest_schema import (
    Body,
    Camera,
    Header,
    Motion,
    Take,
    View,
    read_header,
    read_take,
)
from opendimo.pipelines.sources.renders.shot import Shot, broken, picture_prints, sequence_of
from opendimo.storage_schemas.ids import sha256_bytes, stable_id
from opendimo.storage_schemas.media.image_sequence import is_pattern

Array = NDArray[np.float64]
LAYOUT = jobs.MANIFEST
MILLIMETRE = 3  # decimals of a metre


def shots(name: str, path: Path, config: SourcesConfig) -> list[Shot]:
    """List the views of one manifest, of a job called `name`."""
    try:
        header = read_header(path)
    except DataError as error:
        return [broken(LAYOUT, f"{name}/{path.name}", path, str(error))]
    listed: list[Shot] = []
    names: set[str] = set()
    for index, raw in enumerate(header.sequences):
        try:
            take = read_take(path, raw, index)
            if take.name in names:
                raise DataError(f"{path}: sequences[{index}].name: {take.name} is there twice: rename one of them")
        except DataError as error:
            listed.append(broken(LAYOUT, f"{name}/{path.name} sequence {index}", path, str(error)))
            continue
        names.add(take.name)
        listed += [_shot(name, path, header, take, index, view, config) for view in take.views]
    return listed


def cameras(facts: dict[str, Any]) -> Cameras:
    """Read the cameras of a shot. Raises `DataError` if they cannot be read."""
    header, take, view = _read(facts)
    camera, world = view.camera, header.world()
    try:
        pose = turn_clockwise(_pose(header, world, camera), view.turn)
    except ValueError as error:
        raise DataError(f"{facts['manifest']}: {facts['field']}.camera: {error}") from error
    focal = np.array(camera.focal_length)
    K = unit_intrinsics(focal, np.tile(camera.sensor, (len(focal), 1)), turned=view.turn in (90, 270))
    return Cameras(pose, K, range(take.frames))


def bodies(facts: dict[str, Any], numbers: range, fps: float) -> list[motion.Truth | Array]:
    """Read the bodies of a shot in frames `numbers`: placed motions, or joints [T, J, 3] if only these are given.

    Raises `DataError` if they cannot be read.
    """
    header, take, _ = _read(facts)
    folder, world = Path(facts["manifest"]).parent, header.world()
    return [
        _placed(folder, body.motion, world, numbers, fps, facts["body_model"])
        if body.motion
        else _joints(body, world, f"{facts['manifest']}: {facts['field']}")
        for body in take.bodies
    ]


def _shot(name: str, path: Path, header: Header, take: Take, index: int, view: View, config: SourcesConfig) -> Shot:
    label, folder = f"{name}/{take.name}/{view.name}", path.parent
    field = f"sequences[{index}].views[{take.views.index(view)}]"
    pictures = str(folder / (view.video or view.images or ""))
    try:
        for relative in (view.video or view.images, *(body.motion.file for body in take.bodies if body.motion)):
            _below(folder, str(relative), f"{path}: {field}")
        if view.images and not is_pattern(pictures):
            raise DataError(f"{path}: {field}.images: should be a pattern like shot/picture.%04d.png")
        if view.images:
            _no_links(pictures)
        if view.video and not Path(pictures).is_file():
            raise DataError(f"no video {pictures}, which {path} names in {field}: copy it there")
        capture_id = _capture_id(path, header, take)
    except DataError as error:
        return broken(LAYOUT, label, Path(pictures), str(error))
    motions = [fingerprint(folder / body.motion.file) for body in take.bodies if body.motion]
    model = str(Path(config.body_model).absolute()) if config.body_model else None
    settings = [
        header.model_dump(exclude={"sequences"}),
        take.model_dump(exclude={"views"}),
        view.model_dump(),
        model and fingerprint(Path(model)),
    ]
    return Shot(
        LAYOUT, label, Path(pictures), pictures, str(header.fps), view.turn,
        capture_id=capture_id,
        take=take.capture or take.name,
        subject=take.subject,
        action=take.action,
        licence=header.licence,
        attribution=header.attribution,
        ground=None if take.ground is None else take.ground * header.world().metres,
        bodies=[body.name for body in take.bodies],
        facts={"manifest": str(path), "place": index, "view": view.name, "field": field, "body_model": model},
        content=[picture_prints(pictures), motions, stable_id(json.dumps(settings, sort_keys=True))],
        references=[(reference.kind, str(folder / reference.path)) for reference in view.references],
    )  # fmt: skip


def _below(folder: Path, relative: str, where: str) -> None:
    """Raise `DataError` if a path leaves the manifest's folder through a link."""
    if not (folder / relative).resolve().is_relative_to(folder.resolve()):
        raise DataError(f"{where}: {relative} leaves the folder of the manifest: copy the file there")


def _no_links(pattern: str) -> None:
    for picture in sequence_of(pattern).paths:
        if picture.is_symlink():
            raise DataError(f"{picture} is a link: put the picture itself there")


def _read(facts: dict[str, Any]) -> tuple[Header, Take, View]:
    path = Path(facts["manifest"])
    version = fingerprint(path)
    header = _header(*version)
    if facts["place"] >= len(header.sequences):
        raise DataError(f"{path}: it has changed since it was listed; ingest again")
    take = _take(facts["place"], *version)
    view = next((view for view in take.views if view.name == facts["view"]), None)
    if view is None:
        raise DataError(f"{path}: it has changed since it was listed; ingest again")
    return header, take, view


@lru_cache(maxsize=2)
def _header(path: str, *_size_and_time: int) -> Header:
    return read_header(Path(path))


@lru_cache(maxsize=2)  # every view of a take reads all the others
def _take(index: int, path: str, *size_and_time: int) -> Take:
    return read_take(Path(path), _header(path, *size_and_time).sequences[index], index)


def _pose(header: Header, world: World, camera: Camera) -> Array:
    """Return world to camera [T or 1, 3, 4]; values given once hold for every frame."""
    frames = max(map(len, (camera.position, camera.yaw_pitch_roll or camera.quaternion_xyzw or camera.forward or [])))
    per_frame = {
        name: np.broadcast_to(np.array(values), (frames, len(values[0])))
        for name, values in camera.per_frame().items()
        if name != "focal_length"
    }
    if camera.yaw_pitch_roll:
        return look_by_angles(world, per_frame["position"], per_frame["yaw_pitch_roll"])
    if camera.forward:
        return look(world, per_frame["position"], per_frame["forward"], per_frame["up"])
    axes = header.camera_axes or header.axes
    camera_world = World(axes.forward, axes.right, axes.up)
    return look_by_quaternion(world, camera_world, per_frame["position"], per_frame["quaternion_xyzw"])


def _placed(folder: Path, placed: Motion, world: World, numbers: range, fps: float, model: str | None) -> motion.Truth:
    # a body's yaw is 0 when it faces right in Unreal, and when it faces forward in the manifest
    return motion.truth(
        folder / placed.file, placed.start_frame + numbers.start, len(numbers), world.unreal(placed.position).tolist(),
        placed.yaw - 90, fps, model, numbers.step,
    )  # fmt: skip


def _joints(body: Body, world: World, where: str) -> Array:
    """Return joints [T, 22 or 52, 3] in our order and world: all 52 if they are named, else the 22 of the body."""
    names = body.joint_names or []
    joints = JOINTS if set(names) >= set(JOINTS) else BODY_JOINTS
    if missing := [name for name in joints if name not in names]:
        raise DataError(
            f"{where}: body {body.name} lacks the joints {', '.join(missing)}: "
            "name all 22 of SMPL-X's body (or leave the body out)"
        )
    return world.points(np.array(body.joints)[:, [names.index(name) for name in joints]])


def _capture_id(path: Path, header: Header, take: Take) -> str:
    """Return the id of a performance.

    It depends on `capture` and project if given, else on the motion and placement of the bodies, else on this sequence
    of this manifest. Raises `DataError` if `capture` is given without `project`.
    """
    if take.capture is not None:
        if header.project is None:
            raise DataError(f"{path}: project: is missing, but {take.name} has a capture: captures are told by both")
        return stable_id("unreal", LAYOUT, header.project, take.capture)
    if not take.bodies:
        return stable_id("unreal", LAYOUT, path.parent.name, header.project, take.model_dump(exclude={"views"}))
    world = header.world()
    return stable_id("unreal", LAYOUT, [_performance(path.parent, body, world) for body in take.bodies])


def _performance(folder: Path, body: Body, world: World) -> list[Any]:
    if body.motion:
        sha256 = motion.motion_hash(folder / body.motion.file)
        position = world.points(body.motion.position).round(MILLIMETRE).tolist()
        return [body.name, sha256, body.motion.start_frame, position, body.motion.yaw]
    points = world.points(np.array(body.joints)).round(MILLIMETRE) + 0.0  # no negative zeros
    return [body.name, body.joint_names, sha256_bytes(points.tobytes())]
