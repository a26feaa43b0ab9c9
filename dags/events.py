"""Prefect events that trigger other work."""

import uuid

from prefect.events import emit_event

PUBLISHED = "dataset.release.published"


def release_published(lake: str, release_id: str, sha256: str) -> None:
    """Emit the event that a release is usable.

    The event id is derived from the release, so that emitting it twice triggers training once.
    """
    emit_event(
        event=PUBLISHED,
        resource={"prefect.resource.id": f"opendimo.release.{release_id}"},
        payload={"lake": lake, "release": release_id, "sha256": sha256},
        id=uuid.uuid5(uuid.NAMESPACE_URL, f"opendimo/{lake}/{release_id}/{sha256}"),
    )
