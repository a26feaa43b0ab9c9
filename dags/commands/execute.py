"""Execute the requests of a command: run them, or forecast them under `dimo plan`."""

import sys
from typing import TYPE_CHECKING

import typer

from opendimo.dags.options import Trial

if TYPE_CHECKING:
    from opendimo.dags.requests import Request
    from opendimo.pipelines.engine.work_status import Account


MANY_REJECTED = 3
"""Exit code if too many inputs are rejected."""


def execute(
    ctx: typer.Context,
    lake: str,
    requests: "list[Request]",
    json_: bool,
    prefect_api: str | None = None,
    ray_address: str | None = None,
    max_rejected: float = 1.0,
) -> None:
    """Run requests in a session and show the account of each stage.

    `max_rejected`: see `check_rejected`.

    Under `dimo plan`, where `ctx.obj` is a `Trial`, show forecasts instead.
    """
    from opendimo.dags import show
    from opendimo.dags.forecasts import forecasts

    if isinstance(ctx.obj, Trial):
        expected_work = forecasts(lake, requests, ctx.obj)
        return show.as_json([vars(forecast) for forecast in expected_work]) if json_ else show.forecasts(expected_work)
    from opendimo.dags.progress import display
    from opendimo.dags.session import lake_session

    with lake_session(lake, prefect_api, ray_address), display():
        from opendimo.dags.flows.data import run

        accounts = [account for request in requests for account in run(lake, request)]
    if json_:
        show.as_json(show.accounts_json(accounts))
    else:
        show.funnel(accounts, "Inputs of this command, with the work of earlier runs on them")
    check_rejected(accounts, max_rejected)


def check_rejected(accounts: "list[Account]", limit: float) -> None:
    """Raise `typer.Exit` with code `MANY_REJECTED` if the share of rejected inputs of a stage reaches `limit`."""
    for account in accounts:
        rejected = sum(account.rejected.values())
        if rejected and rejected >= limit * account.inputs:
            line = f"{account.stage}: {rejected} of {account.inputs} inputs are rejected; `dimo status` tells why"
            print(line, file=sys.stderr)
            raise typer.Exit(MANY_REJECTED)
