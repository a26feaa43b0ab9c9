"""A base model small enough for a CPU: the real classes of Wan2.2-TI2V-5B with random weights, in diffusers' layout."""

from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from diffusers.pipelines.wan.pipeline_wan import WanPipeline
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

LATENT_CHANNELS, TEXT_DIM = 8, 32
SPECIAL_TOKENS = ["<pad>", "</s>", "<unk>"]
PHRASES = [
    "The camera is static, shakes, follows the person.",
    "The camera pans left, pans right, tilts up, tilts down, rolls clockwise, rolls counterclockwise.",
    "The camera dollies in, dollies out, trucks left, trucks right, pedestals up, pedestals down.",
    "The camera arcs left, arcs right, zooms in, zooms out, slowly, quickly, and then.",
    "A person walks, waves, turns, dances, raises the arms in a room, on a street, in front of a wall.",
]
"""Text that the byte-level BPE tokenizer is trained on, so that captions take few tokens."""


def make_tiny_base(out: Path, seed: int = 0) -> Path:
    """Writes transformer/, vae/, text_encoder/, tokenizer/, scheduler/ and model_index.json to `out`; returns `out`."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        pipeline = WanPipeline(
            tokenizer=_tokenizer(),  # type: ignore[arg-type]  # diffusers names the factory, AutoTokenizer
            text_encoder=_text_encoder(),
            vae=_vae(),
            transformer=_transformer(),
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
            expand_timesteps=True,
        )
    pipeline.save_pretrained(out)
    return out


def _transformer() -> WanTransformer3DModel:
    return WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=4,
        attention_head_dim=24,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        text_dim=TEXT_DIM,
        freq_dim=64,
        ffn_dim=256,
        num_layers=4,
    )


def _vae() -> AutoencoderKLWan:
    """4 x in space and 4 x in time."""
    return AutoencoderKLWan(
        base_dim=16,
        z_dim=LATENT_CHANNELS,
        dim_mult=[1, 2, 4],
        num_res_blocks=1,
        temperal_downsample=[True, True],
        latents_mean=[0.0] * LATENT_CHANNELS,
        latents_std=[1.0] * LATENT_CHANNELS,
        scale_factor_temporal=4,
        scale_factor_spatial=4,
    )


def _text_encoder() -> UMT5EncoderModel:
    config = UMT5Config(
        vocab_size=512, d_model=TEXT_DIM, d_kv=8, d_ff=64, num_layers=2, num_heads=4, pad_token_id=0, eos_token_id=1
    )
    return UMT5EncoderModel(config)


def _tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=512, special_tokens=SPECIAL_TOKENS, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(PHRASES, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=512
    )
