"""Forecast the stages of requests, if needed after a trial run on a few work items."""

import time
from collections.abc import Sequence
from tempfile import TemporaryDirectory

from opendimo.dags.options import Trial
from opendimo.dags.requests import Request, Step
from opendimo.pipelines.engine.planned import Planned
from opendimo.pipelines.progress import Forecast, Tried, forecast, measured, try_out
from opendimo.storage_schemas.lake.lake import Lake, is_lake


def forecasts(lake: str, requests: Sequence[Request], trial: Trial) -> list[Forecast]:
    """Forecast each stage of the requests. Writes nothing to `lake`, and does not create it if it does not exist."""
    with TemporaryDirectory() as empty, TemporaryDirectory() as trial_folder:
        home = Lake(lake if is_lake(lake) else empty)
        trial_lake = Lake(trial_folder) if trial.count else None
        result: list[Forecast] = []
        deadline = time.monotonic() + 60 * trial.minutes
        for request in requests:
            trial_steps = request.steps(trial_lake or home)
            for step, trial_step in zip(request.steps(home), trial_steps, strict=True):
                planned = step.plan()
                tried = _try_out(home, trial_lake, step, trial_step, planned, trial.count, deadline)
                result.append(forecast(home, step.stage.name, planned, tried, result))
        return result


def _try_out(
    lake: Lake, trial_lake: Lake | None, step: Step, trial_step: Step, planned: Planned, count: int, deadline: float
) -> Tried | None:
    """Run a few work items of a step; return None if `trial_lake` is None or an earlier run was measured.

    The items come from the plan for `lake`, or if that is empty, from the outputs of the preceding trial steps. Sources
    are fetched into the trial lake; other stages read their inputs in place.
    """
    if trial_lake is None or measured(lake, step.stage.name, planned.revision) is not None:
        return None
    if step.stage.name == "sources":
        return try_out(lake, trial_lake, trial_step.stage, planned, count, deadline)
    if len(planned):
        return try_out(lake, trial_lake, step.stage, planned, count, deadline)
    return try_out(trial_lake, trial_lake, trial_step.stage, trial_step.plan(), 1 << 20, deadline)
