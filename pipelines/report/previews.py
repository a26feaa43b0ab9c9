"""Render short previews of clips: a video with the tracked box and the labelled skeleton, and a poster for it."""

import logging
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

from opendimo.pipelines.engine.revisions import best_poses
from opendimo.pipelines.report.media import Media
from opendimo.pipelines.report.sheets import annotate, even
from opendimo.pipelines.report.thumbnails import stored_video
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.media import video
from opendimo.storage_schemas.rows import Row, arrow_to_rows, in_list

log = logging.getLogger(__name__)
SECONDS = 3
MOST_FPS = 30
LONG_SIDE = 320  # pixels
CRF = 28
CLIP = ["clip_id", "name", "video_sha256", "width", "height", "frames", "fps_num", "fps_den", "track"]
POSE = ["joints_2d", "valid", "hand_valid"]
BATCH = 64  # clips whose labels are in memory at a time


@dataclass(frozen=True)
class Preview:
    """Links of a preview: its video, and the middle frame of that as a picture."""

    video: str
    poster: str


def read_previews(lake: Lake, clip_ids: list[str], media: Media) -> dict[str, Preview]:
    """Return the previews of clips by clip id. Clips whose video is missing or cannot be decoded have none."""
    found = {}
    for first in range(0, len(clip_ids), BATCH):
        where = in_list("clip_id", clip_ids[first : first + BATCH])
        poses = {row["clip_id"]: row for row in arrow_to_rows(best_poses(lake, POSE, where))}
        for clip in lake.read("clips", CLIP, f"{where} AND video_sha256 IS NOT NULL"):
            try:
                found[clip["clip_id"]] = _preview(lake, clip, poses.get(clip["clip_id"]), media)
            except (ValueError, KeyError) as error:
                log.warning("clip %s: the stored video cannot be shown: %s", clip["name"], error)
    return found


def _preview(lake: Lake, clip: Row, pose: Row | None, media: Media) -> Preview:
    fps = Fraction(clip["fps_num"], clip["fps_den"])
    chosen = chosen_frames(clip["frames"], fps)
    scale = LONG_SIDE / max(clip["width"], clip["height"])
    size = (even(scale * clip["width"]), even(scale * clip["height"]))

    @cache
    def images() -> list[video.Frame]:
        """Decode once for both files."""
        frames = video.window(stored_video(lake, clip), fps, chosen)
        return [annotate(video.resize(f, size), clip, pose, t) for t, f in zip(chosen, frames, strict=True)]

    content = ["preview", clip["clip_id"], clip["video_sha256"], pose["pose_id"] if pose else None]
    return Preview(
        media.video(content, lambda: video.encode(images(), fps / chosen.step, crf=CRF)),
        media.picture(content, lambda: images()[len(chosen) // 2]),
    )


def chosen_frames(frames: int, fps: Fraction) -> range:
    """Return the frames of a clip in its preview: the middle `SECONDS`, at no more than `MOST_FPS`."""
    count = max(1, min(frames, int(SECONDS * fps)))
    first = (frames - count) // 2
    step = -int(-fps // MOST_FPS)  # ceil
    return range(first, first + count, step)[: max(1, int(SECONDS * fps / step))]
