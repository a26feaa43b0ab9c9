"""Where a lake is: its normalised location, without opening it."""

from pathlib import Path


def lake_uri(uri: str | Path) -> str:
    """Normalise the location of a lake to an absolute path, or a URL without a trailing slash."""
    text = str(uri)
    return text.rstrip("/") if "://" in text else str(Path(text).expanduser().absolute())
