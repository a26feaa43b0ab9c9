"""Read clips, windows, captions and labels of a release lazily."""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from opendimo.model.driving.framing import Framing
from opendimo.storage_schemas.media.video import centre_crop, decode
from opendimo.storage_schemas.rows import Row
from opendimo.training.evaluation.azimuth import azimuth_gap, directions
from opendimo.training.evaluation.following import held_terms
from opendimo.training.release import Pair, Release

Frames = NDArray[np.uint8]
Size = tuple[int, int]  # width, height
Terms = list[tuple[str, int, int]]
CLIP_COLUMNS = ["capture_id", "width", "height", "fps_num", "fps_den", "track", "world_to_camera", "K"]
CAPTION_COLUMNS = ["caption_id", "text", "content_sentence", "camera_terms"]
STILL_TERMS = {"static", "shake"}


class Window(NamedTuple):
    """Frames of a clip, centre-cropped to `size` as a target is."""

    clip_id: str
    frames: NDArray[np.int64]  # [T]
    size: Size


class Truth(NamedTuple):
    """Labels of the person in a window, in pixels of the window."""

    track: NDArray[np.float32]  # [T, 4] boxes, NaN if not visible
    height: float  # median of the boxes, NaN if never visible
    focal_over_width: float | None  # focal length over image width, None if unknown
    joints: NDArray[np.float32]  # [T, 52, 3] x, y, confidence; zeros without a label
    valid: NDArray[np.bool_]  # [T]


class Known:
    """Cached access to rows of a release by key."""

    def __init__(self, release: Release) -> None:
        self._release = release
        self.clip: Callable[[str], Row] = cache(lambda key: release.rows("clips", [key], CLIP_COLUMNS)[0])
        self.latents: Callable[[str], Row] = cache(
            lambda key: release.rows("latents", [key], ["text", "width", "height"])[0]
        )
        self._captions: Callable[[str], list[Row]] = cache(
            lambda clip: release.read("captions", CAPTION_COLUMNS, f"clip_id = '{clip}'")
        )
        self._down: Callable[[str], Row] = cache(lambda key: release.rows("captures", [key], ["gravity_down"])[0])

    def frames(self, window: Window) -> Frames:
        """Return the pixels [T, H, W, 3] of a window."""
        [video] = self._release.blobs("clip_videos", "video", [window.clip_id])
        chosen = window.frames
        step = int(chosen[1] - chosen[0]) if len(chosen) > 1 else 1
        frames = decode(video, start=int(chosen[0]), stop=int(chosen[-1]) + 1, step=step)
        return centre_crop(frames, *window.size)

    def truth(self, window: Window) -> Truth:
        """Return the labels of a window; of several pose labels of a clip, the one that the release's pairs use."""
        clip = self.clip(window.clip_id)
        clip_size = clip["width"], clip["height"]
        framing, scale = Framing.of(clip_size, window.size), np.array(window.size, np.float32)
        track = np.asarray(clip["track"])[window.frames]  # [T, 4]
        track = (framing.points(track.reshape(-1, 2, 2)) * scale).reshape(-1, 4)
        heights = track[:, 3] - track[:, 1]
        height = float(np.nanmedian(heights)) if np.isfinite(heights).any() else float("nan")
        focal = None if clip["K"] is None else float(clip["K"][0][0, 0]) / framing.width
        joints, valid = self._joints(window.clip_id, window.frames)
        joints = framing.points(joints)
        joints[..., :2] *= scale
        return Truth(track, height, focal, joints, valid)

    def prompt(self, pair: Pair) -> str:
        """Return the text of the target window, in its first wording."""
        text: str = self.latents(pair.latent_id)["text"]
        return text.partition("\n")[0]

    def caption(self, pair: Pair) -> Row:
        """Return the caption that the target window's text was composed from: one with that text, else that content."""
        text, rows = self.prompt(pair), self._captions(pair.target_clip_id)
        rows = sorted(rows, key=lambda row: row["caption_id"])
        same_content = [row for row in rows if row["content_sentence"] and text.endswith(row["content_sentence"])]
        same_text = [row for row in rows if row["text"] == text]
        return next(reversed(same_text or same_content or rows), {"camera_terms": [], "content_sentence": ""})

    def is_still(self, pair: Pair) -> bool:
        """Return whether captions state that the target window's camera does not move, turn or zoom."""
        held = held_terms(self._terms(pair), *_span(pair))
        return bool(held) and held <= STILL_TERMS

    def gap(self, pair: Pair) -> float | None:
        """Return the azimuth gap in degrees between the cameras of driver and target, None if unknown."""
        if pair.driving_clip_id == pair.target_clip_id:
            return 0.0
        clips = [self.clip(clip_id) for clip_id in (pair.driving_clip_id, pair.target_clip_id)]
        rays = [
            _rays(clip, frames) for clip, frames in zip(clips, (pair.driving_frames, target_frames(pair)), strict=True)
        ]
        down = self._down(clips[0]["capture_id"])["gravity_down"]
        if clips[0]["capture_id"] != clips[1]["capture_id"] or down is None or rays[0] is None or rays[1] is None:
            return None
        return azimuth_gap(rays[0], rays[1], np.asarray(down))

    def _terms(self, pair: Pair) -> Terms:
        return [(t["term"], t["start_frame"], t["end_frame"]) for t in self.caption(pair)["camera_terms"] or []]

    def _joints(self, clip_id: str, frames: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return `joints_2d` [T, 52, 3] in pixels of the clip, and a mask [T] of valid frames."""
        labels = self._release.read("pairs", ["pose_id"], f"driving_clip_id = '{clip_id}' AND pose_id IS NOT NULL")
        if not labels:
            return np.zeros((len(frames), 52, 3), np.float32), np.zeros(len(frames), bool)
        [row] = self._release.rows("poses", [labels[0]["pose_id"]], ["joints_2d", "valid"])
        return np.asarray(row["joints_2d"])[frames], np.asarray(row["valid"], bool)[frames]


def target_frames(pair: Pair) -> NDArray[np.int64]:
    """Return the clip frames of the target window, [T]."""
    return pair.target_start + pair.frame_step * np.arange(pair.num_frames)


def _span(pair: Pair) -> tuple[int, int]:
    """Return the range [start, stop) of clip frames of the target window."""
    return pair.target_start, pair.target_start + (pair.num_frames - 1) * pair.frame_step + 1


def _rays(clip: Row, frames: NDArray[np.int64]) -> NDArray[np.floating] | None:
    """Return world directions [T, 3] from camera to the centre of the person's box; None without camera or boxes."""
    if clip["world_to_camera"] is None or clip["K"] is None or clip["track"] is None:
        return None
    poses, K = (np.asarray(clip[name]) for name in ("world_to_camera", "K"))
    poses, K = (np.repeat(x, len(frames), axis=0) if len(x) == 1 else x[frames] for x in (poses, K))
    boxes = np.asarray(clip["track"])[frames]
    return directions(poses, K, (boxes[:, :2] + boxes[:, 2:]) / 2)
