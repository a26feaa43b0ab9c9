"""Render thumbnails of clips."""

import logging
from dataclasses import dataclass

from opendimo.pipelines.report.media import Media
from opendimo.pipelines.report.sheets import thumbnail
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.rows import Row

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Thumbnail:
    """A clip and the link of its picture; None if no video is stored or it cannot be decoded."""

    clip: Row
    picture: str | None


def read_thumbnail(lake: Lake, media: Media, clip: Row, frame: int) -> Thumbnail:
    """Return the thumbnail of a clip at `frame`, clamped to the clip."""
    if clip["video_sha256"] is None:
        return Thumbnail(clip, None)
    frame = min(max(frame, 0), clip["frames"] - 1)
    try:
        content = ["thumbnail", clip["clip_id"], clip["video_sha256"], frame]
        return Thumbnail(clip, media.picture(content, lambda: thumbnail(stored_video(lake, clip), clip, frame)))
    except (ValueError, KeyError) as error:
        log.warning("clip %s: the stored video cannot be shown: %s", clip["name"], error)
        return Thumbnail(clip, None)


def stored_video(lake: Lake, clip: Row) -> bytes:
    """Return the video bytes of a clip. Raises `ValueError` or `KeyError` if there are none."""
    return lake.blobs("clip_videos", "video", [clip["clip_id"]])[0]
