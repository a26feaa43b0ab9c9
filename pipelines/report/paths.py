"""Camera paths of a capture seen from above: where the cameras were, what they looked at, where the person went."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opendimo.pipelines.report.plots import Scale, polyline, round_step
from opendimo.storage_schemas.conventions import camera_centres

Row = dict[str, Any]
Array = NDArray[np.floating]
SIDE = 240.0
MARGIN = 22.0
WEDGE = 0.16  # length of a field of view drawn, over the side of the plot
LEAST_EXTENT = 0.5  # of the plot, in the units of the world
MOST_POINTS = 160


@dataclass(frozen=True)
class CameraPath:
    """One clip's camera: `line` and the fields of view at the start and at the end (SVG points), its last place."""

    clip_id: str
    view: str
    line: str
    first_wedge: str
    last_wedge: str
    end: tuple[float, float]


@dataclass(frozen=True)
class TopView:
    """A square drawing of SIDE. `person` are SVG points of the person's path, or None where it is not known.
    `ruler`: its length in the drawing, and what that is."""

    paths: list[CameraPath]
    person: str | None
    person_end: tuple[float, float] | None
    ruler: tuple[float, str]


@dataclass(frozen=True)
class _Seen:
    """One clip's camera in the world: centres [T, 3], axes [T, 3, 3] (rows right, down, forward), pelvis [N, 3]."""

    clip: Row
    centres: Array
    axes: Array
    pelvis: Array


def top_view(clips: list[Row], poses: dict[str, Row], gravity_down: Array | None) -> TopView | None:
    """The top view of the clips of one capture that have cameras (rows of `clips`), the person in its middle.

    `poses` are pose labels by clip; `gravity_down` [3] is the world's, else the cameras' mean down is taken for it.
    None where no clip has cameras.
    """
    seen = [_look(clip, poses.get(clip["clip_id"])) for clip in clips if clip["world_to_camera"] is not None]
    if not seen:
        return None
    ground = _ground(seen, gravity_down)  # [2, 3]
    person = next((s.pelvis for s in seen if len(s.pelvis)), np.zeros((0, 3))) @ ground.T
    places = [s.centres @ ground.T for s in seen]
    everything = np.concatenate([*places, person])
    middle = (everything.min(0) + everything.max(0)) / 2
    extent = max(LEAST_EXTENT, float(np.ptp(everything, axis=0).max()))
    across = Scale(middle[0] - extent / 2, middle[0] + extent / 2, MARGIN, SIDE - MARGIN)
    upward = Scale(middle[1] - extent / 2, middle[1] + extent / 2, SIDE - MARGIN, MARGIN)  # SVG's y goes down

    def draw(points: Array) -> list[tuple[float, float]]:
        return [(across(x), upward(y)) for x, y in points[:: max(1, len(points) // MOST_POINTS)]]

    paths = []
    for s, place in zip(seen, places, strict=True):
        directions = s.axes[:, 2] @ ground.T
        half = float(np.arctan(s.clip["width"] / 2 / s.clip["K"][0, 0, 0])) if s.clip["K"] is not None else 0.5
        start, end = ((across(place[t, 0]), upward(place[t, 1])) for t in (0, -1))
        first, last = _wedge(start, directions[0], half), _wedge(end, directions[-1], half)
        paths.append(CameraPath(s.clip["clip_id"], s.clip["view"], polyline(draw(place)), first, last, end))
    drawn = draw(person)
    unit = round_step(extent / 4)
    metric = all(s.clip["metric"] for s in seen)
    ruler = (unit / extent * (SIDE - 2 * MARGIN), f"{unit:g} m" if metric else f"{unit:g} (scale unknown)")
    return TopView(paths, polyline(drawn) if drawn else None, drawn[-1] if drawn else None, ruler)


def _look(clip: Row, pose: Row | None) -> _Seen:
    world_to_camera = np.asarray(clip["world_to_camera"], float)
    if len(world_to_camera) == 1:  # one camera stands for all frames
        world_to_camera = np.repeat(world_to_camera, clip["frames"], axis=0)
    rotation, translation = world_to_camera[:, :, :3], world_to_camera[:, :, 3]
    pelvis = np.zeros((0, 3))
    if pose is not None and clip["metric"]:
        valid = np.array(pose["valid"], bool)
        in_camera = pose["joints_3d"][valid, 0] - translation[valid]
        pelvis = np.einsum("tji,tj->ti", rotation[valid], in_camera)  # R^T (x - t)
    return _Seen(clip, camera_centres(world_to_camera), rotation, pelvis)


def _ground(seen: list[_Seen], gravity_down: Array | None) -> Array:
    """Axes [2, 3] of the drawing in the world: to its right, and to its top, where the first camera looks."""
    down = np.concatenate([s.axes[:, 1] for s in seen]).mean(0) if gravity_down is None else np.asarray(gravity_down)
    up = -down / np.linalg.norm(down)
    _, camera_down, forward = seen[0].axes[0]
    if np.linalg.norm(np.cross(forward, up)) < 0.1:  # it looks straight down or up: the top of its picture is the top
        forward = -camera_down
    top = forward - up * (forward @ up)
    top /= np.linalg.norm(top)
    return np.stack([np.cross(top, up), top])


def _wedge(at: tuple[float, float], direction: Array, half_angle: float) -> str:
    """A field of view as a triangle; shorter where the camera looks down or up."""
    heading = np.arctan2(-direction[1], direction[0])  # in the drawing, whose y goes down
    reach = WEDGE * SIDE * float(np.linalg.norm(direction))
    corners = [
        (round(at[0] + reach * float(np.cos(heading + a)), 1), round(at[1] + reach * float(np.sin(heading + a)), 1))
        for a in (-half_angle, half_angle)
    ]
    return polyline([at, *corners])
