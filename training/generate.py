"""One video from a trained pipeline: a person from an image, motion from driving frames, the camera from text."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from model.driving import body_crops, hand_crops
from model.pipeline import DiMoPipeline
from storage_schemas.video import encode
from training.export import read_facts


@dataclass(frozen=True)
class Driver:
    """A driving video of N frames and what was found in it, as in the tables `clips` and `poses`."""

    frames: NDArray[np.uint8]  # [N, H, W, 3] RGB
    track: NDArray[np.floating]  # [N, 4] pixels, NaN where unseen
    joints_2d: NDArray[np.floating]  # [N, 52, 3] x, y, confidence
    hand_valid: NDArray[np.floating]  # [N, 2] 1 where the hand may be used


def find_pipeline(checkpoint: str | Path) -> Path:
    """The pipeline folder of a training output, or the folder itself. Raises `ValueError` where there is none."""
    for folder in (Path(checkpoint), Path(checkpoint) / "pipeline"):
        if (folder / "model_index.json").is_file():
            return folder
    raise ValueError(f"no pipeline in {checkpoint}: train to the end of the last stage first")


def generate(
    checkpoint: str | Path,
    reference: str | Path,
    driver: Driver,
    prompt: str,
    out: str | Path,
    *,
    fps: Fraction = Fraction(15),
    start: int = 0,
    steps: int = 30,
    guidance_scale: float = 3.0,
    motion_guidance_scale: float = 2.0,
    seed: int = 0,
) -> Path:
    """Write an MP4 in which the person of `reference` moves as the driving person does; return its path.

    The window read from the driving video begins at `start` and has the length and step the model was trained on;
    `fps` is the rate of the video written. Raises `ValueError` where the driving video is too short or shows nobody.
    """
    folder = find_pipeline(checkpoint)
    window = read_facts(folder)["window"]
    chosen = start + window["frame_step"] * np.arange(window["num_frames"])
    if chosen[-1] >= len(driver.frames):
        raise ValueError(
            f"the driving video has {len(driver.frames)} frames; a window from {start} needs {chosen[-1] + 1}"
        )
    pipeline = DiMoPipeline.from_pretrained(folder).to("cuda" if torch.cuda.is_available() else "cpu")
    pipeline.set_progress_bar_config(disable=True)
    sizes = pipeline.motion_encoder.config
    frames = driver.frames[chosen]
    hands, hand_ok = hand_crops(frames, driver.joints_2d[chosen], driver.hand_valid[chosen], sizes["hand_size"])
    video = pipeline(
        Image.open(reference),
        body_crops(frames, driver.track[chosen], sizes["body_size"]),
        hands,
        hand_ok,
        prompt,
        num_frames=window["num_frames"],
        height=window["height"],
        width=window["width"],
        num_inference_steps=steps,
        guidance_scale=guidance_scale,
        motion_guidance_scale=motion_guidance_scale,
        generator=torch.Generator().manual_seed(seed),
        output_type="np",
    )
    Path(out).write_bytes(encode(cast(NDArray[np.uint8], video), fps))
    return Path(out)
