"""The columns of `fetches`: what an attempt to fetch a URL came to."""

import pyarrow as pa

from opendimo.storage_schemas.fields import integer, key, real, text

FETCH: list[pa.Field] = [
    key("fetch_id", "hash of the URL and when the attempt started"),
    text("url", "the URL without what may be secret: user, password, fragment, values of the query"),
    text("url_sha256", "hash of the whole URL"),
    text("host", "host and port of it; the bucket of an object store"),
    text("status", "fetched, blocked, gone, transient, or refused: there, but not what can be taken"),
    text("reason", "why it was not fetched, in one word as in rejects", null=True),
    integer("http_status", "the server's last answer; null where it gave none", null=True),
    integer("bytes", "bytes that this attempt received", unit="bytes"),
    integer("resumed_from", "bytes that earlier attempts had received and this one kept", unit="bytes"),
    text("etag", "the server's name for this version of the file", null=True),
    text("sha256", "hash of the file; null where it was not fetched", null=True),
    integer("started", "nanoseconds since 1970 UTC", unit="ns"),
    real("seconds", "how long it took, waiting for the host's turn included", unit="s"),
    integer(
        "next_attempt_at",
        "earliest time of another attempt by the server's word, nanoseconds since 1970 UTC",
        null=True,
        unit="ns",
    ),
]
