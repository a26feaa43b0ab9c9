"""The stage that labels clips: truth where there is one, else several calibrated views, else one view."""

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.poses.landmarks import LandmarkConfig, MediaPipe, Rtmlib, describe
from pipelines.poses.objective import FitConfig
from pipelines.quality import Policy, kept_clips
from pipelines.stage import DataError, Needs, Outcome, Work, run_each
from storage_schemas.ids import stable_id, work_key
from storage_schemas.lake import Lake

Row = dict[str, Any]


@dataclass(frozen=True)
class PosesConfig:
    """`landmarks`: the landmark model. `fit`: of the fit. `body`: path of a SMPL-X .npz file; None: the mannequin."""

    landmarks: LandmarkConfig = field(default_factory=MediaPipe)
    fit: FitConfig = field(default_factory=FitConfig)
    body: str | None = None


class PosesStage:
    """Writes one row of `poses` per clip. A piece of work is one clip, or all calibrated views of one span."""

    name = "poses"
    version = "1"

    def __init__(self, lake_uri: str, config: PosesConfig) -> None:
        self.lake_uri, self.config = lake_uri, config
        self.needs = Needs(cpus=1, memory_gb=3)
        self.weights = stable_id(_body_file(config), describe(config.landmarks)[1])

    def setup(self) -> None:
        """Load the body model and the landmark model."""
        from model.body.load import load_body
        from pipelines.poses.landmarks import Landmarker

        self._lake = Lake(self.lake_uri)
        self._body = load_body(Path(self.config.body) if self.config.body else None)
        self._landmarker = Landmarker(self.config.landmarks)

    def run(self, batch: list[Work]) -> Outcome:
        """Label every piece of work."""
        return run_each(batch, self._label)

    def _label(self, work: Work) -> dict[str, list[Row]]:
        from pipelines.poses.label import pose_row

        clips = self._rows("clips", "clip_id", work.payload["clip_ids"])
        source, capture = self._one("sources", clips[0]["source_id"]), self._one("captures", clips[0]["capture_id"])
        estimator, labels = self._labels(clips, source, capture.get("gravity_down"))
        licence = self._licence(estimator)
        rows = [
            pose_row(clip["clip_id"], work.key, estimator, licence, label)
            for clip, label in zip(clips, labels, strict=True)
        ]
        return {"poses": rows}

    def _labels(self, clips: list[Row], source: Row, gravity_down: Any) -> tuple[str, list[Any]]:
        from pipelines.poses.multiview import multi_view_labels
        from pipelines.poses.oneview import one_view_label
        from pipelines.poses.truth import has_truth, truth_label
        from pipelines.poses.view import view_of

        views, fit, model = [view_of(clip) for clip in clips], self.config.fit, describe(self.config.landmarks)[0]
        if len(clips) == 1 and has_truth(source):
            return "truth", [truth_label(clips[0], source, views[0], self._body, fit, gravity_down)]
        landmarks = [self._landmarks(clip) for clip in clips]
        if len(clips) == 1:
            label = one_view_label(landmarks[0], views[0], self._body, fit, gravity_down)
            return f"monocular {model}", [label]
        return f"multiview {model}", multi_view_labels(landmarks, views, self._body, fit, gravity_down)

    def _landmarks(self, clip: Row) -> Any:
        from storage_schemas.video import frames

        if clip["track"] is None:
            raise DataError(f"{clip['name']}: the clip has no track of a person; filter it")
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
        quoted = ", ".join(f"'{i}'" for i in ids)
        rows = {row[key]: row for row in self._lake.read(table, where=f"{key} IN ({quoted})")}
        if missing := [i for i in ids if i not in rows]:
            raise DataError(f"{table} has no row {missing[0]}: was it taken out after planning?")
        return [rows[i] for i in ids]

    def _one(self, table: str, key: str) -> Row:
        return self._rows(table, table.removesuffix("s") + "_id", [key])[0]


def plan(lake: Lake, stage: PosesStage, policy: Policy) -> list[Work]:
    """All work on kept clips: calibrated views of one capture and span together, every other clip by itself."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for clip in kept_clips(lake, policy):
        groups.setdefault(_group(clip), []).append(clip)
    config = _without_paths(stage.config)
    works = []
    for _, clips in sorted(groups.items()):
        clips.sort(key=lambda clip: clip["clip_id"])
        key = work_key([_content(clip) for clip in clips], stage.name, stage.version, config, stage.weights)
        ids = [clip["clip_id"] for clip in clips]
        name = clips[0]["name"] if len(clips) == 1 else f"{clips[0]['name']} and {len(clips) - 1} more views"
        works.append(Work(key, ids[0], name, {"clip_ids": ids}))
    return works


def _group(clip: Row) -> tuple[Any, ...]:
    calibrated = clip["K"] is not None and clip["world_to_camera"] is not None and bool(clip["metric"])
    if clip["kind"] != "multiview" or not calibrated:
        return (clip["clip_id"],)
    return (clip["capture_id"], clip["start_frame"], clip["end_frame"], clip["fps_num"], clip["fps_den"])


def _content(clip: Row) -> list[Any]:
    """What of a clip decides its label: pixels, track and camera."""
    digest = hashlib.sha256()
    for column in ("track", "K", "world_to_camera", "distortion"):
        value = clip[column]
        digest.update(b"-" if value is None else np.asarray(value, np.float32).tobytes())
    return [clip["clip_id"], clip["video_sha256"], digest.hexdigest()]


def _without_paths(config: PosesConfig) -> PosesConfig:
    """The config as it enters work keys: files count by their content (the stage's `weights`), not by their place."""
    landmarks = config.landmarks
    if isinstance(landmarks, Rtmlib):
        landmarks = replace(landmarks, model="")
    return replace(config, landmarks=landmarks, body=None)


def _body_file(config: PosesConfig) -> str:
    """Hash of the body model's file. Raises `FileNotFoundError` where it is absent."""
    from model.body.mannequin import mannequin_file
    from storage_schemas.ids import sha256_file

    return sha256_file(config.body or mannequin_file())
