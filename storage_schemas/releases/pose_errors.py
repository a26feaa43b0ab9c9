"""Summarise the quality of pose labels: stored quality measures, and errors against ground truth if available."""

from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from opendimo.storage_schemas.rows import arrow_to_rows, in_list

MEASURES = ("reprojection", "jitter", "foot_skate", "cross_view", "weight")
BODY = 22  # number of body joints, the first of the 52
CLIPS = 1000  # maximum number of clips for the accuracy; ids are hashes, so the first ones are a random sample
CHUNK = 32
SIDES = {"legs": ((4, 5), (7, 8)), "arms": ((18, 19), (20, 21)), "torso": ((1, 2), (16, 17))}
"""Pairs (left, right) of joints: knees and ankles, elbows and wrists, hips and shoulders."""
CLEARLY, FAR = 0.8, 0.08
"""Share of the distance to the own side, and that distance in metres, from which on two sides count as exchanged."""


def quality(poses: lance.LanceDataset, pose_ids: pa.Array) -> dict[str, Any]:
    """Return by estimator: number of labels, share of valid frames, median and worst-tenth threshold of measures."""
    selected = pc.is_in(poses.to_table(columns=["pose_id"])["pose_id"], value_set=pose_ids)
    parts, start = [], 0
    for batch in poses.scanner(columns=["estimator", "valid", *MEASURES], scan_in_order=True).to_batches():
        used = pa.Table.from_batches([batch]).filter(selected.slice(start, batch.num_rows))
        start += batch.num_rows
        frames = pc.list_value_length(used["valid"])
        rows = used["valid"].combine_chunks()
        parents = pc.list_parent_indices(rows).to_numpy()
        flags = np.asarray(pc.fill_null(pc.list_flatten(rows), False), bool)
        valid = np.bincount(parents[flags], minlength=used.num_rows)
        parts.append(used.drop(["valid"]).append_column("frames", frames).append_column("ok", [valid]))
    if not parts:
        return {}
    labels = pa.concat_tables(parts)
    names = sorted(pc.unique(labels["estimator"]).to_pylist())
    return {name: _summary(labels.filter(pc.equal(labels["estimator"], name))) for name in names}


def _summary(labels: pa.Table) -> dict[str, Any]:
    valid = (pc.sum(labels["ok"]).as_py() or 0) / (pc.sum(labels["frames"]).as_py() or 1)
    summary: dict[str, Any] = {"labels": labels.num_rows, "valid": round(valid, 6)}
    for measure in MEASURES:
        worst = 0.1 if measure == "weight" else 0.9  # all others are errors: higher is worse
        median, worst_tenth = (pc.quantile(labels[measure], q=q)[0].as_py() for q in (0.5, worst))
        if median is not None:
            summary[measure] = {"median": median, "worst_tenth": worst_tenth}
    return summary


def accuracy(poses: lance.LanceDataset, clip_ids: pa.Array) -> dict[str, Any]:
    """Return by estimator the MPJPE (pelvis-aligned) and PA-MPJPE (after a similarity alignment per frame) in mm, and
    the share of frames in which left and right are exchanged.

    All compare the 22 body joints with the ground truth over the frames that are valid in both. `clips` is the number
    of labels that were compared.
    """
    labels = poses.to_table(columns=["clip_id", "estimator", "pose_id"])
    labels = labels.filter(pc.is_in(labels["clip_id"], value_set=clip_ids))
    true = pc.equal(labels["estimator"], "truth")
    truth, other = labels.filter(true), labels.filter(pc.invert(true))
    both = pc.unique(other.filter(pc.is_in(other["clip_id"], value_set=truth["clip_id"].combine_chunks()))["clip_id"])
    chosen = sorted(both.to_pylist())[:CLIPS]
    errors: dict[str, list[NDArray[np.float64]]] = {}
    for start in range(0, len(chosen), CHUNK):
        condition = in_list("clip_id", chosen[start : start + CHUNK])
        columns = ["clip_id", "estimator", "joints_3d", "valid"]
        rows = arrow_to_rows(poses.to_table(columns=columns, filter=condition))
        true_of = {row["clip_id"]: row for row in rows if row["estimator"] == "truth"}
        for row in rows:
            if row["estimator"] != "truth":
                errors.setdefault(row["estimator"], []).append(_errors(row, true_of[row["clip_id"]]))
    return {
        name: {
            "clips": len(parts),
            "mpjpe_mm": round(float(joined[0].mean()), 3),
            "pa_mpjpe_mm": round(float(joined[1].mean()), 3),
            "swapped": round(float(joined[2].mean()), 6),
        }
        for name, parts in sorted(errors.items())
        if (joined := np.concatenate(parts, axis=1)).size
    }


def _errors(label: dict[str, Any], truth: dict[str, Any]) -> NDArray[np.float64]:
    """Return MPJPE and PA-MPJPE of each frame in mm, and 1 if left and right are exchanged: [3, frames]."""
    frames = min(len(label["valid"]), len(truth["valid"]))
    valid = np.logical_and(label["valid"][:frames], truth["valid"][:frames])
    ours, true = (np.asarray(row["joints_3d"], np.float64)[:frames][valid][:, :BODY] for row in (label, truth))
    return np.stack([1000 * mpjpe(ours, true), 1000 * pa_mpjpe(ours, true), swapped(ours, true)])


def swapped(ours: NDArray[np.float64], true: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return [T] whether left and right are exchanged in joints [T, 22, 3] that are compared after aligning the pelvis.

    That is so if legs, arms or torso are `CLEARLY` closer to the truth of the other side, and `FAR` from their own.
    """
    a, b = ours - ours[:, :1], true - true[:, :1]
    flags = np.zeros(len(a), bool)
    for pairs in SIDES.values():
        left, right = zip(*pairs, strict=True)
        own, other = (
            np.linalg.norm(a[:, order] - b[:, [*left, *right]], axis=-1).mean(1)
            for order in ([*left, *right], [*right, *left])
        )
        flags |= (other < CLEARLY * own) & (own > FAR)
    return flags


def mpjpe(ours: NDArray[np.float64], true: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return [T] the mean distance of joints [T, J, 3] after aligning joint 0, the pelvis."""
    off = (ours - ours[:, :1]) - (true - true[:, :1])
    return np.asarray(np.linalg.norm(off, axis=-1).mean(-1))


def pa_mpjpe(ours: NDArray[np.float64], true: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return [T] the mean distance of joints [T, J, 3] after Procrustes alignment (rotation, scale and translation).

    scipy aligns one frame at a time, which takes ten times as long.
    """
    a, b = ours - ours.mean(1, keepdims=True), true - true.mean(1, keepdims=True)
    u, s, vt = np.linalg.svd(np.swapaxes(a, 1, 2) @ b)
    s[:, -1] *= np.sign(np.linalg.det(u @ vt))  # exclude reflections
    u[:, :, -1] *= np.sign(np.linalg.det(u @ vt))[:, None]
    scale = s.sum(-1) / np.maximum((a**2).sum((1, 2)), 1e-12)
    return np.asarray(np.linalg.norm(scale[:, None, None] * (a @ (u @ vt)) - b, axis=-1).mean(-1))
