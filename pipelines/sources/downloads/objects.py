"""Download an object of a store (s3://, gs://, az://) into a part file.

Credentials and endpoint come from the environment.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import obstore
from obstore.exceptions import (
    BaseError,
    InvalidPathError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import from_url

from opendimo.pipelines.engine.stage import DataError, Failure, PermanentError, TransientError
from opendimo.pipelines.sources.config import SourcesConfig
from opendimo.pipelines.sources.downloads import answers, hosts
from opendimo.pipelines.sources.downloads.attempt import Attempt
from opendimo.pipelines.sources.downloads.parts import Part, Version
from opendimo.pipelines.sources.downloads.urls import host_of, url_name

PIECE = 1 << 20


@dataclass
class ObjectFetch:
    """Download of one object."""

    part: Part
    config: SourcesConfig
    attempt: Attempt
    deadline: float

    def run(self, url: str) -> None:
        """Stream the object at `url`, or the missing rest of it, into the part.

        Raises `PermanentError`, `TransientError` or `DataError`, each with a reason.
        """
        name = url_name(url)
        bucket, _, key = url.partition("://")[2].partition("/")
        with _named_errors(name), hosts.turn(host_of(url), self.config, self.deadline):
            store = from_url(f"{url.partition('://')[0]}://{bucket}")
            about = obstore.head(store, key)
            if not about["size"]:
                raise DataError(f"{name}: the object is empty", reason="empty")
            answers.check_size(about["size"], name, self.config)
            version = Version(about["size"], about["e_tag"])  # some stores give no entity tag
            rest = self.part.size and version.etag and self.part.version.etag == version.etag
            self.attempt.etag, self.attempt.resumed_from = version.etag, self.part.size if rest else 0
            self.part.resume() if rest else self.part.begin(version)
            options: obstore.GetOptions = {"range": {"offset": self.part.size}}
            if version.etag:
                options["if_match"] = version.etag
            answer = obstore.get(store, key, options=options)
            for piece in answer.stream(min_chunk_size=PIECE):
                self._append(bytes(piece), name)

    def _append(self, piece: bytes, name: str) -> None:
        if time.monotonic() > self.deadline:
            limit = f"{self.config.download_timeout_s:g} s"
            text = f"{name}: not finished after {limit}: a retry resumes, or raise download_timeout_s"
            raise TransientError(text, reason="timeout")
        if not self.part.size:
            answers.check_start(piece, name)
        self.part.append(piece)
        self.attempt.received += len(piece)


@contextmanager
def _named_errors(name: str) -> Iterator[None]:
    """Convert errors of the store into failures with a reason, without their messages: these may quote requests."""
    try:
        yield
    except Failure:
        raise
    except (NotFoundError, FileNotFoundError):
        raise PermanentError(f"{name}: no such object or bucket; correct or drop it", reason="gone") from None
    except (PermissionDeniedError, UnauthenticatedError, PermissionError):
        text = f"{name}: the store denies access: check the credentials in the environment"
        raise PermanentError(text, reason="blocked") from None
    except PreconditionError:
        text = f"{name}: the object changed during the download; will be retried"
        raise TransientError(text, reason="changed") from None
    except (InvalidPathError, ValueError):
        raise DataError(f"{name}: not a valid object name: correct the URL", reason="bad_url") from None
    except BaseError as error:
        text = f"{name}: the store does not answer ({type(error).__name__}); will be retried"
        raise TransientError(text, reason="network") from None
