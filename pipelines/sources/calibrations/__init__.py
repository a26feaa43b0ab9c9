"""Read calibration files. The format is detected from the content, never from the file name.

A format is a module with `NAME`, `fits(document)` and `read(document)`. To add one, add its module and list it in
`FORMATS`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from opendimo.pipelines.engine.stage import DataError
from opendimo.pipelines.sources.calibration import Calibration
from opendimo.pipelines.sources.calibrations import (
    aist,
    arrays,
    colmap,
    easymocap,
    nerfstudio,
    opencv,
    panoptic,
    qualisys,
    trajectories,
)
from opendimo.pipelines.sources.calibrations.document import Document, read_document

FORMATS: tuple[Any, ...] = (opencv, easymocap, qualisys, panoptic, aist, colmap, nerfstudio, trajectories, arrays)


def read_calibration(path: Path) -> Calibration:
    """Read a calibration file, or the folder of a COLMAP model.

    Raises `DataError` if it is unreadable, matches no format or several, or contains no camera.
    """
    document = read_document(path)
    matching = [form for form in FORMATS if form.fits(document)]
    if len(matching) != 1:
        what = "no calibration that is known" if not matching else "a calibration in several formats at once"
        tried = ", ".join(form.NAME for form in matching or FORMATS)
        read = f"it reads as {document.syntax}" if document.syntax else f"it does not read as {document.problem}"
        raise DataError(f"{path}: {what}; {read}, tried: {tried}. Convert it to one of these (pipelines/sources)")
    return _read(matching[0].read, matching[0].NAME, document)


def _read(read: Callable[[Document], Calibration], name: str, document: Document) -> Calibration:
    try:
        calibration = read(document)
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        if isinstance(error, DataError):
            raise
        text = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise DataError(f"{document.path}: not a readable {name} calibration: {text}") from error
    if not calibration.cameras:
        raise DataError(f"{document.path}: no camera in it ({name})")
    return calibration
