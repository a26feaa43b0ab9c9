"""Record one attempt to fetch a URL as a row of `fetches`."""

import time
from dataclasses import dataclass, field

from opendimo.pipelines.engine.stage import DataError, Failure, PermanentError, TransientError
from opendimo.pipelines.sources.downloads.urls import hide_secrets, host_of, url_sha256
from opendimo.storage_schemas.ids import stable_id
from opendimo.storage_schemas.rows import Row


@dataclass
class Attempt:
    """Facts of one download attempt, filled in as they become known."""

    url: str
    started: int = field(default_factory=time.time_ns)
    http_status: int | None = None
    received: int = 0
    resumed_from: int = 0
    etag: str | None = None

    def row(self, sha256: str | None = None, error: Failure | None = None) -> Row:
        """Return the `fetches` row of an attempt that ended with a file (`sha256`) or with an error."""
        return {
            "fetch_id": stable_id("fetch", self.url, self.started),
            "url": hide_secrets(self.url),
            "url_sha256": url_sha256(self.url),
            "host": host_of(self.url),
            "status": status(error),
            "reason": error.reason if error else None,
            "http_status": self.http_status,
            "bytes": self.received,
            "resumed_from": self.resumed_from,
            "etag": self.etag,
            "sha256": sha256,
            "started": self.started,
            "seconds": (time.time_ns() - self.started) / 1e9,
            "next_attempt_at": error.not_before if isinstance(error, TransientError) else None,
        }


def status(error: Failure | None) -> str:
    """Return the status of an attempt, one of `pipelines.sources.links.STATUSES`."""
    match error:
        case None:
            return "fetched"
        case TransientError():
            return "transient"
        case PermanentError(reason="gone" | "blocked"):
            return str(error.reason)
        case DataError() | PermanentError():
            return "refused"
        case _:
            raise TypeError(f"no status for {type(error).__name__}")
