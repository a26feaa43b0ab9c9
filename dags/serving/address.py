"""The address of the Prefect server that `dimo serve` runs, in a file for the other commands on the same lake."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from opendimo.dags.runs import process_tag
from opendimo.dags.services import answers

FILE = "serve.json"


@contextmanager
def announced(state: Path, api: str) -> Iterator[None]:
    """Write the address of the server of this process to the folder `state` for the duration of the context.

    Raises `ValueError` if another `dimo serve` runs for that folder.
    """
    if running := served_api(state):
        raise ValueError(f"`dimo serve` already runs for {state.parent}: see {running.removesuffix('/api')}")
    file = state / FILE
    part = file.with_suffix(f".{os.getpid()}.part")
    part.write_text(json.dumps({"api": api, "process": process_tag()}))
    part.replace(file)
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def served_api(state: Path) -> str | None:
    """Return the API URL of the server that `dimo serve` runs for the folder `state`, or None if there is none."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        api = str(json.loads((state / FILE).read_text())["api"])
        return api if answers(api) else None
    return None
