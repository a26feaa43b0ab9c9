"""The model before its first step: a pretrained generator, and what else was trained before."""

import logging
from dataclasses import asdict
from pathlib import Path

from huggingface_hub import ModelCard

from opendimo.model.base_folder import base_folder
from opendimo.model.dimo import DiMo
from opendimo.model.encoder import im_animation
from opendimo.model.encoder.tokens import MotionEncoder
from opendimo.training.config import TrainConfig

logger = logging.getLogger(__name__)

FREE = "augment", "geometry"
"""Settings that a run may change of the model that it starts from."""
ABOUT = 600
"""Characters of a model card that are quoted at most."""


def initial_model(config: TrainConfig) -> DiMo:
    """Build the model that a run starts with.

    Raises `ValueError` where the weights to start from are of another model than the run's, or two are given.
    """
    if config.init_model is not None and config.init_encoder is not None:
        raise ValueError("a trained 3DiMo has a motion encoder: give --init-model or --init-encoder, not both")
    model = DiMo.from_base(base_folder(config.base), config.model)
    if config.init_model is not None:
        init_model(model, Path(config.init_model))
    if config.init_encoder is not None:
        init_encoder(model, Path(config.init_encoder))
    return model


def starts_from(config: TrainConfig) -> list[dict[str, str]]:
    """List the weights that a run starts from: what each is, its name, and the first words of its README, if any."""
    places = {
        "base model": str(base_folder(config.base)),
        "trained 3DiMo": config.init_model,
        "motion encoder": config.init_encoder,
    }
    return [
        {"what": what, "name": Path(place).name, "about": _about(Path(place))}
        for what, place in places.items()
        if place
    ]


def _about(folder: Path) -> str:
    """The first paragraph of a model card; empty where there is none."""
    readme = folder / "README.md"
    if not readme.is_file():
        return ""
    paragraphs = ModelCard.load(readme, ignore_metadata_errors=True).text.split("\n\n")
    plain = [" ".join(text.split()) for text in paragraphs if text.strip() and not text.lstrip().startswith("#")]
    return plain[0][:ABOUT] if plain else ""


def init_model(model: DiMo, folder: Path) -> None:
    """Give the generator, the control and the geometry head the weights of a 3DiMo, as `DiMo.save` wrote it.

    A geometry head that the 3DiMo has no longer starts anew. Raises `ValueError` where `folder` holds no 3DiMo, or one
    of other settings or of another base model.
    """
    trained = DiMo.load(folder)
    ours, theirs = asdict(model.config), asdict(trained.config)
    if other := [name for name in ours if name not in FREE and ours[name] != theirs[name]]:
        differences = ", ".join(f"{name} {theirs[name]!r}, not {ours[name]!r}" for name in other)
        raise ValueError(f"{folder} is a model with other settings than this run: {differences}; choose its --variant")
    parts = [(model.transformer, trained.transformer), (model.control, trained.control)]
    if model.geometry is not None and trained.geometry is not None:
        parts.append((model.geometry, trained.geometry))
    for part, source in parts:
        try:
            part.load_state_dict(source.state_dict())
        except RuntimeError as error:
            raise ValueError(
                f"{folder} does not fit the base model of this run: give the --base that it was trained from ({error})"
            ) from error
    logger.info("starts from the trained model in %s", folder)


def init_encoder(model: DiMo, weights: Path) -> None:
    """Give the control's motion encoder IM-Animation's weights. Raises `ValueError` where it has none, or another."""
    encoder = getattr(model.control, "motion_encoder", None)
    if not isinstance(encoder, MotionEncoder):
        raise ValueError(f"control {model.config.control!r} has no motion encoder to start from {weights}")
    report = im_animation.initialise(encoder, weights)
    counts = len(report.loaded), len(report.interpolated), len(report.missing)
    logger.info("%s: %d weights loaded, %d interpolated, %d start at random", weights.name, *counts)
