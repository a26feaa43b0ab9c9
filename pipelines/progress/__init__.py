"""Estimate the work, duration and storage of a run from measured runs or from a sample."""

from opendimo.pipelines.progress.estimate import Forecast, forecast
from opendimo.pipelines.progress.rates import measured
from opendimo.pipelines.progress.sample import Tried, try_out

__all__ = ["Forecast", "Tried", "forecast", "measured", "try_out"]
