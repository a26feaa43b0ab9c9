"""Load functions that the pipeline needs but this package does not contain, through their entry points."""

from importlib.metadata import entry_points
from typing import Any

FINDERS = "opendimo.person_finder"
"""Entry point group of functions like `pipelines.driving.find_person`."""
READERS = "opendimo.video_reader"
"""Entry point group of functions like `pipelines.driving.read_video`."""


def installed(group: str, argument: str) -> Any:
    """Load the only object that is installed as an entry point of `group`.

    Raises `ValueError` if there is none or more than one; the message names `argument`, which can be passed instead.
    """
    entries = entry_points(group=group)
    if len(entries) != 1:
        names = ", ".join(sorted(entry.name for entry in entries)) or "nothing"
        raise ValueError(
            f"{names} is installed as {group}, but exactly one entry point is needed: install opendimo, or pass "
            f"{argument}="
        )
    return next(iter(entries)).load()
