"""Generate a video with a trained pipeline: person from an image, motion from a driving video, camera from a prompt."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL.Image import Image

from opendimo.model.multiview.paths import CameraPaths
from opendimo.model.pipeline import DiMoOutput, DiMoPipeline
from opendimo.model.pipeline.footage import DrivingInput, FindPerson, ReadVideo
from opendimo.model.pipeline.multiview import MultiViewOutput, MultiViewPipeline
from opendimo.model.pipeline.pictures import open_image
from opendimo.model.sampling import GUIDANCE, MOTION_GUIDANCE, STEPS
from opendimo.storage_schemas.media.video import encode
from opendimo.training.pipeline_folder import find_pipeline

Precision = Literal["bfloat16", "float32"]


@dataclass(frozen=True)
class Sampling:
    """Sampling arguments of `DiMoPipeline`; with `num_frames` None it generates as many frames as in training."""

    num_inference_steps: int = STEPS
    guidance_scale: float = GUIDANCE
    motion_guidance_scale: float = MOTION_GUIDANCE
    num_frames: int | None = None
    guidance_in_sequence: bool = False


def usual_precision() -> Precision:
    """Return "bfloat16" if PyTorch sees a GPU, else "float32"."""
    return "bfloat16" if torch.cuda.is_available() else "float32"


@dataclass(frozen=True)
class Placing:
    """Precision and device placement of a pipeline.

    `precision`: of all parts except the VAE, which is always float32. `offload`: keep each part on the GPU only while
    it runs, which takes less GPU memory.
    """

    precision: Precision = field(default_factory=usual_precision)
    offload: bool = False


def load_pipeline(folder: Path, placing: Placing) -> DiMoPipeline:
    """Load the pipeline, onto a GPU if PyTorch sees one. Raises `ValueError` for `offload` without a GPU."""
    gpu = torch.cuda.is_available()
    if placing.offload and not gpu:
        raise ValueError("offload needs a GPU and PyTorch sees none: generate without offload")
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
    start: float | None = None,
    on_step: Callable[[], None] = lambda: None,
    find_person: FindPerson | None = None,
    read_video: ReadVideo | None = None,
) -> Path:
    """Write an MP4 in which the person of the `reference` image repeats the motion of `driving`; return its path.

    `on_step` is called after each denoising step. `driving`, `start`, `find_person` and `read_video` are passed to
    `DiMoPipeline`. Raises the `ValueError`s of `find_pipeline`, `load_pipeline` and `DiMoPipeline`.
    """
    image = open_image(reference)
    pipeline = load_pipeline(find_pipeline(checkpoint), placing or Placing())
    plugins = {"start": start, "find_person": find_person, "read_video": read_video}
    frames, fps = sample(pipeline, image, driving, prompt, sampling, seed=seed, on_step=on_step, **plugins)
    Path(out).write_bytes(encode(frames, fps))
    return Path(out)


@dataclass(frozen=True)
class Views:
    """Videos of several cameras: `frames` [V, T, H, W, 3] RGB at `fps`, `cameras` [V, T or 1, 3, 4] relative to the
    driver's, and their intrinsics `K` [3, 3] in pixels."""

    frames: NDArray[np.uint8]
    fps: Fraction
    cameras: NDArray[np.float64]
    K: NDArray[np.float64]


def generate_views(
    checkpoint: str | Path,
    reference: str | Path,
    driving: DrivingInput,
    cameras: CameraPaths,
    prompt: str,
    sampling: Sampling | None = None,
    *,
    placing: Placing | None = None,
    seed: int = 0,
    start: float | None = None,
    on_step: Callable[[], None] = lambda: None,
    find_person: FindPerson | None = None,
    read_video: ReadVideo | None = None,
) -> Views:
    """Generate what several cameras see of the person of the `reference` image with the motion of `driving`.

    Arguments and errors are those of `generate`; besides, raises the `ValueError` of `MultiViewPipeline.of`.
    """
    image = open_image(reference)
    pipeline = MultiViewPipeline.of(load_pipeline(find_pipeline(checkpoint), placing or Placing()))
    plugins = {"start": start, "find_person": find_person, "read_video": read_video}
    output = _sampled(
        pipeline, image, driving, prompt, sampling, seed=seed, on_step=on_step, cameras=cameras, **plugins
    )
    assert isinstance(output, MultiViewOutput) and output.cameras is not None and output.K is not None
    frames = (255 * np.asarray(output.frames)).round().astype(np.uint8)
    height, width = frames.shape[2:4]
    K = np.diag([width, height, 1.0]) @ output.K.double().cpu().numpy()
    return Views(frames, output.fps, np.asarray(output.cameras, np.float64)[:, : frames.shape[1]], K)


def sample(
    pipeline: DiMoPipeline,
    reference: Image,
    driving: DrivingInput,
    prompt: str,
    sampling: Sampling | None = None,
    *,
    seed: int = 0,
    on_step: Callable[[], None] = lambda: None,
    **arguments: Any,
) -> tuple[NDArray[np.uint8], Fraction]:
    """Return RGB frames [T, H, W, 3] of one video, and its frame rate. `arguments`: more arguments of the pipeline."""
    output = _sampled(pipeline, reference, driving, prompt, sampling, seed=seed, on_step=on_step, **arguments)
    frames = np.asarray(output.frames)[0]  # [T, H, W, 3] in [0, 1]
    return (255 * frames).round().astype(np.uint8), output.fps


def _sampled(
    pipeline: DiMoPipeline,
    reference: Image,
    driving: DrivingInput,
    prompt: str,
    sampling: Sampling | None,
    *,
    seed: int,
    on_step: Callable[[], None],
    **arguments: Any,
) -> DiMoOutput:
    pipeline.set_progress_bar_config(disable=True)  # progress is reported by `on_step`

    def step_done(*_: Any) -> dict[str, torch.Tensor]:
        on_step()
        return {}

    output = pipeline(
        reference,
        driving,
        prompt=prompt,
        **asdict(sampling or Sampling()) | arguments,
        generator=torch.Generator().manual_seed(seed),
        callback_on_step_end=step_done,
        output_type="np",
    )
    assert isinstance(output, DiMoOutput)
    return output
