"""The deployments: flows that people, schedules and events can start, with their defaults, limits and triggers."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from prefect import Flow
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.deployments.runner import EntrypointType, RunnerDeployment
from prefect.events import DeploymentEventTrigger
from prefect.events.schemas.events import ResourceSpecification
from prefect.schedules import Cron

from opendimo.dags.events import PENDING, PUBLISHED
from opendimo.dags.flows import data, releases, training, upkeep
from opendimo.dags.flows.dataset import build_dataset
from opendimo.dags.labels import lake_slug
from opendimo.dags.serving.config import Dataset, ServeConfig

POOL = "opendimo"
"""Work pool of all deployments."""
FLOWS: tuple[Flow[..., Any], ...] = (
    data.ingest,
    data.cut,
    data.measure,
    data.label,
    data.import_poses,
    data.caption,
    data.encode,
    build_dataset,
    releases.publish,
    releases.approve,
    releases.review,
    training.train,
    training.evaluate,
    upkeep.maintain,
)
"""All flows with a deployment."""
RELEASE = "{{ event.payload.release }}"
"""Template of the release that an event is about."""
ONE_AT_A_TIME = ("publish", "clean", "dataset", "train")
"""Flows of which a second run waits for the first."""


def deployments(lake: str, config: ServeConfig, job: Mapping[str, Any]) -> list[RunnerDeployment]:
    """Return the deployments of all flows with defaults for `lake`.

    `job`: job variables for the work pool, such as `working_dir`.
    """
    return [_deployment(flow, lake, config, job) for flow in FLOWS]


def _deployment(flow: Flow[..., Any], lake: str, config: ServeConfig, job: Mapping[str, Any]) -> RunnerDeployment:
    queue = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.ENQUEUE)
    made = flow.to_deployment(
        lake_slug(lake),
        parameters={"lake": lake} | _defaults(flow.name, config),
        schedules=_schedules(flow.name, config),
        triggers=_triggers(flow.name, lake, config),
        concurrency_limit=queue if flow.name in ONE_AT_A_TIME else None,
        work_pool_name=POOL,
        job_variables=dict(job),
        tags=["opendimo"],
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    if not isinstance(made, RunnerDeployment):
        raise TypeError("deployments must be made outside of coroutines")
    return made


def _defaults(name: str, config: ServeConfig) -> dict[str, Any]:
    """Return the default parameters of a flow besides the lake."""
    if name == "train" and config.training is not None:
        return {"recipe": config.training.recipe, "processes": config.training.processes}
    if name == "review":
        return {"report": config.report}
    return _dataset_parameters(config.dataset) if name == "dataset" and config.dataset is not None else {}


def _dataset_parameters(dataset: Dataset) -> dict[str, Any]:
    return {"sources": list(dataset.sources), "latents": dataset.latents, "name": dataset.name}


def _schedules(name: str, config: ServeConfig) -> list[Any]:
    if name == "dataset" and config.dataset is not None:
        return [Cron(config.dataset.cron, timezone=config.dataset.timezone)]
    return [Cron(config.clean_cron)] if name == "clean" and config.clean_cron else []


def _triggers(name: str, lake: str, config: ServeConfig) -> list[Any]:
    if name == "review":
        return [_on_release(PENDING, lake, "ask for approval", ("*",), {"release": RELEASE})]
    if name == "train" and config.training is not None:
        runs = config.training.runs.rstrip("/")
        parameters = {"release": RELEASE, "out": f"{runs}/{RELEASE}"}
        return [_on_release(PUBLISHED, lake, "train", config.training.names, parameters)]
    return []


def _on_release(
    event: str, lake: str, action: str, names: Sequence[str], templates: dict[str, str]
) -> DeploymentEventTrigger:
    """Run a deployment when an event about a release of `lake` with one of these names is emitted.

    `templates`: parameters, which may contain fields of the event.
    """
    releases = ["opendimo.release." + ("*" if name == "*" else f"{name}@*") for name in names]
    match = {"prefect.resource.id": releases, "opendimo.lake": lake}
    return DeploymentEventTrigger(
        name=f"{action}: {lake_slug(lake)}",
        expect={event},
        match=ResourceSpecification.model_validate(match),
        parameters={name: {"__prefect_kind": "jinja", "template": text} for name, text in templates.items()},
        within=timedelta(0),
    )
