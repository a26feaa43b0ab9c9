"""What requests would do: forecasts of their stages, where needed after doing a few pieces of work for real."""

import time
from collections.abc import Sequence
from tempfile import TemporaryDirectory

from opendimo.dags.options import Trial
from opendimo.dags.requests import Request, Step
from opendimo.pipelines.engine.planned import Planned
from opendimo.pipelines.progress import Forecast, Tried, forecast, measured, try_out
from opendimo.storage_schemas.lake.lake import Lake, is_lake


def forecasts(lake: str, requests: Sequence[Request], trial: Trial) -> list[Forecast]:
    """Forecast each stage of the requests. Nothing is written to `lake`, and none is made where there is none yet."""
    with TemporaryDirectory() as empty, TemporaryDirectory() as trial_folder:
        home = Lake(lake if is_lake(lake) else empty)
        trial_lake = Lake(trial_folder) if trial.count else None
        found: list[Forecast] = []
        deadline = time.monotonic() + 60 * trial.minutes
        for request in requests:
            trial_steps = request.steps(trial_lake or home)
            for step, trial_step in zip(request.steps(home), trial_steps, strict=True):
                planned = step.plan()
                tried = _try_out(home, trial_lake, step, trial_step, planned, trial.count, deadline)
                found.append(forecast(home, step.stage.name, planned, tried, found))
        return found


def _try_out(
    lake: Lake, trial_lake: Lake | None, step: Step, trial_step: Step, planned: Planned, count: int, deadline: float
) -> Tried | None:
    """Do a few pieces of work of a step of which no run is known: of what is left in the lake, or else of what the
    steps before made of theirs. Sources are fetched into the lake of the trial, all else is read where it is."""
    if trial_lake is None or measured(lake, step.stage.name, planned.revision) is not None:
        return None
    if step.stage.name == "sources":
        return try_out(lake, trial_lake, trial_step.stage, planned, count, deadline)
    if len(planned):
        return try_out(lake, trial_lake, step.stage, planned, count, deadline)
    return try_out(trial_lake, trial_lake, trial_step.stage, trial_step.plan(), 1 << 20, deadline)
