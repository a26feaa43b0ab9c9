"""Train the tiny base model: a linear VAE and a generator that continues a reference frame, without motion control.

3DiMo starts from a pretrained video generator; so do the miniature and the demo. The base model is trained on both
worlds, on other takes than those used later for training and evaluation, and without driving frames. Half of its
references are frame 0 of the target, half show another moment.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from opendimo.model.backbones.wan import WanMotionTransformer3DModel
from opendimo.model.flow import TIMESTEPS, flow_loss, noisy, per_sample, sample_sigma
from opendimo.model.linear_vae import LinearVideoVAE
from opendimo.model.text import encode_prompt, load_text
from opendimo.model.tiny import make_tiny_base
from opendimo.model.vae import encode, load_vae
from opendimo.training.miniature.lake import TARGETS, World, WorldConfig, render_takes, sentence, windows
from opendimo.training.optimizer import is_layer_matrix, muon

OnProgress = Callable[[int, int, float], None]
"""Called with the number of steps done, the total number of steps, and the loss."""


@dataclass(frozen=True)
class BaseConfig:
    """Amount of training data, and optimisation. `seed` determines takes and weights; no other world uses it."""

    world_takes: int = 900
    studio_takes: int = 400
    steps: int = 5000
    batch: int = 16  # batch size at 32 pixels
    lr: float = 1e-2
    seed: int = 7_000


@dataclass(frozen=True)
class Windows:
    """Windows of one size: latents [N, C, L, h, w], index of the camera sentence [N], index of the clip [N]."""

    latents: Tensor
    text: Tensor
    clip: Tensor

    def other_moments(self) -> Tensor:
        """Return frame 0 [N, C, 1, h, w] of another window of the same clip, or of this one if it is the only one."""
        same_clip = (self.clip[:, None] == self.clip[None]).float()  # [N, N]
        same_clip.fill_diagonal_(0)
        other = same_clip.argmax(1)
        return self.latents[torch.where(same_clip.any(1), other, torch.arange(len(other))), :, :1]


def make_base(out: Path, config: BaseConfig, on_progress: OnProgress = lambda *_: None, workers: int = 2) -> float:
    """Train a base model and write it to `out` in diffusers' layout; return its mean loss over the last 100 steps."""
    worlds = [
        _pixel_windows("limbs", config.world_takes, config.seed, workers),
        _pixel_windows("studio", config.studio_takes, config.seed, workers),
    ]
    linear = LinearVideoVAE()
    linear.fit([video for videos, _, _ in worlds for video in videos[::4]])
    make_tiny_base(out, config.seed, vae=linear)
    vae, (tokenizer, text_encoder) = load_vae(out), load_text(out)
    distinct = list(dict.fromkeys(text for _, sentences, _ in worlds for text in sentences))
    texts = [encode_prompt(tokenizer, text_encoder, text).embedding for text in (*distinct, "")]
    sets = []
    for videos, sentences, clips in worlds:
        with torch.inference_mode():
            latents = torch.cat([encode(vae, batch / 2 + 0.5) for batch in videos.split(64)])
        sets.append(Windows(latents.clone(), torch.tensor([distinct.index(text) for text in sentences]), clips))
    return _train(out, sets, texts, config, on_progress)


def mean_loss(base: Path, windows: Windows, texts: list[Tensor]) -> float:
    """Return the mean flow loss of a base model's generator on windows, at uniformly spaced noise levels."""
    model = _generator(base).eval()
    target, count = windows.latents, len(windows.latents)
    noise = torch.randn(target.shape, generator=torch.Generator().manual_seed(0))
    sigma = (torch.arange(count) + 0.5) / count
    text = torch.stack([texts[number] for number in windows.text.tolist()])
    text_ok = torch.ones(text.shape[:2], dtype=torch.bool)
    with torch.inference_mode():
        velocity = model(
            noisy(target, noise, sigma), sigma * TIMESTEPS, text, text_ok, reference=target[:, :, :1]
        ).sample
        return float(flow_loss(velocity, target, noise).mean())


def _generator(base: Path) -> WanMotionTransformer3DModel:
    """Load the transformer of a base model, without motion attention."""
    return WanMotionTransformer3DModel.from_base(
        base / "transformer", motion_dim=8, motion_attention=None, reference="prefix", text_length=64
    )


def _train(base: Path, sets: list[Windows], texts: list[Tensor], config: BaseConfig, on_progress: OnProgress) -> float:
    """Train `base`/transformer in place on alternating `sets`; larger images have smaller batches."""
    torch.manual_seed(config.seed)
    model = _generator(base)
    references = [windows.other_moments() for windows in sets]
    parameters: tuple[list[nn.Parameter], list[nn.Parameter]] = ([], [])  # for AdamW, for Muon
    for name, parameter in model.named_parameters():
        parameters[is_layer_matrix(name, parameter)].append(parameter)
    optimizers = (torch.optim.AdamW(parameters[0], betas=(0.9, 0.98), weight_decay=0.01), muon(parameters[1], 0.01))
    generator = torch.Generator().manual_seed(config.seed)
    longest = max(len(text) for text in texts)
    padded = torch.stack([torch.nn.functional.pad(text, (0, 0, 0, longest - len(text))) for text in texts])
    text_ok = torch.stack([torch.arange(longest) < len(text) for text in texts])
    losses: list[float] = []
    for step in range(config.steps):
        windows = sets[step % len(sets)]
        count = max(4, config.batch * sets[0].latents[0].numel() // windows.latents[0].numel())
        chosen = torch.randint(len(windows.latents), (count,), generator=generator)
        target = windows.latents[chosen]
        text = torch.where(torch.rand(count, generator=generator) < 0.1, len(texts) - 1, windows.text[chosen])
        noise, sigma = torch.randn(target.shape, generator=generator), sample_sigma(count, 1.0, generator)
        first_frame = per_sample(torch.rand(count, generator=generator) < 0.5, target)
        reference = torch.where(first_frame, target[:, :, :1], references[step % len(sets)][chosen])
        latents, timestep = noisy(target, noise, sigma), sigma * TIMESTEPS
        velocity = model(latents, timestep, padded[text], text_ok[text], reference=reference).sample
        loss = flow_loss(velocity, target, noise).mean()
        decay = 0.51 + 0.49 * math.cos(math.pi * step / config.steps)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = config.lr * min(1.0, (step + 1) / 100) * decay
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))
        on_progress(step + 1, config.steps, losses[-1])
    trained = model.base.from_config(model.base.load_config(base / "transformer"))
    trained.load_state_dict(model.state_dict())
    trained.half().save_pretrained(base / "transformer")
    return float(np.mean(losses[-100:]))


def _pixel_windows(world: World, takes: int, seed: int, workers: int) -> tuple[Tensor, list[str], Tensor]:
    """Render a world; return its windows [N, 3, T, S, S] in [-1, 1], their camera sentences, and their clips [N]."""
    videos, sentences, clips = [], [], []
    for take in render_takes(WorldConfig(takes, world, seed=seed), workers):
        for view in take.views:
            frames = windows(view, TARGETS[world])
            videos.append(torch.from_numpy(frames))
            clips += [len(videos)] * len(frames)
            sentences += [sentence(view.move)] * len(frames)
    pixels = torch.cat(videos).permute(0, 4, 1, 2, 3)
    return pixels.float() / 127.5 - 1, sentences, torch.tensor(clips)
