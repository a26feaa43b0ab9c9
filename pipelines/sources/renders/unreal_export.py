"""Runs inside the Unreal editor: cameras and skeletons of Movie Render Queue jobs, as render manifests.

Copy this one file to the machine with the editor (it needs the standard library only), open the queue that was or will
be rendered, and run in the editor's Python console:

    import unreal_export
    unreal_export.export_queue(project="my project", licence="CC-BY-4.0")

It writes `<sequence>.render_manifest.json` into the output directory of every job; then `dimo ingest unreal` takes that
folder. Jobs have to write PNG or JPEG pictures.

Written for the Python API of Unreal Engine 5.3 to 5.5 (plugins: Python Editor Script Plugin, Sequencer Scripting, Movie
Render Queue), by its documentation: IT WAS NOT RUN in an editor. What talks to the engine is at the end of the file and
thin; everything before is plain arithmetic, and tested.

Not exported: bindings of sub-sequences, overscan and crop settings, several camera cuts in one sequence (refused), what
only exists while the game runs (physics, blueprint ticks). Compare a picture with projected joints before you render a
thousand: ingesting checks that bodies are in the picture, no more.
"""

from __future__ import annotations

import json
import os
import re
from typing import Any

FORMAT, VERSION = "render manifest", 1
AXES = {"forward": "+x", "right": "+y", "up": "+z"}
DECIMALS = 4  # of a centimetre, a degree, a millimetre
SUFFIX = ".render_manifest.json"

SPINES = ({"spine1": "spine_01", "spine2": "spine_03", "spine3": "spine_05"},
          {"spine1": "spine_01", "spine2": "spine_02", "spine3": "spine_03"})  # fmt: skip
MIDDLE = {"pelvis": "pelvis", "neck": "neck_01", "head": "head"}
LIMBS = {"hip": "thigh", "knee": "calf", "ankle": "foot", "foot": "ball", "collar": "clavicle", "shoulder": "upperarm",
         "elbow": "lowerarm", "wrist": "hand"}  # fmt: skip
FINGERS = ("index", "middle", "pinky", "ring", "thumb")
SIDES = {"left": "l", "right": "r"}


def joint_bones(bones: list[str]) -> dict[str, str]:
    """Which bone of a skeleton is which joint of SMPL-X: by the joints' own names, or by those of Unreal's mannequins.

    The 22 joints of the body, with the 30 of the hands where all are there; empty where the body is not complete.
    """
    known = set(bones)
    body = dict(MIDDLE)
    body.update(SPINES[0] if "spine_05" in known else SPINES[1])
    hands = {}
    for side, letter in SIDES.items():
        body.update({f"{side}_{joint}": f"{bone}_{letter}" for joint, bone in LIMBS.items()})
        for finger in FINGERS:
            hands.update({f"{side}_{finger}{i}": f"{finger}_0{i}_{letter}" for i in (1, 2, 3)})
    if known.issuperset(body):  # a skeleton of SMPL-X itself
        body, hands = {joint: joint for joint in body}, {joint: joint for joint in hands}
    if not known.issuperset(body.values()):
        return {}
    return {**body, **hands} if known.issuperset(hands.values()) else body


def visible_sensor(sensor: tuple[float, float], resolution: tuple[int, int], constrained: bool) -> list[float]:
    """The part of the sensor (width, height) that fills pictures of `resolution`.

    A camera that keeps its aspect ratio gets black bars where the picture is of another shape: the picture then shows
    more than the sensor. One that does not keep it keeps its horizontal angle of view.
    """
    width, height = sensor
    shape = resolution[0] / resolution[1]
    if constrained and shape > width / height:
        return [height * shape, height]
    return [width, width / shape]


def frame_numbers(start: int, end: int, step: int) -> list[int]:
    """The frames [start, end) that are rendered. Raises `ValueError` where there is none."""
    if end <= start or step < 1:
        raise ValueError(f"no frames from {start} to {end} by {step}")
    return list(range(start, end, step))


def frame_rate(numerator: int, denominator: int, step: int) -> str:
    """Frames per second of every `step`-th frame, as a fraction."""
    return f"{numerator}/{denominator * step}"


def picture_pattern(name_format: str, names: dict[str, str], digits: int, extension: str) -> str:
    """The pattern of the pictures that a job writes, relative to its output directory.

    `name_format` is Movie Render Queue's, as `{sequence_name}/{camera_name}.{frame_number}`. Raises `ValueError` where
    it has no frame number, or words that `names` does not know.
    """
    text = re.sub(r"\{frame_number(_rel)?\}", "\0", name_format)
    unknown = sorted(set(re.findall(r"\{(\w+)\}", text)) - set(names))
    if unknown:
        raise ValueError(f"file_name_format {name_format!r}: what {', '.join(unknown)} stands for is not known here")
    if "%" in text + "".join(names.values()):
        raise ValueError(f"file_name_format {name_format!r}: names with a percent sign cannot be told from patterns")
    if text.count("\0") != 1 or "\0" not in text.rpartition("/")[2]:
        raise ValueError(f"file_name_format {name_format!r} should have one frame_number, in the file's name")
    for word, value in names.items():
        text = text.replace("{" + word + "}", value)
    return text.replace("\0", f"%0{digits}d") + "." + extension


def once_if_still(values: list[Any]) -> list[Any]:
    """A value per frame, or just one where it never changes."""
    return values[:1] if all(value == values[0] for value in values) else values


def safe_name(name: str) -> str:
    """A name of letters, digits, `_`, `-` and `.` only."""
    return re.sub(r"[^A-Za-z0-9_.\-]", "_", name).lstrip(".") or "unnamed"


def camera_entry(samples: list[dict[str, Any]], resolution: tuple[int, int]) -> dict[str, Any]:
    """The camera of a view. A sample per frame: `location`, `yaw_pitch_roll`, `focal_length`, `sensor`, `constrained`.

    Raises `ValueError` where the sensor changes.
    """
    sensors = [visible_sensor(s["sensor"], resolution, s["constrained"]) for s in samples]
    if any(sensor != sensors[0] for sensor in sensors):
        raise ValueError("the camera's sensor changes during the sequence")
    return {
        "position": once_if_still([_rounded(s["location"]) for s in samples]),
        "yaw_pitch_roll": once_if_still([_rounded(s["yaw_pitch_roll"]) for s in samples]),
        "focal_length": once_if_still([round(s["focal_length"], DECIMALS) for s in samples]),
        "sensor": _rounded(sensors[0]),
    }


def body_entry(name: str, frames: list[dict[str, Any]]) -> dict[str, Any]:
    """A body of `frames`, each the location of every joint by its name."""
    joints = list(frames[0])
    return {
        "name": safe_name(name),
        "joint_names": joints,
        "joints": [[_rounded(frame[joint]) for joint in joints] for frame in frames],
    }


def manifest(takes: list[dict[str, Any]], fps: str, rights: dict[str, str | None]) -> dict[str, Any]:
    """The manifest of a job. `rights`: project, licence, attribution."""
    known = {name: value for name, value in rights.items() if value is not None}
    return {"format": FORMAT, "version": VERSION, "units": "cm", "axes": AXES, "fps": fps, **known, "sequences": takes}


def write(path: str, content: dict[str, Any]) -> None:
    """Write a manifest, whole or not at all."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + ".tmp", "w", encoding="utf-8") as stream:
        json.dump(content, stream, allow_nan=False)
    os.replace(path + ".tmp", path)


def _rounded(values: Any) -> list[float]:
    return [round(float(value), DECIMALS) + 0.0 for value in values]


# ---- what talks to the engine


def export_queue(project: str | None = None, licence: str | None = None, attribution: str | None = None) -> list[str]:
    """Write a manifest for every job of the Movie Render Queue; their paths."""
    import unreal

    queue = unreal.get_editor_subsystem(unreal.MoviePipelineQueueSubsystem).get_queue()
    rights = {"project": project, "licence": licence, "attribution": attribution}
    return [_export_job(unreal, job, rights) for job in queue.get_jobs()]


def _export_job(unreal: Any, job: Any, rights: dict[str, str | None]) -> str:
    sequence = unreal.SystemLibrary.conv_soft_obj_path_to_soft_obj_ref(job.sequence)
    settings = job.get_configuration()
    output = settings.find_setting_by_class(unreal.MoviePipelineOutputSetting)
    rate, step = sequence.get_display_rate(), max(1, output.output_frame_step)
    if output.use_custom_frame_rate:
        raise ValueError(f"{sequence.get_name()}: render at the sequence's own frame rate")
    start, end = sequence.get_playback_start(), sequence.get_playback_end()
    if output.use_custom_playback_range:
        start, end = output.custom_start_frame, output.custom_end_frame
    resolution = (output.output_resolution.x, output.output_resolution.y)
    extension = _extension(unreal, settings)
    unreal.LevelSequenceEditorBlueprintLibrary.open_level_sequence(sequence)
    cameras, bodies = _bound(unreal, sequence)
    chosen = _rendered(unreal, settings, sequence, cameras)
    samples, poses = _record(unreal, frame_numbers(start, end, step), chosen, bodies)
    name = safe_name(sequence.get_name())
    words = {"sequence_name": sequence.get_name(), "job_name": job.job_name, "level_name": _level(job)}
    views = [
        {
            "name": safe_name(camera),
            "images": picture_pattern(
                output.file_name_format, {**words, "camera_name": camera}, output.zero_pad_frame_numbers, extension
            ),
            "camera": camera_entry(samples[camera], resolution),
        }
        for camera in chosen
    ]
    take = {
        "name": name,
        "frames": len(frame_numbers(start, end, step)),
        "bodies": [body_entry(body, frames) for body, frames in poses.items()],
        "views": views,
    }
    path = os.path.join(_directory(unreal, output), name + SUFFIX)
    write(path, manifest([take], frame_rate(rate.numerator, rate.denominator, step), rights))
    unreal.log(f"wrote {path}")
    return path


def _record(unreal: Any, numbers: list[int], cameras: dict[str, Any], bodies: dict[str, Any]) -> tuple[dict, dict]:
    """Go through the sequence once: a sample per frame of every camera and body."""
    samples: dict[str, list[dict[str, Any]]] = {name: [] for name in cameras}
    poses: dict[str, list[dict[str, Any]]] = {name: [] for name in bodies}
    for number in numbers:
        unreal.LevelSequenceEditorBlueprintLibrary.set_current_time(number)
        unreal.LevelSequenceEditorBlueprintLibrary.force_update()
        for name, camera in cameras.items():
            samples[name].append(_sample(camera.get_cine_camera_component()))
        for name, (mesh, joints) in bodies.items():
            places = {joint: mesh.get_socket_location(bone) for joint, bone in joints.items()}
            poses[name].append({joint: (place.x, place.y, place.z) for joint, place in places.items()})
    return samples, poses


def _sample(lens: Any) -> dict[str, Any]:
    place, turn = lens.get_world_location(), lens.get_world_rotation()
    return {
        "location": (place.x, place.y, place.z),
        "yaw_pitch_roll": (turn.yaw, turn.pitch, turn.roll),
        "focal_length": lens.current_focal_length,
        "sensor": (lens.filmback.sensor_width, lens.filmback.sensor_height),
        "constrained": lens.constrain_aspect_ratio,
    }


def _bound(unreal: Any, sequence: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Cameras, and skeletons with their joints, that a sequence moves, by the label of their actor."""
    cameras, bodies = {}, {}
    for binding in sequence.get_bindings():
        for thing in unreal.LevelSequenceEditorBlueprintLibrary.get_bound_objects(sequence.get_binding_id(binding)):
            if isinstance(thing, unreal.CineCameraActor):
                cameras[thing.get_actor_label()] = thing
            elif isinstance(thing, unreal.Actor):
                for mesh in thing.get_components_by_class(unreal.SkeletalMeshComponent):
                    names = [str(mesh.get_bone_name(i)) for i in range(mesh.get_num_bones())]
                    if joints := joint_bones(names):
                        bodies[thing.get_actor_label()] = (mesh, joints)
    return cameras, bodies


def _rendered(unreal: Any, settings: Any, sequence: Any, cameras: dict[str, Any]) -> dict[str, Any]:
    """The cameras that the job renders: all of them, or the one of the camera cut."""
    setting = settings.find_setting_by_class(unreal.MoviePipelineCameraSetting)
    if setting is not None and setting.render_all_cameras:
        return cameras
    tracks = sequence.find_tracks_by_type(unreal.MovieSceneCameraCutTrack)
    cuts = [section for track in tracks for section in track.get_sections()]
    if len(cuts) != 1:
        raise ValueError(f"{sequence.get_name()}: {len(cuts)} camera cuts: render one camera, or all, per sequence")
    seen = unreal.LevelSequenceEditorBlueprintLibrary.get_bound_objects(cuts[0].get_camera_binding_id())
    return {name: camera for name, camera in cameras.items() if camera in seen}


def _extension(unreal: Any, settings: Any) -> str:
    for kind, extension in (("PNG", "png"), ("JPG", "jpeg")):
        if settings.find_setting_by_class(getattr(unreal, f"MoviePipelineImageSequenceOutput_{kind}")) is not None:
            return extension
    raise ValueError("the job writes neither PNG nor JPEG pictures")


def _directory(unreal: Any, output: Any) -> str:
    project = unreal.Paths.convert_relative_path_to_full(unreal.Paths.project_dir())
    return os.path.normpath(output.output_directory.path.replace("{project_dir}", project))


def _level(job: Any) -> str:
    return str(job.map.export_text()).rpartition(".")[2].strip("'\")")
