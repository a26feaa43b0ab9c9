"""Train the tiny base model: a linear VAE, and a generator that continues a first frame, without any motion control.

3DiMo starts from a pretrained video generator; so do the miniature and the demo. The base has seen the worlds of limbs
and of the studio's people (other takes than those that are trained and measured on), and no driving frame: whatever
follows a driver later is learnt by the training that uses it. Half of its references are frame 0 of the clip that it
generates, half show another moment.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from model.backbones.wan import WanMotionTransformer3DModel
from model.flow import TIMESTEPS, flow_loss, noisy, per_sample, sample_sigma
from model.linear_vae import LinearVideoVAE
from model.text import encode_prompt, load_text
from model.tiny import make_tiny_base
from model.vae import encode, load_vae
from training.miniature.lake import TARGETS, World, WorldConfig, film_takes, sentence, windows
from training.optimizer import is_layer_matrix, muon

OnProgress = Callable[[int, int, float], None]
"""Called with the steps done, the steps in all, and the loss."""


@dataclass(frozen=True)
class BaseConfig:
    """How much is seen and for how long. `seed` is that of takes and weights; no other world uses it."""

    world_takes: int = 900
    studio_takes: int = 400
    steps: int = 5000
    batch: int = 16
    lr: float = 1e-2
    seed: int = 7_000


@dataclass(frozen=True)
class Windows:
    """Windows of one size: latents [N, C, L, h, w], which sentence each goes with [N], and of which clip it is [N]."""

    latents: Tensor
    text: Tensor
    clip: Tensor

    def other_moments(self) -> Tensor:
        """Frame 0 [N, C, 1, h, w] of the next window of the same clip, its own where there is no other."""
        following = (self.clip[:, None] == self.clip[None]).float()  # [N, N]
        following.fill_diagonal_(0)
        found = following.argmax(1)
        return self.latents[torch.where(following.any(1), found, torch.arange(len(found))), :, :1]


def make_base(out: Path, config: BaseConfig, on_progress: OnProgress = lambda *_: None, workers: int = 2) -> float:
    """Write a trained base model to `out`, in diffusers' layout; return its mean loss over the last 100 steps."""
    filmed = [
        _filmed("limbs", config.world_takes, config.seed, workers),
        _filmed("studio", config.studio_takes, config.seed, workers),
    ]
    vae = LinearVideoVAE()
    vae.fit([video for videos, _, _ in filmed for video in videos[::4]])
    make_tiny_base(out, config.seed, vae=vae)
    coder, (tokenizer, text_encoder) = load_vae(out), load_text(out)
    known = list(dict.fromkeys(text for _, sentences, _ in filmed for text in sentences))
    texts = [encode_prompt(tokenizer, text_encoder, text).embedding for text in (*known, "")]
    sets = []
    for videos, sentences, clips in filmed:
        with torch.inference_mode():
            latents = torch.cat([encode(coder, some / 2 + 0.5) for some in videos.split(64)])
        sets.append(Windows(latents.clone(), torch.tensor([known.index(text) for text in sentences]), clips))
    return _train(out, sets, texts, config, on_progress)


def mean_loss(base: Path, windows: Windows, texts: list[Tensor]) -> float:
    """Return the mean flow loss of a base's generator on windows, at noise levels spread evenly."""
    model = _generator(base).eval()
    target, count = windows.latents, len(windows.latents)
    noise = torch.randn(target.shape, generator=torch.Generator().manual_seed(0))
    sigma = (torch.arange(count) + 0.5) / count
    text = torch.stack([texts[number] for number in windows.text.tolist()])
    known = torch.ones(text.shape[:2], dtype=torch.bool)
    with torch.inference_mode():
        velocity = model(noisy(target, noise, sigma), sigma * TIMESTEPS, text, known, None, target[:, :, :1])
        return float(flow_loss(velocity, target, noise).mean())


def _generator(base: Path) -> WanMotionTransformer3DModel:
    """The transformer of a base, which reads no motion."""
    return WanMotionTransformer3DModel.from_base(
        base / "transformer", motion_dim=8, motion_attention=None, reference="prefix", text_length=64
    )


def _train(base: Path, sets: list[Windows], texts: list[Tensor], config: BaseConfig, on_progress: OnProgress) -> float:
    """Train `base`/transformer in place; batches alternate between the sets, large pictures in smaller batches."""
    torch.manual_seed(config.seed)
    model = _generator(base)
    references = [some.other_moments() for some in sets]
    kinds: tuple[list[nn.Parameter], list[nn.Parameter]] = ([], [])
    for name, parameter in model.named_parameters():
        kinds[is_layer_matrix(name, parameter)].append(parameter)
    optimizers = (torch.optim.AdamW(kinds[0], betas=(0.9, 0.98), weight_decay=0.01), muon(kinds[1], 0.01))
    generator = torch.Generator().manual_seed(config.seed)
    longest = max(len(text) for text in texts)
    padded = torch.stack([torch.nn.functional.pad(text, (0, 0, 0, longest - len(text))) for text in texts])
    known = torch.stack([torch.arange(longest) < len(text) for text in texts])
    losses: list[float] = []
    for step in range(config.steps):
        some = sets[step % len(sets)]
        count = max(4, config.batch * sets[0].latents[0].numel() // some.latents[0].numel())
        chosen = torch.randint(len(some.latents), (count,), generator=generator)
        target = some.latents[chosen]
        text = torch.where(torch.rand(count, generator=generator) < 0.1, len(texts) - 1, some.text[chosen])
        noise, sigma = torch.randn(target.shape, generator=generator), sample_sigma(count, 1.0, generator)
        own = per_sample(torch.rand(count, generator=generator) < 0.5, target)
        reference = torch.where(own, target[:, :, :1], references[step % len(sets)][chosen])
        velocity = model(noisy(target, noise, sigma), sigma * TIMESTEPS, padded[text], known[text], None, reference)
        loss = flow_loss(velocity, target, noise).mean()
        share = 0.51 + 0.49 * math.cos(math.pi * step / config.steps)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = config.lr * min(1.0, (step + 1) / 100) * share
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))
        on_progress(step + 1, config.steps, losses[-1])
    trained = model.base.from_config(model.base.load_config(base / "transformer"))
    trained.load_state_dict(model.state_dict())
    trained.half().save_pretrained(base / "transformer")
    return float(np.mean(losses[-100:]))


def _filmed(world: World, takes: int, seed: int, workers: int) -> tuple[Tensor, list[str], Tensor]:
    """Windows [N, 3, T, S, S] in [-1, 1] of a world, the sentence of each, and the number of the clip of each [N]."""
    videos, sentences, clips = [], [], []
    for take in film_takes(WorldConfig(takes, world, seed=seed), workers):
        for view in take.views:
            found = windows(view, TARGETS[world])
            videos.append(torch.from_numpy(found))
            clips += [len(videos)] * len(found)
            sentences += [sentence(view.move)] * len(found)
    pixels = torch.cat(videos).permute(0, 4, 1, 2, 3)
    return pixels.float() / 127.5 - 1, sentences, torch.tensor(clips)
