"""Prepare the model for its first step: weights of the base model, optional pretrained ones, standardised tokens."""

import logging
from dataclasses import asdict
from pathlib import Path

from huggingface_hub import ModelCard

from opendimo.model.adapters import add_adapters
from opendimo.model.base_folder import base_folder
from opendimo.model.batch import Driving
from opendimo.model.dimo import DiMo
from opendimo.model.encoder import im_animation
from opendimo.model.encoder.tokens import MotionEncoder
from opendimo.training.config import TrainConfig
from opendimo.training.parallel import World, whole_part
from opendimo.training.precision import computing

logger = logging.getLogger(__name__)

FREE = "augment", "geometry"
"""Model settings that may differ between a run and the trained 3DiMo it starts from."""
STANDARDISED_FRAMES = 512
"""Approximate number of driving frames over which motion tokens are standardised."""
ABOUT_CHARS = 600
"""Maximum number of characters quoted from a model card."""


def initial_model(config: TrainConfig) -> DiMo:
    """Build the model that a run starts with.

    Raises `ValueError` if the initial weights do not fit the run's model, or if both `init_model` and `init_encoder`
    are given.
    """
    if config.init_model is not None and config.init_encoder is not None:
        raise ValueError("a trained 3DiMo includes a motion encoder: give --init-model or --init-encoder, not both")
    model = DiMo.from_base(base_folder(config.base), config.model)
    if config.init_model is not None:
        init_model(model, Path(config.init_model))
    if config.init_encoder is not None:
        init_encoder(model, Path(config.init_encoder))
    if config.lora_rank is not None:
        add_adapters(model.transformer, config.lora_rank)
    return model


def standardise(model: DiMo, driving: Driving, config: TrainConfig, world: World) -> None:
    """Standardise the motion tokens, if the control has any, before the generator reads them for the first time.

    `driving`: of this process's samples of a batch. All processes call it.
    """
    if not isinstance(getattr(model.control, "motion_encoder", None), MotionEncoder):
        return
    count = driving.body.shape[1] * config.batch_size
    frames = driving.map(lambda x: world.gathered(x[:, :: max(1, count // STANDARDISED_FRAMES)]))
    with whole_part(model.control, world) as control, computing(world.device, config.bf16):
        control.motion_encoder.standardise(frames.body, frames.hands, frames.hand_ok)


def starts_from(config: TrainConfig) -> list[dict[str, str]]:
    """List the weights that a run starts from: what they are, their name, and the first paragraph of their README."""
    paths = {
        "base model": str(base_folder(config.base)),
        "trained 3DiMo": config.init_model,
        "motion encoder": config.init_encoder,
    }
    return [
        {"what": what, "name": Path(path).name, "about": _about(Path(path))} for what, path in paths.items() if path
    ]


def _about(folder: Path) -> str:
    """Return the first paragraph of a model card, cut to `ABOUT_CHARS`; empty without a card."""
    readme = folder / "README.md"
    if not readme.is_file():
        return ""
    paragraphs = ModelCard.load(readme, ignore_metadata_errors=True).text.split("\n\n")
    plain = [" ".join(text.split()) for text in paragraphs if text.strip() and not text.lstrip().startswith("#")]
    return plain[0][:ABOUT_CHARS] if plain else ""


def init_model(model: DiMo, folder: Path) -> None:
    """Load the weights of a 3DiMo, written by `DiMo.save`, into generator, control and geometry head.

    The geometry head keeps its initial weights if the 3DiMo has none any more. Raises `ValueError` if `folder` holds no
    3DiMo, or one with other settings or another base model.
    """
    trained = DiMo.load(folder)
    ours, theirs = asdict(model.config), asdict(trained.config)
    if changed := [name for name in ours if name not in FREE and ours[name] != theirs[name]]:
        differences = ", ".join(f"{name} {theirs[name]!r}, not {ours[name]!r}" for name in changed)
        raise ValueError(
            f"the model in {folder} has other settings than this run: {differences}; choose the --variant of that model"
        )
    parts = [(model.transformer, trained.transformer), (model.control, trained.control)]
    if model.geometry is not None and trained.geometry is not None:
        parts.append((model.geometry, trained.geometry))
    for part, source in parts:
        try:
            part.load_state_dict(source.state_dict())
        except RuntimeError as error:
            raise ValueError(
                f"the model in {folder} does not fit the base model of this run: give the --base it was trained from "
                f"({error})"
            ) from error
    logger.info("initialised from the trained model in %s", folder)


def init_encoder(model: DiMo, weights: Path) -> None:
    """Load IM-Animation's weights into the control's motion encoder. Raises `ValueError` if it has no such encoder."""
    encoder = getattr(model.control, "motion_encoder", None)
    if not isinstance(encoder, MotionEncoder):
        raise ValueError(f"control {model.config.control!r} has no motion encoder to load {weights} into")
    report = im_animation.initialise(encoder, weights)
    counts = len(report.loaded), len(report.interpolated), len(report.missing)
    logger.info("%s: %d weights loaded, %d interpolated, %d initialised at random", weights.name, *counts)
