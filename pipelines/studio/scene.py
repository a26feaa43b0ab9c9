"""The background scene: a tiled square under a sky, houses and crates around it, soft shadows.

The world is that of `unreal_axes`: metres, x right, y down, z forward; the ground is y = 0. Cameras and people stay
within `OPEN_RADIUS` of the centre and everything else outside, so people are always in front of the background.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from opendimo.pipelines.studio.raster import NEAR, Image

Array = NDArray[np.floating]

OPEN_RADIUS = 5.0
TO_SUN = np.array([-0.45, -0.80, -0.40]) / np.linalg.norm([-0.45, -0.80, -0.40])
SKY_TOP, SKY_LOW = np.array([104, 150, 214], np.float32), np.array([206, 220, 232], np.float32)
TILE = 0.5  # metres
TEXTURE_TILES, TEXTURE_PIXELS = 16, 1024
HAZE = 60.0  # metres; distance at which the ground has mostly faded into the sky
SHADOW_CELL, SHADOW_CELLS = 0.02, 224  # size of a cell in metres, cells along each side of the shadow map
SHADOW_DEPTH = 0.5


@dataclass(frozen=True)
class Background:
    """The empty scene from one camera: the image, the ground point of each pixel, and a mask of the ground."""

    image: Image  # [H, W, 3]
    ground: Image  # [H, W, 2], x and z in metres
    is_ground: Image  # [H, W, 1], 0 to 1


def light(normals: Array) -> Array:
    """Return the brightness [N, 1] of surfaces with unit normals [N, 3]: sun, sky and ground light."""
    sun = np.clip(normals @ TO_SUN, 0, 1)
    sky = 0.5 - 0.5 * normals[:, 1]
    return (0.34 + 0.26 * sky + 0.48 * sun)[:, None]


class Scene:
    """A scene generated from a seed."""

    def __init__(self, seed: int) -> None:
        random = np.random.default_rng(seed)
        self._texture = _tiles(random)
        self._mean = self._texture.mean((0, 1))
        self._boxes = [_box(random, angle) for angle in (np.arange(11) + random.uniform(0, 1)) / 11 * 2 * np.pi]

    def background(self, K: Array, world_to_camera: Array, size: tuple[int, int]) -> Background:
        """Render the empty scene for a camera: K [3, 3], [R | t] [3, 4], size (width, height)."""
        width, height = size
        centre = -world_to_camera[:, :3].T @ world_to_camera[:, 3]
        to_world = (world_to_camera[:, :3].T @ np.linalg.inv(K)).astype(np.float32)
        columns, rows = np.arange(0.5, width, dtype=np.float32), np.arange(0.5, height, dtype=np.float32)[:, None]
        x, y, z = (row[0] * columns + (row[1] * rows + row[2]) for row in to_world)  # rays [H, W] with unit depth
        below = y > 1e-6
        reach = np.float32(-centre[1]) / np.where(below, y, 1)  # depth of the ground
        ground = np.stack([reach * x + np.float32(centre[0]), reach * z + np.float32(centre[2])], -1)
        level = np.sqrt(x * x + z * z)
        distance = reach * np.sqrt(level * level + y * y)

        where = np.mod(ground * np.float32(TEXTURE_PIXELS / (TEXTURE_TILES * TILE)), TEXTURE_PIXELS)
        tiles = cv2.remap(self._texture, where[..., 0], where[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        footprint = distance * reach / np.where(below, y, 1) / np.float32(K[1, 1])  # metres of ground along a pixel
        sharp = np.clip(4 * TILE / footprint - 0.5, 0, 1) * below
        sky = SKY_LOW + np.clip(-1.6 * y / level, 0, 1)[..., None] * (SKY_TOP - SKY_LOW)
        haze = np.exp(-distance / HAZE) * below
        colour = self._mean + sharp[..., None] * (tiles - self._mean)
        image = sky + haze[..., None] * (colour - sky)
        is_ground = below.astype(np.float32)[..., None]
        self._draw_boxes(image, is_ground, K, world_to_camera, centre)
        return Background(image, ground, is_ground)

    def _draw_boxes(self, image: Image, is_ground: Image, K: Array, world_to_camera: Array, centre: Array) -> None:
        """Draw the boxes from far to near, without back faces."""
        for box in sorted(self._boxes, key=lambda box: -float(np.linalg.norm(box.centre - centre))):
            for normal, corners, colour in box.panels:
                if normal @ (centre - corners[0]) <= 0:
                    continue
                polygon = _in_front(corners @ world_to_camera[:, :3].T + world_to_camera[:, 3])
                if len(polygon) < 3:
                    continue
                points = (polygon @ K.T)[:, :2] / polygon[:, 2:] - 0.5  # cv2 has integers at pixel centres
                points = np.round(points * 16).clip(-3e5, 3e5).astype(np.int32)
                fog = float(np.exp(-np.linalg.norm(corners.mean(0) - centre) / (2 * HAZE)))
                shade = (SKY_LOW + fog * (colour * light(normal[None])[0] - SKY_LOW)).tolist()
                cv2.fillConvexPoly(image, points, shade, cv2.LINE_8, shift=4)
                cv2.fillConvexPoly(is_ground, points, (0.0,), cv2.LINE_8, shift=4)


def cast_shadows(background: Background, vertices: Array) -> Image:
    """Return the image [H, W, 3] with the soft shadow of the vertices [V, 3] on the ground."""
    feet = vertices - vertices[:, 1:2] / TO_SUN[1] * TO_SUN  # moved along the sun's rays down to y = 0
    middle = feet[:, [0, 2]].mean(0)
    cells = np.floor((feet[:, [0, 2]] - middle) / SHADOW_CELL).astype(int) + SHADOW_CELLS // 2
    cells = cells[((cells >= 0) & (cells < SHADOW_CELLS)).all(1)]
    hit = np.zeros((SHADOW_CELLS, SHADOW_CELLS), np.float32)
    hit[cells[:, 1], cells[:, 0]] = 1
    shadow = cv2.GaussianBlur(cv2.dilate(hit, np.ones((3, 3))), (0, 0), 1.6)
    where = ((background.ground - middle) / SHADOW_CELL + SHADOW_CELLS / 2).astype(np.float32)
    dark = cv2.remap(shadow, where[..., 0], where[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    return np.asarray(background.image * (1 - SHADOW_DEPTH * dark[..., None] * background.is_ground), np.float32)


def _tiles(random: np.random.Generator) -> Image:
    """Return the ground texture [P, P, 3]: tiles in two colours with random variation, joints and specks."""
    pixels = TEXTURE_PIXELS // TEXTURE_TILES
    dark, bright = np.array([138, 131, 124]), np.array([158, 151, 142])
    odd = np.indices((TEXTURE_TILES, TEXTURE_TILES)).sum(0) % 2
    tone = np.where(odd[..., None], dark, bright) + random.normal(0, 9, (TEXTURE_TILES, TEXTURE_TILES, 1))
    texture = np.repeat(np.repeat(tone, pixels, 0), pixels, 1)
    texture[::pixels] = texture[:, ::pixels] = (122, 116, 110)
    texture[1::pixels] = texture[:, 1::pixels] = (122, 116, 110)
    texture += cv2.GaussianBlur(random.normal(0, 8, texture.shape[:2]), (0, 0), 1.2)[..., None]
    return texture.astype(np.float32)


@dataclass(frozen=True)
class _Box:
    centre: Array
    panels: list[tuple[Array, Array, Array]]  # outward normal [3], corners [4, 3], colour [3]


_COLOURS = ((168, 96, 76), (92, 112, 124), (190, 172, 132), (112, 132, 96), (146, 128, 150), (206, 196, 184))


def _box(random: np.random.Generator, angle: float) -> _Box:
    """Create a crate or a house with windows, on the ground, outside `OPEN_RADIUS`."""
    house = random.uniform() < 0.5
    low, high = ((3.0, 2.6, 3.0), (5.0, 5.0, 5.0)) if house else ((0.6, 0.5, 0.6), (1.4, 1.5, 1.2))
    size = random.uniform(low, high)
    radius = OPEN_RADIUS + size[[0, 2]].max() + (random.uniform(5, 11) if house else random.uniform(0.3, 3))
    turn = random.uniform(0, np.pi)
    x, z = np.array([np.cos(turn), 0, np.sin(turn)]), np.array([-np.sin(turn), 0, np.cos(turn)])
    up = np.array([0.0, -1.0, 0.0])
    base = radius * np.array([np.cos(angle), 0, np.sin(angle)])
    centre = base + up * size[1] / 2
    colour = np.array(_COLOURS[random.integers(len(_COLOURS))], np.float32)
    panels = []
    for normal, side, half, reach in ((x, z, size[2], size[0]), (z, x, size[0], size[2])):
        for sign in (1, -1):
            middle = centre + sign * normal * reach / 2
            panels += _wall(sign * normal, middle, side * half, up * size[1], colour, house)
    roof = centre + up * size[1] / 2
    panels += _wall(up, roof, x * size[0], z * size[2], 0.8 * colour, False)
    return _Box(centre, panels)


def _wall(
    normal: Array, middle: Array, across: Array, upward: Array, colour: Array, windows: bool
) -> list[tuple[Array, Array, Array]]:
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) / 2
    panels = [(normal, middle + corners @ np.stack([across, upward]), colour)]
    grid = [(u, v) for u in (-0.3, 0.0, 0.3) for v in (-0.22, 0.22)] if windows else [(0.0, 0.0)]
    size = np.array([0.18, 0.26]) if windows else np.array([0.78, 0.78])
    tint = np.array([58, 70, 88], np.float32) if windows else 0.82 * colour
    for place in grid:
        panels.append((normal, middle + (corners * size + place) @ np.stack([across, upward]), tint))
    return panels


def _in_front(polygon: Array) -> Array:
    """Clip a convex polygon [N, 3] (camera axes) to the part farther than `NEAR`."""
    kept = []
    for current, following in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if current[2] > NEAR:
            kept.append(current)
        if (current[2] > NEAR) != (following[2] > NEAR):
            kept.append(current + (NEAR - current[2]) / (following[2] - current[2]) * (following - current))
    return np.array(kept)
