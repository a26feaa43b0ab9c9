"""Caption with a local Qwen2.5-VL, through transformers and qwen-vl-utils."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opendimo.pipelines.engine.device import torch_device
from opendimo.pipelines.engine.stage import PermanentError

SAMPLE = 1 << 20  # bytes hashed at both ends of a weight file: distinguishes fine-tunes without reading 15 GB


@dataclass(frozen=True)
class QwenLocal:
    """Weights of a Qwen2.5-VL model: a folder, or a hub id with its `revision`; `frames` are sampled evenly from the
    clip, each of at most `max_pixels`."""

    path: str
    revision: str = "main"
    device: str = "cuda"
    frames: int = 16
    max_pixels: int = 256 * 28 * 28
    max_new_tokens: int = 400

    @property
    def model(self) -> str:
        """Name stored in the column `captioner`."""
        return Path(self.path).name

    def fingerprint(self) -> str:
        """Return the identity of the weights, independent of the folder they are in."""
        folder = Path(self.path)
        if not folder.is_dir():
            return f"{self.path}@{self.revision}"
        digest = hashlib.sha256((folder / "config.json").read_bytes())
        for file in sorted(folder.glob("*.safetensors")):
            size = file.stat().st_size
            digest.update(f"{file.name}:{size}".encode())
            with file.open("rb") as stream:
                digest.update(stream.read(SAMPLE))
                stream.seek(max(0, size - SAMPLE))
                digest.update(stream.read(SAMPLE))
        return digest.hexdigest()


class QwenCaptioner:
    """A loaded model. Raises `PermanentError` if it cannot be loaded."""

    def __init__(self, config: QwenLocal) -> None:
        from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration

        self.config = config
        self.device = torch_device(config.device)
        try:
            self.processor: Any = AutoProcessor.from_pretrained(config.path, revision=config.revision)
            model: Any = Qwen2_5_VLForConditionalGeneration.from_pretrained(
                config.path, revision=config.revision, dtype="auto"
            )
        except (OSError, ValueError) as error:
            raise PermanentError(f"cannot load Qwen2.5-VL from {config.path}: {error}") from error
        self.model = model.to(self.device).eval()

    def ask(self, images: NDArray[np.uint8], sample_fps: float, turns: list[str]) -> str:
        """Answer the last of `turns` (user, assistant, user, ...) about frames [N, H, W, 3] RGB at `sample_fps`."""
        import torch
        from qwen_vl_utils import process_vision_info

        messages = chat(images, sample_fps, turns, self.config.max_pixels)
        text = self.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        _, videos, options = process_vision_info(messages, return_video_kwargs=True, return_video_metadata=True)
        pixels, metadata = zip(*videos, strict=True)
        # Pass the frame times in the metadata: with `fps` instead, transformers 5 assumes 24 frames per second, and at
        # 3 sampled frames per second every motion looks eight times too fast.
        inputs = self.processor(
            text=[text],
            videos=list(pixels),
            video_metadata=list(metadata),
            do_resize=False,  # process_vision_info has already resized
            return_tensors="pt",
            **options,
        )
        inputs.pop("video_metadata", None)
        inputs = inputs.to(self.device)
        with torch.inference_mode():
            tokens = self.model.generate(**inputs, max_new_tokens=self.config.max_new_tokens, do_sample=False)
        new = tokens[:, inputs["input_ids"].shape[1] :]
        return str(self.processor.batch_decode(new, skip_special_tokens=True)[0])


def chat(images: NDArray[np.uint8], sample_fps: float, turns: list[str], max_pixels: int) -> list[dict[str, Any]]:
    """Return the messages in the format of the model's chat template; the frames go with the first turn."""
    from PIL import Image

    video = {
        "type": "video",
        "video": [Image.fromarray(image) for image in images],
        "sample_fps": sample_fps,
        "min_pixels": min(16 * 28 * 28, max_pixels),
        "max_pixels": max_pixels,
    }
    messages: list[dict[str, Any]] = []
    for i, turn in enumerate(turns):
        content = [*([video] if i == 0 else []), {"type": "text", "text": turn}]
        messages.append({"role": "assistant" if i % 2 else "user", "content": content})
    return messages
