"""Encode prompts as diffusers' own pipeline of the base model does, but without padding."""

from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers.pipelines.hunyuan_video1_5.pipeline_hunyuan_video1_5 import HunyuanVideo15Pipeline, format_text_input
from diffusers.pipelines.wan.pipeline_wan import prompt_clean
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase, Qwen2_5_VLTextModel, UMT5EncoderModel

from opendimo.model.base_folder import part_config

TextEncoder = UMT5EncoderModel | Qwen2_5_VLTextModel
ENCODERS: dict[str, type[TextEncoder]] = {"umt5": UMT5EncoderModel, "qwen2_5_vl_text": Qwen2_5_VLTextModel}
"""Text encoders of Wan and HunyuanVideo-1.5, by the `model_type` in config.json."""

UMT5_TOKENS = 512
QWEN_TOKENS, QWEN_TEMPLATE_TOKENS = 1000, 108
"""Maximum prompt lengths in tokens that the base models were trained with. `QWEN_TOKENS` excludes the
`QWEN_TEMPLATE_TOKENS` tokens of the chat template before the prompt."""

qwen_embeddings = HunyuanVideo15Pipeline._get_mllm_prompt_embeds
SYSTEM_MESSAGE: str = signature(qwen_embeddings).parameters["system_message"].default


class Text(NamedTuple):
    """`embedding` [n, D] of the n tokens of a prompt; `was_cut`: the prompt was longer and has been truncated."""

    embedding: Tensor
    was_cut: bool


def load_text(base_dir: Path, dtype: torch.dtype | None = None) -> tuple[PreTrainedTokenizerBase, TextEncoder]:
    """Load tokenizer and text encoder of a base folder in the diffusers layout; `dtype` None: as stored.

    Raises `ValueError` if the text encoder is missing or of unknown type.
    """
    kind = part_config(base_dir, "text_encoder").get("model_type")
    if kind not in ENCODERS:
        raise ValueError(
            f"the text encoder of {base_dir} is of unsupported type {kind}; supported are {', '.join(ENCODERS)}"
        )
    tokenizer = AutoTokenizer.from_pretrained(Path(base_dir) / "tokenizer")
    return tokenizer, ENCODERS[kind].from_pretrained(Path(base_dir) / "text_encoder", dtype=dtype or "auto")


@torch.no_grad()
def encode_prompt(
    tokenizer: PreTrainedTokenizerBase, text_encoder: TextEncoder, prompt: str, device: torch.device | None = None
) -> Text:
    """Encode one prompt on `device`; the default is the text encoder's device (pass one if it may be offloaded)."""
    device = text_encoder.device if device is None else device
    if isinstance(text_encoder, UMT5EncoderModel):
        return _umt5(tokenizer, text_encoder, prompt_clean(prompt), device)
    return _qwen(tokenizer, text_encoder, prompt, device)


def _umt5(tokenizer: PreTrainedTokenizerBase, encoder: UMT5EncoderModel, prompt: str, device: torch.device) -> Text:
    """Encode like `WanPipeline._get_t5_prompt_embeds`, which pads before encoding and then removes the padding."""
    was_cut = len(tokenizer(prompt).input_ids) > UMT5_TOKENS
    inputs = tokenizer(prompt, max_length=UMT5_TOKENS, truncation=True, return_tensors="pt").to(device)
    return Text(encoder(inputs.input_ids, inputs.attention_mask).last_hidden_state[0], was_cut)


def _qwen(tokenizer: PreTrainedTokenizerBase, encoder: Qwen2_5_VLTextModel, prompt: str, device: torch.device) -> Text:
    """Return the third-last hidden layer, without the chat template's tokens before the prompt."""
    chats: Any = format_text_input([prompt], SYSTEM_MESSAGE)  # a list of chats, though diffusers types it as one
    tokens: Any = tokenizer.apply_chat_template(chats, add_generation_prompt=True, return_dict=False)
    hidden, is_text = qwen_embeddings(
        encoder,
        tokenizer,  # type: ignore[arg-type]  # diffusers names Qwen2Tokenizer
        prompt,
        device,
        tokenizer_max_length=QWEN_TOKENS,
        crop_start=QWEN_TEMPLATE_TOKENS,
    )
    return Text(hidden[is_text.bool()], len(tokens[0]) > QWEN_TEMPLATE_TOKENS + QWEN_TOKENS)  # [1, 1000, D] -> [n, D]
