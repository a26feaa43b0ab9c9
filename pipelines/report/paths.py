"""Draw a top view of a capture: camera paths, fields of view and the path of the person."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from opendimo.pipelines.report.plots import Scale, polyline, round_step
from opendimo.storage_schemas.conventions import camera_centres
from opendimo.storage_schemas.rows import Row

Array = NDArray[np.floating]
SIDE = 240.0
MARGIN = 22.0
WEDGE = 0.16  # length of a drawn field of view as a share of the side of the plot
LEAST_EXTENT = 0.5  # minimum extent of the plot, in world units
MOST_POINTS = 160


@dataclass(frozen=True)
class CameraPath:
    """Camera of one clip: `line` and the fields of view at the start and end (SVG points), and its last position."""

    clip_id: str
    view: str
    line: str
    first_wedge: str
    last_wedge: str
    end: tuple[float, float]


@dataclass(frozen=True)
class TopView:
    """A square drawing of side SIDE. `person`: SVG points of the person's path, None if unknown. `ruler`: length of the
    scale bar in the drawing, and its label."""

    paths: list[CameraPath]
    person: str | None
    person_end: tuple[float, float] | None
    ruler: tuple[float, str]


@dataclass(frozen=True)
class _ClipGeometry:
    """Camera and person of one clip in the world: camera centres [T, 3], camera axes [T, 3, 3] (rows right, down,
    forward), pelvis positions [N, 3]."""

    clip: Row
    centres: Array
    axes: Array
    pelvis: Array


def top_view(clips: list[Row], poses: dict[str, Row], gravity_down: Array | None) -> TopView | None:
    """Return the top view of the clips of one capture that have cameras (rows of `clips`).

    `poses`: pose labels by clip. `gravity_down` [3]: gravity in the world; None: use the mean down axis of the cameras.
    Returns None if no clip has cameras.
    """
    geometries = [_geometry(clip, poses.get(clip["clip_id"])) for clip in clips if clip["world_to_camera"] is not None]
    if not geometries:
        return None
    ground = _ground(geometries, gravity_down)  # [2, 3]
    person = next((s.pelvis for s in geometries if len(s.pelvis)), np.zeros((0, 3))) @ ground.T
    places = [s.centres @ ground.T for s in geometries]
    all_points = np.concatenate([*places, person])
    middle = (all_points.min(0) + all_points.max(0)) / 2
    extent = max(LEAST_EXTENT, float(np.ptp(all_points, axis=0).max()))
    across = Scale(middle[0] - extent / 2, middle[0] + extent / 2, MARGIN, SIDE - MARGIN)
    upward = Scale(middle[1] - extent / 2, middle[1] + extent / 2, SIDE - MARGIN, MARGIN)  # SVG's y goes down

    def draw(points: Array) -> list[tuple[float, float]]:
        return [(across(x), upward(y)) for x, y in points[:: max(1, len(points) // MOST_POINTS)]]

    paths = []
    for s, place in zip(geometries, places, strict=True):
        directions = s.axes[:, 2] @ ground.T
        half = float(np.arctan(s.clip["width"] / 2 / s.clip["K"][0, 0, 0])) if s.clip["K"] is not None else 0.5
        start, end = ((across(place[t, 0]), upward(place[t, 1])) for t in (0, -1))
        first, last = _wedge(start, directions[0], half), _wedge(end, directions[-1], half)
        paths.append(CameraPath(s.clip["clip_id"], s.clip["view"], polyline(draw(place)), first, last, end))
    person_points = draw(person)
    unit = round_step(extent / 4)
    metric = all(s.clip["metric"] for s in geometries)
    ruler = (unit / extent * (SIDE - 2 * MARGIN), f"{unit:g} m" if metric else f"{unit:g} (scale unknown)")
    return TopView(
        paths, polyline(person_points) if person_points else None, person_points[-1] if person_points else None, ruler
    )


def _geometry(clip: Row, pose: Row | None) -> _ClipGeometry:
    world_to_camera = np.asarray(clip["world_to_camera"], float)
    if len(world_to_camera) == 1:  # a single camera applies to all frames
        world_to_camera = np.repeat(world_to_camera, clip["frames"], axis=0)
    rotation, translation = world_to_camera[:, :, :3], world_to_camera[:, :, 3]
    pelvis = np.zeros((0, 3))
    if pose is not None and clip["metric"]:
        valid = np.array(pose["valid"], bool)
        in_camera = pose["joints_3d"][valid, 0] - translation[valid]
        pelvis = np.einsum("tji,tj->ti", rotation[valid], in_camera)  # R^T (x - t)
    return _ClipGeometry(clip, camera_centres(world_to_camera), rotation, pelvis)


def _ground(geometries: list[_ClipGeometry], gravity_down: Array | None) -> Array:
    """Return the axes [2, 3] of the drawing in the world: right, and up, which is where the first camera looks."""
    down = (
        np.concatenate([s.axes[:, 1] for s in geometries]).mean(0) if gravity_down is None else np.asarray(gravity_down)
    )
    up = -down / np.linalg.norm(down)
    _, camera_down, forward = geometries[0].axes[0]
    if np.linalg.norm(np.cross(forward, up)) < 0.1:  # looks straight down or up: use its image up
        forward = -camera_down
    top = forward - up * (forward @ up)
    top /= np.linalg.norm(top)
    return np.stack([np.cross(top, up), top])


def _wedge(at: tuple[float, float], direction: Array, half_angle: float) -> str:
    """Return a field of view as a triangle; shorter if the camera looks down or up."""
    heading = np.arctan2(-direction[1], direction[0])  # in the drawing, whose y points down
    reach = WEDGE * SIDE * float(np.linalg.norm(direction))
    corners = [
        (round(at[0] + reach * float(np.cos(heading + a)), 1), round(at[1] + reach * float(np.sin(heading + a)), 1))
        for a in (-half_angle, half_angle)
    ]
    return polyline([at, *corners])
