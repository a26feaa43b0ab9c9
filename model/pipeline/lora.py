"""Load LoRAs into the generator with diffusers' loader for Wan, which also reads LoRAs trained with other software."""

from typing import Any

from diffusers.loaders.lora_pipeline import WanLoraLoaderMixin
from torch import Tensor, nn


class LoraLoaderMixin(WanLoraLoaderMixin):
    """`WanLoraLoaderMixin` for generators of all families; LoRAs for HunyuanVideo-1.5 must be in peft's format."""

    @classmethod
    def _maybe_expand_t2v_lora_for_i2v(cls, transformer: nn.Module, state_dict: dict[str, Tensor]) -> dict[str, Any]:
        """Return the LoRA unchanged: generators have no attention to image embeddings that it could lack."""
        return state_dict
