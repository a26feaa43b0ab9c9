"""What a lake holds, in a form in which two lakes can be compared."""

from opendimo.storage_schemas.ids import sha256_bytes
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.tables import TABLES

NONDETERMINISTIC = {
    "sources": {"fetched_at"},
    "rejects": {"next_attempt_at"},
    "fetches": {"fetch_id", "started", "seconds", "bytes", "resumed_from", "http_status"},
}
"""Columns that depend on time, on retries or on resumed downloads. `run_id`, which all tables have, is skipped too."""

Stored = dict[tuple[str, str, str], str]


def stored(lake: Lake) -> Stored:
    """Return every deterministic value by (table, key, column). The key of `fetches` is the hash of the URL.

    All attempts at a URL must agree in these columns.
    """
    values: Stored = {}
    for name, table in TABLES.items():
        if name == "ledger":
            continue
        key = "url_sha256" if name == "fetches" else table.key
        for row in lake.scan(name).to_pylist():
            for column in row.keys() - NONDETERMINISTIC.get(name, set()) - {"run_id"}:
                assert values.setdefault((name, row[key], column), value := portable(lake, row[column])) == value
        for column in table.blobs:
            keys = lake.column(name, table.key).to_pylist()
            for clip, content in zip(keys, lake.blobs(name, column, keys), strict=True):
                values[name, clip, column] = sha256_bytes(content)
    return values


def portable(lake: Lake, value: object) -> str:
    return repr(value).replace(lake.uri, "LAKE")


def differences(one: Stored, other: Stored) -> list[str]:
    both = sorted(one.keys() | other.keys())
    return [f"{k}: {one.get(k)} != {other.get(k)}"[:500] for k in both if one.get(k) != other.get(k)]
