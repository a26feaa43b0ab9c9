"""Define the columns of `fetches`: the result of one attempt to fetch a URL."""

import pyarrow as pa

from opendimo.storage_schemas.fields import integer, key, real, text

FETCH: list[pa.Field] = [
    key("fetch_id", "hash of the URL and the start time of the attempt"),
    text("url", "the URL without parts that may be secret: user, password, fragment, values of the query"),
    text("url_sha256", "hash of the complete URL"),
    text("host", "host and port of the URL; the bucket for an object store"),
    text("status", "fetched, blocked, gone, transient, or refused (the file exists but is not acceptable)"),
    text("reason", "reason code of a failure, as in rejects", null=True),
    integer("http_status", "last HTTP status; null if there was no response", null=True),
    integer("bytes", "bytes received by this attempt", unit="bytes"),
    integer("resumed_from", "bytes received by earlier attempts and reused by this one", unit="bytes"),
    text("etag", "entity tag that the server gave for the file", null=True),
    text("sha256", "hash of the file; null if it was not fetched", null=True),
    integer("started", "start time, nanoseconds since 1970 UTC", unit="ns"),
    real("seconds", "duration, including the wait for the host's rate limit", unit="s"),
    integer(
        "next_attempt_at",
        "earliest time of the next attempt as requested by the server, nanoseconds since 1970 UTC",
        null=True,
        unit="ns",
    ),
]
