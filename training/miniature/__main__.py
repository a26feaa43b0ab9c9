"""`python -m training.miniature --size cpu --out DIR`: train arms of the miniature and print their table."""

import argparse
import logging
import time
from pathlib import Path

import torch

from training.miniature.arms import ARMS, CLAIMS, SIZES
from training.miniature.base import BaseConfig, make_base
from training.miniature.run import run_arms, table


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(
        prog="python -m training.miniature",
        description="Does the method learn? Arms of 3DiMo in a small world with exact truth.",
        epilog="example: python -m training.miniature --size cpu --arms full,no_motion --seeds 3 --out miniature-out",
    )
    parser.add_argument("--size", choices=SIZES, default="smoke")
    parser.add_argument("--arms", default=",".join(CLAIMS), help=f"of {', '.join(ARMS)}; all: every one")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each arm")
    parser.add_argument("--out", type=Path, default=Path("miniature-out"))
    parser.add_argument("--base", type=Path, help="a tiny base model; made in OUT/base where none is given")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    torch.set_num_threads(given.threads)
    arms = list(ARMS) if given.arms == "all" else given.arms.split(",")
    base = given.base or given.out / "base"
    if not (base / "model_index.json").exists():
        print(f"training a base model in {base}: once, about half an hour on a core", flush=True)
        began = time.time()
        make_base(base, BaseConfig(), _told)
        print(f"base model: {time.time() - began:.0f} s", flush=True)
    rows = run_arms(given.out, base, given.size, arms, given.seeds, lambda text: print(text, flush=True))
    print(table(rows))


def _told(done: int, total: int, loss: float) -> None:
    if done % 500 == 0:
        print(f"base: {done} of {total} steps, loss {loss:.3f}", flush=True)


if __name__ == "__main__":
    main()
