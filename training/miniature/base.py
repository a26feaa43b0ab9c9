"""Train the tiny base model: a linear VAE, and a generator that continues a first frame, without any motion control.

3DiMo starts from a pretrained video generator; so do the miniature and the demo. The base has seen the miniature world
(other takes than those that are trained and measured on) and the studio's people, and no driving frame: whatever
follows a driver later is learnt by the training that uses it.
"""

import math
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from model.backbones.wan import WanMotionTransformer3DModel
from model.flow import TIMESTEPS, flow_loss, noisy, sample_sigma
from model.linear_vae import LinearVideoVAE
from model.text import encode_prompt, load_text
from model.tiny import make_tiny_base
from model.vae import encode, load_vae
from pipelines.studio import cameras
from pipelines.studio.film import Person, film
from pipelines.studio.motions import ACTIONS, act
from pipelines.studio.scene import Scene
from storage_schemas.video import centre_crop
from training.miniature.lake import STARTS, TARGET, WINDOW, one_thread, sentence
from training.miniature.world import make_take

OnProgress = Callable[[int, int, float], None]
"""Called with the steps done, the steps in all, and the loss."""
STUDIO_SIZE, STUDIO_STEP = 64, 2
"""Pixels of a side, and studio frames per window frame, as in the demo."""
CENTRED = (114, 64)
"""Size (width, height) of a studio picture whose centre crop is what the demo's 640 x 360 are cropped to."""


@dataclass(frozen=True)
class BaseConfig:
    """How much is seen and for how long. `seed` is that of takes and weights; no other world uses it."""

    world_takes: int = 900
    studio_takes: int = 500
    steps: int = 8000
    batch: int = 16
    lr: float = 1e-2
    seed: int = 7_000


@dataclass(frozen=True)
class Windows:
    """Windows of one size: latents [N, C, L, h, w], and which sentence each goes with [N]."""

    latents: Tensor
    text: Tensor


def make_base(out: Path, config: BaseConfig, on_progress: OnProgress = lambda *_: None, workers: int = 2) -> float:
    """Write a trained base model to `out`, in diffusers' layout; return its mean loss over the last 100 steps."""
    world, studio, sentences = _videos(config, workers)
    vae = LinearVideoVAE()
    vae.fit([*(video for video, _ in world[::4]), *(video for video, _ in studio[::4])])
    make_tiny_base(out, config.seed, vae=vae)
    coder, (tokenizer, text_encoder) = load_vae(out), load_text(out)
    texts = [encode_prompt(tokenizer, text_encoder, sentence).embedding for sentence in sentences]
    no_text = encode_prompt(tokenizer, text_encoder, "").embedding
    with torch.inference_mode():
        sets = [
            Windows(
                torch.cat([encode(coder, video[None] / 2 + 0.5) for video, _ in videos]),
                torch.tensor([number for _, number in videos]),
            )
            for videos in (world, studio)
        ]
    loss = _train(out, [Windows(s.latents.clone(), s.text) for s in sets], [*texts, no_text], config, on_progress)
    return loss


def mean_loss(base: Path, windows: Windows, texts: list[Tensor]) -> float:
    """Return the mean flow loss of a base's generator on windows, at noise levels spread evenly."""
    model = WanMotionTransformer3DModel.from_base(
        base / "transformer", motion_dim=8, motion_attention=None, reference="prefix", text_length=64
    ).eval()
    target, count = windows.latents, len(windows.latents)
    noise = torch.randn(target.shape, generator=torch.Generator().manual_seed(0))
    sigma = (torch.arange(count) + 0.5) / count
    text = torch.stack([texts[number] for number in windows.text.tolist()])
    known = torch.ones(text.shape[:2], dtype=torch.bool)
    with torch.inference_mode():
        velocity = model(noisy(target, noise, sigma), sigma * TIMESTEPS, text, known, None, target[:, :, :1])
        return float(flow_loss(velocity, target, noise).mean())


def _train(base: Path, sets: list[Windows], texts: list[Tensor], config: BaseConfig, on_progress: OnProgress) -> float:
    """Train `base`/transformer in place; batches alternate between the sets, large pictures in smaller batches."""
    torch.manual_seed(config.seed)
    model = WanMotionTransformer3DModel.from_base(
        base / "transformer", motion_dim=8, motion_attention=None, reference="prefix", text_length=64
    )
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.01)
    generator = torch.Generator().manual_seed(config.seed)
    longest = max(len(text) for text in texts)
    padded = torch.stack([torch.nn.functional.pad(text, (0, 0, 0, longest - len(text))) for text in texts])
    known = torch.stack([torch.arange(longest) < len(text) for text in texts])
    losses: list[float] = []
    for step in range(config.steps):
        windows = sets[step % len(sets)]
        count = max(4, config.batch * sets[0].latents[0].numel() // windows.latents[0].numel())
        chosen = torch.randint(len(windows.latents), (count,), generator=generator)
        target = windows.latents[chosen]
        text = torch.where(torch.rand(count, generator=generator) < 0.1, len(texts) - 1, windows.text[chosen])
        noise, sigma = torch.randn(target.shape, generator=generator), sample_sigma(count, 1.0, generator)
        velocity = model(
            noisy(target, noise, sigma), sigma * TIMESTEPS, padded[text], known[text], None, target[:, :, :1]
        )
        loss = flow_loss(velocity, target, noise).mean()
        share = 0.51 + 0.49 * math.cos(math.pi * step / config.steps)
        optimizer.param_groups[0]["lr"] = config.lr * min(1.0, (step + 1) / 100) * share
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
        on_progress(step + 1, config.steps, losses[-1])
    trained = model.base.from_config(model.base.load_config(base / "transformer"))
    trained.load_state_dict(model.state_dict())
    trained.half().save_pretrained(base / "transformer")
    return float(np.mean(losses[-100:]))


def _videos(config: BaseConfig, workers: int) -> tuple[list[tuple[Tensor, int]], list[tuple[Tensor, int]], list[str]]:
    """Windows [3, T, S, S] in [-1, 1] of the world and of the studio, each with its sentence; and the sentences."""
    sentences: list[str] = []

    def numbered(windows: list[tuple[np.ndarray, str]]) -> list[tuple[Tensor, int]]:
        found = []
        for frames, said in windows:
            if said not in sentences:
                sentences.append(said)
            video = torch.from_numpy(frames).permute(3, 0, 1, 2).float() / 127.5 - 1
            found.append((video, sentences.index(said)))
        return found

    # spawn: a forked torch can hang
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=one_thread) as pool:
        world = pool.map(partial(_world_windows, seed=config.seed), range(config.world_takes), chunksize=16)
        studio = pool.map(partial(_studio_window, seed=config.seed), range(config.studio_takes), chunksize=8)
        return numbered([w for windows in world for w in windows]), numbered(list(studio)), sentences


def _world_windows(number: int, seed: int) -> list[tuple[np.ndarray, str]]:
    take = make_take(number, seed=seed)
    return [
        (centre_crop(view.frames[start : start + WINDOW], TARGET, TARGET), sentence(view.move))
        for view in take.views
        for start in STARTS
    ]


def _studio_window(number: int, seed: int) -> tuple[np.ndarray, str]:
    """A person of random build and clothes who does something, before a camera that stands or arcs."""
    random = np.random.default_rng((seed, 1, number))
    frames = (WINDOW - 1) * STUDIO_STEP + 1
    start = int(random.integers(0, 30))
    motion = act(str(random.choice(list(ACTIONS))), start + frames, random).cut(start, None)
    person = Person("somebody", motion, look=int(random.integers(4)))
    camera = cameras.static(frames, random.uniform(-75, 75), random.uniform(3.4, 4.4), random.uniform(1.2, 1.7))
    said = "The camera is static."
    if random.uniform() < 0.3:
        right = bool(random.integers(2))
        camera = cameras.arc(camera, 12.0 if right else -12.0)
        said = f"The camera arcs {'right' if right else 'left'}."
    every = [views[0] for views in film(Scene(int(random.integers(60))), [person], [camera], CENTRED)][::STUDIO_STEP]
    return centre_crop(np.stack(every), STUDIO_SIZE, STUDIO_SIZE), said
