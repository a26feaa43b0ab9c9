"""Names and tags of flow runs and keys of artifacts, which say what runs on which lake."""

import re
from hashlib import sha256
from pathlib import Path
from typing import Any

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext

from opendimo.dags.runs import PREFIX, process_tag
from opendimo.storage_schemas.lake.uri import lake_uri

NAMING = ("kind", "name", "release", "stage")
"""Parameters whose values are part of a flow run's name."""
COMMON_NAMES = ("lake", "data")
"""Folder names that need the parent folder's name to tell lakes apart."""


def lake_name(lake: str) -> str:
    """Return a short name of a lake: the last part of its path, with its parent if that is a common name."""
    parts = [part for part in re.split(r"[/\\]", lake_uri(lake)) if part]
    return "/".join(parts[-2:]) if parts[-1] in COMMON_NAMES else parts[-1]


def run_name() -> str:
    """Return the name of the current flow run: the flow, what it works on, and the lake or output folder."""
    context = FlowRunContext.get()
    if context is None or context.flow is None:
        raise RuntimeError("run_name must be called while a flow run starts")
    parameters = context.parameters or {}
    subject = [str(parameters[name]) for name in NAMING if parameters.get(name) is not None]
    return " ".join([context.flow.name, *subject, *_place(parameters)])


def tag_run(flow: Any, flow_run: FlowRun, state: Any) -> None:
    """Tag a flow run that starts with its flow, its lake and its process (a hook of `prefect.flow`)."""
    kept = [tag for tag in flow_run.tags if not tag.startswith(PREFIX)]
    place = [f"lake:{name}" for name in _place(flow_run.parameters)]
    with get_client(sync_client=True) as client:
        client.update_flow_run(flow_run.id, tags=sorted({*kept, f"flow:{flow.name}", *place, process_tag()}))


def artifact_key(what: str, lake: str) -> str:
    """Return the key of an artifact about a lake; later artifacts of the same key are its versions."""
    return f"{_slug(what)}-{lake_slug(lake)}"


def lake_slug(lake: str) -> str:
    """Return a name of a lake for keys: lower-case letters, digits and dashes, different for different lakes."""
    return f"{_slug(lake_name(lake))}-{sha256(lake_uri(lake).encode()).hexdigest()[:4]}"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _place(parameters: dict[str, Any]) -> list[str]:
    """Return the name of the lake or of the output folder of a flow run, if it has one."""
    if lake := parameters.get("lake"):
        return [lake_name(str(lake))]
    return [Path(str(parameters["out"])).name] if parameters.get("out") else []
