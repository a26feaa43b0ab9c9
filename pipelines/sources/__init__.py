"""Source adapters: turn internet videos, Unreal render jobs and calibrated rigs into `sources` and `captures` rows.

All foreign camera and body conventions are converted in this package and nowhere else.
"""

from typing import TYPE_CHECKING, Any

from opendimo.pipelines.sources.config import SourcesConfig
from opendimo.pipelines.sources.discovery import discover

if TYPE_CHECKING:
    from opendimo.pipelines.sources.stage import SourcesStage, plan

__all__ = ["SourcesConfig", "SourcesStage", "discover", "plan"]


def __getattr__(name: str) -> Any:
    """Import the stage when it is used: it needs Lance, which takes seconds to load."""
    if name not in ("SourcesStage", "plan"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from opendimo.pipelines.sources import stage

    return getattr(stage, name)
