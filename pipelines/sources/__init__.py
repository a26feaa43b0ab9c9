"""Source adapters: internet videos, Unreal render jobs and calibrated rigs become `sources` and `captures` rows.

All foreign conventions are converted here, and nowhere else.
"""

from opendimo.pipelines.sources.config import SourcesConfig
from opendimo.pipelines.sources.stage import SourcesStage, discover, plan

__all__ = ["SourcesConfig", "SourcesStage", "discover", "plan"]
