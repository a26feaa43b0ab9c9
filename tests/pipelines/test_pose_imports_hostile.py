"""Tests that result files cannot run code, and that unreadable and oversized ones are errors that name the file."""

import gzip
import pickle
import subprocess
from collections import OrderedDict
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import torch

from opendimo.pipelines.engine.stage import DataError
from opendimo.pipelines.poses.imports.safe import load

PLAIN: dict[str, Any] = {
    "a": np.arange(12, dtype=np.float32).reshape(3, 4), "f": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "text": "x", "none": None, "list": [1, 2.5, (True,)], "scalar": np.float64(2.5), 3: np.array(["ab", "c"]),
    "ordered": OrderedDict(b=1), "set": {1},
}  # fmt: skip


class Hostile:
    """Unpickling it calls a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def write(path: Path, content: Any, how: str) -> None:
    match how:
        case "joblib":
            joblib.dump(content, path)
        case "joblib zlib":
            joblib.dump(content, path, compress=3)
        case "joblib gzip" | "joblib xz":
            joblib.dump(content, path, compress=(how.split()[1], 3))
        case "npy":
            with path.open("wb") as file:
                np.save(file, content)
        case "npz":
            with path.open("wb") as file:
                np.savez(file, content=np.array(content, object))
        case "torch" | "torch old":
            torch.save(content, path, _use_new_zipfile_serialization=how == "torch")
        case _:
            path.write_bytes(pickle.dumps(content, int(how)))


WAYS = ["0", "2", "4", "5", "joblib", "joblib zlib", "joblib gzip", "joblib xz", "npy", "npz"]


@pytest.mark.parametrize("how", WAYS)
def test_plain_values_and_arrays_are_read(how: str, tmp_path: Path) -> None:
    write(tmp_path / "file.pkl", PLAIN, how)
    read = load(tmp_path / "file.pkl")
    read = read["content"] if how == "npz" else read
    read = read.item() if isinstance(read, np.ndarray) else read
    assert np.array_equal(read["a"], PLAIN["a"]) and np.array_equal(read["f"], PLAIN["f"])
    assert (
        read["text"] == "x" and read["scalar"] == 2.5 and list(read[3]) == ["ab", "c"] and read["ordered"] == {"b": 1}
    )


@pytest.mark.parametrize("how", ["2", "4", "joblib", "npy", "torch"])
def test_tensors_are_read_as_arrays(how: str, tmp_path: Path) -> None:
    write(
        tmp_path / "file.pkl", {"t": torch.arange(6.0).reshape(2, 3), "h": [torch.ones(2, dtype=torch.bfloat16)]}, how
    )
    read = load(tmp_path / "file.pkl")
    assert np.array_equal(read["t"], np.arange(6.0).reshape(2, 3)) and read["h"][0].dtype == np.float32


@pytest.mark.parametrize("how", [*WAYS, "torch"])
@pytest.mark.parametrize(
    ("function", "named"),
    [
        (subprocess.getoutput, "subprocess.getoutput"), (eval, "builtins.eval"), (exec, "builtins.exec"),
        (getattr, "builtins.getattr"), (np.load, "numpy.load"), (torch.load, "torch.serialization.load"),
        (np.memmap, "numpy.memmap"),
    ],
)  # fmt: skip
def test_a_hostile_pickle_is_refused_by_name(how: str, function: Any, named: str, tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    write(tmp_path / "file.pkl", {"a": [Hostile(function, f"open({str(trace)!r}, 'w')")]}, how)
    what = named.split(".")[-1]
    with pytest.raises(DataError, match=rf"file.pkl: refused: the file calls \S*{what}, which could run code"):
        load(tmp_path / "file.pkl")
    assert not trace.exists()


def test_a_storage_inside_a_pickle_cannot_hide_a_call(tmp_path: Path) -> None:
    inner = tmp_path / "inner.pt"
    torch.save({"x": Hostile(eval, "1")}, inner)
    write(tmp_path / "file.pkl", Hostile(torch.storage._load_from_bytes, inner.read_bytes()), "4")
    with pytest.raises(DataError, match=r"refused: the file calls .*eval"):
        load(tmp_path / "file.pkl")


def test_objects_outside_of_the_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file.pkl").write_bytes(b"Psomewhere\n.")
    with pytest.raises(DataError, match="refers to objects outside"):
        load(tmp_path / "file.pkl")


@pytest.mark.parametrize("how", ["joblib zlib", "joblib gzip", "joblib xz", "npz"])
def test_sizes_are_bounded_before_they_are_unpacked(how: str, tmp_path: Path) -> None:
    write(tmp_path / "file.pkl", {"zeros": np.zeros(1 << 22)}, how)
    with pytest.raises(DataError, match="bytes"):
        load(tmp_path / "file.pkl", most=1 << 20)


@pytest.mark.parametrize(
    "content", [b"", b"garbage", b"PK\x03\x04", b"\x93NUMPY", b"\x80\x04", gzip.compress(b"x")[:9]]
)
def test_broken_files_are_errors_that_name_the_file(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "file.pkl").write_bytes(content)
    with pytest.raises(DataError, match=r"file\.pkl: "):
        load(tmp_path / "file.pkl")


@pytest.mark.parametrize("how", ["4", "joblib", "npy"])
def test_a_file_cut_short_is_an_error(how: str, tmp_path: Path) -> None:
    write(tmp_path / "file.pkl", PLAIN, how)
    whole = (tmp_path / "file.pkl").read_bytes()
    (tmp_path / "file.pkl").write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(DataError, match=r"file\.pkl: "):
        load(tmp_path / "file.pkl")
