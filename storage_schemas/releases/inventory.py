"""List the files of a release with their sizes and hashes.

Files of a lake are never rewritten, so hashes are reused from an earlier release that lists the same files. The cost of
a release is proportional to its new files.
"""

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
"""Called with the number of processed bytes and the total number of bytes."""


def release_folder(release_id: str) -> str:
    """Return the folder of the release NAME@VERSION in the lake. Raises `ValueError` if the id has another form."""
    name, _, version = release_id.partition("@")
    if not name or not version.isdecimal():
        raise ValueError(f"release {release_id!r}: write NAME@VERSION, such as dance@1")
    return f"releases/{name}/{version}"


def inventory_name(release_id: str) -> str:
    """Return the name of the list of a release's files."""
    return f"{release_folder(release_id)}/files.json"


def write_inventory(
    lake: Lake, release_id: str, pins: list[Pin], known: Entries, on_progress: OnProgress = lambda *_: None
) -> str:
    """List and hash the files of the pinned tables and of the pairs; return the hash of the list.

    `known` are files whose hashes can be reused.
    """
    sizes = file_sizes(lake, release_id, pins)
    new = {name: size for name, size in sizes.items() if known.get(name, (None, ""))[0] != size}
    hashes = {name: known[name][1] for name in sizes if name not in new} | hash_files(lake, new, on_progress)
    data = json.dumps({name: [size, hashes[name]] for name, size in sizes.items()}, indent=0).encode()
    lake.store.write(inventory_name(release_id), data)
    return sha256_bytes(data)


def read_inventory(lake: Lake, release_id: str, sha256: str) -> Entries:
    """Return the files of a release. Raises `ValueError` if the list is missing or was changed."""
    data = lake.store.read(inventory_name(release_id))
    if data is None or sha256_bytes(data) != sha256:
        what = "is missing" if data is None else "was changed"
        raise ValueError(f"release {release_id}: its list of files {inventory_name(release_id)} {what}")
    return {name: (entry[0], entry[1]) for name, entry in json.loads(data).items()}


def misfits(lake: Lake, entries: Entries) -> list[str]:
    """Return one line for each file that is missing or has another size; lists folders, but reads no files."""
    sizes: dict[str, int] = {}
    for folder in sorted({_dataset_folder(name) for name in entries}):
        sizes |= lake.store.sizes(folder)
    lines = []
    for name, (size, _) in entries.items():
        if sizes.get(name) != size:
            problem = f"has {sizes[name]} bytes instead of {size}" if name in sizes else "is missing"
            lines.append(f"{name} {problem}")
    return lines


def hash_files(lake: Lake, sizes: dict[str, int], on_progress: OnProgress) -> dict[str, str]:
    """Return the SHA-256 of files by name, computed in parallel; "" for a file that cannot be read."""
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
    """Return name and size of every file that is needed to read a release. Raises `ValueError` if one is missing."""
    sizes: dict[str, int] = {}
    for pin in pins:
        dataset = lake.dataset(pin["table"], pin["version"])
        sizes |= _files_of(dataset, f"tables/{pin['table']}.lance", lake)
    folder = f"{release_folder(release_id)}/pairs.lance"
    sizes |= _files_of(lance.dataset(f"{lake.uri}/{folder}", version=1), folder, lake)
    return dict(sorted(sizes.items()))


def _files_of(dataset: lance.LanceDataset, folder: str, lake: Lake) -> dict[str, int]:
    """Return manifest, data and deletion files of one version, and its blobs, stored in a folder named like the data
    file."""
    fragments = dataset.get_fragments()
    names = [f"_versions/{2**64 - 1 - dataset.version:020d}.manifest"]  # Lance numbers manifests in reverse
    names += [f"data/{file.path}" for fragment in fragments for file in fragment.data_files()]
    names += [file for fragment in fragments if (file := fragment.deletion_file())]
    sizes = lake.store.sizes(folder)
    if missing := [name for name in names if f"{folder}/{name}" not in sizes]:
        raise ValueError(f"{folder}/{missing[0]} is missing: the table is damaged")
    blob_folders = {f"{folder}/{name.removesuffix('.lance')}" for name in names if name.startswith("data/")}
    files = {f"{folder}/{name}" for name in names}
    return {name: size for name, size in sizes.items() if name in files or name.rpartition("/")[0] in blob_folders}


def _dataset_folder(name: str) -> str:
    return name[: name.index(".lance/") + len(".lance")]


def total_size(entries: Iterable[Any]) -> int:
    """Return the total size in bytes of inventory entries."""
    return sum(size for size, _ in entries)
