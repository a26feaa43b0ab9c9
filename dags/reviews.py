"""End suspended reviews of releases that were decided elsewhere, for example on the command line."""

import os
import sys

import httpx

from opendimo.dags.serving.address import served_api
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.lake.uri import lake_uri
from opendimo.storage_schemas.releases.decisions import PENDING
from opendimo.storage_schemas.releases.release import list_releases


def end_decided_reviews(lake: str) -> list[str]:
    """Complete the suspended reviews of releases of `lake` that are no longer pending; return the releases.

    Call it in a session: it asks the Prefect server of the process.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter
    from prefect.states import Completed

    decided = {row["release_id"]: row for row in list_releases(Lake(lake)) if row["state"] != PENDING}
    suspended = {"tags": {"all_": ["flow:review"]}, "state": {"type": {"any_": ["PAUSED"]}}}
    ended = []
    with get_client(sync_client=True) as client:
        for run in client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate(suspended)):
            release = str(run.parameters["release"])
            if lake_uri(run.parameters["lake"]) == lake_uri(lake) and release in decided:
                row = decided[release]
                message = f"{release} is {row['state']}: decided by {row['decision']['by']}, not in this form"
                client.set_flow_run_state(run.id, Completed(message=message), force=True)
                ended.append(release)
    return ended


def end_reviews_on_running_server(lake: str, prefect_api: str | None) -> None:
    """Call `end_decided_reviews` on the server at `prefect_api`, at `PREFECT_API_URL` or of `dimo serve`, if any runs.

    Otherwise `dimo serve` does it when it starts. A server that does not answer is reported on stderr.
    """
    api = prefect_api or os.environ.get("PREFECT_API_URL") or served_api(Lake(lake).local / "session")
    if api is not None:
        from opendimo.dags.session import session

        try:
            with session(Lake(lake).local / "session", api, ray=False):
                end_decided_reviews(lake)
        except httpx.HTTPError as error:
            print(f"warning: the Prefect server at {api} does not answer, reviews stay open: {error}", file=sys.stderr)
