"""Parts that the pipeline needs and this package does not bring: found by their entry points, or given as arguments."""

from importlib.metadata import entry_points
from typing import Any

FINDERS = "opendimo.person_finder"
"""Entry points of functions like `pipelines.driving.find_person`."""
READERS = "opendimo.video_reader"
"""Entry points of functions like `pipelines.driving.read_video`."""


def installed(group: str, argument: str) -> Any:
    """The one object that is installed as an entry point of `group`.

    Raises `ValueError` where there is none, or a choice between several; `argument` is what to pass instead.
    """
    found = entry_points(group=group)
    if len(found) != 1:
        names = ", ".join(sorted(entry.name for entry in found)) or "nothing"
        raise ValueError(f"{names} is installed as {group}, and one is needed: install opendimo, or pass {argument}=")
    return next(iter(found)).load()
