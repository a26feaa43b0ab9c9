"""Render a world into a lake and a release, which the loader and the trainer read like real data."""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from opendimo.model.base_folder import encoders_id
from opendimo.model.text import encode_prompt, load_text
from opendimo.model.vae import encode as encode_latents
from opendimo.model.vae import load_vae
from opendimo.storage_schemas.ids import sha256_bytes, stable_id
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.media.video import centre_crop, encode
from opendimo.storage_schemas.releases.release import Release, create_release, open_release
from opendimo.storage_schemas.rows import Row, filled_row
from opendimo.training.miniature.people import make_studio_take
from opendimo.training.miniature.world import FRAMES, Take, View, make_take

WINDOW = 9
"""Frames of a window; a take has two windows."""
FPS = 15
SERIAL_TAKES = 200
"""Up to this number of takes, starting worker processes takes longer than rendering."""
STARTS = range(0, FRAMES - WINDOW + 1, WINDOW)
"""First frames of the windows of a take."""

World = Literal["limbs", "studio"]
"""`limbs`: a mannequin with a distinct colour per limb; `studio`: the synthetic people of the demo."""
TARGETS: dict[World, int] = {"limbs": 32, "studio": 64}
"""Height and width in pixels of the targets."""


@dataclass(frozen=True)
class WorldConfig:
    """Takes of a world. Those of the last `test_subjects` of `subjects` are held out."""

    takes: int
    world: World = "limbs"
    subjects: int = 50
    test_subjects: int = 5
    moving_share: float = 0.34
    seed: int = 0


def miniature_release(folder: Path, base: Path, config: WorldConfig, workers: int = 2) -> Release:
    """Return the release of a world in `folder`; render it and encode it with `base` if it does not exist."""
    lake = Lake(folder)
    run = stable_id("miniature", asdict(config), encoders_id(base))
    if not lake.dataset("releases").count_rows():
        lake.append(run, _tables(base, config, workers))
        create_release(lake, "miniature")
    return open_release(lake.uri, "miniature@1")


def _tables(base: Path, config: WorldConfig, workers: int) -> dict[str, list[Row]]:
    """Build the rows of all tables that training reads."""
    rows: dict[str, list[Row]] = {
        name: [] for name in ("captures", "clips", "clip_videos", "poses", "captions", "latents", "pairs")
    }
    encoder = _WindowEncoder(base, TARGETS[config.world])
    for number, take in enumerate(render_takes(config, workers)):
        split = "test" if number % config.subjects >= config.subjects - config.test_subjects else "train"
        rows["captures"].append(_capture(take))
        for view in take.views:
            for table, row in _clip_rows(take, view):
                rows[table].append(row)
            rows["latents"] += encoder.rows(take, view)
        rows["pairs"] += _pairs(take, split)
    return rows


def render_takes(config: WorldConfig, workers: int) -> Iterator[Take]:
    """Yield all takes of a world in order."""
    make = make_take if config.world == "limbs" else make_studio_take
    make_numbered = partial(make, seed=config.seed, subjects=config.subjects, moving_share=config.moving_share)
    if config.takes <= SERIAL_TAKES:
        yield from map(make_numbered, range(config.takes))
        return
    # spawn: torch can hang in a forked process
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=_one_thread) as pool:
        yield from pool.map(make_numbered, range(config.takes), chunksize=16)


def _one_thread() -> None:
    """Limit torch to one thread in a worker process, since there is one worker per core."""
    torch.set_num_threads(1)


def windows(view: View, size: int) -> NDArray[np.uint8]:
    """Return the windows of a view [N, T, size, size, 3]."""
    frames = centre_crop(view.frames, size, size)
    return np.stack([frames[start : start + WINDOW] for start in STARTS])


def clip_id(take: Take, view: View) -> str:
    """Return the clip id of a view."""
    return f"{take.name} {view.name}"


def _capture(take: Take) -> Row:
    return filled_row(
        "captures",
        capture_id=take.name,
        kind="unreal",
        subject=take.subject,
        take=take.name,
        views=[view.name for view in take.views],
        sync_method="rendered",
        gravity_down=np.array([0, -1, 0], np.float32),
    )


def _clip_rows(take: Take, view: View) -> Iterator[tuple[str, Row]]:
    """Yield (table, row) of the video, the clip, its true poses and its caption."""
    clip = clip_id(take, view)
    video = encode(view.frames, Fraction(FPS))
    picture = view.frames.shape[1]
    yield "clip_videos", filled_row("clip_videos", clip_id=clip, video=video, sha256=sha256_bytes(video))
    yield (
        "clips",
        filled_row(
            "clips",
            FRAMES,
            clip_id=clip,
            source_id=clip,
            capture_id=take.name,
            view=view.name,
            kind="unreal",
            name=clip,
            subject=take.subject,
            licence="CC0-1.0",
            end_frame=FRAMES,
            frames=FRAMES,
            fps_num=FPS,
            fps_den=1,
            source_width=picture,
            source_height=picture,
            width=picture,
            height=picture,
            video_sha256=sha256_bytes(video),
            track=_boxes(view),
            world_to_camera=np.float32(view.world_to_camera),
            K=np.float32(view.K),
            metric=True,
            people=1.0,
            person_share=1.0,
            person_height=0.75,
        ),
    )
    joints_2d = np.concatenate([view.joints_2d, np.ones((FRAMES, 52, 1))], -1)
    yield (
        "poses",
        filled_row(
            "poses",
            FRAMES,
            pose_id=f"pose {clip}",
            clip_id=clip,
            estimator="truth",
            global_orient=np.float32(view.root),
            body_pose=np.float32(take.body_pose),
            hand_pose=np.float32(take.hand_pose),
            transl=np.float32(view.transl),
            joints_3d=np.float32(view.joints_3d),
            joints_2d=np.float32(joints_2d),
            valid=[True] * FRAMES,
            hand_valid=np.ones((FRAMES, 2), np.float32),
            confidence=np.ones(FRAMES, np.float32),
            weight=1.0,
        ),
    )
    term = {"term": view.move, "speed": "medium", "start_frame": 0, "end_frame": FRAMES}
    yield (
        "captions",
        filled_row(
            "captions",
            caption_id=clip,
            clip_id=clip,
            captioner="truth",
            camera_terms=[term],
            camera_sentence=sentence(view.move),
            text=sentence(view.move),
        ),
    )


def _boxes(view: View) -> NDArray[np.float32]:
    """Return boxes [T, 4] around the joints, in pixels, with a margin for the limbs."""
    margin = 0.05 * view.frames.shape[1]
    low, high = view.joints_2d.min(1) - margin, view.joints_2d.max(1) + margin
    return np.concatenate([low, high], -1).astype(np.float32)


def sentence(move: str) -> str:
    """Return the camera sentence of the caption for a `move` such as `arc_left`."""
    kind, _, direction = move.partition("_")
    verbs = {"arc": "arcs", "dolly": "dollies", "pan": "pans"}
    return f"The camera {verbs[kind]} {direction}." if direction else "The camera is static."


class _WindowEncoder:
    """Encode windows and camera sentences with the base model's VAE and text encoder."""

    def __init__(self, base: Path, size: int) -> None:
        self._size = size
        self._vae = load_vae(base)
        self._tokenizer, self._text_encoder = load_text(base)
        self._weights = encoders_id(base)
        self._texts: dict[str, NDArray[np.float16]] = {}

    def rows(self, take: Take, view: View) -> list[Row]:
        """Build the rows of `latents` of a clip."""
        batch = torch.from_numpy(windows(view, self._size)).permute(0, 4, 1, 2, 3) / 255  # [N, 3, T, S, S]
        with torch.inference_mode():
            latents = encode_latents(self._vae, batch).numpy().astype(np.float16)
        text = sentence(view.move)
        if text not in self._texts:
            embedding = encode_prompt(self._tokenizer, self._text_encoder, text).embedding
            self._texts[text] = embedding.numpy().astype(np.float16)
        return [
            filled_row(
                "latents",
                latent_id=f"{clip_id(take, view)} {start}",
                clip_id=clip_id(take, view),
                vae=self._weights,
                start_frame=start,
                num_frames=WINDOW,
                frame_step=1,
                width=self._size,
                height=self._size,
                shape=list(window.shape),
                latents=window.tobytes(),
                text_shape=list(self._texts[text].shape),
                text_embedding=self._texts[text].tobytes(),
                text=text,
            )
            for start, window in zip(STARTS, latents, strict=True)
        ]


def _pairs(take: Take, split: str) -> list[Row]:
    """Build pairs of each view as driver with each view as target."""
    rows = []
    for target in take.views:
        for driving in take.views:
            same = driving is target
            kind = "same_view" if same else "cross_view" if target.move == "static" else "moving_camera"
            for start in STARTS:
                names = {"driving_clip_id": clip_id(take, driving), "target_clip_id": clip_id(take, target)}
                rows.append(
                    filled_row(
                        "pairs",
                        pair_id=stable_id("pair", names, start),
                        kind=kind,
                        **names,
                        driving_start=start,
                        target_start=start,
                        num_frames=WINDOW,
                        frame_step=1,
                        latent_id=f"{clip_id(take, target)} {start}",
                        pose_id=f"pose {clip_id(take, driving)}",
                        source_kind="unreal",
                        capture_id=take.name,
                        subject=take.subject,
                        split=split,
                        weight=1.0,
                    )
                )
    return rows
