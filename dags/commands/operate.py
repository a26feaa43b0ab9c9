"""`dimo serve`: run the services and deployments on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from opendimo.dags.options import LakeOption, PrefectApi, RayAddress


def serve(
    lake: LakeOption,
    config: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="TOML file: schedule, training of new releases, limits, webhook."
        ),
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the Prefect dashboard.")] = 4200,
    prefect_api: PrefectApi = None,
    ray_address: RayAddress = None,
) -> None:
    """Run a Prefect server, a Ray cluster and a worker, from which people, schedules and events start all flows.

    Everything listens on this machine only. Other commands on the same lake use this server while it runs. Ctrl-C stops
    it; flows that were started from deployments go on at the next `dimo serve`.

    Examples:

    dimo serve --lake /data/lake

    dimo serve --lake /data/lake --config serve.toml --port 4300
    """
    from opendimo.dags.progress import console
    from opendimo.dags.serving.config import ServeConfig
    from opendimo.dags.serving.serve import serving
    from opendimo.storage_schemas.settings import load_settings

    settings = load_settings(config, ServeConfig) if config else ServeConfig()
    if settings.training is not None:
        settings.training.recipe.config()  # a wrong recipe is an error now, not when a release is published
    console.print("starting a Prefect server, Ray and a worker (takes some seconds) ...")
    with serving(lake, settings, port, prefect_api, ray_address) as running:
        console.print(f"dashboard    {running.api.removesuffix('/api')}")
        console.print(f"lake         {lake}")
        console.print(f"deployments  {', '.join(running.deployments)}", soft_wrap=True)
        if settings.dataset is not None:
            console.print(f"schedule     dataset: {settings.dataset.cron} ({settings.dataset.timezone})")
        if settings.training is not None:
            console.print(f"trigger      a published release starts its training, in {settings.training.runs}")
        if settings.metrics_port is not None:
            console.print(f"metrics      http://127.0.0.1:{settings.metrics_port}/metrics")
        running.watch(console.print)
