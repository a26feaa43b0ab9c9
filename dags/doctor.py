"""Environment checks for `dimo doctor`, each with a fix for its failure."""

import importlib
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from importlib.metadata import PackageNotFoundError, version


@dataclass(frozen=True)
class Finding:
    """Result of one check. All checks with `needed` must be `ok` for the demo to run."""

    what: str
    ok: bool
    found: str
    fix: str
    needed: bool = True


class Absent(Exception):
    """An optional component is not available."""


def examine(lake: str | None = None) -> list[Finding]:
    """Run every check, and with `lake` read its tables. An exception in a check is reported as its finding."""
    return [_checked(*check) for check in CHECKS] + (_tables(lake) if lake else [])


def _tables(lake: str) -> list[Finding]:
    from opendimo.storage_schemas.lake.examine import examine as read
    from opendimo.storage_schemas.lake.lake import Lake

    fix = f"restore the table below {lake}/tables from a copy of the lake"
    return [
        Finding(f"table {state.table}", not state.damage, "; ".join(state.damage) or f"{state.rows} rows", fix)
        for state in read(Lake(lake))
    ]


def _checked(what: str, check: Callable[[], str], fix: str, needed: bool) -> Finding:
    try:
        return Finding(what, True, check(), fix, needed)
    except Absent as error:
        return Finding(what, False, str(error), fix, needed)
    except Exception as error:
        return Finding(what, False, f"{type(error).__name__}: {error}"[:200], fix, needed)


def _python() -> str:
    if not (3, 11) <= sys.version_info[:2] < (3, 13):
        raise RuntimeError(f"Python {sys.version.split()[0]}")
    return sys.version.split()[0]


def _packages() -> str:
    names = ("torch", "torchvision", "diffusers", "transformers", "ray", "prefect", "pylance", "smplx", "av")
    return ", ".join(f"{name} {version(name)}" for name in names)


def _one_opencv() -> str:
    names = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")
    installed = [name for name in names if _installed(name)]
    if len(installed) != 1:
        raise RuntimeError(f"{len(installed)} packages provide cv2: {', '.join(installed)}")
    importlib.import_module("cv2")
    return f"{installed[0]} {version(installed[0])}"


def _h264() -> str:
    import numpy as np

    from opendimo.storage_schemas.media.video import decode, encode

    frames = [np.full((32, 32, 3), 8 * i, np.uint8) for i in range(8)]
    if decode(encode(frames, Fraction(24))).shape != (8, 32, 32, 3):
        raise RuntimeError("encoding and decoding 8 frames did not return 8 frames")
    return "encodes and decodes"


def _encoders() -> str:
    from opendimo.storage_schemas.media.video import working_encoders

    working = working_encoders()
    if len(working) < 2:
        raise Absent(f"{working[0]} (software) only")
    return f"{', '.join(working)}; the first is used unless the --clips file sets encoder = ..."


def _landmarks() -> str:
    from pathlib import Path

    import mediapipe

    models = list(Path(mediapipe.__file__).parent.glob("modules/**/*.tflite"))
    if not models:
        raise RuntimeError("no models in the mediapipe package")
    return f"mediapipe {version('mediapipe')} with {len(models)} models"


def _vision_operators() -> str:
    import torch
    import torchvision

    boxes, scores = torch.tensor([[0.0, 0, 1, 1]]), torch.tensor([1.0])
    torchvision.ops.nms(boxes, scores, 0.5)
    return f"torchvision {torchvision.__version__} is compatible with torch {torch.__version__}"


def _prefect() -> str:
    import fastapi
    import sqlalchemy

    fastapi_minor = int(fastapi.__version__.split(".")[1])
    if fastapi_minor > 150 or sqlalchemy.__version__.startswith("2.1"):
        raise RuntimeError(f"fastapi {fastapi.__version__}, sqlalchemy {sqlalchemy.__version__}")
    return f"fastapi {fastapi.__version__}, sqlalchemy {sqlalchemy.__version__}"


def _gpu() -> str:
    import torch

    if not torch.cuda.is_available():
        raise Absent("no GPU: everything runs on the CPU")
    return torch.cuda.get_device_name(0)


def _disk() -> str:
    free = shutil.disk_usage(".").free / 2**30
    if free < 2:
        raise RuntimeError(f"{free:.1f} GiB free here")
    return f"{free:.0f} GiB free here"


def _rtmlib() -> str:
    if not _installed("rtmlib"):
        raise Absent("not installed")
    return version("rtmlib")


def _installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


REINSTALL = "reinstall: rm -rf .venv && make .venv/.ready"
CHECKS: tuple[tuple[str, Callable[[], str], str, bool], ...] = (
    ("Python", _python, "use Python 3.11 or 3.12", True),
    ("packages", _packages, REINSTALL, True),
    ("one OpenCV", _one_opencv, "uninstall all of them, then install only opencv-contrib-python", True),
    ("torch and torchvision", _vision_operators, "install both from the same index in one command", True),
    ("H.264", _h264, REINSTALL, True),
    (
        "video encoders",
        _encoders,
        "optional: hardware encoders are faster, but their output differs between machines",
        False,
    ),
    ("landmark models", _landmarks, "pip install mediapipe==0.10.14", True),
    ("Prefect's limits", _prefect, "pip install 'fastapi<0.151' 'sqlalchemy<2.1'", True),
    ("disk", _disk, "free at least 2 GiB, or run in another folder", True),
    ("GPU", _gpu, "not needed for the demo; full-size training needs one", False),
    (
        "rtmlib (RTMW landmarks)",
        _rtmlib,
        "optional, used from Python: uv pip install -e '.[rtmlib]' (plain pip installs a second OpenCV)",
        False,
    ),
)
