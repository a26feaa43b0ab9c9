"""Batches of a release of small clips against the bare decoding of the same driving videos, on one thread.

Nothing is kept between rounds: every sample is read from the lake, its pictures are decoded and cropped.
"""

import argparse
import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np

from opendimo.model.config import DiMoConfig
from opendimo.storage_schemas.ids import sha256_bytes
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.media.video import decode, encode
from opendimo.storage_schemas.releases.release import Release, create_release, open_release
from opendimo.training.data import TrainingData
from opendimo.training.schedule import three_stages
from tests.benchmarks.side_by_side import in_turn, ratios
from tests.rows import row

FRAMES, SIZE = 48, 128
LATENTS, TEXT = (8, 3, 16, 16), (12, 32)
BATCH = 8


def main() -> None:
    """Make the lake, then time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--captures", type=int, default=120, help="each is seen by two cameras")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--lake", type=Path, help="kept, and used again; absent: a temporary folder")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = given.lake or Path(folder)
        if not (place / "lake.json").exists():
            fill(Lake(place), given.captures)
            create_release(Lake(place), "small")
        measure(open_release(str(place), "small@1"), given.steps, given.rounds)


def fill(lake: Lake, captures: int) -> None:
    """Rows and bytes of clips in pairs of views, with latents of noise."""
    rng = np.random.default_rng(0)
    rows: dict[str, list[dict[str, object]]] = {name: [] for name in TABLES}
    for k in range(captures):
        capture = f"capture {k:05}"
        rows["captures"].append(row("captures", capture_id=capture, kind="multiview", subject=capture))
        for view in "ab":
            clip_id = f"{capture} {view}"
            video = encode(film(rng), Fraction(24))
            facts = {"frames": FRAMES, "end_frame": FRAMES, "fps_num": 24, "fps_den": 1, "width": SIZE, "height": SIZE}
            names = {"clip_id": clip_id, "source_id": clip_id, "capture_id": capture, "view": view, "kind": "multiview"}
            track = np.tile(np.float32([40, 20, 90, 110]), (FRAMES, 1))
            rows["clips"].append(row("clips", **names, **facts, video_sha256=sha256_bytes(video), track=track))
            rows["clip_videos"].append(row("clip_videos", clip_id=clip_id, video=video, sha256=sha256_bytes(video)))
            joints = np.float32(rng.uniform(30, 90, (FRAMES, 52, 3)))
            valid = {"valid": [True] * FRAMES, "hand_valid": np.ones((FRAMES, 2), np.float32), "weight": 1.0}
            rows["poses"].append(row("poses", FRAMES, pose_id=clip_id, clip_id=clip_id, joints_2d=joints, **valid))
            for start in (0, 17):
                rows["latents"].append(_latent(rng, clip_id, start))
                rows["pairs"] += [_pair(capture, driving, view, start) for driving in "ab"]
    lake.append("filled", rows)


TABLES = ("captures", "clips", "clip_videos", "poses", "latents", "pairs")


def film(rng: np.random.Generator) -> np.ndarray:
    """Blocks that move over a wall [T, S, S, 3]."""
    wall = rng.integers(0, 255, (16, 16, 3), np.uint8).repeat(SIZE // 16, 0).repeat(SIZE // 16, 1)
    return np.stack([np.roll(wall, (t, 2 * t), (0, 1)) for t in range(FRAMES)])


def _latent(rng: np.random.Generator, clip_id: str, start: int) -> dict[str, object]:
    window = {"start_frame": start, "num_frames": 9, "frame_step": 2, "width": 64, "height": 64}
    shapes = {"shape": list(LATENTS), "text_shape": list(TEXT)}
    values = (rng.standard_normal(shape).astype(np.float16).tobytes() for shape in (LATENTS, TEXT))
    blobs = dict(zip(("latents", "text_embedding"), values, strict=True))
    return row("latents", latent_id=f"{clip_id} {start}", clip_id=clip_id, **window, **shapes, **blobs)


def _pair(capture: str, driving: str, target: str, start: int) -> dict[str, object]:
    clips = {"driving_clip_id": f"{capture} {driving}", "target_clip_id": f"{capture} {target}"}
    starts = {"driving_start": start, "target_start": start, "num_frames": 9, "frame_step": 2}
    labels = {"latent_id": f"{capture} {target} {start}", "pose_id": f"{capture} {driving}", "weight": 1.0}
    kind = "same_view" if driving == target else "cross_view"
    known = {"kind": kind, "source_kind": "multiview", "capture_id": capture, "subject": capture, "split": "train"}
    return row("pairs", pair_id=f"{capture} {driving} {target} {start}", **clips, **starts, **labels, **known)


def measure(release: Release, steps: int, rounds: int) -> None:
    """Print samples a second of batches and of bare decoding, and the ratio round by round."""
    schedule = three_stages((1, steps, 1), lr=1)

    def batches() -> None:
        data = TrainingData(release, "train", DiMoConfig.tiny(), cache_bytes=0)
        for _ in data.batches(1, 1 + steps, schedule, BATCH, seed=0):
            pass

    videos = release.blobs("clip_videos", "video", release.scan("clips", ["clip_id"])["clip_id"].to_pylist())

    def bare() -> None:
        for k in range(steps * BATCH):
            decode(videos[k % len(videos)], start=0, stop=17, step=2)

    batches()
    seconds = in_turn({"batches": batches, "bare decoding": bare}, rounds)
    for name, took in seconds.items():
        print(f"{name}: {steps * BATCH / np.median(took):.0f} samples/s, median of {rounds}")
    shares = ratios(seconds["bare decoding"], seconds["batches"])
    print(f"batches / bare decoding: {np.median(shares):.2f} ({min(shares):.2f} - {max(shares):.2f})")


if __name__ == "__main__":
    main()
