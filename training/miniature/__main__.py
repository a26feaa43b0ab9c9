"""Run `python -m opendimo.training.miniature --size cpu --out DIR`: train arms and print a table of their results."""

import argparse
import logging
from pathlib import Path

import torch

from opendimo.training.miniature.arms import ARMS, CLAIMS, SIZES
from opendimo.training.miniature.run import run_arms, table
from opendimo.training.tiny_base import PRETRAINED


def main() -> None:
    """Parse the command line and run the arms."""
    parser = argparse.ArgumentParser(
        prog="python -m opendimo.training.miniature",
        description="Train arms of 3DiMo in a small synthetic world with exact ground truth.",
        epilog="example: python -m opendimo.training.miniature --size cpu --arms full,no_motion --seeds 3 --out out",
    )
    parser.add_argument("--size", choices=SIZES, default="smoke")
    parser.add_argument("--arms", default=",".join(CLAIMS), help=f"comma-separated, from: {', '.join(ARMS)}; or all")
    parser.add_argument("--seeds", type=int, default=1, help="number of training runs per arm")
    parser.add_argument("--out", type=Path, default=Path("miniature-out"))
    parser.add_argument("--base", type=Path, default=PRETRAINED, help="tiny base model; default: the one provided")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    torch.set_num_threads(args.threads)
    arms = list(ARMS) if args.arms == "all" else args.arms.split(",")
    rows = run_arms(args.out, args.base, args.size, arms, range(args.seeds), lambda text: print(text, flush=True))
    print(table(rows))


if __name__ == "__main__":
    main()
