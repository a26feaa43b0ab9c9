"""Read lists of videos: files with a column of paths or URLs, folders of such files, saved Hugging Face datasets."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opendimo.pipelines.engine.stage import DataError
from opendimo.pipelines.sources.config import SourcesConfig
from opendimo.pipelines.sources.downloads.urls import canonical, printable
from opendimo.pipelines.sources.list_files import LINE, TABLES, Record, list_format, records

COLUMNS = {
    "url": ("uri", "url", "path", "file_name"),
    "licence": ("licence", "license"),
    "attribution": ("attribution",),
    "subject": ("subject",),
    "sha256": ("sha256", "content_sha256"),
}
"""Fields read from a list, with the accepted names of each column."""
LONGEST_URL = 8192  # characters
LONGEST_TEXT = 4096
SAVED = ("dataset_dict.json", "state.json")
"""Files that mark a dataset saved by `datasets.save_to_disk`: several splits, or one."""


@dataclass(frozen=True)
class Entry:
    """An item of a list.

    `place`: its line or row; `folder`: base of relative paths; `problem` and `reason`: why it is unusable, if it is;
    `extra`: further columns, as JSON.
    """

    place: str
    uri: str
    folder: Path
    licence: str | None = None
    attribution: str | None = None
    subject: str | None = None
    sha256: str | None = None
    extra: str | None = None
    problem: str | None = None
    reason: str | None = None

    @property
    def target(self) -> str:
        """Return the URL or the file path, to compare entries: `./a.mp4` equals `a.mp4` of the same folder only."""
        return canonical(self.uri) if "://" in self.uri else str(self.folder / self.uri)


def list_files(folder: Path) -> list[Path]:
    """Return the lists in a folder: the shards of a saved dataset, or all lists below it that are not hidden.

    Raises `DataError` if a saved dataset is incomplete.
    """
    if (folder / "dataset_dict.json").is_file():
        parts = [path for path in sorted(folder.iterdir()) if (path / "state.json").is_file()]
        return [file for part in parts for file in _shards(part)]
    if (folder / "state.json").is_file():
        return _shards(folder)
    lists = (path for path in folder.rglob("*") if list_format(path) in TABLES and path.is_file())
    return sorted(path for path in lists if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def read_lists(paths: list[Path], root: Path, config: SourcesConfig) -> list[Entry]:
    """Return the entries of one or more lists, in order.

    A bad or repeated line becomes an entry with a problem, and so does an unreadable list among several.
    Raises `DataError` if nothing can be read, or no list has a column of paths or URLs.
    """
    columns = _columns(config)
    entries, first_place, has_url_column, problem = [], dict[str, str](), False, None
    for path in paths:
        try:
            for place, record in records(path, _column_names(columns, config)):
                if isinstance(record, str):
                    text = f"{path} {place}: {record}"
                    entries.append(Entry(place, "", path.parent, problem=text, reason="bad_line"))
                    continue
                has_url_column = has_url_column or any(name in record for name in (LINE, *columns["url"]))
                entry = _entry(path, place, record, columns, config)
                where = f"{path.relative_to(root).as_posix()} {place}" if path != root else place
                first = first_place.setdefault(entry.target, where)
                if entry.uri and first != where and not entry.problem:
                    text = f"{path} {place}: the same as {first}"
                    entry = Entry(place, entry.uri, path.parent, problem=text, reason="repeated")
                entries.append(entry)
        except DataError as error:
            problem = error
            entries.append(Entry("the file", "", path.parent, problem=str(error), reason=error.reason))
    if problem and len(paths) == 1:
        raise problem
    if not entries:
        raise DataError(f"{root}: the list is empty")
    if not has_url_column:
        raise problem or DataError(
            f"{root}: no column named {', '.join(columns['url'])}: name it, as in url=video_link"
        )
    return entries


def _columns(config: SourcesConfig) -> dict[str, tuple[str, ...]]:
    """Return the accepted column names per field, after the config. Raises `DataError` if it maps an unknown field."""
    given = dict(pair.partition("=")[::2] for pair in config.columns)
    if wrong := [ours for ours, theirs in given.items() if ours not in COLUMNS or not theirs]:
        raise DataError(f"columns: {wrong[0]}=...: write OURS=THEIRS, where OURS is one of {', '.join(COLUMNS)}")
    return COLUMNS | {ours: (theirs.lower().strip(),) for ours, theirs in given.items()}


def _column_names(columns: dict[str, tuple[str, ...]], config: SourcesConfig) -> frozenset[str]:
    return frozenset(name for names in columns.values() for name in names) | {name.lower() for name in config.keep}


def _entry(path: Path, place: str, record: Record, columns: dict[str, tuple[str, ...]], config: SourcesConfig) -> Entry:
    uri = next((record[name] for name in (LINE, *columns["url"]) if record.get(name)), None)
    if not isinstance(uri, str) or not uri.strip():
        text = f"{path} {place}: no path or URL in it: fill it in, or remove the line"
        return Entry(place, "", path.parent, problem=text, reason="no_url")
    uri = uri.strip()
    if len(uri) > LONGEST_URL:
        text = f"{path} {place}: a path or URL of {len(uri)} characters: correct the line"
        return Entry(place, printable(uri), path.parent, problem=text, reason="bad_url")
    given = {what: _first(record, columns[what]) for what in COLUMNS if what != "url"}
    kept = {name: record[name.lower()] for name in config.keep if record.get(name.lower()) is not None}
    extra = _text(json.dumps(kept, sort_keys=True, default=str, ensure_ascii=False)) if kept else None
    return Entry(place, uri, path.parent, **given, extra=extra)


def _first(record: Record, names: tuple[str, ...]) -> str | None:
    values = (record[name] for name in names if record.get(name) is not None)
    return next((text for value in values if (text := _text(str(value)).strip())), None)


def _text(value: str) -> str:
    """Return text that can be stored as UTF-8: JSON escapes can contain lone surrogates."""
    return value.encode("utf-8", "replace").decode()[:LONGEST_TEXT]


def _shards(folder: Path) -> list[Path]:
    """Return the data files listed in the `state.json` of a saved dataset."""
    try:
        state: Any = json.loads((folder / "state.json").read_text())
        names = [str(file["filename"]) for file in state["_data_files"]]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"{folder}: not a dataset as `save_to_disk` writes it: {type(error).__name__}") from error
    if missing := [name for name in names if Path(name).name != name or not (folder / name).is_file()]:
        raise DataError(f"{folder}: {printable(missing[0])} is missing: copy the whole dataset")
    return [folder / name for name in names]
