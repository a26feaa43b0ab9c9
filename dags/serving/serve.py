"""Run a Prefect server, a Ray cluster and a worker on this machine, with the deployments of all flows."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from opendimo.dags.reviews import end_decided_reviews
from opendimo.dags.runs import close_dead_runs, reschedule_stopped_runs
from opendimo.dags.services import Service, answers, free_port, is_free, prefect_server
from opendimo.dags.serving.address import announced
from opendimo.dags.serving.config import ServeConfig
from opendimo.dags.serving.metrics import serve_metrics
from opendimo.dags.session import environment, refresh_prefect_settings
from opendimo.pipelines.engine.runner import set_ray_token, use_loopback
from opendimo.storage_schemas.lake.lake import Lake

CHECK_SECONDS = 1.0
RESTARTS = 5
"""Restarts of a service within `RESTARTS_WITHIN_S`, after which `serve` gives up."""
RESTARTS_WITHIN_S = 600.0
FLOWS_STOP_SECONDS = 90.0
"""Time for running flows to stop: a training saves a checkpoint."""
LOST_SECONDS = 10.0
"""The same after Ray was lost, when nothing can be saved."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Serving:
    """What runs. `api`: URL of the Prefect API. `ray`: the Ray cluster, if it was started here.

    `owns_server`: whether the Prefect server was started here.
    """

    api: str
    services: tuple[Service, ...]
    ray: Service | None
    worker: Service
    owns_server: bool
    deployments: tuple[str, ...]

    def watch(self, say: Say) -> None:
        """Start services again that exit, until this is interrupted.

        Raises `RuntimeError` if a service exits again and again.
        """
        services = (*self.services, self.worker)
        exits: dict[str, list[float]] = {service.name: [] for service in services}
        while True:
            time.sleep(CHECK_SECONDS)
            for service in services:
                if (code := service.exit_code()) is None:
                    continue
                now = time.monotonic()
                recent = [at for at in exits[service.name] if now - at < RESTARTS_WITHIN_S]
                exits[service.name] = [*recent, now]
                if len(recent) == RESTARTS:
                    raise RuntimeError(f"{service.name} exited {RESTARTS + 1} times in 10 minutes: see {service.log}")
                say(f"{service.name} exited with code {code}: it is started again")
                self._restart(service)

    def _restart(self, service: Service) -> None:
        """Start a service again. With Ray or the worker, flows were lost: they are scheduled again."""
        if service is self.ray:
            self.worker.stop(LOST_SECONDS)
        service.stop()  # what is left of its process group
        if service is not self.worker:
            service.start()
            service.wait_until_ready()
        if service is self.ray or service is self.worker:
            reschedule_stopped_runs(pending=self.owns_server)
            self.worker.start()


@contextmanager
def serving(
    lake: str, config: ServeConfig, port: int, prefect_api: str | None = None, ray_address: str | None = None
) -> Iterator[Serving]:
    """Start the services and register the deployments; stop the services on exit.

    `port`: of the Prefect server. `prefect_api`, `ray_address`: existing services to use instead of starting them.
    Raises `ValueError` if the port is taken, if another process serves the lake, or if the variable of
    `config.webhook_env` is not set.
    """
    home = Lake(lake)
    state = home.local / "session"
    state.mkdir(parents=True, exist_ok=True)
    url = _webhook(config)
    if prefect_api is None and not is_free(port):
        raise ValueError(f"port {port} of this machine is in use: choose another one with --port")
    api = prefect_api or f"http://127.0.0.1:{port}/api"
    with ExitStack() as stack:
        stack.enter_context(environment(state))
        os.environ["PREFECT_API_URL"] = api
        refresh_prefect_settings()
        stack.enter_context(announced(state, api))
        services: list[Service] = []
        ray = None
        if prefect_api is None:
            services.append(prefect_server(state, port, metrics=config.metrics_port is not None))
        if ray_address is None:
            set_ray_token()
            use_loopback()
            ray_port = free_port()
            services.append(ray := ray_head(state, ray_port, config.metrics_port))
            ray_address = f"127.0.0.1:{ray_port}"
        os.environ["RAY_ADDRESS"] = ray_address
        for service in services:
            service.start()
            stack.callback(service.stop)
        for service in services:
            service.wait_until_ready()
        if not answers(api):
            raise ValueError(f"no Prefect server answers at {api}")
        close_dead_runs()
        end_decided_reviews(home.uri)
        names = register(home.uri, config, url)
        stack.callback(_reschedule)
        worker = prefect_worker(state)
        worker.start()
        stack.callback(worker.stop)
        if config.metrics_port is not None:
            runs = config.training.runs if config.training else None
            serve_metrics(config.metrics_host, config.metrics_port, home.uri, runs)
        yield Serving(api, tuple(services), ray, worker, prefect_api is None, names)


def register(lake: str, config: ServeConfig, webhook: str | None) -> tuple[str, ...]:
    """Create or update work pool, deployments, automations and slots on the server; return the deployments' names."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate

    from opendimo.dags.serving.deployments import POOL, deployments
    from opendimo.dags.serving.notify import notify_of_failures
    from opendimo.dags.slots import GPU

    with get_client(sync_client=True) as client:
        # a limit of the worker itself would end it when a suspended run is resumed at once (Prefect 3.8)
        pool = WorkPoolCreate(name=POOL, type="process", concurrency_limit=config.runs_at_once)
        client.create_work_pool(pool, overwrite=True)
        client.upsert_global_concurrency_limit_by_name(GPU, config.gpu_slots)
    made = deployments(lake, config, {"working_dir": str(Path.cwd())})
    for deployment in made:
        deployment.apply()
    notify_of_failures(webhook)
    return tuple(f"{deployment.flow_name}/{deployment.name}" for deployment in made)


def prefect_worker(state: Path) -> Service:
    """Return a worker that executes flow runs of the work pool as processes."""
    from opendimo.dags.serving.deployments import POOL

    command = ["prefect", "worker", "start", "--pool", POOL, "--type", "process"]
    return Service("the worker", command, state / "worker.log", {}, lambda: True, FLOWS_STOP_SECONDS)


def ray_head(state: Path, port: int, metrics_port: int | None) -> Service:
    """Return a Ray cluster of this machine, which listens on the loopback interface only."""
    command = ["ray.scripts.scripts", "start", "--head", "--block", f"--port={port}"]
    command += ["--include-dashboard=false", f"--object-store-memory={256 << 20}"]
    command += [] if metrics_port is None else [f"--metrics-export-port={metrics_port + 1}"]
    return Service("Ray", command, state / "ray.log", {}, lambda: not is_free(port))


def _reschedule() -> None:
    with suppress(httpx.HTTPError):  # the server may be gone as well; the next start then closes its runs
        reschedule_stopped_runs()


def _webhook(config: ServeConfig) -> str | None:
    if config.webhook_env is None:
        return None
    if not (url := os.environ.get(config.webhook_env)):
        raise ValueError(f"webhook_env: the environment variable {config.webhook_env} is not set")
    return url
