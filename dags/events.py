"""Events that start other work."""

import uuid

from prefect.events import emit_event

PUBLISHED = "dataset.release.published"


def release_published(lake: str, release_id: str, sha256: str) -> None:
    """Say that a release is there. The event's id is made of the release: said twice, it starts training once."""
    emit_event(
        event=PUBLISHED,
        resource={"prefect.resource.id": f"opendimo.release.{release_id}"},
        payload={"lake": lake, "release": release_id, "sha256": sha256},
        id=uuid.uuid5(uuid.NAMESPACE_URL, f"opendimo/{lake}/{release_id}/{sha256}"),
    )
