"""Fixtures shared by the tests of pipelines."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pipelines.media_server import MediaServer, media_server


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MediaServer]:
    """Serve media with a fresh rate-limit state, so that other tests have not used up the limit of its host."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "machine"))
    with media_server() as running:
        yield running
