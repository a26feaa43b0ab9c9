"""The captions stage: write one row per kept clip from the measured camera motion and, if configured, a model."""

import json
import logging
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from opendimo.pipelines.cameras.geometry import camera_motion, subject_from_track
from opendimo.pipelines.cameras.image_motion import image_motion
from opendimo.pipelines.cameras.terms import CameraMotion, words
from opendimo.pipelines.captions.answer import Dialogue, converse, prompt
from opendimo.pipelines.captions.estimators import agreement, combined
from opendimo.pipelines.captions.openai_server import OpenAIServer, ServerCaptioner
from opendimo.pipelines.captions.qwen import QwenCaptioner, QwenLocal
from opendimo.pipelines.captions.sentence import camera_sentence, compose
from opendimo.pipelines.engine.columns import Column, json_lists, json_strings, look_up
from opendimo.pipelines.engine.device import gpus_for
from opendimo.pipelines.engine.planned import Planned
from opendimo.pipelines.engine.revisions import best_poses
from opendimo.pipelines.engine.stage import DataError, Needs, Outcome, Work, run_each
from opendimo.pipelines.quality.policy import Policy
from opendimo.pipelines.quality.verdicts import kept_clips
from opendimo.pipelines.rigs.current import disagreeing, without_camera
from opendimo.storage_schemas.ids import stable_id
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.media.video import decode, frames
from opendimo.storage_schemas.rows import Row, in_list

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CaptionsConfig:
    """Configuration of captioning. `vlm` None: the caption is only the measured camera motion, without a content
    sentence. `second_witness`: run `image_motion` as a second estimator also if the cameras are known (costs one decode
    of the clip)."""

    vlm: QwenLocal | OpenAIServer | None = None
    second_witness: bool = True

    def identity(self) -> dict[str, Any]:
        """Return what determines the captions; excludes the model's location, timeouts and devices."""
        vlm = self.vlm
        match vlm:
            case None:
                model_identity: dict[str, Any] = {}
            case QwenLocal():
                model_identity = {
                    "frames": vlm.frames,
                    "max_pixels": vlm.max_pixels,
                    "max_new_tokens": vlm.max_new_tokens,
                }
            case OpenAIServer():
                model_identity = {
                    "model": vlm.model,
                    "frames": vlm.frames,
                    "long_side": vlm.long_side,
                    "max_new_tokens": vlm.max_new_tokens,
                }
        return {"vlm": model_identity, "second_witness": self.second_witness}


@dataclass(frozen=True)
class ClipToCaption:
    """Payload: the best pose label of the clip, None if it has none. `calibrated`: whether its camera may be used."""

    pose_id: str | None
    calibrated: bool = True


class CaptionsStage:
    """Stage that writes the table `captions`."""

    name = "captions"
    version = "3"  # 2: travel is told from the picture; 3: the words of prompts

    def __init__(self, lake_uri: str, config: CaptionsConfig) -> None:
        self.lake_uri, self.config = lake_uri, config
        local = config.vlm if isinstance(config.vlm, QwenLocal) else None
        self.weights = local.fingerprint() if local else ""
        gpus = gpus_for(local.device) if local else 0.0
        self.needs = Needs(gpus=gpus, memory_gb=24.0 if local else 2.0, shard=32)
        self.captioner: QwenCaptioner | ServerCaptioner | None = None

    def setup(self) -> None:
        """Load the local model, or create the client of the server (reads its API key)."""
        match self.config.vlm:
            case QwenLocal() as local:
                self.captioner = QwenCaptioner(local)
            case OpenAIServer() as server:
                self.captioner = ServerCaptioner(server)

    def run(self, batch: list[Work]) -> Outcome:
        """Caption every clip of the batch."""
        lake = Lake(self.lake_uri, existing=True)
        clips = {
            row["clip_id"]: row for row in lake.read("clips", where=in_list("clip_id", [w.item_id for w in batch]))
        }
        poses = [w.payload.pose_id for w in batch if w.payload.pose_id]
        columns = ["pose_id", "transl", "valid"]
        labels = {r["pose_id"]: r for r in lake.read("poses", columns, in_list("pose_id", poses))} if poses else {}
        return run_each(batch, partial(self._caption, lake, clips, labels))

    def _caption(self, lake: Lake, clips: dict[str, Row], labels: dict[str, Row], work: Work) -> dict[str, list[Row]]:
        if work.item_id not in clips:
            raise DataError(f"clip {work.item_id} is no longer in the lake: plan the stage again")
        clip = clips[work.item_id] if work.payload.calibrated else without_camera(clips[work.item_id])
        fps = clip["fps_num"] / clip["fps_den"]
        video = lake.blobs("clip_videos", "video", [work.item_id])[0]
        motions = self._measure(clip, labels.get(work.payload.pose_id), video, fps)
        measured = motions[0]
        estimator_agreement = agreement(*motions) if len(motions) == 2 else None
        evidence: dict[str, Any] = {m.estimator: {"terms": sorted(words(m.terms)), **m.evidence} for m in motions}
        terms, content, captioner, raw = measured.terms, "", measured.estimator, None

        if self.captioner is not None:
            dialogue = self._prompt_model(self.captioner, measured, video, clip["frames"], fps)
            raw = dialogue.raw
            evidence["model"] = {"name": self.captioner.config.model, "error": dialogue.error}
            if dialogue.answer is None:
                log.warning("clip %s: the model's answer is unusable (%s)", clip["name"], dialogue.error)
            else:
                from_model = CameraMotion("model", dialogue.answer.terms, {})
                estimator_agreement = agreement(measured, from_model)
                evidence["model"]["terms"] = sorted(words(from_model.terms))
                terms, content = combined(measured, from_model.terms), dialogue.answer.content
                captioner = self.captioner.config.model

        sentence = camera_sentence(terms)
        row = {
            "caption_id": stable_id("caption", work.item_id, work.key),
            "clip_id": work.item_id,
            "captioner": captioner,
            "camera_terms": [term.row() for term in terms],
            "camera_sentence": sentence,
            "content_sentence": content,
            "text": compose(sentence, content),
            "evidence": json.dumps(evidence, sort_keys=True, allow_nan=False),
            "agreement": estimator_agreement,
            "raw_answer": raw,
        }
        return {"captions": [row]}

    def _measure(self, clip: Row, label: Row | None, video: bytes, fps: float) -> list[CameraMotion]:
        """Return the main measurement of the camera motion, followed by the second one if there is one."""
        motions = []
        try:
            if clip["metric"] and clip["world_to_camera"] is not None:
                motions.append(camera_motion(clip["world_to_camera"], clip["K"], fps, _subject(clip, label)))
            if not motions or self.config.second_witness:
                focal = None if clip["K"] is None else float(np.median(clip["K"][:, 0, 0])) / clip["width"]
                motions.append(image_motion(frames(video), fps, clip["track"], focal))
        except ValueError as error:
            raise DataError(f"clip {clip['name']}: {error}") from error
        return motions

    def _prompt_model(
        self, captioner: QwenCaptioner | ServerCaptioner, measured: CameraMotion, video: bytes, count: int, fps: float
    ) -> Dialogue:
        step = max(1, -(-count // captioner.config.frames))  # ceil: at most `config.frames` frames, evenly spaced
        images = decode(video, step=step)
        return converse(partial(captioner.ask, images, fps / step), prompt(measured, count, fps), count)


def plan(lake: Lake, stage: CaptionsStage, policy: Policy) -> Planned:
    """Plan one work item per clip that `policy` keeps.

    The caption of a clip with metric cameras depends on its best pose label, which gives the position of the subject.
    It does not wait for the label: plan captions after poses, otherwise these captions are computed again once there
    are poses.
    """
    clips = kept_clips(lake, policy, ["name", "work_key", "metric", "capture_id"])
    in_doubt = pc.is_in(clips["capture_id"], value_set=disagreeing(lake))
    clips = clips.set_column(clips.column_names.index("metric"), "metric", pc.and_not(clips["metric"], in_doubt))
    clips = clips.append_column("calibrated", pc.invert(in_doubt))
    metric_ids = clips["clip_id"].filter(clips["metric"])  # only metric cameras use the position of the subject
    poses = best_poses(lake, ["work_key"]) if len(metric_ids) else None
    for column, pose_column in (("pose_id", "pose_id"), ("pose_key", "work_key")):
        found = None if poses is None else look_up(clips["clip_id"], poses, "clip_id", pose_column)
        values = pa.nulls(clips.num_rows, pa.string()) if found is None else pc.if_else(clips["metric"], found, None)
        clips = clips.append_column(column, values)

    def content(rows: pa.Table) -> Column:
        pose_key = json_strings(rows["pose_key"])
        method = pc.if_else(rows["calibrated"], "", ',"without camera"')
        pose_and_method = pc.binary_join_element_wise(pose_key, method, "")
        return json_lists(*(json_strings(rows[name]) for name in ("clip_id", "work_key")), pose_and_method)

    def work(key: str, row: Row) -> Work:
        return Work(key, row["clip_id"], row["name"], ClipToCaption(row["pose_id"], row["calibrated"]))

    return Planned.rows(stage, clips, "clip_id", content, work)


def _subject(clip: Row, label: Row | None) -> np.ndarray | None:
    """Return the person's position in the camera frame, [T, 3] metres, from the pose label or else from the box."""
    if label is not None:
        return np.where(np.array(label["valid"])[:, None], label["transl"], np.nan)
    if clip["track"] is None:
        return None
    return subject_from_track(clip["track"], clip["K"], clip["width"], clip["height"])
