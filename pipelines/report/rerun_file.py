"""Export a clip to a recording of the viewer Rerun: camera, joints in 3-D and video on one time line."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opendimo.model.body.skeleton import BONES, JOINTS
from opendimo.pipelines.poses.overlay import LEFT, MIDDLE, RIGHT, SEEN
from opendimo.pipelines.poses.view import view_of
from opendimo.pipelines.report.overlay import Shown
from opendimo.pipelines.report.thumbnails import stored_video
from opendimo.storage_schemas.lake.lake import Lake


def write_recording(path: Path, lake: Lake, shown: Shown) -> None:
    """Write the recording of a clip as an .rrd file. Raises `ValueError` if the package `rerun-sdk` is missing.

    Entities: `world/camera` (moving, if it is known and metric), `world/camera/image` (pinhole, with the video, the
    label's `joints` and the `landmarks` in pixels), `world/body` (`joints` and `bones` in metres, valid frames only)
    and `camera_terms`. Time lines: `frame` of the clip and `time` in seconds.
    """
    try:
        import rerun as rr
    except ImportError as error:
        raise ValueError("Rerun files need the package rerun-sdk: pip install 'opendimo[rerun]'") from error
    clip, pose, view = shown.clip, shown.pose, view_of(shown.clip)
    recording = rr.RecordingStream("opendimo", recording_id=clip["clip_id"])
    recording.save(path)
    recording.log("world", rr.ViewCoordinates.RIGHT_HAND_Y_DOWN, static=True)
    asset = rr.AssetVideo(contents=stored_video(lake, clip), media_type="video/mp4")
    recording.log("world/camera/image", asset, static=True)
    world = None if pose is None else _in_world(pose["joints_3d"], view.world_to_camera)
    for t, shown_at in enumerate(asset.read_frame_timestamps_nanos()[: clip["frames"]]):
        recording.set_time("frame", sequence=t)
        recording.set_time("time", duration=t / view.fps)
        recording.log("world/camera/image", rr.VideoFrameReference(nanoseconds=int(shown_at)))
        pinhole = rr.Pinhole(image_from_camera=view.K[t], resolution=[view.width, view.height])
        recording.log("world/camera/image", pinhole)
        if view.world_to_camera is not None:
            R, shift = view.world_to_camera[t, :, :3], view.world_to_camera[t, :, 3]
            recording.log("world/camera", rr.Transform3D(mat3x3=R.T, translation=-R.T @ shift))
        if pose is not None and (landmarks := pose["landmarks_2d"]) is not None:
            seen = landmarks[t][landmarks[t, :, 2] > 0, :2]
            recording.log("world/camera/image/landmarks", rr.Points2D(seen, colors=[SEEN]))
        if pose is not None and world is not None:
            _log_body(rr, recording, world[t], pose["joints_2d"][t], bool(pose["valid"][t]))
    for term in shown.terms:
        recording.set_time("frame", sequence=term["start_frame"])
        recording.set_time("time", duration=term["start_frame"] / view.fps)
        text = f"{term['term']} {term['speed']}, to frame {term['end_frame']}"
        recording.log("camera_terms", rr.TextLog(text))
    recording.disconnect()


def _log_body(rr: Any, recording: Any, joints: NDArray[np.floating], pixels: NDArray[np.floating], valid: bool) -> None:
    """Log the joints [52, 3] in the world and their pixels [52, 3]; nothing is shown where they are not valid."""
    if not valid:
        for entity in ("world/body", "world/camera/image/joints"):
            recording.log(entity, rr.Clear(recursive=True))
        return
    colours = [LEFT if JOINTS[child].startswith("left") else RIGHT if JOINTS[child].startswith("right") else MIDDLE
               for _, child in BONES]  # fmt: skip
    recording.log("world/body/joints", rr.Points3D(joints, radii=0.015))
    recording.log("world/body/bones", rr.LineStrips3D(joints[np.array(BONES)], colors=colours))
    recording.log("world/camera/image/joints", rr.Points2D(pixels[:, :2], radii=2.0))


def _in_world(joints: NDArray[np.floating], world_to_camera: NDArray[np.floating] | None) -> NDArray[np.floating]:
    """Move joints [T, 52, 3] from the camera's axes to the world's; the camera is the world if it is unknown."""
    if world_to_camera is None:
        return joints
    R, shift = world_to_camera[:, :, :3], world_to_camera[:, None, :, 3]
    return np.einsum("tji,tnj->tni", R, joints - shift)
