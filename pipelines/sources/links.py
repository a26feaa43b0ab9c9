"""Link-rot report: URLs per host by the status of the last download attempt."""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from opendimo.pipelines.engine.columns import last_of
from opendimo.storage_schemas.lake.lake import Lake

STATUSES = ("fetched", "blocked", "gone", "transient", "refused")
"""Status of an attempt. `refused`: the URL serves something that cannot be ingested, or (reason `changed`) a different
file than the one fetched before."""


@dataclass(frozen=True)
class HostLinks:
    """Number of URLs of a host by the status of their last attempt.

    `bytes` and `seconds` sum over all attempts that received data; `reasons` counts the reasons of the failed ones.
    """

    host: str
    urls: int
    fetched: int
    blocked: int
    gone: int
    transient: int
    refused: int
    attempts: int
    bytes: int
    seconds: float
    reasons: dict[str, int]

    @property
    def rate(self) -> float | None:
        """Return the throughput in bytes per second, waiting included; None if nothing was fetched."""
        return self.bytes / self.seconds if self.seconds else None


def links(lake: Lake) -> list[HostLinks]:
    """Return the hosts in a lake's `fetches`, sorted by number of URLs, largest first."""
    columns = ["url_sha256", "host", "status", "reason", "bytes", "seconds", "started"]
    attempts = lake.dataset("fetches").to_table(columns=columns)
    last = last_of(attempts, ["url_sha256"], lambda rows: [rows["started"]])
    statuses, reasons = _counts(last, "status"), _counts(last, "reason")
    received = pc.and_(pc.equal(attempts["status"], "fetched"), pc.greater(attempts["bytes"], 0))  # leave out probes
    sums = _by_host(attempts.filter(received), [("bytes", "sum"), ("seconds", "sum")])
    tried = _by_host(attempts, [([], "count_all")])
    hosts = [
        HostLinks(
            host=host,
            urls=sum(counts.values()),
            **{status: counts.get(status, 0) for status in STATUSES},
            attempts=tried[host]["count_all"],
            bytes=sums[host]["bytes_sum"] if host in sums else 0,
            seconds=sums[host]["seconds_sum"] if host in sums else 0.0,
            reasons=reasons.get(host, {}),
        )
        for host, counts in statuses.items()
    ]
    return sorted(hosts, key=lambda links: (-links.urls, links.host))


def _counts(rows: pa.Table, column: str) -> dict[str, dict[str, int]]:
    """Count the rows per host and value of a column."""
    counts: dict[str, dict[str, int]] = {}
    for row in rows.group_by(["host", column]).aggregate([([], "count_all")]).to_pylist():
        if row[column] is not None:
            counts.setdefault(row["host"], {})[row[column]] = row["count_all"]
    return counts


def _by_host(rows: pa.Table, sums: list[tuple[str | list[str], str]]) -> dict[str, dict[str, Any]]:
    return {row["host"]: row for row in rows.group_by("host").aggregate(sums).to_pylist()}
