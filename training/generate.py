"""One video from a trained pipeline: a person from an image, motion from a driving video, the camera from text."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL.Image import Image

from opendimo.model.pipeline import DiMoOutput, DiMoPipeline
from opendimo.model.pipeline.footage import DrivingInput, FindPerson, ReadVideo
from opendimo.model.pipeline.pictures import open_image
from opendimo.model.sampling import GUIDANCE, MOTION_GUIDANCE, STEPS
from opendimo.storage_schemas.media.video import encode

Precision = Literal["bfloat16", "float32"]


@dataclass(frozen=True)
class Sampling:
    """How to sample, as `DiMoPipeline` names it; `num_frames` None: as many as in training."""

    num_inference_steps: int = STEPS
    guidance_scale: float = GUIDANCE
    motion_guidance_scale: float = MOTION_GUIDANCE
    num_frames: int | None = None
    guidance_in_sequence: bool = False


def usual_precision() -> Precision:
    """bfloat16 on a GPU, float32 without one."""
    return "bfloat16" if torch.cuda.is_available() else "float32"


@dataclass(frozen=True)
class Placing:
    """`precision` of all parts but the VAE, which is float32 always; `offload`: a part is on the GPU only while it
    runs, which takes less memory."""

    precision: Precision = field(default_factory=usual_precision)
    offload: bool = False


def find_pipeline(checkpoint: str | Path) -> Path:
    """The pipeline folder of a training output, or the folder itself. Raises `ValueError` where there is none."""
    for folder in (Path(checkpoint), Path(checkpoint) / "pipeline"):
        if (folder / "model_index.json").is_file():
            return folder
    raise ValueError(f"no pipeline in {checkpoint}: train to the end of the last stage first")


def load_pipeline(folder: Path, placing: Placing) -> DiMoPipeline:
    """The pipeline on a GPU where there is one. Raises `ValueError` for offloading where there is none."""
    gpu = torch.cuda.is_available()
    if placing.offload and not gpu:
        raise ValueError("PyTorch sees no GPU to offload from: generate without offload")
    precisions = {"default": getattr(torch, placing.precision), "vae": torch.float32}
    pipeline = DiMoPipeline.from_pretrained(folder, dtype=precisions)
    if placing.offload:
        pipeline.enable_model_cpu_offload()
    else:
        pipeline.to("cuda" if gpu else "cpu")
    return pipeline


def generate(
    checkpoint: str | Path,
    reference: str | Path,
    driving: DrivingInput,
    prompt: str,
    out: str | Path,
    sampling: Sampling | None = None,
    *,
    placing: Placing | None = None,
    seed: int = 0,
    on_step: Callable[[], None] = lambda: None,
    find_person: FindPerson | None = None,
    read_video: ReadVideo | None = None,
) -> Path:
    """Write an MP4 in which the person of `reference` moves as the driving person does; return its path.

    `on_step` is called after each step. `driving`, `find_person` and `read_video` are as `DiMoPipeline` takes them.
    Raises `ValueError` as it and `load_pipeline` do.
    """
    image = open_image(reference)
    pipeline = load_pipeline(find_pipeline(checkpoint), placing or Placing())
    given = {"find_person": find_person, "read_video": read_video}
    frames, fps = sample(pipeline, image, driving, prompt, sampling, seed=seed, on_step=on_step, **given)
    Path(out).write_bytes(encode(frames, fps))
    return Path(out)


def sample(
    pipeline: DiMoPipeline,
    reference: Image,
    driving: DrivingInput,
    prompt: str,
    sampling: Sampling | None = None,
    *,
    seed: int = 0,
    on_step: Callable[[], None] = lambda: None,
    **given: Any,
) -> tuple[NDArray[np.uint8], Fraction]:
    """Frames [T, H, W, 3] RGB of one video, and how many are a second. `given`: further arguments of the pipeline."""
    pipeline.set_progress_bar_config(disable=True)  # `on_step` is there

    def step_done(*_: Any) -> dict[str, torch.Tensor]:
        on_step()
        return {}

    made = pipeline(
        reference,
        driving,
        prompt,
        **asdict(sampling or Sampling()) | given,
        generator=torch.Generator().manual_seed(seed),
        callback_on_step_end=step_done,
        output_type="np",
    )
    assert isinstance(made, DiMoOutput)
    frames = np.asarray(made.frames)[0]  # [T, H, W, 3] in [0, 1]
    return (255 * frames).round().astype(np.uint8), made.fps
