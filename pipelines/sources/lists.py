"""Read lists of videos: files with a column of paths or URLs, folders of such files, saved Hugging Face datasets."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from opendimo.pipelines.engine.stage import DataError
from opendimo.pipelines.sources.config import SourcesConfig
from opendimo.pipelines.sources.downloads.urls import canonical, printable
from opendimo.pipelines.sources.list_files import LINE, TABLES, Record, list_format, records
from opendimo.pipelines.sources.spans import COLUMNS as SPAN_COLUMNS
from opendimo.pipelines.sources.spans import Span, read_spans

COLUMNS = {
    "url": ("uri", "url", "path", "file_name"),
    "licence": ("licence", "license"),
    "attribution": ("attribution",),
    "subject": ("subject",),
    "sha256": ("sha256", "content_sha256"),
    "resynthesis_of": ("resynthesis_of",),
    **SPAN_COLUMNS,
}
"""Fields read from a list, with the accepted names of each column."""
ABOUT = ("licence", "attribution", "subject", "sha256", "resynthesis_of")
"""Fields that are columns of an `Entry` as they are."""
LONGEST_URL = 8192  # characters
LONGEST_TEXT = 4096
SAVED = ("dataset_dict.json", "state.json")
"""Files that mark a dataset saved by `datasets.save_to_disk`: several splits, or one."""


@dataclass(frozen=True)
class Entry:
    """An item of a list.

    `place`: its line or row; `folder`: base of relative paths; `problem` and `reason`: why it is unusable, if it is;
    `extra`: further columns, as JSON; those of rows with spans are in `spans`, the only parts of the video to cut.
    `resynthesis_of`: path or URL of the video of which this is a synthetic re-rendering, and `original` its entry.
    """

    place: str
    uri: str
    folder: Path
    licence: str | None = None
    attribution: str | None = None
    subject: str | None = None
    sha256: str | None = None
    resynthesis_of: str | None = None
    original: "Entry | None" = None
    extra: str | None = None
    spans: tuple[Span, ...] = ()
    problem: str | None = None
    reason: str | None = None

    @property
    def target(self) -> str:
        """Return the URL or the file path, to compare entries: `./a.mp4` equals `a.mp4` of the same folder only."""
        return self._target(self.uri)

    @property
    def original_target(self) -> str | None:
        """Return the `target` of the entry of which this is a re-rendering."""
        return self._target(self.resynthesis_of) if self.resynthesis_of else None

    def _target(self, uri: str) -> str:
        return canonical(uri) if "://" in uri else str(self.folder / uri)


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
    entries, has_url_column, problem = _Entries(), False, None
    for path in paths:
        try:
            for place, record in records(path, _column_names(columns, config)):
                where = f"{path.relative_to(root).as_posix()} {place}" if path != root else place
                if isinstance(record, str):
                    entries.problem(path, place, record, "bad_line")
                    continue
                has_url_column = has_url_column or any(name in record for name in (LINE, *columns["url"]))
                entry, bad_spans = _entry(path, place, record, columns, config)
                for text in bad_spans:
                    entries.problem(path, place, text, "bad_span")
                if entry is not None:
                    entries.add(path, entry, where)
        except DataError as error:
            problem = error
            entries.found.append(Entry("the file", "", path.parent, problem=str(error), reason=error.reason))
    if problem and len(paths) == 1:
        raise problem
    if not entries.found:
        raise DataError(f"{root}: the list is empty")
    if not has_url_column:
        raise problem or DataError(
            f"{root}: no column named {', '.join(columns['url'])}: name it, as in url=video_link"
        )
    return _with_originals(entries.all())


def _with_originals(entries: list[Entry]) -> list[Entry]:
    """Give each re-rendered video the entry of its original; an original that is not in the lists is a problem."""
    originals = {e.target: e for e in entries if e.uri and not e.problem and not e.resynthesis_of}

    def linked(entry: Entry) -> Entry:
        if entry.problem or entry.original_target is None:
            return entry
        if original := originals.get(entry.original_target):
            return replace(entry, original=original)
        named = printable(entry.resynthesis_of or "")
        text = (
            f"{printable(entry.uri)}, {entry.place}: resynthesis_of {named} is no other video of the list that can be "
            "read and is no re-rendering itself: add its line, or correct the name"
        )
        return replace(entry, problem=text, reason="no_original")

    return [linked(entry) for entry in entries]


class _Entries:
    """The entries of one or more lists, in order: repetitions are problems, and the spans of a video are one entry."""

    def __init__(self) -> None:
        self.found: list[Entry] = []
        self._first: dict[tuple[str, tuple[float, float] | None], str] = {}  # where a video or span of it came first
        self._videos: dict[Entry, tuple[int, list[Span]]] = {}  # entries without spans: index in `found`, and the spans

    def problem(self, path: Path, place: str, text: str, reason: str) -> None:
        """Add a line, or a span of it, that cannot be used."""
        self.found.append(Entry(place, "", path.parent, problem=f"{path} {place}: {text}", reason=reason))

    def add(self, path: Path, entry: Entry, where: str) -> None:
        """Add the entry of a line; `where` names the line to people."""
        if not entry.uri or entry.problem:
            self.found.append(entry)
        elif not entry.spans:
            if first := self._repeats(entry, None, where):
                text = f"{path} {entry.place}: the same as {first}"
                entry = Entry(entry.place, entry.uri, entry.folder, problem=text, reason="repeated")
            self.found.append(entry)
        else:
            new = []
            for span in entry.spans:
                if first := self._repeats(entry, span, where):
                    self.problem(path, entry.place, f"the span {span}: the same as {first}", "repeated")
                else:
                    new.append(span)
            if new:
                self._add_spans(entry, new)

    def all(self) -> list[Entry]:
        """Return all entries."""
        for index, spans in self._videos.values():
            self.found[index] = replace(self.found[index], spans=tuple(sorted(spans)))
        return self.found

    def _repeats(self, entry: Entry, span: Span | None, where: str) -> str | None:
        """Return where the same video, or span of it, came before; remember it if it did not."""
        what = (entry.target, None if span is None else (span.start, span.end))
        first = self._first.get(what)
        self._first.setdefault(what, where)
        return first

    def _add_spans(self, entry: Entry, spans: list[Span]) -> None:
        """Add spans to those of the same video with the same rights and subject."""
        video = replace(entry, place="", uri=entry.target, folder=Path(), spans=())
        if video not in self._videos:
            self._videos[video] = len(self.found), []
            self.found.append(entry)
        self._videos[video][1].extend(spans)


def _columns(config: SourcesConfig) -> dict[str, tuple[str, ...]]:
    """Return the accepted column names per field, after the config. Raises `DataError` if it maps an unknown field."""
    given = dict(pair.partition("=")[::2] for pair in config.columns)
    if wrong := [ours for ours, theirs in given.items() if ours not in COLUMNS or not theirs]:
        raise DataError(f"columns: {wrong[0]}=...: write OURS=THEIRS, where OURS is one of {', '.join(COLUMNS)}")
    return COLUMNS | {ours: (theirs.lower().strip(),) for ours, theirs in given.items()}


def _column_names(columns: dict[str, tuple[str, ...]], config: SourcesConfig) -> frozenset[str]:
    return frozenset(name for names in columns.values() for name in names) | {name.lower() for name in config.keep}


def _entry(
    path: Path, place: str, record: Record, columns: dict[str, tuple[str, ...]], config: SourcesConfig
) -> tuple[Entry | None, list[str]]:
    """Return the entry of a row, and what is wrong with its spans; without an entry if no span is usable."""
    uri = next((record[name] for name in (LINE, *columns["url"]) if record.get(name)), None)
    if not isinstance(uri, str) or not uri.strip():
        text = f"{path} {place}: no path or URL in it: fill it in, or remove the line"
        return Entry(place, "", path.parent, problem=text, reason="no_url"), []
    uri = uri.strip()
    if len(uri) > LONGEST_URL:
        text = f"{path} {place}: a path or URL of {len(uri)} characters: correct the line"
        return Entry(place, printable(uri), path.parent, problem=text, reason="bad_url"), []
    given: dict[str, Any] = {name: _first(record, columns[name]) for name in ABOUT}
    kept = {name: record[name.lower()] for name in config.keep if record.get(name.lower()) is not None}
    values = {what: _first_value(record, columns[what]) for what in SPAN_COLUMNS}
    read = read_spans(values, kept)
    if read.spans or read.problems:
        spans = tuple(replace(span, extra=span.extra and _text(span.extra)) for span in read.spans)
        return Entry(place, uri, path.parent, **given, spans=spans) if spans else None, read.problems
    extra = _text(json.dumps(kept, sort_keys=True, default=str, ensure_ascii=False)) if kept else None
    return Entry(place, uri, path.parent, **given, extra=extra), []


def _first_value(record: Record, names: tuple[str, ...]) -> Any:
    return next((record[name] for name in names if record.get(name) is not None), None)


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
