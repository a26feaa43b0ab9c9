"""Diffusers-style pipeline: generate a video from a reference image, a driving clip and a prompt."""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, Self, get_args

import diffusers
import numpy as np
import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils.outputs import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from numpy.typing import NDArray
from PIL.Image import Image
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from opendimo.model.backbones.interface import Generator
from opendimo.model.base_folder import part_config
from opendimo.model.controls import Control
from opendimo.model.dimo import DiMo
from opendimo.model.encoder.config import EncoderConfig
from opendimo.model.latent_geometry import LatentGeometry
from opendimo.model.pipeline.card import model_card
from opendimo.model.pipeline.folder import check_folder
from opendimo.model.pipeline.footage import DrivingInput, FindPerson, Footage, ReadVideo, open_footage
from opendimo.model.pipeline.guidance import GuidanceBranch, evaluations, guided_velocity
from opendimo.model.pipeline.pictures import OutputType, as_asked, fitted, open_image
from opendimo.model.pipeline.windows import Span, frames_of, window_weights, windows
from opendimo.model.sampling import GUIDANCE, MOTION_GUIDANCE, STEPS
from opendimo.model.signal import Signal
from opendimo.model.text import encode_prompt, load_text
from opendimo.model.vae import VAE, decode, encode, in_tiles, load_vae

logger = logging.getLogger(__name__)

OnStepEnd = Callable[["DiMoPipeline", int, Tensor, dict[str, Tensor]], dict[str, Tensor]]


@dataclass
class DiMoOutput(BaseOutput):
    """`frames` of one video and their rate `fps` (frames per second). `frames` are float32 [1, T, H, W, 3] (np) or
    [1, T, 3, H, W] (pt) in [0, 1], a list of one list of images (pil), or normalised latents [1, C, L, h, w]."""

    frames: NDArray[np.float32] | Tensor | list[list[Image]]
    fps: Fraction


class DiMoPipeline(DiffusionPipeline):
    """3DiMo inference with any control and generator.

    `save_pretrained` writes the diffusers layout (model_index.json and safetensors), a model card and, if the pipeline
    has training metadata, `training.json`. The config holds the training window: `num_frames` frames, every
    `frame_step`-th of a clip, about `fps` frames per second, of `height` x `width` pixels.
    """

    model_cpu_offload_seq = "text_encoder->control->transformer->vae"  # type: ignore[assignment]
    _callback_tensor_inputs = ["latents", "reference_latents"]  # noqa: RUF012  # as in all pipelines of diffusers

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        text_encoder: PreTrainedModel,
        vae: VAE,
        transformer: Generator,
        control: Control,
        scheduler: SchedulerMixin,
        num_frames: int = 121,
        frame_step: int = 1,
        fps: float | None = None,
        height: int = 480,
        width: int = 832,
        training: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(
            tokenizer=tokenizer,
            text_encoder=text_encoder,
            vae=in_tiles(vae),
            transformer=transformer,
            control=control,
            scheduler=scheduler,
        )
        self.register_to_config(
            num_frames=num_frames, frame_step=frame_step, fps=fps, height=height, width=width, training=training
        )

    @classmethod
    def from_base(cls, base_dir: Path, dimo: DiMo, **config: Any) -> Self:
        """Build a pipeline from a trained model and the tokenizer, text encoder, VAE and scheduler of its base model.

        `config`: the training window and `training` metadata. Puts the model into evaluation mode.
        """
        tokenizer, text_encoder = load_text(base_dir)
        kind = part_config(base_dir, "scheduler")["_class_name"]
        return cls(
            tokenizer=tokenizer,
            text_encoder=text_encoder,
            vae=load_vae(base_dir),
            transformer=dimo.transformer.eval(),
            control=dimo.control.eval(),
            scheduler=getattr(diffusers, kind).from_pretrained(Path(base_dir) / "scheduler"),
            **config,
        )

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | PathLike[str], **kwargs: Any) -> Self:
        """Load as in diffusers. Raises `ValueError` if a local folder lacks a part or its weights."""
        if Path(pretrained_model_name_or_path).is_dir():
            check_folder(Path(pretrained_model_name_or_path))
        return super().from_pretrained(pretrained_model_name_or_path, **kwargs)

    @classmethod
    def load_config(cls, *args: Any, **kwargs: Any) -> Any:
        """Load as in diffusers. Also supports pipelines that were saved before packages were named `opendimo.*`."""
        loaded = super().load_config(*args, **kwargs)
        config = loaded[0] if isinstance(loaded, tuple) else loaded
        for part in config.values():
            if isinstance(part, list) and part and str(part[0]).startswith("model."):
                part[0] = f"opendimo.{part[0]}"
        return loaded

    def save_pretrained(self, save_directory: str | PathLike[str], **kwargs: Any) -> None:  # type: ignore[override]
        """Save as in diffusers, plus a model card README.md and, if there is training metadata, training.json."""
        super().save_pretrained(save_directory, **kwargs)
        names = type(self.transformer).__name__, type(self.control).__name__
        (Path(save_directory) / "README.md").write_text(model_card(self.config, *names))
        if self.config["training"]:
            facts = json.dumps(self.config["training"], indent=1, sort_keys=True)
            (Path(save_directory) / "training.json").write_text(facts)

    @torch.no_grad()
    def __call__(
        self,
        reference: Image | str | Path,
        driving: DrivingInput,
        prompt: str,
        negative_prompt: str | None = None,
        num_frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int = STEPS,
        guidance_scale: float = GUIDANCE,
        motion_guidance_scale: float = MOTION_GUIDANCE,
        generator: torch.Generator | None = None,
        latents: Tensor | None = None,
        *,
        guidance_in_sequence: bool = False,
        window_overlap: int | None = None,
        fps: Fraction | float = 24,
        find_person: FindPerson | None = None,
        read_video: ReadVideo | None = None,
        callback_on_step_end: OnStepEnd | None = None,
        callback_on_step_end_tensor_inputs: tuple[str, ...] = ("latents",),
        output_type: OutputType = "np",
        return_dict: bool = True,
    ) -> DiMoOutput | tuple[Any]:
        """Generate one video of `num_frames` frames. Length and size default to those of training.

        Args:
            reference: image of the person and the scene; centre-cropped to the aspect ratio of the video.
            driving: a video file, sampled at the frame rate of training as closely as taking every n-th frame allows
                (every `frame_step`-th frame if that rate is unknown); or a list of images, an array [T, H, W, 3] of
                uint8, or a tensor [T, 3, H, W] in [0, 1], used frame by frame; or a `Driving`.
            prompt: camera motion and content.
            negative_prompt: text to guide away from; default: the empty prompt, as used for dropped texts in training.
            num_frames: 4 k + 1. Videos longer than in training use overlapping windows (`prefix` reference only).
            guidance_scale: classifier-free guidance scale for the text; 1 disables it.
            motion_guidance_scale: classifier-free guidance scale for the motion; 1 disables it. Each scale other than
                1 costs one more evaluation per step.
            latents: initial noise [1, C, L, h, w]; default: drawn from `generator`.
            guidance_in_sequence: run the guidance evaluations one after another rather than batched, to save memory.
            window_overlap: minimum overlap of neighbouring windows in latent frames; default: a third of a window.
            fps: frames per second of a driving clip that is not a file.
            find_person, read_video: default: those of `pipelines.driving`, if opendimo is installed.
            callback_on_step_end: called as (pipeline, step, timestep, tensors) after each step, with the tensors named
                in `callback_on_step_end_tensor_inputs` (latents, reference_latents); those that it returns replace
                the current ones. diffusers' `PipelineCallback` is not supported: prompts and adapters are fixed here.

        Raises `ValueError` for sizes and lengths that the model does not support, unusable images and videos, fewer
        than one step, or an unknown output type.
        """
        num_frames, height, width = (
            self.config[name] if given is None else given
            for name, given in (("num_frames", num_frames), ("height", height), ("width", width))
        )
        if unknown := set(callback_on_step_end_tensor_inputs) - set(self._callback_tensor_inputs):
            raise ValueError(f"callbacks can receive {self._callback_tensor_inputs}, not {sorted(unknown)}")
        if output_type not in (kinds := get_args(OutputType)):
            raise ValueError(f"output_type is {output_type!r}: take one of {', '.join(kinds)}")
        if num_inference_steps < 1:
            raise ValueError(f"num_inference_steps is {num_inference_steps}: take 1 or more")
        spans = self._spans(num_frames, height, width, window_overlap)
        picture = fitted(open_image(reference), height, width)
        footage = open_footage(
            driving,
            num_frames,
            fps=Fraction(fps).limit_denominator(1001),
            frame_step=self.config["frame_step"],
            rate=self.config["fps"],
            encoder=EncoderConfig(**self.control.config.get("encoder", {})),
            size=(width, height),
            poses=self.control.reads_poses,
            read_video=read_video,
            find_person=find_person,
        )
        device, dtype = self._execution_device, self.transformer.dtype

        text = self.encode_prompt(prompt)  # [n, D]
        no_text = self.encode_prompt(negative_prompt or "")
        clean = encode(self.vae, picture.to(device)).to(dtype)  # [1, C, 1, h, w]
        shape = (1, clean.shape[1], spans[-1][1], *clean.shape[3:])
        if latents is None:
            latents = randn_tensor(shape, generator, device, torch.float32)
        elif latents.shape != shape:
            raise ValueError(f"latents must have shape {list(shape)}, not {list(latents.shape)}")
        latents = latents.to(device, torch.float32)

        branches = [
            evaluations(
                text,
                no_text,
                partial(self._control_signal, footage, span, latents),
                text_scale=guidance_scale,
                motion_scale=motion_guidance_scale,
                in_sequence=guidance_in_sequence,
            )
            for span in spans
        ]
        on_step_end = partial(self._called_back, callback_on_step_end, callback_on_step_end_tensor_inputs)
        latents = self._denoise(latents, clean, spans, branches, num_inference_steps, on_step_end)

        frames = latents if output_type == "latent" else as_asked(decode(self.vae, latents), output_type)
        self.maybe_free_model_hooks()
        return DiMoOutput(frames, footage.fps) if return_dict else (frames,)

    def encode_prompt(self, prompt: str) -> Tensor:
        """Return embeddings [n, D] of a prompt's tokens. Logs a warning if the prompt is too long and was truncated."""
        text = encode_prompt(self.tokenizer, self.text_encoder, prompt, self._execution_device)
        if text.was_cut:
            logger.warning("the prompt is too long: only its first %d tokens are used", len(text.embedding))
        return text.embedding.to(self._execution_device, self.transformer.dtype)

    def _denoise(
        self,
        latents: Tensor,
        clean: Tensor,
        spans: list[Span],
        branches: list[list[GuidanceBranch]],
        steps: int,
        on_step_end: Callable[[int, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]],
    ) -> Tensor:
        """Denoise latents [1, C, L, h, w]; `branches` per window, `clean` [1, C, 1, h, w] latents of the reference."""
        weights = [weight.to(latents.device).view(-1, 1, 1) for weight in window_weights(spans)]
        # evenly spaced sigmas; the scheduler applies its shift once
        self.scheduler.set_timesteps(sigmas=np.linspace(1, 0, steps + 1)[:-1], device=latents.device)
        with self.progress_bar(total=steps) as bar:
            for step, t in enumerate(self.scheduler.timesteps):
                velocity = torch.zeros_like(latents)
                for (start, stop), weight, window in zip(spans, weights, branches, strict=True):
                    part = latents[:, :, start:stop].to(clean.dtype)
                    velocity[:, :, start:stop] += weight * guided_velocity(self.transformer, part, t, clean, window)
                latents = self.scheduler.step(velocity, t, latents, return_dict=False)[0]
                if self.transformer.first_frame_is_given:
                    latents[:, :, :1] = clean
                latents, clean = on_step_end(step, t, latents, clean)
                bar.update()
        return latents

    def _control_signal(self, footage: Footage, span: Span, latents: Tensor, present: bool) -> Signal:
        """Return the control's signal for one window of latent frames; `present` False: without motion."""
        driving = footage.window(frames_of(span, self.transformer.temporal_stride)).to(self._execution_device)
        pictures = {"body": driving.body.to(self.control.dtype), "hands": driving.hands.to(self.control.dtype)}
        grid = self.transformer.grid(latents[:, :, slice(*span)])
        given = torch.tensor([present], device=latents.device)
        signal = self.control(replace(driving, **pictures), given, grid)
        motion, dtype = signal.motion, self.transformer.dtype
        if motion is not None:
            motion = motion._replace(tokens=motion.tokens.to(dtype))
        return Signal(motion, tuple(addition.to(dtype) for addition in signal.additions))

    def _called_back(
        self,
        callback: OnStepEnd | None,
        names: tuple[str, ...],
        step: int,
        t: Tensor,
        latents: Tensor,
        clean: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Run the callback and return the latents and the reference's latents, replaced by those that it returns."""
        if callback is None:
            return latents, clean
        tensors = {"latents": latents, "reference_latents": clean}
        changed = callback(self, step, t, {name: tensors[name] for name in names})
        return changed.get("latents", latents), changed.get("reference_latents", clean)

    def _spans(self, num_frames: int, height: int, width: int, overlap: int | None) -> list[Span]:
        """Return windows of latent frames that cover a video, none longer than in training. Raises `ValueError` for
        unsupported sizes and lengths."""
        geometry, trained = LatentGeometry.of(self.vae, self.transformer), self.config["num_frames"]
        length, *_ = geometry.latent_shape(num_frames, height, width)
        size, *_ = geometry.latent_shape(trained, height, width)
        if length > size and self.transformer.config["reference"] != "prefix":
            raise ValueError(
                f"num_frames is {num_frames}, more than the {trained} of training, and the reference is frame 0: "
                "ask for fewer, or train with reference 'prefix'"
            )
        return windows(length, size, max(1, size // 3) if overlap is None else overlap)
