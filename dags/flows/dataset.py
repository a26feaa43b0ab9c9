"""The flow from sources to a release, for a schedule or the demo."""

import os
from typing import Annotated

from pydantic import Field

from opendimo.dags.flows import data
from opendimo.dags.flows.labelled import labelled_flow
from opendimo.dags.flows.parameters import LakeUri
from opendimo.dags.flows.releases import publish
from opendimo.dags.requests import Ingest
from opendimo.pipelines.captions.openai_server import OpenAIServer
from opendimo.pipelines.captions.qwen import QwenLocal
from opendimo.pipelines.engine.runner import ray_session
from opendimo.pipelines.latents.stage import LatentsConfig
from opendimo.pipelines.quality.policy import Policy
from opendimo.storage_schemas.releases.policy import ReleasePolicy


@labelled_flow(name="dataset")
def build_dataset(
    lake: LakeUri,
    sources: Annotated[
        list[Ingest], Field(description="Folders and lists to ingest; what is known already is skipped.")
    ],
    latents: LatentsConfig | None = None,
    name: Annotated[str | None, Field(description="Release to publish at the end, if `latents` is given.")] = None,
    policy: Policy | None = None,
    release_policy: ReleasePolicy | None = None,
    vlm: QwenLocal | OpenAIServer | None = None,
) -> str | None:
    """Ingest, cut, measure, label and caption; with `latents` also encode, and with `name` publish a release.

    Only new or changed work is done. Returns NAME@VERSION, or None without a release.
    """
    with ray_session(os.environ.get("RAY_ADDRESS")):
        for source in sources:
            data.run(lake, source)
        data.cut(lake, policy=policy)
        data.measure(lake)
        data.label(lake, policy=policy)
        data.caption(lake, vlm, policy)
        if latents is not None:
            data.encode(lake, latents, policy)
    return publish(lake, name, release_policy) if name and latents is not None else None
