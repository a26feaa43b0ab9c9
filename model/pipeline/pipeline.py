"""Diffusers-style pipeline: generate a video from a reference image, a driving clip and a prompt."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache, partial
from pathlib import Path
from typing import Any, Self, get_args

import diffusers
import numpy as np
import torch
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils.outputs import BaseOutput
from numpy.typing import NDArray
from PIL.Image import Image
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from opendimo.model.backbones.interface import Generator
from opendimo.model.base_folder import part_config
from opendimo.model.batch import Driving
from opendimo.model.controls import Control
from opendimo.model.dimo import DiMo, with_cameras
from opendimo.model.encoder.config import EncoderConfig
from opendimo.model.latent_geometry import LatentGeometry
from opendimo.model.multiview.cameras import in_view_of_driver
from opendimo.model.pipeline.calls import CallState, check_callback, check_numbers, initial_latents
from opendimo.model.pipeline.folder import SavedPipeline
from opendimo.model.pipeline.footage import DrivingInput, FindPerson, Footage, ReadVideo, open_footage, scale_of
from opendimo.model.pipeline.guidance import evaluations, guided_velocity
from opendimo.model.pipeline.lora import LoraLoaderMixin
from opendimo.model.pipeline.pictures import OutputType, as_asked, fitted, open_image
from opendimo.model.pipeline.prompts import PromptEncoder, Prompts, check_prompts, for_each_video
from opendimo.model.pipeline.windows import GridWindow, Span, Window, frames_of, grid_windows
from opendimo.model.sampling import GUIDANCE, MOTION_GUIDANCE, STEPS
from opendimo.model.signal import Signal
from opendimo.model.text import load_text
from opendimo.model.vae import VAE, decode, encode, in_tiles, load_vae

OnStepEnd = Callable[["DiMoPipeline", int, Tensor, dict[str, Tensor]], dict[str, Tensor]]


@dataclass
class DiMoOutput(BaseOutput):
    """`frames` of V videos and their rate `fps` (frames per second). `frames` are float32 [V, T, H, W, 3] (np) or
    [V, T, 3, H, W] (pt) in [0, 1], a list of V lists of images (pil), or normalised latents [V, C, L, h, w].

    `start`: seconds of the driving clip at which its motion begins. `scale`: size of the person in the driving clip
    relative to the one in the reference, as far as both can be measured."""

    frames: NDArray[np.float32] | Tensor | list[list[Image]]
    fps: Fraction
    start: float = 0.0
    scale: float | None = None


class DiMoPipeline(LoraLoaderMixin, PromptEncoder, CallState, SavedPipeline):
    """3DiMo inference with any control and generator.

    `save_pretrained` writes the diffusers layout (model_index.json and safetensors), a model card and, if the pipeline
    has training metadata, `training.json`. The config holds the training window: `num_frames` frames, every
    `frame_step`-th of a clip, about `fps` frames per second, of `height` x `width` pixels.
    """

    _videos_at_once: int | None = None
    """Videos that are denoised together; None: all."""
    model_cpu_offload_seq = "text_encoder->control->transformer->vae"  # type: ignore[assignment]
    _callback_tensor_inputs = ["latents", "reference_latents", "prompt_embeds", "negative_prompt_embeds"]  # noqa: RUF012

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

    @torch.no_grad()
    def __call__(
        self,
        reference: Image | str | Path,
        driving: DrivingInput,
        prompt: str | list[str] | None = None,
        negative_prompt: str | list[str] | None = None,
        num_frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int = STEPS,
        guidance_scale: float = GUIDANCE,
        motion_guidance_scale: float = MOTION_GUIDANCE,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: Tensor | None = None,
        *,
        num_videos_per_prompt: int = 1,
        prompt_embeds: Tensor | None = None,
        prompt_embeds_mask: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        negative_prompt_embeds_mask: Tensor | None = None,
        attention_kwargs: dict[str, Any] | None = None,
        guidance_in_sequence: bool = False,
        window_overlap: int | None = None,
        fps: Fraction | float = 24,
        start: float | None = None,
        find_person: FindPerson | None = None,
        read_video: ReadVideo | None = None,
        callback_on_step_end: OnStepEnd | PipelineCallback | MultiPipelineCallbacks | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        output_type: OutputType = "np",
        return_dict: bool = True,
    ) -> DiMoOutput | tuple[Any]:
        """Generate videos of `num_frames` frames. Length and size default to those of training.

        Args:
            reference: image of the person and the scene; centre-cropped to the aspect ratio of the video.
            driving: a video file, sampled at the frame rate of training as closely as taking every n-th frame allows
                (every `frame_step`-th frame if that rate is unknown); or a list of images, an array [T, H, W, 3] of
                uint8, or a tensor [T, 3, H, W] in [0, 1], used frame by frame; or a `Driving`.
            prompt: camera motion and content. Several prompts share the reference and the driving clip.
            negative_prompt: text to guide away from, one for all prompts or one for each; default: the empty prompt, as
                used for dropped texts in training.
            num_frames: 4 k + 1. Videos longer than in training use overlapping windows (`prefix` reference only).
            guidance_scale: classifier-free guidance scale for the text; 1 disables it.
            motion_guidance_scale: classifier-free guidance scale for the motion; 1 disables it. Each scale other than
                1 costs one more evaluation per step.
            generator: one for all videos or one for each.
            latents: initial noise [V, C, L, h, w] of all V videos; default: drawn from `generator`.
            num_videos_per_prompt: the videos of a prompt follow each other.
            prompt_embeds, prompt_embeds_mask, negative_prompt_embeds, negative_prompt_embeds_mask: what `encode_prompt`
                returns, instead of texts; without a mask nothing is padding.
            attention_kwargs: `scale`, the strength of a LoRA.
            guidance_in_sequence: run the guidance evaluations one after another rather than batched, to save memory.
            window_overlap: minimum overlap of neighbouring windows in latent frames; default: a third of a window.
            fps: frames per second of a driving clip that is not a file.
            start: where the motion begins in the driving clip, in seconds; default: where a person is seen first, as
                far as enough frames follow. The output says where that is.
            find_person, read_video: default: those of `pipelines.driving`, if opendimo is installed.
            callback_on_step_end: called as (pipeline, step, timestep, tensors) after each step, with the tensors named
                in `callback_on_step_end_tensor_inputs` or by a `PipelineCallback` itself (latents, reference_latents,
                prompt_embeds, negative_prompt_embeds); those that it returns replace the current ones. It may set
                `pipeline._guidance_scale`, `_motion_guidance_scale` and `_interrupt`.

        Raises `ValueError` for sizes and lengths that the model does not support, unusable images and videos, missing
        or contradictory prompts, fewer than one step or video, or an unknown output type.
        """
        num_frames, height, width = (
            self.config[name] if given is None else given
            for name, given in (("num_frames", num_frames), ("height", height), ("width", width))
        )
        if isinstance(callback_on_step_end, (PipelineCallback, MultiPipelineCallbacks)):
            callback_on_step_end_tensor_inputs = callback_on_step_end.tensor_inputs
        check_callback(callback_on_step_end, callback_on_step_end_tensor_inputs, self._callback_tensor_inputs)
        check_prompts(prompt, prompt_embeds)
        if negative_prompt is None and negative_prompt_embeds is None:
            negative_prompt = ""
        check_prompts(negative_prompt, negative_prompt_embeds, "negative_prompt")
        if output_type not in (kinds := get_args(OutputType)):
            raise ValueError(f"output_type is {output_type!r}: take one of {', '.join(kinds)}")
        check_numbers(num_inference_steps=num_inference_steps, num_videos_per_prompt=num_videos_per_prompt)
        length, overlap, size = self._window_sizes(num_frames, height, width, window_overlap)
        image = open_image(reference)
        picture = fitted(image, height, width)
        footage = open_footage(
            driving,
            num_frames,
            start=start,
            fps=Fraction(fps).limit_denominator(1001),
            frame_step=self.config["frame_step"],
            rate=self.config["fps"],
            encoder=EncoderConfig(**self.control.config.get("encoder", {})),
            size=(width, height),
            poses=self.control.reads_poses,
            read_video=read_video,
            find_person=find_person,
        )
        scale = scale_of(footage, image, find_person)
        self._guidance_scale, self._motion_guidance_scale = guidance_scale, motion_guidance_scale
        self._attention_kwargs, self._interrupt = attention_kwargs, False
        device, dtype = self._execution_device, self.transformer.dtype

        text = self._embedded(prompt, prompt_embeds, prompt_embeds_mask)
        no_text = self._embedded(negative_prompt, negative_prompt_embeds, negative_prompt_embeds_mask)
        text, no_text = for_each_video(text, no_text, num_videos_per_prompt)
        clean = encode(self.vae, picture.to(device)).to(dtype)  # [1, C, 1, h, w]
        shape = (len(text.embeds), clean.shape[1], length, *clean.shape[3:])
        latents = initial_latents(shape, generator, latents, device)
        rounds = [
            [self._window(footage, window, latents) for window in part]
            for part in grid_windows(shape[0], length, self._videos_at_once or shape[0], size, overlap)
        ]
        tensors = {
            "latents": latents,
            "reference_latents": clean,
            "prompt_embeds": text.embeds,
            "negative_prompt_embeds": no_text.embeds,
        }
        # evenly spaced sigmas; the scheduler applies its shift once
        self.scheduler.set_timesteps(sigmas=np.linspace(1, 0, num_inference_steps + 1)[:-1], device=device)
        self._num_timesteps = len(self.scheduler.timesteps)
        with self.progress_bar(total=self.num_timesteps) as bar:
            for step, t in enumerate(self.scheduler.timesteps):
                if self.interrupt:
                    continue
                windows, masks = rounds[step % len(rounds)], (text.mask, no_text.mask)
                tensors["latents"] = self._denoised(t, tensors, masks, windows, guidance_in_sequence)
                if callback_on_step_end is not None:
                    given = {name: tensors[name] for name in callback_on_step_end_tensor_inputs}
                    tensors |= callback_on_step_end(self, step, t, given)
                bar.update()

        latents = tensors["latents"]
        frames = latents if output_type == "latent" else as_asked(decode(self.vae, latents), output_type)
        self.maybe_free_model_hooks()
        return DiMoOutput(frames, footage.fps, footage.start, scale) if return_dict else (frames,)

    def _denoised(
        self,
        t: Tensor,
        tensors: dict[str, Tensor],
        masks: tuple[Tensor, Tensor],
        windows: list[Window],
        guidance_in_sequence: bool,
    ) -> Tensor:
        """Return the latents [V, C, L, h, w] of the next step; `masks` of the prompts and of the negative prompts."""
        latents, clean = tensors["latents"], tensors["reference_latents"]
        branches = [
            evaluations(
                Prompts(tensors["prompt_embeds"][window.videos], masks[0][window.videos]),
                Prompts(tensors["negative_prompt_embeds"][window.videos], masks[1][window.videos]),
                window.signal,
                text_scale=self.guidance_scale,
                motion_scale=self.motion_guidance_scale,
                in_sequence=guidance_in_sequence,
            )
            for window in windows
        ]
        velocity = torch.zeros_like(latents)
        for (videos, (start, stop), weights, _), each in zip(windows, branches, strict=True):
            part = latents[videos, :, start:stop].to(clean.dtype)
            guided = guided_velocity(self.transformer, part, t, clean, each, self.attention_kwargs)
            velocity[videos, :, start:stop] += weights * guided
        latents = self.scheduler.step(velocity, t, latents, return_dict=False)[0]
        if self.transformer.first_frame_is_given:
            latents[:, :, :1] = clean
        return latents

    def _window(self, footage: Footage, window: GridWindow, latents: Tensor) -> Window:
        videos, span, weights = window
        signal = cache(partial(self._control_signal, footage, videos, span, latents))
        return Window(videos, span, weights.to(latents.device)[:, None, :, None, None], signal)

    def _driving(self, footage: Footage, videos: list[int], frames: slice) -> Driving:
        """Return the driving inputs of a window of some videos: one sample [1, T, ...] for all, or one for each."""
        return in_view_of_driver(footage.window(frames))

    def _control_signal(
        self, footage: Footage, videos: list[int], span: Span, latents: Tensor, present: bool
    ) -> Signal:
        """Return the control's signal for one window of latent frames; `present` False: without motion."""
        frames = frames_of(span, self.transformer.temporal_stride)
        driving = self._driving(footage, videos, frames).to(self._execution_device)
        pictures = {"body": driving.body.to(self.control.dtype), "hands": driving.hands.to(self.control.dtype)}
        grid = self.transformer.grid(latents[:, :, slice(*span)])
        given = torch.full((len(driving.body),), present, device=latents.device)
        signal = self.control(driving := replace(driving, **pictures), given, grid)
        signal = with_cameras(signal, self.transformer, driving, grid, len(driving.body))
        return signal.for_generator(self.transformer.dtype)

    def _window_sizes(self, num_frames: int, height: int, width: int, overlap: int | None) -> tuple[int, int, int]:
        """Return latent frames of a video, of the overlap of windows, and of a window, which is not longer than in
        training. Raises `ValueError` for unsupported sizes and lengths."""
        geometry, trained = LatentGeometry.of(self.vae, self.transformer), self.config["num_frames"]
        length, *_ = geometry.latent_shape(num_frames, height, width)
        size, *_ = geometry.latent_shape(trained, height, width)
        if length > size and self.transformer.config["reference"] != "prefix":
            raise ValueError(
                f"num_frames is {num_frames}, more than the {trained} of training, and the reference is frame 0: "
                "ask for fewer, or train with reference 'prefix'"
            )
        return length, max(1, size // 3) if overlap is None else overlap, size
