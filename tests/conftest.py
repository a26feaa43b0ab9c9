"""Fixtures shared by all rooms."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# how long an example takes says more about the machine than about the code
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


# with several processes, the run ends when the longest file does: these begin first
LONGEST = ("test_end_to_end.py", "test_miniature.py", "test_trainer.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the longest files begin first where several processes share the tests; fast ones come first elsewhere."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real test data; tests that need it are skipped where it does not exist."""
    root = Path(os.environ.get("OPENDIMO_TEST_DATA") or Path(__file__).parents[2] / "shared" / "data")
    root = root.resolve()  # a lake names files by where they are, not by a link
    if not root.is_dir():
        pytest.skip("no test data: set OPENDIMO_TEST_DATA")
    return root
