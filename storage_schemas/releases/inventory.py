"""The files of a release: which they are, their sizes and hashes. Files of a lake are never written twice, so the hash
of one that an earlier release lists is taken over, and a release costs what is new in it."""

import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import lance

from opendimo.storage_schemas.ids import sha256_bytes
from opendimo.storage_schemas.lake.lake import Lake
from opendimo.storage_schemas.releases.pins import Pin

THREADS = 8

Entries = dict[str, tuple[int, str]]  # name in the lake -> size in bytes, SHA-256
OnProgress = Callable[[int, int], None]
"""Called with the bytes done and the bytes in all."""


def release_folder(release_id: str) -> str:
    """Where the files of NAME@VERSION lie in the lake. Raises `ValueError` where it is no such id."""
    name, _, version = release_id.partition("@")
    if not name or not version.isdecimal():
        raise ValueError(f"release {release_id!r}: write NAME@VERSION, such as dance@1")
    return f"releases/{name}/{version}"


def inventory_name(release_id: str) -> str:
    """The list of a release's files."""
    return f"{release_folder(release_id)}/files.json"


def write_inventory(
    lake: Lake, release_id: str, pins: list[Pin], known: Entries, on_progress: OnProgress = lambda *_: None
) -> str:
    """List and hash the pinned tables' files and the pairs' dataset; return the hash of the list."""
    sizes = file_sizes(lake, release_id, pins)
    fresh = {name: size for name, size in sizes.items() if known.get(name, (None, ""))[0] != size}
    hashes = {name: known[name][1] for name in sizes if name not in fresh} | hash_files(lake, fresh, on_progress)
    data = json.dumps({name: [size, hashes[name]] for name, size in sizes.items()}, indent=0).encode()
    lake.store.write(inventory_name(release_id), data)
    return sha256_bytes(data)


def read_inventory(lake: Lake, release_id: str, sha256: str) -> Entries:
    """The files of a release. Raises `ValueError` where the list itself is not what was written."""
    data = lake.store.read(inventory_name(release_id))
    if data is None or sha256_bytes(data) != sha256:
        what = "is missing" if data is None else "was changed"
        raise ValueError(f"release {release_id}: its list of files {inventory_name(release_id)} {what}")
    return {name: (entry[0], entry[1]) for name, entry in json.loads(data).items()}


def misfits(lake: Lake, entries: Entries) -> list[str]:
    """One line for each file that is missing or has another size; nothing is read but folders."""
    found: dict[str, int] = {}
    for folder in sorted({_dataset_folder(name) for name in entries}):
        found |= lake.store.sizes(folder)
    lines = []
    for name, (size, _) in entries.items():
        if found.get(name) != size:
            has = f"has {found[name]} bytes instead of {size}" if name in found else "is missing"
            lines.append(f"{name} {has}")
    return lines


def hash_files(lake: Lake, sizes: dict[str, int], on_progress: OnProgress) -> dict[str, str]:
    """SHA-256 of files by name, several at once; "" for one that cannot be read."""
    done, total, hashes = 0, sum(sizes.values()), {}

    def hashed(name: str) -> str:
        try:
            return lake.store.sha256(name)
        except OSError:
            return ""

    with ThreadPoolExecutor(THREADS) as pool:
        for name, sha256 in zip(sizes, pool.map(hashed, sizes), strict=True):
            hashes[name] = sha256
            done += sizes[name]
            on_progress(done, total)
    return hashes


def file_sizes(lake: Lake, release_id: str, pins: list[Pin]) -> dict[str, int]:
    """Every file that reading a release needs. Raises `ValueError` where one is missing."""
    sizes: dict[str, int] = {}
    for pin in pins:
        dataset = lake.dataset(pin["table"], pin["version"])
        sizes |= _files_of(dataset, f"tables/{pin['table']}.lance", lake)
    folder = f"{release_folder(release_id)}/pairs.lance"
    sizes |= _files_of(lance.dataset(f"{lake.uri}/{folder}", version=1), folder, lake)
    return dict(sorted(sizes.items()))


def _files_of(dataset: lance.LanceDataset, folder: str, lake: Lake) -> dict[str, int]:
    """Manifest, data and deletion files of one version, and the blobs, which lie in a folder named as their data."""
    fragments = dataset.get_fragments()
    names = [f"_versions/{2**64 - 1 - dataset.version:020d}.manifest"]  # newest first, as Lance counts
    names += [f"data/{file.path}" for fragment in fragments for file in fragment.data_files()]
    names += [file for fragment in fragments if (file := fragment.deletion_file())]
    found = lake.store.sizes(folder)
    if missing := [name for name in names if f"{folder}/{name}" not in found]:
        raise ValueError(f"{folder}/{missing[0]} is missing: the table is damaged")
    blobs = {f"{folder}/{name.removesuffix('.lance')}" for name in names if name.startswith("data/")}
    wanted = {f"{folder}/{name}" for name in names}
    return {name: size for name, size in found.items() if name in wanted or name.rpartition("/")[0] in blobs}


def _dataset_folder(name: str) -> str:
    return name[: name.index(".lance/") + len(".lance")]


def total_size(entries: Iterable[Any]) -> int:
    """Bytes of all files of an inventory."""
    return sum(size for size, _ in entries)
