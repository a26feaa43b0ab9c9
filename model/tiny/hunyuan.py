"""A tiny HunyuanVideo-1.5 without the parts that the model does not use (ByT5 for glyphs, SigLIP for images)."""

from diffusers.guiders import ClassifierFreeGuidance
from diffusers.models.autoencoders.autoencoder_kl_hunyuanvideo15 import AutoencoderKLHunyuanVideo15
from diffusers.models.transformers.transformer_hunyuan_video15 import HunyuanVideo15Transformer3DModel
from diffusers.pipelines.hunyuan_video1_5.pipeline_hunyuan_video1_5_image2video import (
    HunyuanVideo15ImageToVideoPipeline,
)
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLTextConfig, Qwen2_5_VLTextModel

from opendimo.model.text import QWEN_TEMPLATE_TOKENS, SYSTEM_MESSAGE
from opendimo.model.tiny.sizes import HEAD_DIM, HEADS, LATENT_CHANNELS, LAYERS, TEXT_DIM, VOCABULARY
from opendimo.model.tiny.tokenizer import trained_tokenizer

SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "{% if message['role'] == 'system' %}FILLER{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Qwen2.5's chat template, with a filler that gives the system message the same length as with the real tokenizer."""


def tiny_hunyuan() -> HunyuanVideo15ImageToVideoPipeline:
    """Return diffusers' pipeline with random weights."""
    return HunyuanVideo15ImageToVideoPipeline(
        text_encoder=_text_encoder(),
        tokenizer=_tokenizer(),  # type: ignore[arg-type]  # diffusers names Qwen2Tokenizer
        transformer=_transformer(),
        vae=_vae(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=5.0),
        text_encoder_2=None,  # type: ignore[arg-type]
        tokenizer_2=None,  # type: ignore[arg-type]
        guider=ClassifierFreeGuidance(guidance_scale=6.0),
        image_encoder=None,  # type: ignore[arg-type]
        feature_extractor=None,  # type: ignore[arg-type]
    )


def _transformer() -> HunyuanVideo15Transformer3DModel:
    return HunyuanVideo15Transformer3DModel(
        in_channels=2 * LATENT_CHANNELS + 1,
        out_channels=LATENT_CHANNELS,
        num_attention_heads=HEADS,
        attention_head_dim=HEAD_DIM,
        num_layers=LAYERS,
        num_refiner_layers=2,
        mlp_ratio=2.0,
        text_embed_dim=TEXT_DIM,
        text_embed_2_dim=8,
        image_embed_dim=8,
        rope_axes_dim=(8, 8, 8),
        target_size=64,
    )


def _vae() -> AutoencoderKLHunyuanVideo15:
    """Return a VAE that compresses 4 x in space and 4 x in time."""
    return AutoencoderKLHunyuanVideo15(
        latent_channels=LATENT_CHANNELS,
        block_out_channels=(16, 32, 32),
        layers_per_block=1,
        spatial_compression_ratio=4,
        temporal_compression_ratio=4,
    )


def _text_encoder() -> Qwen2_5_VLTextModel:
    config = Qwen2_5_VLTextConfig(
        vocab_size=VOCABULARY,
        hidden_size=TEXT_DIM,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]},
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=0,
    )
    return Qwen2_5_VLTextModel(config)


def _tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer whose chat template has `QWEN_TEMPLATE_TOKENS` tokens before the prompt, like the real one."""
    tokenizer = trained_tokenizer(SPECIAL_TOKENS, *[f"system {SYSTEM_MESSAGE} user assistant"] * 9)
    front = f"<|im_start|>system\n{SYSTEM_MESSAGE}<|im_end|>\n<|im_start|>user\n"
    missing = QWEN_TEMPLATE_TOKENS - len(tokenizer.encode(front).ids)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        chat_template=CHAT_TEMPLATE.replace("FILLER", "<|endoftext|>" * missing),
    )
