"""Prompts of a call: check and embed them."""

import logging
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerBase

from opendimo.model.backbones.interface import Generator
from opendimo.model.text import TextEncoder, encode_prompt

logger = logging.getLogger(__name__)


class Prompts(NamedTuple):
    """Embedded prompts of V videos: `embeds` [V, m, D], `mask` [V, m] bool (False = padding, at the end)."""

    embeds: Tensor
    mask: Tensor


class PromptEncoder:
    """A pipeline's encoding of prompts."""

    tokenizer: PreTrainedTokenizerBase
    text_encoder: TextEncoder
    transformer: Generator
    _execution_device: torch.device

    def encode_prompt(self, prompt: str | list[str]) -> tuple[Tensor, Tensor]:
        """Return embeddings [P, n, D] of P prompts and their mask [P, n] bool (False = padding, at the end).

        Logs a warning if a prompt is too long and was truncated.
        """
        embeddings, device = [], self._execution_device
        for one in [prompt] if isinstance(prompt, str) else prompt:
            text = encode_prompt(self.tokenizer, self.text_encoder, one, device)
            if text.was_cut:
                logger.warning("the prompt is too long: only its first %d tokens are used", len(text.embedding))
            embeddings.append(text.embedding.to(device, self.transformer.dtype))
        masks = [torch.ones_like(embedding[:, 0], dtype=torch.bool) for embedding in embeddings]
        return pad_sequence(embeddings, batch_first=True), pad_sequence(masks, batch_first=True)

    def _embedded(self, prompt: str | list[str] | None, embeds: Tensor | None, mask: Tensor | None) -> Prompts:
        """Return given embeddings, or those of prompts."""
        if embeds is None:
            embeds, mask = self.encode_prompt(prompt or "")
        elif mask is None:
            mask = torch.ones_like(embeds[..., 0])
        device = self._execution_device
        return Prompts(embeds.to(device, self.transformer.dtype), mask.to(device, torch.bool))


def check_prompts(prompt: Any, embeds: Tensor | None, name: str = "prompt") -> None:
    """Raise `ValueError` unless either a prompt, which is text or a list of texts, or its embeddings are given."""
    if (prompt is None) == (embeds is None):
        raise ValueError(f"give either {name} or {name}_embeds")
    texts = prompt if isinstance(prompt, list) else [prompt]
    if embeds is None and not (texts and all(isinstance(text, str) for text in texts)):
        raise ValueError(f"{name} must be a text or a list of texts, not {prompt!r}")


def for_each_video(text: Prompts, no_text: Prompts, videos_per_prompt: int) -> tuple[Prompts, Prompts]:
    """Repeat prompts for each of their videos, and negative prompts, one for all prompts or one for each, likewise.

    Raises `ValueError` for another number of negative prompts.
    """
    prompts, negative = len(text.embeds), len(no_text.embeds)
    if negative not in (1, prompts):
        raise ValueError(f"{negative} negative prompts for {prompts} prompts: give one or as many")
    videos = videos_per_prompt * prompts
    text = Prompts(*(x.repeat_interleave(videos_per_prompt, 0) for x in text))
    return text, Prompts(*(x.repeat_interleave(videos // negative, 0) for x in no_text))
