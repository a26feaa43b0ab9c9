"""Carry out the requests of a command: run them, or inside `dimo plan` say what they would do."""

from typing import TYPE_CHECKING

import typer

from opendimo.dags.options import Trial

if TYPE_CHECKING:
    from opendimo.dags.requests import Request


def execute(
    ctx: typer.Context,
    lake: str,
    requests: "list[Request]",
    json_: bool,
    prefect_api: str | None = None,
    ray_address: str | None = None,
) -> None:
    """Run requests in a session and show the accounts of their stages; below `dimo plan`, whose context holds a
    `Trial`, show forecasts instead."""
    from opendimo.dags import show
    from opendimo.dags.forecasts import forecasts

    if isinstance(ctx.obj, Trial):
        expected = forecasts(lake, requests, ctx.obj)
        return show.as_json([vars(forecast) for forecast in expected]) if json_ else show.forecasts(expected)
    from opendimo.dags.progress import display
    from opendimo.dags.session import lake_session

    with lake_session(lake, prefect_api, ray_address), display():
        from opendimo.dags import flows

        accounts = [account for request in requests for account in flows.run(lake, request)]
    return show.as_json(show.accounts_json(accounts)) if json_ else show.funnel(accounts)
