"""The overlay of a clip: its video with landmarks, fitted body and skeleton drawn on it, above its camera terms."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from opendimo.pipelines.engine.revisions import best_poses, current_captions
from opendimo.pipelines.poses.overlay import draw_body, draw_landmarks
from opendimo.pipelines.report.sheets import annotate, even
from opendimo.pipelines.report.thumbnails import stored_video
from opendimo.pipelines.report.timeline import Span, lanes
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.media import video
from opendimo.storage_schemas.rows import Row, arrow_to_rows, in_list

if TYPE_CHECKING:
    from opendimo.model.body.load import Body

Image = NDArray[np.uint8]
POSE = [
    "estimator", "global_orient", "body_pose", "hand_pose", "transl", "betas", "joints_2d", "landmarks_2d",
    "joints_3d", "valid", "hand_valid", "weight",
]  # fmt: skip
COLOURS = {
    "turn": (90, 150, 255), "travel": (255, 160, 60), "zoom": (190, 110, 255), "shake": (240, 90, 90),
    "static": (130, 130, 130),
}  # fmt: skip
LANE, PAPER, CURSOR = 18, 20, (255, 255, 255)
"""Height of a lane of camera terms in pixels, its background luma, and the colour of the present frame."""


@dataclass(frozen=True)
class Shown:
    """A clip with its best pose label and its camera terms, as far as it has them."""

    clip: Row
    pose: Row | None
    terms: list[Row]


def find_clips(lake: Lake, name: str) -> list[Shown]:
    """Return the clips with a video that a name means: an id or name of a clip, or of a source, or a source's file.

    Raises `ValueError` if there is none.
    """
    every = lake.read("clips", ["clip_id", "name", "source_id"], "video_sha256 IS NOT NULL")
    sources = lake.read("sources", ["source_id", "name", "uri"])
    of_source = {s["source_id"] for s in sources if name in (s["source_id"], s["name"], Path(s["uri"]).stem)}
    chosen = [row["clip_id"] for row in every if name in (row["clip_id"], row["name"])]
    chosen = chosen or [row["clip_id"] for row in every if row["source_id"] in of_source]
    if not chosen:
        known = sorted({row["name"] for row in every})
        some = ", ".join(known[:5]) + (", ..." if known[5:] else "")
        raise ValueError(f"{name} is no clip or source of {lake.uri} with a video; clips are: {some or 'none'}")
    where = in_list("clip_id", chosen)
    poses = {row["clip_id"]: row for row in arrow_to_rows(best_poses(lake, POSE, where))}
    captions = {row["clip_id"]: row["camera_terms"] for row in arrow_to_rows(current_captions(lake, ["camera_terms"]))}
    clips = sorted(lake.read("clips", where=where), key=lambda clip: (clip["name"], clip["start_frame"]))
    return [Shown(clip, poses.get(clip["clip_id"]), captions.get(clip["clip_id"]) or []) for clip in clips]


def overlay_video(lake: Lake, shown: Shown, body: "Body | None" = None) -> bytes:
    """Return the clip at its full size as MP4. `body`: the body model of the label, to draw its surface."""
    clip, pose = shown.clip, shown.pose
    surface = None if body is None or pose is None else surface_of(body, pose, clip)
    spans = lanes(shown.terms, clip["frames"])
    size = even(clip["width"]), even(clip["height"])
    images = []
    for t, frame in enumerate(video.frames(stored_video(lake, clip))):
        image = frame
        if surface is not None and body is not None and pose is not None and pose["valid"][t]:
            image = draw_body(image, surface[t], body.faces.numpy())
        image = annotate(image, clip, pose, t)
        if pose is not None and pose["landmarks_2d"] is not None:
            image = draw_landmarks(image, pose["landmarks_2d"][t])
        images.append(np.concatenate([image[: size[1], : size[0]], draw_terms(spans, clip["frames"], t, size[0])]))
    return video.encode(np.stack(images), Fraction(clip["fps_num"], clip["fps_den"]))


def surface_model(path: Path | None) -> "Body":
    """Load the body model of labels from a SMPL-X file; None: the mannequin. Raises `ValueError` for other files."""
    from opendimo.model.body.load import load_body

    return load_body(path)


def surface_of(body: "Body", pose: Row, clip: Row) -> NDArray[np.floating]:
    """Return the vertices of a label's body in pixels of the clip [T, V, 2]."""
    import torch

    from opendimo.pipelines.poses.view import view_of

    names = ("global_orient", "body_pose", "hand_pose", "transl", "betas")
    with torch.no_grad():
        vertices = body.vertices(*(torch.tensor(pose[name]) for name in names)).numpy()
    return view_of(clip).pixels(np.concatenate([vertices[..., :2], vertices[..., 2:].clip(min=0.05)], 2))


def draw_terms(spans: list[list[Span]], frames: int, frame: int, width: int) -> Image:
    """Return the camera terms over time as lanes [h, width, 3], with a line at the present frame; h is even."""
    strip = np.full((LANE * max(1, len(spans)), width, 3), PAPER, np.uint8)
    for k, lane in enumerate(spans):
        for span in lane:
            x0, x1 = (round(width * f / frames) for f in (span.start_frame, span.end_frame))
            cv2.rectangle(strip, (x0, LANE * k + 2), (max(x0, x1 - 2), LANE * (k + 1) - 3), COLOURS[span.family], -1)
            text = f"{span.term} {span.speed}".strip()
            cut = strip[:, : max(x0 + 1, x1 - 2)]  # text ends where its span ends
            label = np.ascontiguousarray(cut)
            at = (x0 + 4, LANE * (k + 1) - 6)
            cv2.putText(label, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
            cut[:] = label
    x = min(width - 2, round(width * (frame + 0.5) / frames))
    cv2.line(strip, (x, 0), (x, len(strip)), CURSOR, 2)
    return strip
