"""Create the manifest of a release: counts, label quality, and the configs and code version that produced it."""

import json
from importlib.metadata import version as package_version
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.lake.ledger import newest_captions_first
from opendimo.storage_schemas.releases.held_out import held_out
from opendimo.storage_schemas.releases.pins import Pinned
from opendimo.storage_schemas.releases.policy import ReleasePolicy
from opendimo.storage_schemas.releases.pose_errors import accuracy, quality
from opendimo.storage_schemas.releases.selection import Codes, Counts, Selection, codes, column, count, lookup


def make_manifest(lake: Lake, tables: Pinned, chosen: Selection, policy: ReleasePolicy) -> dict[str, Any]:
    """Return the manifest (JSON-able) of the kept pairs of a selection."""
    kept = chosen.kept
    driving, target = chosen.driving[kept], chosen.target[kept]
    used_clips = np.unique(np.concatenate([driving, target]))
    used_poses = np.unique(chosen.pose[kept & (chosen.pose >= 0)])
    clips = chosen.clips.take(pa.array(used_clips))
    seconds = _numbers(clips, "frames") * _numbers(clips, "fps_den") / np.maximum(_numbers(clips, "fps_num"), 1)
    pairs_of_clip = np.bincount(target, minlength=chosen.clips.num_rows)
    return {
        "pairs": int(kept.sum()),
        "candidates": len(kept),
        "dropped": chosen.dropped,
        "by_kind": count(chosen.kind, kept),
        "by_source": count(chosen.source_kind, kept),
        "by_split": count(chosen.split, kept),
        "held_out": held_out(chosen),
        "by_licence": _by_licence(chosen, pairs_of_clip),
        "by_camera_term": _by_term(lake, tables, chosen, pairs_of_clip),
        "captures": len(np.unique(codes(chosen.capture)[kept])),
        "subjects": len(set(np.unique(codes(chosen.subject)[kept]).tolist()) - {-1}),
        "clips": len(used_clips),
        "hours": round(float(seconds.sum()) / 3600, 6),
        "labels": quality(tables["poses"], chosen.pose_ids.take(pa.array(used_poses))),
        "accuracy": accuracy(tables["poses"], clips["clip_id"].combine_chunks()),
        "policy": policy.as_json(),
        "configs": _configs(lake, tables, chosen.where, clips),
        "code_version": package_version("opendimo"),
    }


def _by_licence(chosen: Selection, pairs_of_clip: NDArray[np.int64]) -> Counts:
    """Count pairs by the licence of the target's source."""
    licence = pc.dictionary_encode(pc.fill_null(chosen.sources["licence"], "unknown").combine_chunks())
    of_clip = np.append(codes(licence), len(licence.dictionary))[chosen.clip_source]
    pairs = np.bincount(of_clip, weights=pairs_of_clip, minlength=len(licence.dictionary) + 1)
    counts = dict(zip(licence.dictionary.to_pylist(), pairs[:-1].astype(int).tolist(), strict=True))
    counts["unknown"] = counts.get("unknown", 0) + int(pairs[-1])
    return {name: n for name, n in counts.items() if n}


def newest_captions(lake: Lake, captions: Any, clip_ids: pa.Array) -> tuple[Codes, Codes]:
    """Return the row in `captions` (storage order) and the index in `clip_ids` of the current caption of each clip."""
    clip = lookup(column(captions, "clip_id"), clip_ids)
    run_ids, captioners = (pa.chunked_array([column(captions, name)]) for name in ("run_id", "captioner"))
    sort_keys = newest_captions_first(lake, run_ids, captioners)
    order = np.lexsort((*(key.to_numpy() for key in reversed(sort_keys)), clip))
    last = np.append(clip[order][1:] != clip[order][:-1], True) & (clip[order] >= 0)
    rows = order[last].astype(np.int32)
    return rows, clip[rows]


def _by_term(lake: Lake, tables: Pinned, chosen: Selection, pairs_of_clip: NDArray[np.int64]) -> Counts:
    """Count pairs by camera term of the target clip's newest caption; a pair counts once for each of its terms."""
    rows, clip = newest_captions(lake, tables["captions"], chosen.clips["clip_id"].combine_chunks())
    terms = column(tables["captions"], "camera_terms").take(pa.array(rows))
    words = pc.dictionary_encode(pc.struct_field(pc.list_flatten(terms), "term"))
    width = max(1, len(words.dictionary))
    parents = pc.list_parent_indices(terms).to_numpy()
    distinct = np.unique(clip[parents].astype(np.int64) * width + codes(words))
    counts = np.bincount(distinct % width, weights=pairs_of_clip[distinct // width], minlength=width)
    return {word: int(n) for word, n in zip(words.dictionary.to_pylist(), counts, strict=False) if n}


def _configs(lake: Lake, tables: Pinned, where: str, clips: pa.Table) -> dict[str, list[Any]]:
    """Return by stage the version and config of every run that produced rows of the pinned tables, oldest first."""
    runs = pa.chunked_array([pc.unique(clips["run_id"])])
    for name in tables.keys() - {"sources", "clips", "clip_videos", "pairs"}:
        runs = pa.chunked_array([*runs.chunks, pc.unique(column(tables[name], "run_id"))])
    runs = pa.chunked_array([*runs.chunks, pc.unique(column(tables["pairs"], "run_id", where))])
    ledger = lake.scan("ledger", ["run_id", "stage", "config", "committed_at"])
    ledger = ledger.filter(pc.is_in(ledger["run_id"], value_set=runs.combine_chunks())).sort_by("committed_at")
    configs: dict[str, list[Any]] = {}
    for stage, text in zip(ledger["stage"].to_pylist(), ledger["config"].to_pylist(), strict=True):
        config = json.loads(text)
        if stage and config not in configs.setdefault(stage, []):
            configs[stage].append(config)
    return configs


def _numbers(table: pa.Table, name: str) -> NDArray[np.float64]:
    return np.asarray(table[name], dtype=np.float64)
