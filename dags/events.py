"""Prefect events about releases, which trigger other work."""

import uuid

from prefect.events import emit_event

PUBLISHED = "dataset.release.published"
"""A release is usable: training may start."""
PENDING = "dataset.release.pending"
"""A release needs the approval of a person."""


def release_event(event: str, lake: str, release_id: str, sha256: str) -> None:
    """Emit `PUBLISHED` or `PENDING` for a release.

    The event id is derived from the release, so that an event that is emitted again is known as the same.
    """
    emit_event(
        event=event,
        resource={
            "prefect.resource.id": f"opendimo.release.{release_id}",
            "prefect.resource.name": release_id,
            "opendimo.lake": lake,
        },
        payload={"lake": lake, "release": release_id, "sha256": sha256},
        id=uuid.uuid5(uuid.NAMESPACE_URL, f"opendimo/{lake}/{release_id}/{sha256}/{event}"),
    )
