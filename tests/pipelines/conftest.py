"""Fixtures shared by the tests of this room."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pipelines.media_server import MediaServer, media_server


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MediaServer]:
    """A server of media, for which no other test has used up the budget of its host."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "machine"))
    with media_server() as running:
        yield running
