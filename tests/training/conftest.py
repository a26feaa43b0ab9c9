"""A small synthetic lake of waving figures, in single views, rigs and moving cameras; and a release of it."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from opendimo.model.tiny import make_tiny_base
from opendimo.pipelines.latents import stage as latents
from opendimo.pipelines.latents.windows import Window
from opendimo.pipelines.pairs import stage as pairs
from opendimo.pipelines.quality.policy import Policy
from opendimo.storage_schemas.ids import sha256_bytes
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.media.video import encode
from opendimo.storage_schemas.releases.release import Release, create_release, open_release
from opendimo.training.config import TrainConfig, preset
from opendimo.training.schedule import three_stages
from tests.rows import row

FRAMES, SIZE = 36, 96
LEFT = SIZE // 6
CAPTURES = {  # capture: (kind, views, whether the camera moves)
    "street": ("internet", ("a",), False),
    "park": ("internet", ("a",), False),
    "rig one": ("multiview", ("a", "b"), False),
    "rig two": ("multiview", ("a", "b"), False),
    "stage one": ("unreal", ("a", "b"), True),
    "stage two": ("unreal", ("a", "b"), True),
}


def film(seed: int, view: str, moves: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return frames [T, S, S, 3] of a bright figure waving before a wall, mirrored in view b, and its boxes [T, 4]."""
    rng = np.random.default_rng(seed)
    wall, coat = rng.integers(0, 120, 3), rng.integers(140, 255, 3)
    frames, boxes = np.empty((FRAMES, SIZE, SIZE, 3), np.uint8), np.empty((FRAMES, 4), np.float32)
    for t in range(FRAMES):
        swing = np.sin(2 * np.pi * (t / 16 + seed / 7))
        frame = np.broadcast_to(wall, (SIZE, SIZE, 3)).astype(np.uint8).copy()
        x = 40 + (t // 3 if moves else 0)
        frame[24:88, x : x + 16] = coat
        y = round(44 - 20 * swing)
        frame[y : y + 8, x + 16 : x + 36] = coat
        frames[t] = frame[:, ::-1] if view == "b" else frame
        boxes[t] = (SIZE - x - 36, 20, SIZE - x, 88) if view == "b" else (x, 20, x + 36, 88)
    return frames, boxes


def fill(
    lake: Lake,
    base: Path,
    cameras: dict[str, dict[str, object]] | None = None,
    portrait: Sequence[str] = (),
    buckets: tuple[Window, ...] = (),
) -> None:
    """Append captures, clips, videos, poses and captions; then run the stages `latents` and `pairs`.

    `cameras`: additional clip columns by view. `portrait`: captures whose frames are only two thirds as wide.
    `buckets`: windows of latents besides the default one.
    """
    rows: dict[str, list[dict[str, object]]] = {
        name: [] for name in ("captures", "clips", "clip_videos", "poses", "captions")
    }
    for seed, (capture, (kind, views, moves)) in enumerate(CAPTURES.items()):
        method = "single" if len(views) == 1 else "synchronised"
        take = {"capture_id": capture, "kind": kind, "subject": capture, "sync_method": method}
        rows["captures"].append(row("captures", **take, gravity_down=np.float32([0, 1, 0])))
        for view in views:
            clip_id = f"{capture} {view}"
            frames, boxes = film(seed, view, moves)
            if capture in portrait:
                frames, boxes = np.ascontiguousarray(frames[:, :, LEFT:-LEFT]), boxes - (LEFT, 0, LEFT, 0)
            width = frames.shape[2]
            video = encode(frames, Fraction(24))
            times = np.linspace(0, 3, FRAMES)[:, None, None]
            clip = {"clip_id": clip_id, "source_id": clip_id, "capture_id": capture, "view": view, "kind": kind}
            facts = {"frames": FRAMES, "end_frame": FRAMES, "fps_num": 24, "fps_den": 1, "width": width, "height": SIZE}
            scores = {"people": 1.0, "person_share": 1.0, "person_height": 0.7, "sharpness": 99.0, "exposure": 0.5}
            sha = sha256_bytes(video)
            person = {
                "subject": capture,
                "video_sha256": sha,
                "track": np.float32(boxes),
                **(cameras or {}).get(view, {}),
            }
            rows["clips"].append(row("clips", **clip, **facts, **scores, **person, work_key=clip_id))
            rows["clip_videos"].append(row("clip_videos", clip_id=clip_id, video=video, sha256=sha))
            joints = np.full((FRAMES, 52, 3), 50, np.float32) + np.arange(52, dtype=np.float32)[None, :, None] % 8
            positions = 0.2 * np.sin(times + np.arange(156).reshape(52, 3)) + (
                0,
                0,
                3,
            )  # metres, in front of the camera
            pose = {
                "body_pose": np.float32(np.sin(times + np.arange(63).reshape(21, 3))),
                "joints_2d": joints,
                "joints_3d": np.float32(positions),
            }
            ok = {"valid": [True] * FRAMES, "hand_valid": np.ones((FRAMES, 2), np.float32), "weight": 1.0}
            rows["poses"].append(row("poses", FRAMES, pose_id=f"pose of {clip_id}", clip_id=clip_id, **pose, **ok))
            term = {"term": "pan_left" if moves else "static", "speed": "slow", "start_frame": 0, "end_frame": FRAMES}
            text = f"The camera {'pans left' if moves else 'is static'}."
            rows["captions"].append(
                row("captions", caption_id=clip_id, clip_id=clip_id, camera_terms=[term], text=text)
            )
    lake.append("filled", rows)
    stage = latents.LatentsStage(lake.uri, latents.LatentsConfig(str(base), buckets=buckets))
    stage.setup()
    run(lake, stage, latents.plan(lake, stage, Policy()).all())
    paired = pairs.PairsStage(lake.uri, pairs.PairsConfig(stage.vae, test_share=0.3, buckets=buckets))
    run(lake, paired, pairs.plan(lake, paired, Policy()).all())


def run(lake: Lake, stage: object, work: list) -> None:
    """Run a stage on the given work and commit its rows."""
    outcome = stage.run(work)  # type: ignore[attr-defined]
    outcome.check(work)
    assert not outcome.rejects, outcome.rejects[0].traceback or outcome.rejects[0].message
    lake.append(stage.name, outcome.rows)  # type: ignore[attr-defined]


@pytest.fixture(scope="session")
def one_thread() -> None:
    """Use one thread, so that sums have a fixed order and runs are bit-identical."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base model with random weights."""
    return make_tiny_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def lake(tmp_path_factory: pytest.TempPathFactory, base: Path, one_thread: None) -> Lake:
    """The shared lake; tests must not write to it."""
    filled = Lake(tmp_path_factory.mktemp("lake"))
    fill(filled, base)
    return filled


@pytest.fixture(scope="session")
def release(lake: Lake) -> Release:
    """A release of the lake."""
    return open_release(lake.uri, create_release(lake, "small")["release_id"])


@pytest.fixture(scope="session")
def config(base: Path) -> TrainConfig:
    """12 steps in three stages, a checkpoint every 3 steps, a moving average."""
    schedule = three_stages((5, 4, 3), lr=1e-3)
    return replace(preset("tiny", base), schedule=schedule, batch_size=2, checkpoint_every=3, seed=7, ema_decay=0.9)
