"""Flows that create releases and decide about them."""

from pathlib import Path
from typing import Annotated, Literal, cast
from uuid import UUID

from prefect import get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.assets import materialize
from prefect.cache_policies import NO_CACHE
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput
from prefect.settings import get_current_settings
from pydantic import Field

from opendimo.dags.assets import release_asset, stage_asset
from opendimo.dags.events import PENDING, PUBLISHED, release_event
from opendimo.dags.flows.labelled import labelled_flow
from opendimo.dags.flows.parameters import LakeUri, ReleaseId
from opendimo.dags.follow import MEGABYTE, follow
from opendimo.dags.labels import artifact_key
from opendimo.dags.release_card import markdown
from opendimo.dags.reviews import end_decided_reviews
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.releases import decisions
from opendimo.storage_schemas.releases.approval import approve_release, reject_release
from opendimo.storage_schemas.releases.policy import ReleasePolicy
from opendimo.storage_schemas.releases.release import Release, create_release, find_release, open_release, open_row
from opendimo.storage_schemas.rows import Row

REVIEW_SECONDS = 30 * 24 * 3600
"""Time for a person to decide about a release; then the review fails, and `dimo release approve` is left."""


class Decision(RunInput):
    """The answer of a person about a release: the fields of the form in the dashboard."""

    decision: Literal["approve", "reject"]
    by: str = Field(description="Your name, stored with the decision.", min_length=1)
    note: str | None = Field(default=None, description="Reason or remark, stored with the decision.")


@labelled_flow()
def publish(
    lake: LakeUri,
    name: Annotated[str, Field(description="Name of the release; the version number is assigned.")],
    policy: ReleasePolicy | None = None,
) -> str:
    """Create the next release of `name` from the newest pairs; return NAME@VERSION.

    Emits the event `PUBLISHED` if the release is usable, and `PENDING` if it needs an approval.
    """
    home = Lake(lake, existing=True)
    row = _create(home, name, policy)
    release = open_row(home, row)
    if row["state"] in (decisions.USABLE, decisions.PENDING):
        event = PUBLISHED if row["state"] == decisions.USABLE else PENDING
        release_event(event, lake, release.id, release.sha256)
    held_out = release.manifest.get("held_out", {"pairs": 0, "why_not": {}})  # absent in releases of older versions
    get_run_logger().info("%s: %d of %d pairs are held out", release.id, held_out["pairs"], release.manifest["pairs"])
    for kind, reason in held_out["why_not"].items():
        get_run_logger().warning("%s: no %s pair is held out: %s", release.id, kind, reason)
    _show_card(release, lake, row["state"])
    return release.id


@labelled_flow()
def approve(
    lake: LakeUri,
    release: ReleaseId,
    by: Annotated[str, Field(description="Person who makes the decision.")],
    note: Annotated[str | None, Field(description="Note on the review, stored with the decision.")] = None,
) -> bool:
    """Approve a release for training, emit the event `PUBLISHED`, and end a review that waits for this decision.

    Returns whether the state changed; False if the release was already approved.
    """
    changed = approve_release(Lake(lake, existing=True), release, by, note)
    release_event(PUBLISHED, lake, release, open_release(lake, release).sha256)
    end_decided_reviews(lake)
    return changed


@labelled_flow(persist_result=True)
def review(
    lake: LakeUri,
    release: ReleaseId,
    report: Annotated[str | None, Field(description="Address or folder of a report on the lake, to link to.")] = None,
) -> str:
    """Show the card of a release, suspend until a person approves or rejects it, and return its state.

    The form has the card, and links to the artifact with the card and to the report.

    Only as a deployment: the process ends while it waits. It starts again from the top when the run is resumed.
    """
    home = Lake(lake, existing=True)
    if (state := find_release(home, release)["state"]) != decisions.PENDING:
        get_run_logger().info("%s is %s: nothing to decide", release, state)
        return str(state)
    opened = open_row(home, find_release(home, release))
    card = _links(_show_card(opened, lake, state, report), report) + _card(opened, state)
    get_run_logger().info("%s waits for a decision: read its card under Artifacts, then press Resume", release)
    answer = suspend_flow_run(
        wait_for_input=Decision.with_initial_data(description=card), timeout=REVIEW_SECONDS, key="decision"
    )
    if answer.decision == "approve":
        approve(lake, release, answer.by, answer.note)
    else:
        reject_release(home, release, answer.by, answer.note)
    get_run_logger().info("%s: %s by %s", release, answer.decision, answer.by)
    return str(find_release(home, release)["state"])


def _create(lake: Lake, name: str, policy: ReleasePolicy | None) -> Row:
    """Create a release as a task, which materializes its asset; return its row."""
    asset = release_asset(lake.uri, name)

    @materialize(
        asset,
        asset_deps=[stage_asset(lake.uri, "pairs")],
        name="create_release",
        task_run_name=f"create {name}",
        cache_policy=NO_CACHE,
    )
    def create() -> Row:
        with follow("hash files (MB)", MEGABYTE) as report:
            row = create_release(lake, name, policy, report)
        asset.add_metadata({"release": row["release_id"], "pairs": row["pairs"], "state": row["state"]})
        return row

    return create()


def _card(release: Release, state: str) -> str:
    return markdown(release.id, release.sha256, state, release.manifest)


def _show_card(release: Release, lake: str, state: str, report: str | None = None) -> UUID:
    """Store the card of a release, after a link to the report, as an artifact of the flow run; return its id."""
    key = artifact_key(f"release {release.id.partition('@')[0]}", lake)
    text = _links(None, report) + _card(release, state)
    made = create_markdown_artifact(key=key, markdown=text, description=f"Card of {release.id} in {lake}")
    return cast(UUID, made)


def _links(card: UUID | None, report: str | None) -> str:
    """Return links to the artifact of a card and to a report, as Markdown."""
    dashboard = get_current_settings().ui_url
    links = [f"[Card]({dashboard}/artifacts/artifact/{card})"] if card is not None and dashboard else []
    if report is not None:
        page = Path(report) / "index.html"
        address = page.absolute().as_uri() if page.is_file() else report
        links.append(f"[Report]({address}) `{report}`")  # browsers open no links from a server to files: copy the path
    return " · ".join(links) + ("\n\n" if links else "")
