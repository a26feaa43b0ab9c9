"""Compute training targets for one backbone: VAE latents of windows of a clip, and the text embedding of each window.

Both are computed as in the base model's `diffusers` pipeline (`model/vae.py`, `model/text.py`). Text embeddings are not
padded; the trainer pads them. The text of a window is composed of the camera terms that hold in it: if a camera arcs
and then stops, the clip gives windows with either text. Each text is embedded in several wordings, of which training
draws one. Latents and embeddings are cached because they never change;
driving frames are not cached, because augmentation changes their pixels.
"""

from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from opendimo.model.base_folder import base_folder, encoders_id
from opendimo.pipelines.cameras.terms import Term
from opendimo.pipelines.captions.window import window_texts
from opendimo.pipelines.engine.columns import Column, json_lists, json_strings
from opendimo.pipelines.engine.device import gpus_for, torch_device
from opendimo.pipelines.engine.planned import Planned
from opendimo.pipelines.engine.revisions import current_captions
from opendimo.pipelines.engine.stage import DataError, Needs, Outcome, Work, run_each
from opendimo.pipelines.latents.windows import Window, bucket_of
from opendimo.pipelines.quality.policy import Policy
from opendimo.pipelines.quality.verdicts import kept_clips
from opendimo.storage_schemas.ids import stable_id
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.media.video import centre_crop, decode
from opendimo.storage_schemas.rows import Row


@dataclass(frozen=True)
class LatentsConfig:
    """The backbone and the windows to encode. `base`: a folder in the diffusers layout, or ORG/NAME on the hub.

    `buckets`: further windows, for clips of other aspect ratios or lengths; every clip is encoded in one of them or
    `window` (`bucket_of`). `max_windows`: per clip. `device`: cpu, or cuda, for which every worker asks the scheduler
    for a GPU.
    """

    base: str
    window: Window = field(default_factory=Window)
    max_windows: int = 8
    device: str = "cpu"
    buckets: tuple[Window, ...] = ()

    @property
    def windows(self) -> tuple[Window, ...]:
        """Return `window` and the further ones."""
        return self.window, *self.buckets

    def identity(self) -> dict[str, Any]:
        """Return what enters work keys: neither the path of the weights, which count by their content, nor the
        device."""
        identity = asdict(self) | {"base": ""}
        del identity["device"]
        if not self.buckets:  # keys of lakes without buckets stay valid
            del identity["buckets"]
        return identity


@dataclass(frozen=True)
class ClipToEncode:
    """Payload: number of frames of the clip, its window and the first frames of it, and its caption."""

    frames: int
    window: Window
    starts: list[int]
    camera_terms: list[Row]
    content_sentence: str
    caption_hash: str


def window_starts(clip: dict[str, Any], window: Window, max_windows: int) -> list[int]:
    """Return the first frame of each window of a clip, counted from the start of the clip.

    Views of one capture share frame numbers, so windows start at source frames that are multiples of the span. A clip
    from the internet has no other views, so its first window starts with the clip.
    """
    span = window.span
    first = 0 if clip["kind"] == "internet" else -clip["start_frame"] % span
    return list(range(first, clip["frames"] - span + 1, span))[:max_windows]


class LatentsStage:
    """Writes `latents`: one row per window of a kept clip with a caption."""

    name = "latents"
    version = "4"  # 2: text is cleaned as in diffusers; 3: each window has its own text; 4: in several wordings

    def __init__(self, lake_uri: str, config: LatentsConfig) -> None:
        self.lake_uri, self.config = lake_uri, config
        self.needs = Needs(cpus=1, gpus=gpus_for(config.device), memory_gb=4, shard=8)

    @property
    def weights(self) -> str:
        """Hash of every file of the VAE, the text encoder and the tokenizer."""
        return self.vae.rpartition(":")[2]

    @cached_property
    def vae(self) -> str:
        """Value of the `vae` column: the classes of the VAE and the text encoder, and a hash of their weights."""
        return encoders_id(base_folder(self.config.base))

    def setup(self) -> None:
        """Load the VAE, the text encoder and the tokenizer. Raises `PermanentError` if the device is missing."""
        import torch

        from opendimo.model.text import load_text
        from opendimo.model.vae import load_vae

        self._device = torch_device(self.config.device)
        base = base_folder(self.config.base)
        self._vae = load_vae(base).to(self._device)  # type: ignore[arg-type]
        self._tokenizer, encoder = load_text(base, torch.bfloat16 if self._device.type == "cuda" else torch.float32)
        self._text_encoder = encoder.to(self._device)  # type: ignore[arg-type]
        self._lake = Lake(self.lake_uri, existing=True)

    def run(self, batch: list[Work]) -> Outcome:
        """Encode every window of each clip."""
        return run_each(batch, self._encode_clip)

    def _encode_clip(self, work: Work) -> dict[str, list[dict[str, Any]]]:
        clip: ClipToEncode = work.payload
        window = clip.window
        if not clip.starts:
            raise DataError(
                f"clip {work.name} has {clip.frames} frames, too few for a window of {window.span}: "
                "lower num_frames or frame_step, add a shorter bucket, or raise the shortest clip length in the "
                "quality policy"
            )
        [video] = self._lake.blobs("clip_videos", "video", [work.item_id])
        frames = decode(video)
        terms = [Term(**term) for term in clip.camera_terms]
        texts = [window_texts(terms, clip.content_sentence, start, start + window.span) for start in clip.starts]
        embeddings = {text: self._encode_text(text) for text in {text for wordings in texts for text in wordings}}
        rows = []
        for start, wordings in zip(clip.starts, texts, strict=True):
            embedded = [embeddings[text] for text in wordings]
            window_frames = frames[start : start + window.span : window.frame_step]
            latents = self._encode_frames(centre_crop(window_frames, window.width, window.height))
            rows.append(
                {
                    "latent_id": stable_id("latents", work.item_id, start, work.key),
                    "clip_id": work.item_id,
                    "vae": self.vae,
                    "start_frame": start,
                    **asdict(window),
                    "shape": list(latents.shape),
                    "latents": latents.tobytes(),
                    "text_shape": [*(len(one) for one in embedded), embedded[0].shape[1]],
                    "text_embedding": b"".join(one.tobytes() for one in embedded),
                    "text": "\n".join(" ".join(text.split()) for text in wordings),
                    "caption_hash": clip.caption_hash,
                }
            )
        return {"latents": rows}

    def _encode_frames(self, frames: NDArray[np.uint8]) -> NDArray[np.float16]:
        """Encode frames [T, H, W, 3] as normalised latents [C, L, h, w]: the posterior's mode, so it is repeatable."""
        import torch

        from opendimo.model.vae import encode

        video = torch.from_numpy(frames).to(self._device).permute(3, 0, 1, 2)[None] / 255  # [1, 3, T, H, W]
        with torch.inference_mode():
            return _to_half(encode(self._vae, video)[0], "the VAE")  # [C, L, h, w]

    def _encode_text(self, text: str) -> NDArray[np.float16]:
        """Encode a text into [n, D]; n is its number of tokens without padding, truncated to the base model's limit."""
        from opendimo.model.text import encode_prompt

        return _to_half(encode_prompt(self._tokenizer, self._text_encoder, text).embedding, "the text encoder")


def _to_half(values: Any, model_name: str) -> NDArray[np.float16]:
    """Convert a tensor to float16. Raises `DataError` if values are not finite or overflow."""
    with np.errstate(over="ignore"):
        half_values = np.ascontiguousarray(values.float().cpu().numpy(), dtype=np.float16)
    if not np.isfinite(half_values).all():
        raise DataError(f"{model_name} returned values that are not finite, or too large for half precision")
    return half_values


def plan(lake: Lake, stage: LatentsStage, policy: Policy) -> Planned:
    """Plan one piece of work per kept clip with a caption, using its current caption.

    Raises `ValueError` if the base model is missing or incomplete, or cannot represent the window.
    """
    from opendimo.model.latent_geometry import LatentGeometry

    windows = stage.config.windows
    geometry = LatentGeometry.of_folder(base_folder(stage.config.base))
    for window in windows:
        geometry.check(window.num_frames, window.height, window.width)
    clips = kept_clips(lake, policy, ["name", "kind", "video_sha256", "start_frame", "frames", "width", "height"])
    captions = current_captions(lake, ["camera_terms", "content_sentence"])
    clips = clips.append_column("caption", pc.index_in(clips["clip_id"], value_set=captions["clip_id"]))
    clips = clips.filter(pc.is_valid(clips["caption"]))
    clips = clips.append_column("caption_hash", captions["caption_hash"].take(clips["caption"]))

    def content(rows: pa.Table) -> Column:
        return json_lists(*(json_strings(rows[name]) for name in ("clip_id", "video_sha256", "caption_hash")))

    def work(key: str, row: Row) -> Work:
        [caption] = captions.slice(row["caption"], 1).to_pylist()
        window = bucket_of(row["width"], row["height"], row["frames"], windows)
        clip = ClipToEncode(
            row["frames"],
            window,
            window_starts(row, window, stage.config.max_windows),
            caption["camera_terms"],
            caption["content_sentence"],
            caption["caption_hash"],
        )
        return Work(key, row["clip_id"], row["name"], clip)

    return Planned.rows(stage, clips, "clip_id", content, work)
