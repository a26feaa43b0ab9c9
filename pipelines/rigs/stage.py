"""The rigs stage: write one row per capture of several calibrated views, with a verdict on each camera."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from opendimo.pipelines.engine.planned import Planned
from opendimo.pipelines.engine.stage import DataError, Needs, Outcome, Work, run_each
from opendimo.pipelines.people.detector import DetectorConfig
from opendimo.pipelines.people.mediapipe_pose import WEIGHTS
from opendimo.pipelines.rigs.audio import from_audio
from opendimo.pipelines.rigs.board import Board, is_mirrored, read_board, see_board
from opendimo.pipelines.rigs.epipolar import Seen
from opendimo.pipelines.rigs.gravity import gravity
from opendimo.pipelines.rigs.motion import from_motion
from opendimo.pipelines.rigs.offsets import Offsets
from opendimo.pipelines.rigs.people import see_people
from opendimo.pipelines.rigs.scale import measure_scale
from opendimo.pipelines.rigs.times import from_times
from opendimo.pipelines.rigs.verdicts import Limits, check, in_time, judge, unseen
from opendimo.pipelines.rigs.views import Array, RigView, Sampling
from opendimo.storage_schemas.ids import stable_id, work_key
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.lake.takedown import taken_down
from opendimo.storage_schemas.rows import Row, in_list

if TYPE_CHECKING:
    from opendimo.pipelines.people.detector import Detector

MIRRORED = "it shows the board mirrored: the back of a board with two sides, or a mirrored picture"


@dataclass(frozen=True)
class RigsConfig:
    """`sampling`: which frames are analysed. `reach`: largest time offset that the motion estimator tries, frames.
    `limits`: thresholds of the verdicts."""

    sampling: Sampling = field(default_factory=Sampling)
    reach: int = 10
    limits: Limits = field(default_factory=Limits)
    detector: DetectorConfig = field(default_factory=DetectorConfig)


@dataclass(frozen=True)
class RigToMeasure:
    """Payload: the sources of the views of a capture."""

    source_ids: list[str]


class RigsStage:
    """Stage that writes one row of `rigs` per capture of two or more calibrated views."""

    name = "rigs"
    version = "3"  # 3: boards that are seen mirrored
    weights = WEIGHTS
    needs = Needs(cpus=1.0, memory_gb=2.0, shard=16)

    def __init__(self, lake_uri: str, config: RigsConfig | None = None) -> None:
        self.lake_uri = lake_uri
        self.config = config or RigsConfig()

    def setup(self) -> None:
        """Load the detector's models."""
        from opendimo.pipelines.people.detector import Detector

        self._detector = Detector(self.config.detector)

    def run(self, batch: list[Work]) -> Outcome:
        """Measure every capture of `batch`."""
        lake = Lake(self.lake_uri, existing=True)
        return run_each(batch, lambda work: self._measure(lake, work))

    def _measure(self, lake: Lake, work: Work) -> dict[str, list[Row]]:
        ids = work.payload.source_ids
        sources = sorted(lake.read("sources", where=in_list("source_id", ids)), key=lambda row: str(row["view"]))
        if len(sources) < len(ids):
            raise DataError(f"{work.name}: a view was removed from the lake after planning: plan the stage again")
        row = measure_rig([RigView.of(source) for source in sources], self.config, lambda: self._detector)
        capture_id = work.item_id
        return {"rigs": [{"rig_id": stable_id("rig", capture_id, work.key), "capture_id": capture_id, **row}]}


def measure_rig(views: list[RigView], config: RigsConfig, detector: "Callable[[], Detector]") -> Row:
    """Return the columns of `rigs` for these views. Raises `DataError` if their frame rates differ."""
    if len({view.fps for view in views}) > 1:
        raise DataError(f"the views have different frame rates: {sorted({view.fps for view in views})}")
    limits, metric = config.limits, all(view.metric for view in views)
    offsets = from_times(views) or from_audio(views)
    board = next((read_board(Path(view.board)) for view in views if view.board), None)
    seen, target = _detect(views, offsets, config, board, detector)
    offsets = offsets or from_motion(seen, config.reach)
    checked = check(in_time(seen, offsets), limits)
    points = checked.residuals.points.reshape(-1, *checked.residuals.points.shape[2:])
    down = gravity(points) if target == "people" else None
    if target != "board":
        board = None
    cameras, scale = judge(seen, offsets, checked, limits), measure_scale(points, board, target)
    wrong_scale = metric and scale is not None and scale.wrong
    for camera, view in zip(cameras, seen, strict=True):
        notes = [scale.note] if wrong_scale and scale else []
        notes += [MIRRORED] if board and is_mirrored(view.points, board) else []
        camera["note"] = "; ".join([*filter(None, [camera["note"]]), *notes]) or None
    return {
        "sync_witness": offsets.estimator if offsets else "none",
        "qa_witness": target,
        "cameras": cameras,
        "metric": metric and not wrong_scale,
        "gravity_down": None if down is None else down[0].astype(np.float32),
        "gravity_spread": None if down is None else down[1],
    }


def _detect(
    views: list[RigView],
    offsets: Offsets | None,
    config: RigsConfig,
    board: Board | None,
    detector: "Callable[[], Detector]",
) -> tuple[list[Seen], str]:
    """Detect points in all views: of the board if there is one, else of people.

    Returns the undistorted points, and "board", "people" or "none". Each view is sampled at the frames that show the
    same moments, as far as `offsets` are known.
    """
    shifts = np.round(offsets.frames if offsets else np.zeros(len(views))).astype(np.int64)
    moments = config.sampling.moments(views, shifts)
    shifted = [(view, int(shift)) for view, shift in zip(views, shifts, strict=True)]
    if board is not None:
        seen = [_seen(view, moments, shift, see_board(view, moments + shift, board)) for view, shift in shifted]
        if sum((one.points[..., 2] > 0).sum() >= config.limits.observations for one in seen) >= 2:
            return seen, "board"
    all_clear = True
    seen = []
    for view, shift in shifted:
        points, clear = see_people(view, moments + shift, detector())
        all_clear = all_clear and clear
        seen.append(_seen(view, moments, shift, points))
    if not all_clear:
        return unseen(seen), "none"  # the views may show different people
    return seen, "people" if any((one.points[..., 2] > 0).any() for one in seen) else "none"


def _seen(view: RigView, moments: NDArray[np.int64], shift: int, points: Array) -> Seen:
    frames = moments + shift
    flat = view.pinhole(points.reshape(-1, *points.shape[2:]), frames.ravel())
    return Seen(view, frames, flat.reshape(points.shape), shift)


def plan(lake: Lake, stage: RigsStage) -> Planned:
    """Plan one work item per capture of two or more calibrated views that are not taken down."""
    columns = ["source_id", "capture_id", "view", "name", "content_sha256", "annotation_sha256"]
    sources = lake.dataset("sources").to_table(columns=columns, filter="kind = 'multiview'")
    available = sources.filter(pc.invert(pc.is_in(sources["source_id"], value_set=taken_down(lake))))
    rigs: dict[str, dict[str, Row]] = defaultdict(dict)
    for row in available.sort_by("source_id").to_pylist():  # rigs are 10^5 at most
        if row["annotation_sha256"]:
            rigs[row["capture_id"]].setdefault(row["view"], row)
    works = []
    for capture_id, views in sorted(rigs.items()):
        if len(views) < 2:
            continue
        rows = [views[name] for name in sorted(views)]
        content = [[row[name] for name in ("view", "content_sha256", "annotation_sha256")] for row in rows]
        key = work_key([capture_id, content], stage.name, stage.version, stage.config, stage.weights)
        payload = RigToMeasure([row["source_id"] for row in rows])
        works.append(Work(key, capture_id, f"{rows[0]['name'].rpartition('/')[0]} ({len(rows)} views)", payload))
    return Planned.of(works, stable_id("revision", stage.name, stage.version, stage.config, stage.weights))
