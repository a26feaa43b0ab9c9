"""One video from a trained pipeline: a person from an image, motion from a driving video, the camera from text."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from model.pipeline import DiMoOutput, DiMoPipeline
from model.pipeline.footage import DrivingInput, FindPerson, ReadVideo
from model.pipeline.pictures import open_image
from storage_schemas.video import encode


@dataclass(frozen=True)
class Sampling:
    """How to sample, as `DiMoPipeline` names it; `num_frames` None: as many as in training."""

    num_inference_steps: int = 30
    guidance_scale: float = 3.0
    motion_guidance_scale: float = 2.0
    num_frames: int | None = None


def find_pipeline(checkpoint: str | Path) -> Path:
    """The pipeline folder of a training output, or the folder itself. Raises `ValueError` where there is none."""
    for folder in (Path(checkpoint), Path(checkpoint) / "pipeline"):
        if (folder / "model_index.json").is_file():
            return folder
    raise ValueError(f"no pipeline in {checkpoint}: train to the end of the last stage first")


def generate(
    checkpoint: str | Path,
    reference: str | Path,
    driving: DrivingInput,
    prompt: str,
    out: str | Path,
    sampling: Sampling | None = None,
    *,
    seed: int = 0,
    find_person: FindPerson | None = None,
    read_video: ReadVideo | None = None,
) -> Path:
    """Write an MP4 in which the person of `reference` moves as the driving person does; return its path.

    `driving`, `find_person` and `read_video` are as `DiMoPipeline` takes them. Raises `ValueError` as it does.
    """
    image = open_image(reference)
    pipeline = DiMoPipeline.from_pretrained(find_pipeline(checkpoint))
    pipeline.to("cuda" if torch.cuda.is_available() else "cpu")
    pipeline.set_progress_bar_config(disable=True)
    made = pipeline(
        image,
        driving,
        prompt,
        **asdict(sampling or Sampling()),
        generator=torch.Generator().manual_seed(seed),
        find_person=find_person,
        read_video=read_video,
        output_type="np",
    )
    assert isinstance(made, DiMoOutput)
    frames = np.asarray(made.frames)[0]  # [T, H, W, 3] in [0, 1]
    Path(out).write_bytes(encode((255 * frames).round().astype(np.uint8), made.fps))
    return Path(out)
