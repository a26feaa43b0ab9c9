"""`make bench`: every benchmark, or those named, one after the other in processes of their own; no time is asserted."""

import argparse
import os
import platform
import subprocess
import sys

SAME = ("ingest", "shots", "duplicates", "motion")
MODULES = {
    **{name: name for name in SAME},
    "lake": "lake_scale",
    "access": "random_access",
    "loader": "loader",
    "step": "training_step",
    "prefect": "prefect_load",
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(MODULES))
    chosen = parser.parse_args().names or list(MODULES)
    if unknown := sorted(set(chosen) - set(MODULES)):
        parser.error(f"no benchmark {unknown[0]!r}; there are {', '.join(MODULES)}")
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    print(f"{machine}, Python {platform.python_version()}", flush=True)
    for name in chosen:
        subprocess.run([sys.executable, "-m", f"tests.benchmarks.{MODULES[name]}"], check=True)
