"""Reading batches of training against bare decoding of the same driving videos and against WebDataset.

Nothing is cached between rounds: every sample is read, decoded and cropped. Bare decoding reads no labels and makes no
crops: "streamed" drops each frame, "to arrays" holds all frames of a window. WebDataset reads the same bytes from tar
shards in shuffled order, and decodes and crops them by the same code.
"""

import argparse
import io
import tempfile
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import webdataset
from torch.utils.data import DataLoader, Dataset

from opendimo.model.config import DiMoConfig
from opendimo.model.driving.crops import driving_crops
from opendimo.storage_schemas.ids import sha256_bytes
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.media.video import decode, encode, window
from opendimo.storage_schemas.releases.release import Release, create_release, open_release
from opendimo.training.data import TrainingData
from opendimo.training.release import read_pairs
from opendimo.training.schedule import three_stages
from tests.benchmarks.side_by_side import in_turn, ratios
from tests.rows import row

FPS, WIDTH, HEIGHT = Fraction(24), 832, 480
CLIP, WINDOW, STEP = 145, 121, 1
"""Frames of a clip, of a window, and between two frames of a window."""
LATENTS, TEXT = (48, 31, 30, 52), (64, 4096)
BATCH = 4
MODEL = DiMoConfig()


def main() -> None:
    """Make the lake and the shards, then time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--captures", type=int, default=6, help="each is seen by two cameras")
    parser.add_argument("--steps", type=int, default=4, help=f"batches of {BATCH} in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=0, help="loader processes; 0: one process and thread")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(Path(folder) / "lake")
        fill(lake, given.captures)
        create_release(lake, "small")
        measure(open_release(lake.uri, "small@1"), Path(folder), given.steps, given.rounds, given.workers)


def fill(lake: Lake, captures: int) -> None:
    """Write clips in pairs of views, with latents of noise."""
    rng = np.random.default_rng(0)
    rows: dict[str, list[dict[str, object]]] = {name: [] for name in TABLES}
    for k in range(captures):
        capture = f"capture {k:05}"
        rows["captures"].append(row("captures", capture_id=capture, kind="multiview", subject=capture))
        for view in "ab":
            clip_id = f"{capture} {view}"
            video = encode(film(rng), FPS)
            facts = {"frames": CLIP, "end_frame": CLIP, "fps_num": 24, "fps_den": 1, "width": WIDTH, "height": HEIGHT}
            names = {"clip_id": clip_id, "source_id": clip_id, "capture_id": capture, "view": view, "kind": "multiview"}
            track = np.tile(np.float32([250, 30, 600, 450]), (CLIP, 1))
            rows["clips"].append(row("clips", **names, **facts, video_sha256=sha256_bytes(video), track=track))
            rows["clip_videos"].append(row("clip_videos", clip_id=clip_id, video=video, sha256=sha256_bytes(video)))
            joints = np.float32(rng.uniform(300, 380, (CLIP, 52, 3)))
            valid = {"valid": [True] * CLIP, "hand_valid": np.ones((CLIP, 2), np.float32), "weight": 1.0}
            rows["poses"].append(row("poses", CLIP, pose_id=clip_id, clip_id=clip_id, joints_2d=joints, **valid))
            rows["latents"].append(_latent(rng, clip_id))
            rows["pairs"] += [_pair(capture, driving, view) for driving in "ab"]
    lake.append("filled", rows)


TABLES = ("captures", "clips", "clip_videos", "poses", "latents", "pairs")


def film(rng: np.random.Generator) -> np.ndarray:
    """Return noisy blocks that move over a wall [T, H, W, 3]."""
    wall = rng.integers(0, 255, (HEIGHT // 8, WIDTH // 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    grain = rng.integers(0, 12, wall.shape, np.uint8)
    return np.stack([np.roll(wall, (t, 2 * t), (0, 1)) // 2 + np.roll(grain, 7 * t, 1) for t in range(CLIP)])


def _latent(rng: np.random.Generator, clip_id: str) -> dict[str, object]:
    frames = {"start_frame": 0, "num_frames": WINDOW, "frame_step": STEP, "width": WIDTH, "height": HEIGHT}
    shapes = {"shape": list(LATENTS), "text_shape": list(TEXT)}
    values = (rng.standard_normal(shape).astype(np.float16).tobytes() for shape in (LATENTS, TEXT))
    blobs = dict(zip(("latents", "text_embedding"), values, strict=True))
    return row("latents", latent_id=clip_id, clip_id=clip_id, **frames, **shapes, **blobs)


def _pair(capture: str, driving: str, target: str) -> dict[str, object]:
    clips = {"driving_clip_id": f"{capture} {driving}", "target_clip_id": f"{capture} {target}"}
    starts = {"driving_start": 0, "target_start": 0, "num_frames": WINDOW, "frame_step": STEP}
    labels = {"latent_id": f"{capture} {target}", "pose_id": f"{capture} {driving}", "weight": 1.0}
    kind = "same_view" if driving == target else "cross_view"
    known = {"kind": kind, "source_kind": "multiview", "capture_id": capture, "subject": capture, "split": "train"}
    return row("pairs", pair_id=f"{capture} {driving} {target}", **clips, **starts, **labels, **known)


class Bare(Dataset[int]):
    """Windows of videos, decoded to RGB and dropped: frame by frame, or all at once (`arrays`)."""

    def __init__(self, videos: list[bytes], arrays: bool) -> None:
        self.videos, self.arrays = videos, arrays

    def __getitem__(self, index: int) -> int:
        video = self.videos[index % len(self.videos)]
        frames = decode(video, stop=WINDOW) if self.arrays else window(video, FPS, range(WINDOW))
        return sum(1 for _ in frames)


def write_shards(release: Release, folder: Path, shards: int = 4) -> list[str]:
    """Write one sample per pair to tar files: the driving video and its labels, latents, text."""
    pairs = list(read_pairs(release, "train"))
    urls = []
    for k in range(shards):
        urls.append(str(folder / f"{k}.tar"))
        with webdataset.TarWriter(urls[-1]) as writer:
            for pair in pairs[k::shards]:
                [video] = release.blobs("clip_videos", "video", [pair.driving_clip_id])
                [clip] = release.rows("clips", [pair.driving_clip_id], ["track"])
                [pose] = release.rows("poses", [str(pair.pose_id)], ["joints_2d", "hand_valid"])
                latent, text = (release.blobs("latents", c, [pair.latent_id])[0] for c in ("latents", "text_embedding"))
                labels = io.BytesIO()
                np.savez(labels, track=clip["track"], joints=pose["joints_2d"], hands=pose["hand_valid"])
                parts = {"mp4": video, "labels": labels.getvalue(), "latent": latent, "text": text}
                writer.write({"__key__": pair.pair_id.replace(" ", "-"), **parts})
    return urls


def decode_sample(sample: dict[str, Any]) -> tuple[Any, ...]:
    """Decode and crop a sample of a shard."""
    with np.load(io.BytesIO(sample["labels"])) as labels:
        track, joints, hands = (labels[name][:WINDOW] for name in ("track", "joints", "hands"))
    frames = window(sample["mp4"], FPS, range(WINDOW))
    crops = driving_crops(frames, track, joints, hands, MODEL.encoder)
    latent, text = (
        np.frombuffer(sample[name], np.float16).reshape(s) for name, s in (("latent", LATENTS), ("text", TEXT))
    )
    return *crops, latent.copy(), text.copy()


def measure(release: Release, folder: Path, steps: int, rounds: int, workers: int) -> None:
    """Print samples per second of each, and the ratios round by round."""
    schedule, count = three_stages((1, steps, 1), lr=1), steps * BATCH
    processes: dict[str, Any] = {"num_workers": workers}
    if workers:
        processes["multiprocessing_context"] = "spawn"
    videos = release.blobs("clip_videos", "video", release.scan("clips", ["clip_id"])["clip_id"].to_pylist())
    urls = write_shards(release, folder)

    def batches() -> Iterator[Any]:
        data = TrainingData(release, "train", MODEL, cache_bytes=0, workers=workers)
        return data.batches(1, 1 + steps, schedule, BATCH, seed=0)

    def bare(arrays: bool) -> Iterator[Any]:
        return iter(DataLoader(Bare(videos, arrays), sampler=range(count), batch_size=None, **processes))

    def shards() -> Iterator[Any]:
        samples = webdataset.WebDataset(urls * steps, shardshuffle=100, seed=0, empty_check=False)
        made = samples.shuffle(100).map(decode_sample).batched(BATCH)
        return iter(webdataset.WebLoader(made, batch_size=None, **processes))

    def job(start: Callable[[], Iterator[Any]], items: int) -> Callable[[], None]:
        def run() -> None:
            taken = start()
            for _ in range(items):
                next(taken)

        return run

    jobs = {
        "batches": job(batches, steps),
        "decoding, streamed": job(partial(bare, False), count),
        "decoding to arrays": job(partial(bare, True), count),
        "WebDataset": job(shards, steps),
    }
    for run in jobs.values():
        run()
    seconds = in_turn(jobs, rounds)
    for name, took in seconds.items():
        print(f"{name}: {count / np.median(took):.2f} samples/s, median of {rounds}")
    for other in list(jobs)[1:]:
        shares = ratios(seconds[other], seconds["batches"])
        print(f"batches / {other}: {np.median(shares):.2f} ({min(shares):.2f} - {max(shares):.2f})")


if __name__ == "__main__":
    main()
