"""Export a release for training with other tools: WebDataset shards, or a folder that `datasets` reads.

Files are written atomically, so a killed export resumes where it stopped. Exporting the same release twice gives the
same bytes.
"""

import io
import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from opendimo.storage_schemas.lake.files import read_json, write_bytes, write_json
from opendimo.storage_schemas.releases.export_clips import Clips, Sample, clips_of
from opendimo.storage_schemas.releases.release import Release
from opendimo.storage_schemas.releases.verify import taken_down_since

FORMATS = ("webdataset", "huggingface")
SHARD_BYTES = 1_000_000_000
BATCH = 1 << 16

OnClips = Callable[[int, int], None]
"""Called with the number of exported clips and the total number of clips."""


def export(
    release: Release, out: Path, layout: str, shard_bytes: int = SHARD_BYTES, on_progress: OnClips = lambda *_: None
) -> int:
    """Write a release into the folder `out` and return the number of clips.

    `webdataset`: SPLIT-NNNNNN.tar of at most about `shard_bytes`, for each clip KEY.mp4, KEY.json and KEY.pose.npz.
    `huggingface`: SPLIT/XX/KEY.mp4, SPLIT/metadata.jsonl, poses/XX/KEY.npz and a card. Both: pairs.parquet. Raises
    `ValueError` for another layout, if `out` contains other files, or if a source of the release was taken down.
    """
    if layout not in FORMATS:
        raise ValueError(f"cannot export as {layout!r}: use {' or '.join(FORMATS)}")
    if sources := taken_down_since(release.lake, release)[0]:
        raise ValueError(
            f"release {release.id}: {len(sources)} of its sources were taken down since; create a new release"
        )
    request = {"release": release.id, "sha256": release.sha256, "format": layout, "shard_bytes": shard_bytes}
    _claim(out, request)
    clips = clips_of(release)
    splits = clips.table["split"].to_numpy(zero_copy_only=False)
    done, total = 0, clips.table.num_rows
    for split in sorted(set(splits.tolist())):
        rows = np.flatnonzero(splits == split)
        if layout == "webdataset":
            parts: Iterator[int] = _write_shards(clips, rows, split, out, shard_bytes)
        else:
            parts = _write_folder(clips, rows, split, out)
        for count in parts:
            done += count
            on_progress(done, total)
    _write_pairs(release, out / "pairs.parquet")
    if layout == "huggingface":
        write_bytes(out / "README.md", card(release).encode())
    return total


def card(release: Release) -> str:
    """Return the dataset card of a release: contents, numbers of pairs, and licences."""
    manifest = release.manifest
    splits = "".join(f"  - split: {split}\n    path: {split}/**\n" for split in sorted(manifest["by_split"]))
    counts = "".join(
        f"| {title} | {name} | {n} |\n"
        for title, key in (
            ("licence", "by_licence"),
            ("kind", "by_kind"),
            ("source", "by_source"),
            ("split", "by_split"),
        )
        for name, n in sorted(manifest[key].items())
    )
    return f"""---
license: other
configs:
- config_name: default
  data_files:
{splits}---
# {release.id}

{manifest["pairs"]} training pairs of {manifest.get("clips", "?")} clips from {manifest["captures"]} captures; release
`{release.id}`, SHA-256 `{release.sha256}`. Licence and attribution of every clip are in `metadata.jsonl`: keep to them.

| what | value | pairs |
|---|---|---|
{counts}
`pairs.parquet` says which clip drives which; `poses/XX/KEY.npz` holds the pose label of a clip (SMPL-X and MANO,
axis-angle in radians, metres).
"""


def _claim(out: Path, request: dict[str, Any]) -> None:
    """Begin an export or resume it. Raises `ValueError` if `out` contains other files or another export."""
    marker = out / "export.json"
    before = read_json(marker)
    if before is None and out.exists() and any(out.iterdir()):
        raise ValueError(f"{out} is not empty and contains no export: choose another folder")
    if before is not None and before != request:
        raise ValueError(
            f"{out} contains an export of {before['release']} as {before['format']}: choose another folder"
        )
    write_json(marker, request)


def _write_shards(clips: Clips, rows: NDArray[np.int64], split: str, out: Path, shard_bytes: int) -> Iterator[int]:
    sizes = clips.table["bytes"].to_numpy()[rows]
    shard_of = (np.cumsum(sizes) - sizes) // shard_bytes
    for number, shard in enumerate(np.unique(shard_of)):
        path, members = out / f"{split}-{number:06d}.tar", rows[shard_of == shard]
        if not path.exists():
            temporary = path.with_suffix(".tmp")
            with tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
                for sample in clips.samples(members):
                    _add(tar, sample)
            temporary.rename(path)
        yield len(members)


def _add(tar: tarfile.TarFile, sample: Sample) -> None:
    parts = {"mp4": sample.video, "json": json.dumps(sample.facts, sort_keys=True).encode(), "pose.npz": sample.pose}
    for end, data in parts.items():
        if data is not None:
            entry = tarfile.TarInfo(f"{sample.name}.{end}")  # its time stamp is 0, so shards are reproducible
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))


def _write_folder(clips: Clips, rows: NDArray[np.int64], split: str, out: Path) -> Iterator[int]:
    lines = out / split / "metadata.jsonl"
    if lines.exists():  # written last, so the split is complete
        yield len(rows)
        return
    temporary = lines.with_suffix(".tmp")
    temporary.parent.mkdir(parents=True, exist_ok=True)
    with open(temporary, "w", encoding="utf-8") as stream:
        for sample in clips.samples(rows):
            name = f"{sample.name[:2]}/{sample.name}.mp4"
            facts: dict[str, Any] = {"file_name": name, "pose_file": None, **sample.facts}
            _write_new(out / split / name, sample.video)
            if sample.pose is not None:
                facts["pose_file"] = f"poses/{sample.name[:2]}/{sample.name}.npz"
                _write_new(out / facts["pose_file"], sample.pose)
            stream.write(json.dumps(facts, sort_keys=True) + "\n")
            yield 1
    temporary.rename(lines)


def _write_new(path: Path, data: bytes) -> None:
    if not path.exists() or path.stat().st_size != len(data):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        temporary.write_bytes(data)
        temporary.rename(path)


def _write_pairs(release: Release, path: Path) -> None:
    if path.exists():
        return
    pairs = release.dataset("pairs")
    temporary = path.with_suffix(".tmp")
    with pq.ParquetWriter(temporary, pairs.schema.remove_metadata()) as writer:
        for batch in pairs.scanner(batch_size=BATCH).to_batches():
            writer.write_batch(batch.cast(pairs.schema.remove_metadata()))
    temporary.rename(path)
