"""The poses stage: label clips from ground truth if there is any, else from calibrated views, else from one view."""

import json
import logging
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from opendimo.pipelines.engine.columns import Column, json_lists, json_strings, look_up
from opendimo.pipelines.engine.device import gpus_for
from opendimo.pipelines.engine.planned import Planned
from opendimo.pipelines.engine.stage import DataError, Needs, Outcome, Work, run_each
from opendimo.pipelines.poses.fit_config import FitConfig
from opendimo.pipelines.poses.landmarker import describe
from opendimo.pipelines.poses.landmarks import LandmarkConfig, MediaPipe, Rtmlib
from opendimo.pipelines.quality.policy import Policy
from opendimo.pipelines.quality.verdicts import kept_clips
from opendimo.pipelines.rigs.current import disagreeing, frames_late, measured_gravity, without_camera
from opendimo.storage_schemas.ids import stable_id
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.rows import Row, in_list

log = logging.getLogger(__name__)
SPAN = ["capture_id", "start_frame", "end_frame", "fps_num", "fps_den"]
"""Columns that are equal for views that are labelled together."""
TOGETHER, UNCALIBRATED = "singly where views disagree", "without camera"
"""Parts of the work keys of views that are labelled together, and of views without the camera that is in doubt."""


@dataclass(frozen=True)
class PosesConfig:
    """`landmarks`: the landmark model. `fit`: settings of the body fit. `body`: path of a SMPL-X .npz file; None: the
    bundled mannequin. `compared`: share of the clips with ground truth that are also labelled from one view without
    their camera, so that releases state the accuracy of such labels; training uses the truth."""

    landmarks: LandmarkConfig = field(default_factory=MediaPipe)
    fit: FitConfig = field(default_factory=FitConfig)
    body: str | None = None
    compared: float = 0.1

    def identity(self) -> "PosesConfig":
        """Return the config for work keys, without paths: files count by their content."""
        landmarks = self.landmarks
        if isinstance(landmarks, Rtmlib):
            landmarks = replace(landmarks, model="")
        return replace(self, landmarks=landmarks, body=None)


@dataclass(frozen=True)
class ViewsToLabel:
    """Payload: the clips of V views that are labelled together, or of one.

    `late` [V]: time offset of each view against the first, in frames. `measured_gravity` [3]: unit vector, world axes;
    None if it was not measured. `calibrated`: whether the cameras of the clips may be used.
    """

    clip_ids: list[str]
    late: list[float]
    measured_gravity: list[float] | None
    calibrated: bool = True


class PosesStage:
    """Stage that writes one row of `poses` per clip. A work item is one clip, or all calibrated views of one span."""

    name = "poses"
    version = "4"

    def __init__(self, lake_uri: str, config: PosesConfig) -> None:
        self.lake_uri, self.config = lake_uri, config
        landmarks = config.landmarks
        gpus = gpus_for(landmarks.device) if isinstance(landmarks, Rtmlib) else 0.0
        self.needs = Needs(cpus=1, gpus=gpus, memory_gb=3, shard=16)
        self.weights = stable_id(_body_file(config), describe(config.landmarks)[1])

    def setup(self) -> None:
        """Load the body model and the landmark model."""
        from opendimo.model.body.load import load_body
        from opendimo.pipelines.poses.landmarker import Landmarker

        self._lake = Lake(self.lake_uri, existing=True)
        self._body = load_body(Path(self.config.body) if self.config.body else None)
        self._landmarker = Landmarker(self.config.landmarks)

    def run(self, batch: list[Work]) -> Outcome:
        """Label every work item."""
        return run_each(batch, self._label)

    def _label(self, work: Work) -> dict[str, list[Row]]:
        from opendimo.pipelines.poses.label import pose_row

        views: ViewsToLabel = work.payload
        clips = self._rows("clips", "clip_id", views.clip_ids)
        if not views.calibrated:
            clips = [without_camera(clip) for clip in clips]
        source, capture = self._one("sources", clips[0]["source_id"]), self._one("captures", clips[0]["capture_id"])
        stated = capture.get("gravity_down")
        gravity_down = views.measured_gravity if stated is None else stated
        rows = [
            pose_row(clip["clip_id"], work.key, estimator, self._licence(estimator), label)
            for clip, estimator, label in self._labels(clips, source, gravity_down, views.late)
        ]
        return {"poses": rows}

    def _labels(
        self, clips: list[Row], source: Row, gravity_down: Any, late: list[float]
    ) -> list[tuple[Row, str, Any]]:
        """Return clip, estimator and label of each label; a clip has none if only the views of others gave one."""
        from opendimo.pipelines.poses.oneview import one_view_label
        from opendimo.pipelines.poses.together import MONOCULAR, label_views
        from opendimo.pipelines.poses.truth import has_truth, truth_label
        from opendimo.pipelines.poses.view import view_of

        views, fit, model = [view_of(clip) for clip in clips], self.config.fit, describe(self.config.landmarks)[0]
        if len(clips) == 1 and has_truth(source):
            label = truth_label(clips[0], source, views[0], self._body, fit, gravity_down)
            return [(clips[0], "truth", label), *self._compared(clips[0], f"{MONOCULAR} {model}")]
        landmarks = [self._landmarks(clip) for clip in clips]
        if len(clips) == 1:
            label = one_view_label(landmarks[0], views[0], self._body, fit, gravity_down)
            return [(clips[0], f"{MONOCULAR} {model}", label)]
        labels = label_views(landmarks, views, self._body, fit, gravity_down, late)
        return [(clip, f"{found[0]} {model}", found[1]) for clip, found in zip(clips, labels, strict=True) if found]

    def _compared(self, clip: Row, estimator: str) -> list[tuple[Row, str, Any]]:
        """Return the label from one view of a clip with ground truth, for a share of the clips."""
        from opendimo.pipelines.poses.oneview import one_view_label
        from opendimo.pipelines.poses.view import view_of

        if clip["track"] is None or int(stable_id("compared", clip["clip_id"])[:8], 16) >= self.config.compared * 2**32:
            return []
        try:
            seen = self._landmarks(clip)
            return [(clip, estimator, one_view_label(seen, view_of(without_camera(clip)), self._body, self.config.fit))]
        except DataError as error:
            log.info("%s: no label from one view to compare with the truth: %s", clip["name"], error)
            return []

    def _landmarks(self, clip: Row) -> Any:
        from opendimo.storage_schemas.media.video import frames

        if clip["track"] is None:
            raise DataError(f"{clip['name']}: the clip has no track of a person: filter the clip")
        (video,) = self._lake.blobs("clip_videos", "video", [clip["clip_id"]])
        try:
            return self._landmarker.detect(frames(video), clip["track"])
        except ValueError as error:
            raise DataError(f"{clip['name']}: {error}") from error

    def _licence(self, estimator: str) -> str:
        body = "own work, Apache-2.0" if self.config.body is None else "SMPL-X, as the user's file"
        landmarks = "" if estimator == "truth" else f"landmarks: {describe(self.config.landmarks)[2]}; "
        return f"{landmarks}body model: {body}"

    def _rows(self, table: str, key: str, ids: list[str]) -> list[Row]:
        rows = {row[key]: row for row in self._lake.read(table, where=in_list(key, ids))}
        if missing := [i for i in ids if i not in rows]:
            raise DataError(f"{table} has no row {missing[0]}: it was removed after planning; plan the stage again")
        return [rows[i] for i in ids]

    def _one(self, table: str, key: str) -> Row:
        return self._rows(table, table.removesuffix("s") + "_id", [key])[0]


def plan(lake: Lake, stage: PosesStage, policy: Policy) -> Planned:
    """Plan all work on kept clips: one item per group of calibrated views of a capture and span, and per other clip.

    The work key does not depend on pixels, tracks and cameras themselves, because a clip's id, video and work key
    determine them. It does depend on the newest `rigs` measurement: the time offsets of views that are labelled
    together, the direction of gravity if the capture does not state it, and whether the views contradict each other.
    """
    clips = kept_clips(lake, policy, ["name", "view", "video_sha256", "work_key", *SPAN])
    clips = clips.append_column("down", look_up(clips["capture_id"], measured_gravity(lake), "capture_id", "down"))
    in_doubt = pc.is_in(clips["capture_id"], value_set=disagreeing(lake))
    clips = clips.append_column("calibrated", pc.invert(in_doubt))
    together = pc.and_not(pc.is_in(clips["clip_id"], value_set=_labelled_together(lake)), in_doubt)
    span = pc.binary_join_element_wise(*(pc.cast(clips[name], pa.string()) for name in SPAN), "\n")
    clips = clips.append_column("group", pc.if_else(together, span, clips["clip_id"]))
    alone, views = clips.filter(pc.invert(together)), clips.filter(together)
    views = views.sort_by([("group", "ascending"), ("clip_id", "ascending")])
    each, borders = np.arange(alone.num_rows + 1), _borders(views["group"])
    rows = pa.concat_tables(
        [_grouped(alone, each, np.zeros(alone.num_rows)), _grouped(views, borders, _late(lake, views, borders))]
    )

    def work(key: str, row: Row) -> Work:
        ids, down = row["clip_ids"], row["down"]
        name = row["name"] if len(ids) == 1 else f"{row['name']} and {len(ids) - 1} more views"
        gravity = None if down is None else json.loads(down)
        return Work(key, ids[0], name, ViewsToLabel(ids, row["late"], gravity, row["calibrated"]))

    return Planned.rows(stage, rows, "clip_id", _content, work)


def _labelled_together(lake: Lake) -> pa.Array:
    """Return the ids of clips of rigs and renders with metric cameras and without true motion."""
    # read only the shapes, which are small, to find out whether there are cameras and truth
    cameras = ["K.shape", "world_to_camera.shape"]
    where = "kind IN ('multiview', 'unreal') AND metric"
    clips = lake.dataset("clips").to_table(columns=["clip_id", "source_id", *cameras], filter=where)
    truth = ["truth_joints.shape", "truth_global_orient.shape"]
    sources = lake.dataset("sources").to_table(columns=["source_id", *truth], filter="kind = 'unreal'")
    has_truth = pc.or_(*(pc.is_valid(sources[name]) for name in truth))
    true = pc.is_in(clips["source_id"], value_set=sources["source_id"].filter(has_truth).combine_chunks())
    has = pc.and_(*(pc.is_valid(clips[name]) for name in cameras))
    return clips["clip_id"].filter(pc.and_not(has, true)).combine_chunks()


def _late(lake: Lake, views: pa.Table, borders: np.ndarray) -> np.ndarray:
    """Return by how many frames each view is late; 0 for a view that is alone in its group."""
    sizes = np.diff(borders)
    return np.where(np.repeat(sizes, sizes) > 1, frames_late(lake, views).to_numpy(), 0.0)


def _grouped(clips: pa.Table, borders: np.ndarray, late: np.ndarray) -> pa.Table:
    """Return one row per group between two borders: facts of the first clip, lists of the other columns."""
    clips = clips.append_column("late", pa.array(late))
    first = clips.select(["clip_id", "name", "down", "calibrated"]).take(pa.array(borders[:-1]))
    columns = {"clip_ids": "clip_id", "videos": "video_sha256", "clip_keys": "work_key", "late": "late"}
    for name, column in columns.items():
        values = clips[column].combine_chunks()
        first = first.append_column(name, pa.ListArray.from_arrays(pa.array(borders, pa.int32()), values))
    return first


def _borders(groups: pa.ChunkedArray) -> np.ndarray:
    """Return the indices at which a new group starts in a sorted column, followed by its length."""
    changes = pc.not_equal(groups.slice(1), groups.slice(0, max(0, len(groups) - 1)))
    inside = np.flatnonzero(changes.to_numpy(zero_copy_only=False)) + 1
    return np.unique(np.concatenate([[0], inside, [len(groups)]]))


def _content(rows: pa.Table) -> Column:
    """Return the JSON [[[clip, video, clip's work key, frames late], ...], measured gravity, method] of each row; the
    method is left out for a single view with its camera."""
    lists = [rows[name].combine_chunks() for name in ("clip_ids", "videos", "clip_keys")]
    late = pc.cast(rows["late"].combine_chunks().flatten(), pa.string())
    views = json_lists(*(json_strings(values.flatten()) for values in lists), late)
    together = pc.binary_join(pa.ListArray.from_arrays(_offsets(lists[0]), views), ",")
    several = pc.greater(pc.list_value_length(lists[0]), 1)
    method = pc.if_else(several, f',"{TOGETHER}"', pc.if_else(rows["calibrated"], "", f',"{UNCALIBRATED}"'))
    down = pc.binary_join_element_wise(pc.fill_null(rows["down"], "null"), method, "")
    return json_lists(json_lists(together), down)


def _offsets(lists: pa.ListArray) -> pa.Array:
    """Return the offsets of each list into the flattened values."""
    lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
    return pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())


def _body_file(config: PosesConfig) -> str:
    """Return the hash of the body model's file. Raises `FileNotFoundError` if it is missing."""
    from opendimo.model.body.mannequin import mannequin_file
    from opendimo.storage_schemas.ids import sha256_file

    return sha256_file(config.body or mannequin_file())
