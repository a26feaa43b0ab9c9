"""Track corners of the background through a clip, around the person."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Grey = NDArray[np.uint8]

SHORT_SIDE = 360  # pixels of the analysed picture
CORNERS = 350
CORNER_QUALITY = 0.005  # of the best corner
CORNER_GAP = 9  # pixels between corners
RENEWED = 5  # frames between searches for new corners
SIDE_MARGIN, END_MARGIN = 0.15, 0.08  # share of the box added on its sides, above and below: limbs leave the box
MOST_HIDDEN = 0.7  # share of the picture; a box that would cover more is not widened
ROUND_TRIP = 0.5  # maximum distance in pixels of a corner tracked forward and back from where it started
KEY_S = 0.15  # seconds between key frames
KEYS = 9  # key frames of a window
REFINED = 2.0  # pixels: maximum correction of a corner's place in a key frame by its look in the middle one

_TRACK: Any = partial(cv2.calcOpticalFlowPyrLK, winSize=(15, 15))


@dataclass(frozen=True)
class Background:
    """Corners [T, N, 2] in pixels of the analysed picture (NaN where not seen) of `size` (width, height).

    `boxes` [T, 4]: the person, in the same pixels. `keys`: numbers of the key frames; `pictures`: these frames.
    """

    corners: Array
    boxes: Array
    size: tuple[int, int]
    keys: NDArray[np.int64]
    pictures: list[Grey]


def track_background(frames: Iterable[NDArray[np.uint8]], fps: float, track: Array | None) -> Background:
    """Track corners through `frames` [H, W, 3] RGB, outside the person's boxes `track` [T, 4] (None: nobody)."""
    step = max(1, round(KEY_S * fps))
    seen: list[tuple[NDArray[np.int64], Array]] = []
    boxes: list[Array] = []
    pictures: dict[int, Grey] = {}
    ids, at, before, total = np.zeros(0, np.int64), np.zeros((0, 2), np.float32), None, 0
    for number, frame in enumerate(frames):
        scale = min(1.0, SHORT_SIDE / min(frame.shape[:2]))
        grey: Any = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else grey
        box = np.full(4, np.nan) if track is None else np.asarray(track[number], np.float64) * scale
        free = background_mask(grey.shape, box)
        if before is not None and len(at):
            after, good = _followed(before, grey, at, 3)
            good &= _inside(after, free)
            ids, at = ids[good], after[good]
        if number % RENEWED == 0 and len(at) < CORNERS:
            added = _new_corners(grey, free, at)
            ids, at = np.append(ids, total + np.arange(len(added))), np.concatenate([at, added])
            total += len(added)
        seen.append((ids, at))
        boxes.append(box)
        if number < KEYS or number % step == 0:
            pictures[number] = grey
        before = grey
    if before is None:
        return Background(np.zeros((0, 0, 2)), np.zeros((0, 4)), (0, 0), np.zeros(0, np.int64), [])
    corners = np.full((len(seen), total, 2), np.nan)
    for number, (which, places) in enumerate(seen):
        corners[number, which] = places
    keys = np.arange(0, len(seen), step if len(seen) > step * (KEYS - 1) else 1)[: max(KEYS, len(seen) // step + 1)]
    keys = keys[[key in pictures for key in keys]]
    return Background(corners, np.array(boxes), grey.shape[::-1], keys, [pictures[key] for key in keys])


def background_mask(shape: tuple[int, int], box: Array) -> Grey:
    """Return 255 outside the widened `box` (x0 y0 x1 y1; NaN: nobody), 0 inside."""
    mask = np.full(shape, 255, dtype=np.uint8)
    if np.isfinite(box).all():
        x0, y0, x1, y1 = box
        dx, dy = SIDE_MARGIN * (x1 - x0), END_MARGIN * (y1 - y0)
        if (x1 - x0 + 2 * dx) * (y1 - y0 + 2 * dy) > MOST_HIDDEN * mask.size:
            dx = dy = 0
        mask[max(0, int(y0 - dy)) : max(0, int(y1 + dy) + 1), max(0, int(x0 - dx)) : max(0, int(x1 + dx) + 1)] = 0
    return mask


def window_corners(background: Background, which: NDArray[np.int64], most: int) -> Array:
    """Return the corners seen in most of the key frames `which` (indices into `keys`): [F, N, 2] pixels, N <= `most`.

    Corners drift when they are tracked over many frames, so each is found again in every key frame by its look in the
    middle one. NaN where it is not found.
    """
    rows = background.corners[background.keys[which]]
    middle = len(which) // 2
    here = np.isfinite(rows[..., 0])
    share = here.sum(axis=0) * here[middle]
    chosen = np.argsort(-share, kind="stable")[:most]
    chosen = chosen[share[chosen] > len(which) / 2]
    rows = rows[:, chosen]
    found = np.full_like(rows, np.nan)
    found[middle] = rows[middle]
    for frame in range(len(which)):
        both = np.isfinite(rows[frame, :, 0])
        if frame == middle or not both.any():
            continue
        pictures = background.pictures[which[middle]], background.pictures[which[frame]]
        guess = rows[frame, both].astype(np.float32)
        places, good = _followed(*pictures, rows[middle, both].astype(np.float32), 1, guess)
        places[~good | (np.linalg.norm(places - guess, axis=1) > REFINED)] = np.nan
        found[frame, both] = places
    return found[:, np.isfinite(found[..., 0]).sum(axis=0) > len(which) / 2]


def _followed(
    before: Grey, after: Grey, start: Array, levels: int, guess: Array | None = None
) -> tuple[Array, NDArray[np.bool_]]:
    """Track points [N, 2] from `before` to `after`: places [N, 2], and which of them return where they started."""
    options: dict[str, Any] = {"maxLevel": levels}
    back_options = dict(options)
    if guess is not None:
        options["flags"] = back_options["flags"] = cv2.OPTFLOW_USE_INITIAL_FLOW
    ahead, ok, _ = _TRACK(before, after, start[:, None], None if guess is None else guess[:, None].copy(), **options)
    back, ok_back, _ = _TRACK(after, before, ahead, None if guess is None else start[:, None].copy(), **back_options)
    good = (ok.ravel() == 1) & (ok_back.ravel() == 1)
    return np.asarray(ahead[:, 0]), good & (np.linalg.norm(back[:, 0] - start, axis=1) < ROUND_TRIP)


def _inside(places: Array, free: Grey) -> NDArray[np.bool_]:
    """Whether places [N, 2] lie in the picture, off its edge, and where `free` is set."""
    height, width = free.shape
    x, y = places.T
    inside = (x > 2) & (y > 2) & (x < width - 3) & (y < height - 3)
    columns, rows = (np.clip(np.nan_to_num(v), 0, n - 1).astype(int) for v, n in ((x, width), (y, height)))
    return np.asarray(inside & (free[rows, columns] > 0))


def _new_corners(grey: Grey, free: Grey, at: Array) -> Array:
    mask = free.copy()
    for x, y in at:
        cv2.circle(mask, (int(x), int(y)), CORNER_GAP, 0, -1)
    found = cv2.goodFeaturesToTrack(grey, CORNERS, CORNER_QUALITY, CORNER_GAP, mask=mask)
    places = np.zeros((0, 1, 2)) if found is None else found
    return np.asarray(places[: CORNERS - len(at), 0], np.float32)
