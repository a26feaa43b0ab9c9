"""Export cameras and skeletons of Movie Render Queue jobs as render manifests; runs inside the Unreal editor.

Copy this file to the computer with the editor (it needs the standard library only), open the queue that was or will be
rendered, and run in the editor's Python console:

    import unreal_export
    unreal_export.export_queue(project="my project", licence="CC-BY-4.0")

It writes `<sequence>.render_manifest.json` into the output directory of every job; then run `dimo ingest unreal` on
that folder. Jobs must write PNG or JPEG pictures.

Written after the documentation of the Python API of Unreal Engine 5.3 to 5.5 (plugins: Python Editor Script Plugin,
Sequencer Scripting, Movie Render Queue): IT WAS NOT RUN in an editor. The code that calls the engine is short and at
the end of the file; everything before it is plain arithmetic and tested.

Not exported: bindings of sub-sequences, overscan and crop settings, several camera cuts in one sequence (an error), and
anything that exists only while the game runs (physics, blueprint ticks). Compare a picture with projected joints before
rendering thousands: ingestion only checks that bodies are in the picture.
"""

from __future__ import annotations

import json
import os
import re
from typing import Any

FORMAT, VERSION = "render manifest", 1
AXES = {"forward": "+x", "right": "+y", "up": "+z"}
DECIMALS = 4  # of values in centimetres, degrees and millimetres
SUFFIX = ".render_manifest.json"

SPINES = ({"spine1": "spine_01", "spine2": "spine_03", "spine3": "spine_05"},
          {"spine1": "spine_01", "spine2": "spine_02", "spine3": "spine_03"})  # fmt: skip
MIDDLE = {"pelvis": "pelvis", "neck": "neck_01", "head": "head"}
LIMBS = {"hip": "thigh", "knee": "calf", "ankle": "foot", "foot": "ball", "collar": "clavicle", "shoulder": "upperarm",
         "elbow": "lowerarm", "wrist": "hand"}  # fmt: skip
FINGERS = ("index", "middle", "pinky", "ring", "thumb")
SIDES = {"left": "l", "right": "r"}


def joint_bones(bones: list[str]) -> dict[str, str]:
    """Map SMPL-X joints to the bones of a skeleton with SMPL-X's joint names or those of Unreal's mannequins.

    Returns the 22 joints of the body, plus the 30 of the hands if all exist; empty if the body is incomplete.
    """
    available = set(bones)
    body = dict(MIDDLE)
    body.update(SPINES[0] if "spine_05" in available else SPINES[1])
    hands = {}
    for side, letter in SIDES.items():
        body.update({f"{side}_{joint}": f"{bone}_{letter}" for joint, bone in LIMBS.items()})
        for finger in FINGERS:
            hands.update({f"{side}_{finger}{i}": f"{finger}_0{i}_{letter}" for i in (1, 2, 3)})
    if available.issuperset(body):  # a skeleton with SMPL-X's joint names
        body, hands = {joint: joint for joint in body}, {joint: joint for joint in hands}
    if not available.issuperset(body.values()):
        return {}
    return {**body, **hands} if available.issuperset(hands.values()) else body


def visible_sensor(sensor: tuple[float, float], resolution: tuple[int, int], constrained: bool) -> list[float]:
    """Return the sensor area (width, height) that a picture of `resolution` covers.

    A camera with constrained aspect ratio is shown with black bars if the picture's aspect ratio differs: the picture
    then covers more than the sensor. An unconstrained camera keeps its horizontal angle of view.
    """
    width, height = sensor
    shape = resolution[0] / resolution[1]
    if constrained and shape > width / height:
        return [height * shape, height]
    return [width, width / shape]


def frame_numbers(start: int, end: int, step: int) -> list[int]:
    """Return the rendered frames of [start, end). Raises `ValueError` if there are none."""
    if end <= start or step < 1:
        raise ValueError(f"no frames from {start} to {end} by {step}")
    return list(range(start, end, step))


def frame_rate(numerator: int, denominator: int, step: int) -> str:
    """Return the frame rate of every `step`-th frame, as a fraction."""
    return f"{numerator}/{denominator * step}"


def picture_pattern(name_format: str, names: dict[str, str], digits: int, extension: str) -> str:
    """Return the pattern of the pictures that a job writes, relative to its output directory.

    `name_format` is Movie Render Queue's, as `{sequence_name}/{camera_name}.{frame_number}`. Raises `ValueError` if it
    has no frame number, or placeholders that are not in `names`.
    """
    text = re.sub(r"\{frame_number(_rel)?\}", "\0", name_format)
    unknown = sorted(set(re.findall(r"\{(\w+)\}", text)) - set(names))
    if unknown:
        raise ValueError(
            f"file_name_format {name_format!r}: unsupported placeholders {', '.join(unknown)}: remove them"
        )
    if "%" in text + "".join(names.values()):
        raise ValueError(f"file_name_format {name_format!r}: names must not contain a percent sign: rename them")
    if text.count("\0") != 1 or "\0" not in text.rpartition("/")[2]:
        raise ValueError(f"file_name_format {name_format!r} should have one frame_number, in the file's name")
    for word, value in names.items():
        text = text.replace("{" + word + "}", value)
    return text.replace("\0", f"%0{digits}d") + "." + extension


def once_if_still(values: list[Any]) -> list[Any]:
    """Return the per-frame values, or a single one if it never changes."""
    return values[:1] if all(value == values[0] for value in values) else values


def safe_name(name: str) -> str:
    """Replace all characters of a name except letters, digits, `_`, `-` and `.`."""
    return re.sub(r"[^A-Za-z0-9_.\-]", "_", name).lstrip(".") or "unnamed"


def camera_entry(samples: list[dict[str, Any]], resolution: tuple[int, int]) -> dict[str, Any]:
    """Return the manifest's camera of a view.

    `samples`, one per frame, have `location`, `yaw_pitch_roll`, `focal_length`, `sensor` and `constrained`.
    Raises `ValueError` if the sensor changes.
    """
    sensors = [visible_sensor(s["sensor"], resolution, s["constrained"]) for s in samples]
    if any(sensor != sensors[0] for sensor in sensors):
        raise ValueError("the camera's sensor changes during the sequence: keep it constant")
    return {
        "position": once_if_still([_rounded(s["location"]) for s in samples]),
        "yaw_pitch_roll": once_if_still([_rounded(s["yaw_pitch_roll"]) for s in samples]),
        "focal_length": once_if_still([round(s["focal_length"], DECIMALS) for s in samples]),
        "sensor": _rounded(sensors[0]),
    }


def body_entry(name: str, frames: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the manifest's body from `frames`, each the location of every joint by name."""
    joints = list(frames[0])
    return {
        "name": safe_name(name),
        "joint_names": joints,
        "joints": [[_rounded(frame[joint]) for joint in joints] for frame in frames],
    }


def manifest(takes: list[dict[str, Any]], fps: str, rights: dict[str, str | None]) -> dict[str, Any]:
    """Return the manifest of a job. `rights`: project, licence, attribution."""
    given = {name: value for name, value in rights.items() if value is not None}
    return {"format": FORMAT, "version": VERSION, "units": "cm", "axes": AXES, "fps": fps, **given, "sequences": takes}


def write(path: str, content: dict[str, Any]) -> None:
    """Write a manifest atomically."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + ".tmp", "w", encoding="utf-8") as stream:
        json.dump(content, stream, allow_nan=False)
    os.replace(path + ".tmp", path)


def _rounded(values: Any) -> list[float]:
    return [round(float(value), DECIMALS) + 0.0 for value in values]


# ---- code that calls the engine


def export_queue(project: str | None = None, licence: str | None = None, attribution: str | None = None) -> list[str]:
    """Write a manifest for every job of the Movie Render Queue; return the paths."""
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
    rendered = _rendered(unreal, settings, sequence, cameras)
    samples, poses = _record(unreal, frame_numbers(start, end, step), rendered, bodies)
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
        for camera in rendered
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
    """Play the sequence once and sample every camera and body in each frame."""
    samples: dict[str, list[dict[str, Any]]] = {name: [] for name in cameras}
    poses: dict[str, list[dict[str, Any]]] = {name: [] for name in bodies}
    for number in numbers:
        unreal.LevelSequenceEditorBlueprintLibrary.set_current_time(number)
        unreal.LevelSequenceEditorBlueprintLibrary.force_update()
        for name, camera in cameras.items():
            samples[name].append(_sample(camera.get_cine_camera_component()))
        for name, (mesh, joints) in bodies.items():
            points = {joint: mesh.get_socket_location(bone) for joint, bone in joints.items()}
            poses[name].append({joint: (point.x, point.y, point.z) for joint, point in points.items()})
    return samples, poses


def _sample(lens: Any) -> dict[str, Any]:
    location, rotation = lens.get_world_location(), lens.get_world_rotation()
    return {
        "location": (location.x, location.y, location.z),
        "yaw_pitch_roll": (rotation.yaw, rotation.pitch, rotation.roll),
        "focal_length": lens.current_focal_length,
        "sensor": (lens.filmback.sensor_width, lens.filmback.sensor_height),
        "constrained": lens.constrain_aspect_ratio,
    }


def _bound(unreal: Any, sequence: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the cameras and the skeletons with their joints that a sequence animates, by actor label."""
    cameras, bodies = {}, {}
    for binding in sequence.get_bindings():
        for actor in unreal.LevelSequenceEditorBlueprintLibrary.get_bound_objects(sequence.get_binding_id(binding)):
            if isinstance(actor, unreal.CineCameraActor):
                cameras[actor.get_actor_label()] = actor
            elif isinstance(actor, unreal.Actor):
                for mesh in actor.get_components_by_class(unreal.SkeletalMeshComponent):
                    names = [str(mesh.get_bone_name(i)) for i in range(mesh.get_num_bones())]
                    if joints := joint_bones(names):
                        bodies[actor.get_actor_label()] = (mesh, joints)
    return cameras, bodies


def _rendered(unreal: Any, settings: Any, sequence: Any, cameras: dict[str, Any]) -> dict[str, Any]:
    """Return the cameras that the job renders: all of them, or the one of the camera cut."""
    setting = settings.find_setting_by_class(unreal.MoviePipelineCameraSetting)
    if setting is not None and setting.render_all_cameras:
        return cameras
    tracks = sequence.find_tracks_by_type(unreal.MovieSceneCameraCutTrack)
    cuts = [section for track in tracks for section in track.get_sections()]
    if len(cuts) != 1:
        raise ValueError(f"{sequence.get_name()}: {len(cuts)} camera cuts: render one camera, or all, per sequence")
    cut_cameras = unreal.LevelSequenceEditorBlueprintLibrary.get_bound_objects(cuts[0].get_camera_binding_id())
    return {name: camera for name, camera in cameras.items() if camera in cut_cameras}


def _extension(unreal: Any, settings: Any) -> str:
    for kind, extension in (("PNG", "png"), ("JPG", "jpeg")):
        if settings.find_setting_by_class(getattr(unreal, f"MoviePipelineImageSequenceOutput_{kind}")) is not None:
            return extension
    raise ValueError("the job writes neither PNG nor JPEG pictures: add one of these outputs")


def _directory(unreal: Any, output: Any) -> str:
    project = unreal.Paths.convert_relative_path_to_full(unreal.Paths.project_dir())
    return os.path.normpath(output.output_directory.path.replace("{project_dir}", project))


def _level(job: Any) -> str:
    return str(job.map.export_text()).rpartition(".")[2].strip("'\")")
