"""`python -m opendimo.training.miniature --size cpu --out DIR`: train arms of the miniature and print their table."""

import argparse
import logging
from pathlib import Path

import torch

from opendimo.training.miniature.arms import ARMS, CLAIMS, SIZES
from opendimo.training.miniature.run import run_arms, table
from opendimo.training.tiny_base import PRETRAINED


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(
        prog="python -m opendimo.training.miniature",
        description="Does the method learn? Arms of 3DiMo in a small world with exact truth.",
        epilog="example: python -m opendimo.training.miniature --size cpu --arms full,no_motion --seeds 3 --out out",
    )
    parser.add_argument("--size", choices=SIZES, default="smoke")
    parser.add_argument("--arms", default=",".join(CLAIMS), help=f"of {', '.join(ARMS)}; all: every one")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each arm")
    parser.add_argument("--out", type=Path, default=Path("miniature-out"))
    parser.add_argument("--base", type=Path, default=PRETRAINED, help="a tiny base model; the shipped one by default")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    torch.set_num_threads(given.threads)
    arms = list(ARMS) if given.arms == "all" else given.arms.split(",")
    rows = run_arms(given.out, given.base, given.size, arms, range(given.seeds), lambda text: print(text, flush=True))
    print(table(rows))


if __name__ == "__main__":
    main()
