"""The captions stage: one row per kept clip, by the camera's geometry or the picture, and by a model if any."""

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
from opendimo.pipelines.cameras.terms import FOCAL_OVER_WIDTH, CameraMotion, words
from opendimo.pipelines.captions.answer import Dialogue, converse, prompt
from opendimo.pipelines.captions.openai_server import OpenAIServer, ServerCaptioner
from opendimo.pipelines.captions.qwen import QwenCaptioner, QwenLocal
from opendimo.pipelines.captions.sentence import camera_sentence, compose
from opendimo.pipelines.captions.witnesses import agreement, combined
from opendimo.pipelines.engine.columns import Column, json_lists, json_strings, look_up
from opendimo.pipelines.engine.planned import Planned
from opendimo.pipelines.engine.revisions import best_poses
from opendimo.pipelines.engine.stage import DataError, Needs, Outcome, Work, run_each
from opendimo.pipelines.quality.policy import Policy
from opendimo.pipelines.quality.verdicts import kept_clips
from opendimo.storage_schemas.ids import stable_id
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.media.video import decode, frames
from opendimo.storage_schemas.rows import in_list

Row = dict[str, Any]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CaptionsConfig:
    """`vlm` None: the measured camera motion is the whole caption, and what is seen stays unsaid. `second_witness`:
    measure the picture as well where the cameras are known (one decode of the clip)."""

    vlm: QwenLocal | OpenAIServer | None = None
    second_witness: bool = True

    def identity(self) -> dict[str, Any]:
        """What decides the answers: not where the model is, how long one waits for it, or what runs it."""
        vlm = self.vlm
        match vlm:
            case None:
                asked: dict[str, Any] = {}
            case QwenLocal():
                asked = {"frames": vlm.frames, "max_pixels": vlm.max_pixels, "max_new_tokens": vlm.max_new_tokens}
            case OpenAIServer():
                asked = {
                    "model": vlm.model,
                    "frames": vlm.frames,
                    "long_side": vlm.long_side,
                    "max_new_tokens": vlm.max_new_tokens,
                }
        return {"vlm": asked, "second_witness": self.second_witness}


class CaptionsStage:
    """Writes `captions`."""

    name = "captions"
    version = "1"

    def __init__(self, lake_uri: str, config: CaptionsConfig) -> None:
        self.lake_uri, self.config = lake_uri, config
        local = config.vlm if isinstance(config.vlm, QwenLocal) else None
        self.weights = local.fingerprint() if local else ""
        on_gpu = local is not None and local.device.startswith("cuda")
        self.needs = Needs(gpus=1.0 if on_gpu else 0.0, memory_gb=24.0 if local else 2.0, shard=32)
        self.captioner: QwenCaptioner | ServerCaptioner | None = None

    def setup(self) -> None:
        """Load the model, or reach for the key of the server."""
        match self.config.vlm:
            case QwenLocal() as local:
                self.captioner = QwenCaptioner(local)
            case OpenAIServer() as server:
                self.captioner = ServerCaptioner(server)

    def run(self, batch: list[Work]) -> Outcome:
        """Caption every clip of the batch."""
        lake = Lake(self.lake_uri)
        clips = {
            row["clip_id"]: row for row in lake.read("clips", where=in_list("clip_id", [w.item_id for w in batch]))
        }
        poses = [w.payload["pose_id"] for w in batch if w.payload["pose_id"]]
        columns = ["pose_id", "transl", "valid"]
        labels = {r["pose_id"]: r for r in lake.read("poses", columns, in_list("pose_id", poses))} if poses else {}
        return run_each(batch, partial(self._caption, lake, clips, labels))

    def _caption(self, lake: Lake, clips: dict[str, Row], labels: dict[str, Row], work: Work) -> dict[str, list[Row]]:
        if work.item_id not in clips:
            raise DataError(f"clip {work.item_id} is not in the lake: plan again")
        clip = clips[work.item_id]
        fps = clip["fps_num"] / clip["fps_den"]
        video = lake.blobs("clip_videos", "video", [work.item_id])[0]
        witnesses = self._measure(clip, labels.get(work.payload["pose_id"]), video, fps)
        measured = witnesses[0]
        shared = agreement(*witnesses) if len(witnesses) == 2 else None
        evidence: dict[str, Any] = {w.witness: {"terms": sorted(words(w.terms)), **w.evidence} for w in witnesses}
        terms, content, captioner, raw = measured.terms, "", measured.witness, None

        if self.captioner is not None:
            dialogue = self._look(self.captioner, measured, video, clip["frames"], fps)
            raw = dialogue.raw
            evidence["model"] = {"name": self.captioner.config.model, "error": dialogue.error}
            if dialogue.answer is None:
                log.warning("clip %s: the model's answer is unusable (%s)", clip["name"], dialogue.error)
            else:
                seen = CameraMotion("model", dialogue.answer.terms, {})
                shared = agreement(measured, seen)
                evidence["model"]["terms"] = sorted(words(seen.terms))
                terms, content = combined(measured, seen.terms), dialogue.answer.content
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
            "evidence": json.dumps(evidence, sort_keys=True),
            "agreement": shared,
            "raw_answer": raw,
        }
        return {"captions": [row]}

    def _measure(self, clip: Row, label: Row | None, video: bytes, fps: float) -> list[CameraMotion]:
        """The measurement to go by, and the second where there is one."""
        found = []
        try:
            if clip["metric"] and clip["world_to_camera"] is not None:
                found.append(camera_motion(clip["world_to_camera"], clip["K"], fps, _subject(clip, label)))
            if not found or self.config.second_witness:
                focal = FOCAL_OVER_WIDTH if clip["K"] is None else float(np.median(clip["K"][:, 0, 0])) / clip["width"]
                found.append(image_motion(frames(video), fps, clip["track"], focal))
        except ValueError as error:
            raise DataError(f"clip {clip['name']}: {error}") from error
        return found

    def _look(
        self, captioner: QwenCaptioner | ServerCaptioner, measured: CameraMotion, video: bytes, count: int, fps: float
    ) -> Dialogue:
        step = max(1, -(-count // captioner.config.frames))  # ceil: at most that many frames, evenly spaced
        images = decode(video, step=step)
        return converse(partial(captioner.ask, images, fps / step), prompt(measured, count, fps), count)


def plan(lake: Lake, stage: CaptionsStage, policy: Policy) -> Planned:
    """One piece of work per clip that `policy` keeps.

    A clip with known cameras waits for nobody, but its caption depends on its best pose label (which says where the
    subject is): plan captions after poses, or they are made anew once the poses are there.
    """
    clips = kept_clips(lake, policy, ["name", "work_key", "metric"])
    asks = clips["clip_id"].filter(clips["metric"])  # without metric cameras nobody asks where the subject is
    poses = best_poses(lake, ["work_key"]) if len(asks) else None
    for column, wanted in (("pose_id", "pose_id"), ("pose_key", "work_key")):
        found = None if poses is None else look_up(clips["clip_id"], poses, "clip_id", wanted)
        values = pa.nulls(clips.num_rows, pa.string()) if found is None else pc.if_else(clips["metric"], found, None)
        clips = clips.append_column(column, values)

    def content(rows: pa.Table) -> Column:
        return json_lists(*(json_strings(rows[name]) for name in ("clip_id", "work_key", "pose_key")))

    def work(key: str, row: Row) -> Work:
        return Work(key, row["clip_id"], row["name"], {"pose_id": row["pose_id"]})

    return Planned.rows(stage, stage.config.identity(), clips, "clip_id", content, work)


def _subject(clip: Row, label: Row | None) -> np.ndarray | None:
    """Where the person is in the camera, [T, 3] metres: by the pose label, else by the size of the box."""
    if label is not None:
        return np.where(np.array(label["valid"])[:, None], label["transl"], np.nan)
    if clip["track"] is None:
        return None
    return subject_from_track(clip["track"], clip["K"], clip["width"], clip["height"])
