"""The configuration of `dimo serve`: what runs on a schedule, what a release triggers, and limits."""

from dataclasses import dataclass

from opendimo.dags.requests import Ingest
from opendimo.pipelines.latents.stage import LatentsConfig
from opendimo.training.recipe import Recipe


@dataclass(frozen=True)
class Training:
    """Training of every release that is published. `runs`: folder, with an output folder per release.

    `names`: releases to train on, by name; `*` for all.
    """

    recipe: Recipe
    runs: str
    names: tuple[str, ...] = ("*",)
    processes: int | None = None


@dataclass(frozen=True)
class Dataset:
    """The flow `dataset` on a schedule. `cron`: minute, hour, day of month, month, day of week.

    `latents`: encode for a base model. `name`: release to publish if there are new pairs.
    """

    cron: str
    sources: tuple[Ingest, ...]
    latents: LatentsConfig | None = None
    name: str | None = None
    timezone: str = "UTC"


@dataclass(frozen=True)
class ServeConfig:
    """Settings of `dimo serve`.

    `runs_at_once`: flow runs at the same time. `gpu_slots`: how many of them may train or generate.
    `clean_cron`: schedule of `dimo clean`; None: never. `webhook_env`: environment variable with a URL that gets a POST
    request when a run fails. `metrics_port`: port of this machine with metrics for Prometheus; the next one has
    those of Ray. `metrics_host`: address that the former listens on. `report`: address or folder of a report on the
    lake (`dimo report`), which reviews of releases link to.
    """

    training: Training | None = None
    dataset: Dataset | None = None
    clean_cron: str | None = "0 4 * * 0"
    runs_at_once: int = 2
    gpu_slots: int = 1
    webhook_env: str | None = None
    metrics_port: int | None = None
    metrics_host: str = "127.0.0.1"
    report: str | None = None

    def __post_init__(self) -> None:
        if min(self.runs_at_once, self.gpu_slots) < 1:
            raise ValueError("runs_at_once and gpu_slots must be 1 or more")
