"""Load the two sides of a release comparison as columns, and match their pairs."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from opendimo.storage_schemas.releases.policy import ReleasePolicy
from opendimo.storage_schemas.releases.release import Release
from opendimo.storage_schemas.releases.selection import Codes, Flags, column, lookup

WINDOW = ("driving_start", "target_start", "num_frames", "frame_step")
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Side:
    """One release and its pairs in storage order.

    `driving` and `target` are indices into `clip_ids`, which both sides share.
    """

    release: Release
    policy: ReleasePolicy
    driving: Codes
    target: Codes
    windows: pa.Table

    def text(self, name: str) -> pa.Array:
        """Return a column of the pairs."""
        return column(self.release.dataset("pairs"), name)

    def of_label(self, table: str, name: str, rows: Rows) -> pa.Array:
        """Return a column of the latents or pose labels of the pairs `rows`; null if a pair has none."""
        if not len(rows):
            return pa.array([], pa.string())
        key = {"latents": "latent_id", "poses": "pose_id"}[table]
        keys = self.text(key).take(pa.array(rows))
        labels = self.release.dataset(table)
        return column(labels, name).take(pc.index_in(keys, value_set=column(labels, key), skip_nulls=True))


def match(a: pa.Table, b: pa.Table) -> tuple[Rows, Rows, Rows, Rows]:
    """Match two tables by equal windows; return the rows only in `a`, only in `b`, and in both (as rows of `a` and as
    rows of `b`)."""
    keys = a.column_names
    left = a.append_column("a", pa.array(np.arange(a.num_rows)))
    right = b.append_column("b", pa.array(np.arange(b.num_rows)))
    joined = left.join(right, keys, join_type="full outer").select(["a", "b"])
    in_a, in_b = (_integers(joined[side]) for side in ("a", "b"))
    both = (in_a >= 0) & (in_b >= 0)
    order = np.argsort(in_a[both], kind="stable")  # the order of a join is not defined
    return np.sort(in_a[in_b < 0]), np.sort(in_b[in_a < 0]), in_a[both][order], in_b[both][order]


def open_side(release: Release, clip_ids: pa.Array) -> Side:
    """Load the columns of a release; `clip_ids` must contain all of its clips."""
    pairs = release.dataset("pairs")
    driving, target = (lookup(column(pairs, f"{side}_clip_id"), clip_ids) for side in ("driving", "target"))
    return Side(release, _policy_of(release), driving, target, windows_of(pairs, driving, target))


def _policy_of(release: Release) -> ReleasePolicy:
    """Return the policy of a release. Its limits may name columns that only older schemas had, so they are not
    checked."""
    stated = release.manifest.get("policy", ReleasePolicy().as_json())
    limits = ("floors", "ceilings")
    others = {name: value for name, value in stated.items() if name not in limits}
    policy = ReleasePolicy(**(others | {"licences": tuple(stated["licences"])}))
    for name in limits:
        getattr(policy, name).update(stated[name])
    return policy


def windows_of(pairs: Any, driving: Codes, target: Codes, where: str | None = None) -> pa.Table:
    """Return the columns that identify a pair: integers, one row per pair, in storage order."""
    columns = {name: column(pairs, name, where).cast(pa.int32()) for name in WINDOW}
    return pa.table({"driving": driving, "target": target, **columns})


def changed_fields(a: Side, b: Side, both_a: Rows, both_b: Rows) -> dict[str, Flags]:
    """Return for each field [common] whether it differs; texts are compared only for pairs whose latents differ."""
    changed = {
        name: different(a.text(stored).take(pa.array(both_a)), b.text(stored).take(pa.array(both_b)))
        for name, stored in (("pose", "pose_id"), ("latents", "latent_id"), ("weight", "weight"), ("kind", "kind"))
    }
    new_latents = np.flatnonzero(changed["latents"])
    texts = [side.of_label("latents", "text", rows[new_latents]) for side, rows in ((a, both_a), (b, both_b))]
    changed["text"] = np.zeros(len(both_a), bool)
    changed["text"][new_latents] = different(*texts)
    return changed


def different(old: pa.Array, new: pa.Array) -> Flags:
    """Return [N] whether two columns differ; null is equal to null."""
    same = pc.if_else(pc.and_(old.is_null(), new.is_null()), True, pc.fill_null(pc.equal(old, new), False))
    return ~np.asarray(same, bool)


def _integers(values: pa.ChunkedArray) -> Rows:
    """Convert a column of row numbers to integers, with -1 for null."""
    return np.asarray(pc.fill_null(values, -1), np.int64)
