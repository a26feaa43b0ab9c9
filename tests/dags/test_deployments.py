"""The deployments of `dimo serve` and those of `docker/prefect.yaml`, without a server."""

import json
import re
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from jinja2 import Environment
from packaging.requirements import Requirement
from prefect.flows import load_flow_from_entrypoint
from prefect.server.schemas.actions import WorkPoolCreate

from opendimo.dags.serving.config import ServeConfig, Training
from opendimo.dags.serving.deployments import FLOWS, deployments
from opendimo.dags.serving.metrics import LakeMetrics
from opendimo.dags.serving.notify import MESSAGE
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.settings import load_settings
from opendimo.storage_schemas.tables import TABLES
from opendimo.training.recipe import Recipe
from tests.storage_schemas.release_rows import small_lake

ROOT = Path(__file__).parents[2]
CONFIG = ServeConfig(training=Training(Recipe("base"), "/runs/", names=("dance", "walk")), clean_cron="0 3 * * *")


@pytest.fixture(scope="module")
def written() -> dict[str, dict[str, Any]]:
    """Return the deployments of the file by the name of their flow."""
    entries = yaml.safe_load((ROOT / "docker" / "prefect.yaml").read_text())["deployments"]
    return {load_flow_from_entrypoint(entry["entrypoint"]).name: entry for entry in entries}


def test_the_file_has_the_flows_triggers_and_queues_of_serve(written: dict[str, dict[str, Any]]) -> None:
    made = {deployment.flow_name: deployment for deployment in deployments("/lake", CONFIG, {})}
    assert set(written) == set(made) == {flow.name for flow in FLOWS}
    for name, entry in written.items():
        events = [trigger["expect"] for trigger in entry.get("triggers", [])]
        assert events == [sorted(trigger.expect) for trigger in made[name].triggers], name
        assert ("concurrency_limit" in entry) == (made[name].concurrency_limit is not None), name
        assert ("schedules" in entry) == bool(made[name].schedules), name


def test_a_trigger_is_for_releases_of_its_lake_with_these_names() -> None:
    [train] = [made for made in deployments("/data/lake", CONFIG, {}) if made.flow_name == "train"]
    [trigger] = train.triggers
    labels = trigger.match.model_dump()
    assert labels == {
        "prefect.resource.id": ["opendimo.release.dance@*", "opendimo.release.walk@*"],
        "opendimo.lake": "/data/lake",
    }
    assert trigger.parameters["out"]["template"] == "/runs/{{ event.payload.release }}"
    assert train.parameters["recipe"] == Recipe("base")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("runs_at_once = 0", "runs_at_once and gpu_slots must be 1 or more"),
        (
            "[training]\nruns = '/r'\nrecipe.base = 'b'\nrecipe.presett = 'tiny'",
            "unknown key 'training.recipe.presett'",
        ),
        ("[training]\nruns = '/r'\nrecipe.base = 'b'\nrecipe.preset = 'small'", "training.recipe.preset"),
        ("[dataset]\ncron = '0 2 * * *'\nsources = [{kind = 'web', path = '/x'}]", "dataset.sources.0.kind"),
    ],
)
def test_a_wrong_configuration_is_named(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "serve.toml"
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        load_settings(file, ServeConfig)


def test_the_configuration_in_the_readme_is_valid(tmp_path: Path) -> None:
    [text] = re.findall(r"^```toml\n(runs_at_once.*?)^```", (ROOT / "dags" / "README.md").read_text(), re.M | re.S)
    (tmp_path / "serve.toml").write_text(text)
    config = load_settings(tmp_path / "serve.toml", ServeConfig)
    made = {deployment.flow_name: deployment for deployment in deployments("/lake", config, {})}
    assert made["dataset"].schedules[0].schedule.timezone == "Europe/Zurich"
    assert made["train"].parameters["recipe"].config().batch_size == 32


def test_the_compose_file_names_files_and_services_that_exist() -> None:
    folder = ROOT / "docker"
    compose = yaml.safe_load((folder / "compose.yaml").read_text())
    services = compose["services"]
    for name, service in services.items():
        assert set(service.get("depends_on", ())) <= set(services), name
        sources = [mount.split(":")[0] for mount in service.get("volumes", ())]
        for source in sources:
            assert (folder / source).exists() if source.startswith("./") else source in compose["volumes"], source
        assert name == "bucket" or ("restart" in service and "healthcheck" in service) or name == "grafana", name
    for file in ("compose.yml", "one-machine.yml"):
        jobs = yaml.safe_load((folder / "prometheus" / file).read_text())["scrape_configs"]
        assert [job["job_name"] for job in jobs] == ["opendimo", "ray", "prefect"]
    load_settings(folder / "serve.toml", ServeConfig)


def test_the_kubernetes_work_pool_joins_the_ray_cluster_of_the_other_file() -> None:
    folder = ROOT / "docker" / "kubernetes"
    template = json.loads((folder / "work-pool.json").read_text())
    WorkPoolCreate(name="opendimo", type="kubernetes", base_job_template=template)
    del template["variables"]["properties"]["ray"]
    with pytest.raises(ValueError, match=r"variable\(s\): ray\."):  # so that the check above means something
        WorkPoolCreate(name="opendimo", type="kubernetes", base_job_template=template)
    default = {
        name: field.get("default")
        for name, field in json.loads((folder / "work-pool.json").read_text())["variables"]["properties"].items()
    }
    cluster = yaml.safe_load((folder / "ray.yaml").read_text())
    name, spec = cluster["metadata"]["name"], cluster["spec"]
    assert (default["ray"], default["ray_token"]) == (f"{name}-head-svc:6379", name)  # as KubeRay names them
    pods = [group["template"]["spec"] for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"])]
    pods.append(template["job_configuration"]["job_manifest"]["spec"]["template"]["spec"])
    user = {"runAsNonRoot": True, "runAsUser": 1000, "fsGroup": 1000}
    for pod in pods:
        [container] = pod["containers"]
        assert pod["securityContext"] == user
        assert container["image"] in (default["image"], "{{ image }}")
        assert container["envFrom"] == [{"secretRef": {"name": "opendimo-lake"}}]
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    requirements = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    [ray] = [made for made in map(Requirement, requirements) if made.name == "ray"]
    assert ray.specifier.contains(spec["rayVersion"])


def test_every_metric_of_the_dashboard_is_exported(tmp_path: Path) -> None:
    Lake(tmp_path / "lake")
    run = tmp_path / "runs" / "dance@1"
    run.mkdir(parents=True)
    step = {"step": 7, "loss": 0.5, "seconds": 1.5, "data_seconds": 0.25}
    (run / "metrics.jsonl").write_text(json.dumps(step) + "\n" + '{"event": "follow"}\n{"step": 8, "lo')
    found = {family.name: family for family in LakeMetrics(str(tmp_path / "lake"), str(tmp_path / "runs")).collect()}
    text = (ROOT / "docker" / "grafana" / "opendimo.json").read_text()
    assert set(re.findall(r"opendimo_\w+", text)) <= set(found)
    assert [sample.value for sample in found["opendimo_training_loss"].samples] == [0.5]
    rows = {sample.labels["table"]: sample.value for sample in found["opendimo_table_rows"].samples}
    assert set(rows) == set(TABLES) and set(rows.values()) == {0}


def test_an_unreadable_lake_is_a_metric_and_no_failed_scrape(tmp_path: Path) -> None:
    lake = small_lake(tmp_path / "lake")
    shutil.rmtree(Path(lake.table_uri("ledger")))
    [readable] = LakeMetrics(lake.uri).collect()
    assert [sample.value for sample in readable.samples] == [0]


def test_the_body_of_a_notification_is_json_whatever_the_message_says() -> None:
    environment = Environment()
    environment.filters["ui_url"] = lambda run: f"http://127.0.0.1/{run['id']}"
    message = 'no base "x"\nsecond line'
    run = {"id": "7", "name": "train dance@1", "state": {"name": "Failed", "message": message}}
    body = json.loads(environment.from_string(MESSAGE).render(flow_run=run))
    assert body == {"text": f"train dance@1 is Failed: {message}", "flow_run": "7", "url": "http://127.0.0.1/7"}
