"""Generation: a reference image, a driving clip and a prompt in, a video out, in the manner of diffusers."""

import logging
from pathlib import Path
from typing import Literal, Self

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from diffusers.utils.torch_utils import randn_tensor
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn.functional import pad
from transformers import PreTrainedTokenizerBase, UMT5EncoderModel

from model.backbone import WanMotionTransformer3DModel
from model.dimo import DiMo
from model.inject import MotionTokens
from model.latents import decode, encode
from model.tokens import MotionEncoder

logger = logging.getLogger(__name__)


class DiMoPipeline(DiffusionPipeline):
    """3DiMo inference. Its folder (`save_pretrained`) has diffusers' layout: model_index.json and safetensors."""

    model_cpu_offload_seq = "text_encoder->motion_encoder->transformer->vae"  # type: ignore[assignment]

    def __init__(
        self,
        *,
        tokenizer: PreTrainedTokenizerBase,
        text_encoder: UMT5EncoderModel,
        vae: AutoencoderKLWan,
        transformer: WanMotionTransformer3DModel,
        motion_encoder: MotionEncoder,
        scheduler: FlowMatchEulerDiscreteScheduler,
    ) -> None:
        super().__init__()
        self.register_modules(
            tokenizer=tokenizer,
            text_encoder=text_encoder,
            vae=vae,
            transformer=transformer,
            motion_encoder=motion_encoder,
            scheduler=scheduler,
        )

    @classmethod
    def from_base(cls, base_dir: Path, dimo: DiMo) -> Self:
        """A trained model with the tokenizer, text encoder, VAE and scheduler of the base it was trained on."""
        base = DiffusionPipeline.from_pretrained(base_dir, transformer=dimo.transformer)
        shared = {name: base.components[name] for name in ("tokenizer", "text_encoder", "vae", "scheduler")}
        return cls(transformer=dimo.transformer, motion_encoder=dimo.motion_encoder, **shared)

    @torch.no_grad()
    def __call__(
        self,
        reference: Image.Image,
        body: Tensor,
        hands: Tensor,
        hand_ok: Tensor,
        prompt: str,
        *,
        negative_prompt: str | None = None,
        num_frames: int,
        height: int,
        width: int,
        num_inference_steps: int = 50,
        guidance_scale: float = 5.0,
        motion_guidance_scale: float = 2.0,
        generator: torch.Generator | None = None,
        output_type: Literal["np", "pil", "latent"] = "np",
    ) -> NDArray[np.uint8] | list[Image.Image] | Tensor:
        """One video of `num_frames` frames.

        Args:
            reference: the person and place to show; cropped around its centre to the aspect ratio of the video.
            body, hands, hand_ok: driving crops [T, 3, S, S], [T, 2, 3, s, s] in [0, 1] and the mask [T, 2] of
                `model/driving.py`, T = num_frames.
            prompt: camera motion and content.
            negative_prompt: what to guide away from; without it guidance compares with no text at all.
            guidance_scale, motion_guidance_scale: how far to go beyond the prediction without text and the one
                without motion; 1 is neither, and each that is not 1 costs one more evaluation a step.

        Returns uint8 [T, height, width, 3], a list of PIL images, or normalised latents [1, C, L, h, w].
        ValueError for sizes and frame counts that the VAE and the transformer cannot represent.
        """
        self._check(body, hands, hand_ok, num_frames=num_frames, height=height, width=width)
        device, dtype = self._execution_device, self.transformer.dtype

        text = self.encode_prompt(prompt)
        no_text = torch.zeros_like(text) if negative_prompt is None else self.encode_prompt(negative_prompt)
        crops = (x[None].to(device, self.motion_encoder.dtype) for x in (body, hands))
        tokens = self.motion_encoder(*crops, hand_ok[None].to(device)).to(dtype)  # [1, T, N, d]
        clean = encode(self.vae, self._pixels(reference, height, width).to(device)).to(dtype)  # [1, C, 1, h, w]

        # v = v_full + (s_text - 1) (v_full - v_without_text) + (s_motion - 1) (v_full - v_without_motion)
        passes = [
            (text, True, guidance_scale + motion_guidance_scale - 1),
            (no_text, True, 1 - guidance_scale),
            (text, False, 1 - motion_guidance_scale),
        ]
        texts, present, weights = zip(*(p for p in passes if p[2] != 0), strict=True)
        n, scales = len(weights), torch.tensor(weights, device=device)
        motion = MotionTokens(tokens.expand(n, -1, -1, -1), torch.tensor(present, device=device))

        length = (num_frames - 1) // self.vae.config["scale_factor_temporal"] + 1
        latents = randn_tensor((1, clean.shape[1], length, *clean.shape[3:]), generator, device, torch.float32)
        self.scheduler.set_timesteps(num_inference_steps, device=device)
        with self.progress_bar(total=num_inference_steps) as bar:
            for t in self.scheduler.timesteps:
                velocities = self.transformer(
                    latents.to(dtype).expand(n, -1, -1, -1, -1),
                    t.expand(n),
                    torch.cat(texts),
                    motion,
                    clean.expand(n, -1, -1, -1, -1),
                )  # [n, C, L, h, w]
                velocity = torch.einsum("n,n...->...", scales, velocities.float())[None]
                latents = self.scheduler.step(velocity, t, latents, return_dict=False)[0]
                bar.update()
        if self.transformer.config["reference"] == "first_frame":
            latents[:, :, :1] = clean

        if output_type == "latent":
            return latents
        video = decode(self.vae, latents)[0].float().permute(1, 2, 3, 0)  # [T, H, W, 3]
        frames = (255 * video).round().clamp(0, 255).to(torch.uint8).cpu().numpy()
        return frames if output_type == "np" else [Image.fromarray(frame) for frame in frames]

    def encode_prompt(self, prompt: str) -> Tensor:
        """Text embeddings [1, text_length, D], zeros after the end of the text."""
        length = self.transformer.config["text_length"]
        inputs = self.tokenizer(prompt, return_tensors="pt")
        if inputs.input_ids.shape[1] > length:
            logger.warning("the prompt has %d tokens; only %d are read", inputs.input_ids.shape[1], length)
            inputs = self.tokenizer(prompt, max_length=length, truncation=True, return_tensors="pt")
        inputs = inputs.to(self._execution_device)
        hidden = self.text_encoder(inputs.input_ids, inputs.attention_mask).last_hidden_state
        return pad(hidden, (0, 0, 0, length - hidden.shape[1])).to(self.transformer.dtype)

    def _check(self, body: Tensor, hands: Tensor, hand_ok: Tensor, *, num_frames: int, height: int, width: int) -> None:
        stride = self.vae.config["scale_factor_temporal"]
        if num_frames < 1 or num_frames % stride != 1:
            below = max(1, (num_frames - 1) // stride * stride + 1)
            raise ValueError(f"num_frames is {num_frames}, not {stride} k + 1: take {below} or {below + stride}")
        _, p_h, p_w = self.transformer.config["patch_size"]
        for name, size, patch in (("height", height, p_h), ("width", width, p_w)):
            unit = self.vae.config["scale_factor_spatial"] * patch
            if size < unit or size % unit:
                nearest = max(unit, round(size / unit) * unit)
                raise ValueError(f"{name} is {size}, not a multiple of {unit}: take {nearest}")
        encoder = self.motion_encoder.config
        for name, given, wanted in (
            ("body", body, (num_frames, 3, encoder["body_size"], encoder["body_size"])),
            ("hands", hands, (num_frames, 2, 3, encoder["hand_size"], encoder["hand_size"])),
            ("hand_ok", hand_ok, (num_frames, 2)),
        ):
            if tuple(given.shape) != wanted:
                raise ValueError(f"{name} must have shape {list(wanted)}, not {list(given.shape)}")

    @staticmethod
    def _pixels(image: Image.Image, height: int, width: int) -> Tensor:
        """The image cropped around its centre and resized: RGB [1, 3, 1, height, width] in [0, 1]."""
        fitted = ImageOps.fit(image.convert("RGB"), (width, height), Image.Resampling.LANCZOS)
        return torch.from_numpy(np.array(fitted)).permute(2, 0, 1)[None, :, None] / 255
