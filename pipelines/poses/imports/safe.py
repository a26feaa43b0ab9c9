"""Load result files without running code that they contain: pickles of plain values, numpy arrays and torch tensors.

A pickle names functions to call. `load` allows the few that rebuild arrays and tensors, and refuses others by name.
Formats: `pickle`, joblib's pickles (arrays follow the stream, see `joblib.numpy_pickle`; zlib, gzip, bz2, xz), .npy and
.npz with or without objects (numpy's NEP 1), `torch.save` (by `weights_only`), and JSON.
"""

import bz2
import gzip
import io
import json
import lzma
import pickle
import zipfile
import zlib
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from opendimo.pipelines.engine.stage import DataError

MAX_BYTES = 4 << 30
"""Largest file, unpacked."""
COMPRESSED: dict[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b": gzip.GzipFile,
    b"BZ": bz2.BZ2File,
    b"\xfd7zXZ": lzma.LZMAFile,
    b"\x5d\x00": lzma.LZMAFile,
}
"""Files of these libraries by their first bytes."""
PYTHON_UNPICKLER: Any = pickle._Unpickler  # type: ignore[attr-defined]
PLAIN = {"dict": dict, "list": list, "set": set, "tuple": tuple, "int": int, "float": float, "str": str, "bool": bool}


def load(path: Path, most: int = MAX_BYTES) -> Any:
    """Return the content of a file. Tensors are returned as numpy arrays.

    Raises `DataError` if the file is unreadable, larger than `most` bytes, or names anything that is not allowed.
    """
    try:
        if path.stat().st_size > most:
            raise DataError(f"{path}: {path.stat().st_size} bytes are more than {most}: split the file")
        head = path.open("rb").read(16)
        if path.suffix == ".json":
            return json.loads(path.read_text())
        if head.startswith(b"\x93NUMPY"):
            return _npy(path.read_bytes())
        if head.startswith(b"PK"):
            return _archive(path, most)
        return _unpickled(_unpacked(path.read_bytes(), most))
    except DataError as error:
        raise error if str(path) in str(error) else DataError(f"{path}: {error}") from error
    except (ValueError, EOFError, OSError, KeyError, IndexError, TypeError, AttributeError, MemoryError) as error:
        raise DataError(f"{path}: unreadable: {error}") from error
    except (pickle.UnpicklingError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, RuntimeError) as error:
        raise DataError(f"{path}: unreadable: {error}") from error


def _archive(path: Path, most: int) -> Any:
    """Read an .npz, or a file of `torch.save`, which is a zip, too."""
    with zipfile.ZipFile(path) as archive:
        if (size := sum(part.file_size for part in archive.infolist())) > most:
            raise DataError(f"{size} bytes unpacked are more than {most}: split the file")
        names = archive.namelist()
        if any(name.endswith("data.pkl") for name in names):
            return arrays(_torch(io.BytesIO(path.read_bytes())))
        return {name.removesuffix(".npy"): _npy(archive.read(name)) for name in names if name.endswith(".npy")}


def _torch(file: io.BytesIO) -> Any:
    import torch

    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = str(error).partition("Unsupported global: GLOBAL ")[2].split(" ")[0]
        raise DataError(f"refused: the file calls {named or error}, which could run code") from error


def _npy(content: bytes) -> Any:
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    if not dtype.hasobject:
        return np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    objects = _unpickled(file.read())
    return arrays(objects.item() if shape == () else objects.tolist())


def _unpacked(content: bytes, most: int) -> bytes:
    if content[:1] == b"x" and content[1:2] in b"\x01\x5e\x9c\xda":
        inflater = zlib.decompressobj()
        unpacked = inflater.decompress(content, most + 1)
    else:
        opener = next((COMPRESSED[magic] for magic in COMPRESSED if content.startswith(magic)), None)
        if opener is None:
            return content
        file = io.BytesIO(content)
        with gzip.GzipFile(fileobj=file) if opener is gzip.GzipFile else opener(file) as packed:
            unpacked = packed.read(most + 1)
    if len(unpacked) > most:
        raise DataError(f"more than {most} bytes unpacked: split the file")
    return unpacked


def _unpickled(content: bytes) -> Any:
    return arrays(_Restricted(io.BytesIO(content)).load())


class _Wrapped:
    """Stands for joblib's `NumpyArrayWrapper`: its state describes an array whose bytes follow in the stream."""

    subclass: Any
    shape: tuple[int, ...]
    order: str
    dtype: np.dtype[Any]

    def read(self, file: Any) -> Any:
        if self.dtype.hasobject:
            return _Restricted(file).load()
        if getattr(self, "numpy_array_alignment_bytes", None) is not None:
            file.read(file.read(1)[0])  # padding, by its length
        count = int(np.prod(self.shape, dtype=np.int64))
        content = file.read(count * self.dtype.itemsize)
        return np.frombuffer(content, self.dtype, count).reshape(self.shape, order="F" if self.order == "F" else "C")


def _storage(content: bytes) -> Any:
    return _torch(io.BytesIO(content))


def _encoded(text: str, codec: str) -> bytes:
    """Rebuild bytes as pickles of protocol 2 write them."""
    if codec != "latin1":
        raise DataError(f"refused: bytes in the code {codec}")
    return text.encode("latin1")


ALLOWED: dict[tuple[str, str], Any] = {
    **{(module, name): kind for name, kind in PLAIN.items() for module in ("builtins", "__builtin__")},
    ("collections", "OrderedDict"): OrderedDict,
    ("collections", "defaultdict"): defaultdict,
    ("_codecs", "encode"): _encoded,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy.core.multiarray", "scalar"): np.float64(0).__reduce__()[0],
    ("numpy.core.numeric", "_frombuffer"): np.empty(0).__reduce_ex__(5)[0],
    ("joblib.numpy_pickle", "NumpyArrayWrapper"): _Wrapped,
    ("torch.storage", "_load_from_bytes"): _storage,
}
"""What a pickle may name: constructors of plain values, and functions that rebuild arrays and tensors."""
TENSORS = {("torch._utils", "_rebuild_tensor_v2"), ("torch", "device"), ("torch", "Size")}


def _allowed(module: str, name: str) -> Any:
    named = module.replace("numpy._core", "numpy.core"), name
    if named in ALLOWED:
        return ALLOWED[named]
    if named in TENSORS:
        import torch

        return getattr(torch._utils if module == "torch._utils" else torch, name)
    kind = getattr(np, name, None) if module == "numpy" else None
    return kind if isinstance(kind, type) and issubclass(kind, np.generic) else _refuse(module, name)


def _refuse(module: str, name: str) -> Any:
    raise DataError(f"refused: the file calls {module}.{name}, which could run code")


class _Restricted(PYTHON_UNPICKLER):  # type: ignore[misc]
    """The unpickler of Python's library written in Python, which lets `load_build` read what follows in the stream."""

    dispatch: ClassVar[dict[int, Any]] = dict(PYTHON_UNPICKLER.dispatch)

    def __init__(self, file: Any) -> None:
        super().__init__(file)
        self.file = file

    def find_class(self, module: str, name: str) -> Any:
        return _allowed(module, name)

    def persistent_load(self, identity: Any) -> Any:
        raise DataError("refused: the file refers to objects outside of itself")

    def load_build(self) -> None:
        super().load_build()
        if isinstance(self.stack[-1], _Wrapped):
            self.stack.append(self.stack.pop().read(self.file))

    dispatch[pickle.BUILD[0]] = load_build


def arrays(content: Any) -> Any:
    """Return `content` with numpy arrays for tensors, and plain containers."""
    if isinstance(content, dict):
        return {key: arrays(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [arrays(value) for value in content]
    if hasattr(content, "detach"):
        return content.detach().float().numpy() if content.is_floating_point() else content.detach().numpy()
    return content
