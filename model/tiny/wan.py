"""A tiny Wan2.2-TI2V-5B."""

from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from diffusers.pipelines.wan.pipeline_wan import WanPipeline
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from tokenizers import processors
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from opendimo.model.linear_vae import LinearVideoVAE
from opendimo.model.tiny.sizes import HEAD_DIM, HEADS, LATENT_CHANNELS, LAYERS, TEXT_DIM, VOCABULARY
from opendimo.model.tiny.tokenizer import trained_tokenizer


def tiny_wan(vae: LinearVideoVAE | None = None) -> WanPipeline:
    """Return diffusers' pipeline with random weights; `vae` replaces Wan's VAE with random weights."""
    return WanPipeline(
        tokenizer=_tokenizer(),  # type: ignore[arg-type]  # diffusers names the factory, AutoTokenizer
        text_encoder=_text_encoder(),
        vae=vae or _vae(),  # type: ignore[arg-type]  # diffusers names its own class
        transformer=_transformer(vae.config["latent_channels"] if vae else LATENT_CHANNELS),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        expand_timesteps=True,
    )


def _transformer(channels: int) -> WanTransformer3DModel:
    return WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=HEADS,
        attention_head_dim=HEAD_DIM,
        in_channels=channels,
        out_channels=channels,
        text_dim=TEXT_DIM,
        freq_dim=64,
        ffn_dim=256,
        num_layers=LAYERS,
    )


def _vae() -> AutoencoderKLWan:
    """Return a VAE that compresses 4 x in space and 4 x in time."""
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
        vocab_size=VOCABULARY,
        d_model=TEXT_DIM,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        pad_token_id=0,
        eos_token_id=1,
    )
    return UMT5EncoderModel(config)


def _tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = trained_tokenizer(["<pad>", "</s>", "<unk>"])
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=512
    )
