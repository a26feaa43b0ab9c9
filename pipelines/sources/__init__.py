"""Source adapters: turn internet videos, Unreal render jobs and calibrated rigs into `sources` and `captures` rows.

All foreign camera and body conventions are converted in this package and nowhere else.
"""

from opendimo.pipelines.sources.config import SourcesConfig
from opendimo.pipelines.sources.stage import SourcesStage, discover, plan

__all__ = ["SourcesConfig", "SourcesStage", "discover", "plan"]
