"""What a run would do, how long it would take and how much it would store, by what was measured."""

from opendimo.pipelines.forecast.estimate import Forecast, forecast
from opendimo.pipelines.forecast.rates import measured
from opendimo.pipelines.forecast.sample import Tried, try_out

__all__ = ["Forecast", "Tried", "forecast", "measured", "try_out"]
