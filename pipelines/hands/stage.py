"""The hands stage: measure in how many frames of each clip a hand of its main person can be seen."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from opendimo.pipelines.engine.columns import Column, json_lists, json_strings
from opendimo.pipelines.engine.planned import Planned
from opendimo.pipelines.engine.stage import DataError, Needs, Outcome, Work, run_each
from opendimo.pipelines.hands.detector import WEIGHTS, HandDetector, Hands, Image, sizes
from opendimo.pipelines.people.boxes import Box
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.lake.takedown import taken_down
from opendimo.storage_schemas.media import video
from opendimo.storage_schemas.rows import Row

CLIP = ["clip_id", "name", "frames", "fps_num", "fps_den", "track", "tracks", "main_person"]


@dataclass(frozen=True)
class HandsConfig:
    """`looks`: sampled frames per second. `min_pixels`: least size of a hand that counts, the longer side of the box
    around its landmarks, in pixels of the clip. `min_confidence`: of the detector, 0 to 1."""

    looks: float = 2.0
    min_pixels: float = 24.0
    min_confidence: float = 0.5


class HandsStage:
    """Writes one row of `hands` per clip with a video."""

    name = "hands"
    version = "1"
    weights = WEIGHTS
    needs = Needs(cpus=1.0, memory_gb=2.0, shard=64)

    def __init__(self, lake_uri: str, config: HandsConfig | None = None) -> None:
        self.lake_uri = lake_uri
        self.config = config or HandsConfig()

    def setup(self) -> None:
        """Load the models."""
        self._lake = Lake(self.lake_uri, existing=True)
        self._detector = HandDetector(self.config.min_confidence)

    def run(self, batch: list[Work]) -> Outcome:
        """Measure the clips of `batch`."""
        return run_each(batch, self._measure)

    def _measure(self, work: Work) -> dict[str, list[Row]]:
        clips = self._lake.read("clips", CLIP, f"clip_id = '{work.item_id}'")
        if not clips:
            raise DataError(f"clip {work.item_id} is not in the lake: it was removed after planning; plan again")
        return {"hands": [{"clip_id": work.item_id, "hands_visible": self._share(clips[0])}]}

    def _share(self, clip: Row) -> float:
        """Return the share of sampled frames with a hand of the main person."""
        (content,) = self._lake.blobs("clip_videos", "video", [clip["clip_id"]])
        fps = Fraction(clip["fps_num"], clip["fps_den"])
        looks = range(0, clip["frames"], max(1, round(fps / self.config.looks)))
        main, others = clip["track"], _others(clip)
        try:
            images = video.window(content, fps, looks)
            shown = [self._shows_hand(image, main[k], others[:, k]) for k, image in zip(looks, images, strict=True)]
        except ValueError as error:
            raise DataError(f"{clip['name']}: {error}") from error
        return float(np.mean(shown))

    def _shows_hand(self, image: Image, main: Box, others: NDArray[np.float32]) -> bool:
        """Return whether a hand of the person in box `main` (NaN: not detected), not of `others` [P, 4], is seen."""
        person = main if np.isfinite(main).all() else None
        for hands in self._detector.search(image, person):
            if (of_person(hands, main, others) & (sizes(hands) >= self.config.min_pixels)).any():
                return True
        return False


def of_person(hands: Hands, main: Box, others: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return whether each of `hands` [N, 21, 2] is in the box `main` [4], or at least in none of `others` [P, 4].

    Hands without a body belong to the main person. Boxes of people who are not detected are NaN.
    """
    centres = hands.mean(1)[:, None]  # [N, 1, 2]

    def inside(boxes: NDArray[np.float32]) -> NDArray[np.bool_]:
        return np.asarray(((boxes[:, :2] <= centres) & (centres <= boxes[:, 2:])).all(-1))  # [N, P]

    return np.asarray(inside(main[None])[:, 0] | ~inside(others).any(1))


def _others(clip: Row) -> NDArray[np.float32]:
    """Return the tracks [P, T, 4] of all people but the main one; none for a clip without these columns."""
    if clip["tracks"] is None:
        return np.empty((0, clip["frames"], 4), np.float32)
    return np.asarray(np.delete(clip["tracks"], clip["main_person"], axis=0))


def plan(lake: Lake, stage: HandsStage) -> Planned:
    """Plan one piece of work per clip that has a video and whose source was not taken down."""
    columns = ["clip_id", "source_id", "name"]
    clips = lake.dataset("clips").to_table(columns=columns, filter="video_sha256 IS NOT NULL")
    clips = clips.filter(pc.invert(pc.is_in(clips["source_id"], value_set=taken_down(lake))))

    def work(key: str, row: Row) -> Work:
        return Work(key, row["clip_id"], row["name"])

    def content(rows: pa.Table) -> Column:
        return json_lists(json_strings(rows["clip_id"]))

    return Planned.rows(stage, clips, "clip_id", content, work)
