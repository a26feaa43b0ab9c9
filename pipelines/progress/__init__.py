"""What a run would do, how long it would take and how much it would store, by what was measured."""

from opendimo.pipelines.progress.estimate import Forecast, forecast
from opendimo.pipelines.progress.rates import measured
from opendimo.pipelines.progress.sample import Tried, try_out

__all__ = ["Forecast", "Tried", "forecast", "measured", "try_out"]
