"""Adapter for single-view videos without cameras: a video file, a folder of videos, or lists of paths and URLs."""

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opendimo.pipelines.engine.stage import DataError, TransientError, Work
from opendimo.pipelines.sources.config import SourcesConfig
from opendimo.pipelines.sources.downloads import platforms
from opendimo.pipelines.sources.downloads.urls import check_url, hide_secrets, printable, url_name
from opendimo.pipelines.sources.items import (
    Item,
    Rows,
    UnusableItem,
    VideoFile,
    capture_row,
    fingerprint,
    hidden,
    new_work,
    open_video,
    source_row,
    videos_in,
)
from opendimo.pipelines.sources.list_files import LIST_SUFFIXES, TABLES, list_format
from opendimo.pipelines.sources.lists import SAVED, Entry, list_files, read_lists
from opendimo.pipelines.sources.signatures import VIDEO_SUFFIXES
from opendimo.pipelines.sources.spans import Span
from opendimo.storage_schemas.ids import stable_id

if TYPE_CHECKING:
    from opendimo.storage_schemas.rows import Row

log = logging.getLogger(__name__)
KIND = "internet"
VIEW = "main"
RESYNTHESIS = "resynthesis"
"""First word of the view of a synthetic re-rendering."""


@dataclass(frozen=True, kw_only=True)
class ListedVideo(Item):
    """A video of a folder or a list.

    `sha256`: hash of its file, `spans` to cut, and `original`, of which it is a re-rendering, if the list states them.
    """

    sha256: str | None = None
    spans: tuple[Span, ...] = ()
    original: "LocalVideo | RemoteVideo | None" = None


@dataclass(frozen=True, kw_only=True)
class LocalVideo(ListedVideo):
    """A video on this machine: the path of its file."""

    video: str

    @property
    def file(self) -> str | None:
        """Path of the video."""
        return self.video


@dataclass(frozen=True, kw_only=True)
class RemoteVideo(ListedVideo):
    """A video to download. `url` may contain secrets and is not stored."""

    url: str


def discover(path: Path, config: SourcesConfig) -> list[Work]:
    """List the videos of a folder (recursive, by suffix), of a list, or `path` itself if it is a video.

    A folder without videos is searched for lists. In a folder of videos, `metadata.csv` (or `.jsonl`, `.parquet`)
    describes them. Raises `DataError` if there is nothing to ingest, or `cookies` or `access` cannot be used.
    """
    if config.cookies or config.access:
        from opendimo.pipelines.sources.downloads.access import access

        access(config)
    if path.is_dir():
        return list(_folder(path, config))
    if list_format(path) in LIST_SUFFIXES:
        return [_listed(entry, path, config) for entry in read_lists([path], path, config)]
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return [_local(path, path.name, Entry("", str(path), path.parent), config)]
    raise DataError(f"{path}: neither a folder, nor a list ({', '.join(LIST_SUFFIXES)}), nor a video")


def rows(item: ListedVideo, config: SourcesConfig, cache: Path, fetches: "list[Row]") -> Rows:
    """Return the rows of one video. A URL is downloaded first, and its attempt is appended to `fetches`.

    Raises the errors of `download` and `open_video`.
    """
    video = _opened(item, config, cache, fetches)
    main: ListedVideo = item
    content, view = video.sha256, VIEW
    if item.original:  # a view of its original's capture
        main, content, view = (
            item.original,
            _original_sha256(item, config, cache, fetches),
            f"{RESYNTHESIS} {item.name}",
        )
        if content == video.sha256:
            raise DataError(f"{item.name}: has the same content as its original", reason="same_as_original")
    capture_id = stable_id(KIND, content)
    url = item.url if isinstance(item, RemoteVideo) else None
    source = source_row(video, item, capture_id=capture_id, view=view, url=url)
    source["resynthesis_of"] = item.original.uri if item.original else None
    if item.spans:
        source |= _span_columns(source["source_id"], item.spans)
    capture = capture_row(
        main, capture_id=capture_id, take=main.name, views=[VIEW], sync_method="single", gravity_down=None
    )
    return {"sources": [source], "captures": [capture]}


def _opened(item: ListedVideo, config: SourcesConfig, cache: Path, fetches: "list[Row]") -> VideoFile:
    match item:
        case RemoteVideo():
            return _downloaded(item, config, cache, fetches)
        case LocalVideo():
            video = open_video(Path(item.video))
            _check_content(video, item)
            return video
        case _:
            raise TypeError(f"{type(item).__name__} is neither a local nor a remote video")


def _original_sha256(item: ListedVideo, config: SourcesConfig, cache: Path, fetches: "list[Row]") -> str:
    """Return the hash of the original's file. Raises `DataError` if that is no video."""
    assert item.original is not None
    try:
        return _opened(item.original, config, cache, fetches).sha256
    except DataError as error:
        raise DataError(f"{item.name}: its original cannot be read: {error}", reason="no_original") from error


def _folder(path: Path, config: SourcesConfig) -> Iterator[Work]:
    saved = any((path / name).is_file() for name in SAVED)
    videos = [] if saved else videos_in(path, recursive=True)
    lists = [path / f"metadata{suffix}" for suffix in TABLES] if videos else list_files(path)
    lists = [file for file in lists if file.is_file()]
    if not videos and not lists:
        suffixes = ", ".join(sorted(VIDEO_SUFFIXES))
        raise DataError(f"{path}: no videos below, and no lists; files with {suffixes} are taken")
    if others := _not_taken(path, {*videos, *lists}):
        log.warning(
            "%s: not taken, because the suffix is not that of a video: %s (%d in all)",
            path, _counts(others), others.total(),
        )  # fmt: skip
    listed: set[str] = set()
    for entry in read_lists(lists, path, config) if lists else []:
        listed.add(entry.target)
        yield _listed(entry, path, config)
    for video in videos:
        if str(video) not in listed:
            yield _unlisted(video, path, config)


def _not_taken(folder: Path, taken: set[Path]) -> Counter[str]:
    """Count the other files of a folder by suffix, without hidden ones."""
    files = (path for path in folder.rglob("*") if path.is_file() and not hidden(path, folder))
    return Counter(path.suffix.lower() or "without suffix" for path in files if path not in taken)


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{suffix} {count}" for suffix, count in counter.most_common(10))


def _unlisted(video: Path, folder: Path, config: SourcesConfig) -> Work:
    """Return the work of a video in a folder; a link that leads out of the folder is a problem."""
    name = video.relative_to(folder).as_posix()
    problem = None
    if not video.resolve().is_relative_to(folder.resolve()):
        problem = f"{printable(name)} is a link that leaves the folder: ingest the folder where the file is, or copy it"
    return _local(video, name, Entry("", str(video), folder, problem=problem, reason="escapes"), config)


def _listed(entry: Entry, path: Path, config: SourcesConfig) -> Work:
    if entry.original and isinstance(_listed(entry.original, path, config).payload, UnusableItem):
        text = (
            f"{path} {entry.place}: its original {printable(entry.original.uri)} cannot be ingested: see its own line"
        )
        entry = replace(entry, problem=text, reason="no_original")
    if entry.problem and not entry.uri:
        name = f"{path.name} {entry.place}"
        return _bad(name, f"{path} {entry.place}", entry.problem, entry.reason, entry.place)
    if "://" in entry.uri:
        return _remote(entry, config)
    path_in_list = Path(entry.uri)
    video = path_in_list if path_in_list.is_absolute() else entry.folder / path_in_list
    return _local(video, entry.uri, entry, config, inside=None if path_in_list.is_absolute() else entry.folder)


def _local(video: Path, name: str, entry: Entry, config: SourcesConfig, inside: Path | None = None) -> Work:
    problem, reason = entry.problem, entry.reason
    if not problem:
        problem, reason = _problem(video, printable(name), inside, config)
    shown, uri = printable(name), str(video) if str(video).isprintable() else printable(str(video), limit=2000)
    if problem:
        return _bad(shown, uri, problem, reason, fingerprint(video) if reason != "bad_name" else None)
    return video_work(LocalVideo(kind=KIND, name=shown, uri=uri, video=str(video), **_about(entry, config)))


def video_work(item: LocalVideo) -> Work:
    """Return the work of a video on this machine."""
    stated = {name: getattr(item, name) or None for name in ("sha256", "extra", "spans")}
    about = {name: getattr(item, name) for name in ("licence", "attribution", "subject")}
    about |= {name: value for name, value in stated.items() if value is not None} | _original(item.original)
    return new_work(item, [fingerprint(Path(item.video)), about])


def _original(item: LocalVideo | RemoteVideo | None) -> dict[str, Any]:
    """Return what of the original of a re-rendered video enters its work key."""
    match item:
        case LocalVideo():
            return {"original": fingerprint(Path(item.video))}
        case RemoteVideo():
            return {"original": stable_id(item.url)}
    return {}


def _problem(video: Path, name: str, inside: Path | None, config: SourcesConfig) -> tuple[str, str] | tuple[None, None]:
    """Return why a file cannot be ingested, as (message, reason word), or (None, None)."""
    try:
        str(video).encode()
        if inside is not None and not video.resolve().is_relative_to(inside.resolve()):
            return f"{name} leaves the folder of the list: write the whole path", "escapes"
        if not video.is_file():
            return f"no file {printable(str(video), 500)}: correct the path, or remove it from the list", "no_file"
        size = video.stat().st_size
    except (ValueError, OSError):  # name too long, contains a null byte, or bytes that are not text
        return f"{name}: no name that a file can have: correct the line, or rename the file", "bad_name"
    if size > config.max_bytes:
        return f"{name}: {size} bytes, more than {config.max_bytes}: raise max_bytes, or leave it out", "too_large"
    return None, None


def _remote(entry: Entry, config: SourcesConfig) -> Work:
    about = _about(entry, config)
    original = about.pop("original", None)
    if problem := entry.problem or check_url(entry.uri):
        try:  # names go into logs, so possible secrets are left out
            name, uri = url_name(entry.uri), hide_secrets(entry.uri)
        except ValueError:
            name = uri = entry.place
        reason = entry.reason or "bad_url"
        return _bad(name, uri, f"{name}: {problem}" if not entry.problem else problem, reason, about)
    name, uri = url_name(entry.uri), hide_secrets(entry.uri)
    if platforms.is_page(entry.uri, config) and not platforms.is_installed():
        # the problem is part of the work key: once yt-dlp is installed, the item is new work
        return _bad(name, uri, f"{name}: {platforms.INSTALL}", "needs_ytdlp", about)
    content = [stable_id(entry.uri), about | _original(original), config.allow_private, config.max_bytes]
    item = RemoteVideo(kind=KIND, name=name, uri=uri, url=entry.uri, original=original, **about)
    return new_work(item, content)


def _bad(name: str, uri: str, problem: str, reason: str | None, content: Any) -> Work:
    """Return work that the stage rejects."""
    return new_work(UnusableItem(kind=KIND, name=name, uri=uri, problem=problem, reason=reason), content)


def _about(entry: Entry, config: SourcesConfig) -> dict[str, Any]:
    """Return the metadata of an item, from its list or else from the config; with the item of its original, if any."""
    always = {
        "licence": entry.licence or config.licence,
        "attribution": entry.attribution or config.attribution,
        "subject": entry.subject,
    }
    given: dict[str, Any] = {"sha256": entry.sha256, "extra": entry.extra, "spans": entry.spans or None}
    if entry.original:
        given["original"] = _listed(entry.original, entry.original.folder, config).payload
    return always | {name: value for name, value in given.items() if value is not None}


def _downloaded(item: RemoteVideo, config: SourcesConfig, cache: Path, fetches: "list[Row]") -> VideoFile:
    """Download and open the video at a URL. An unusable file leaves the cache, so that a retry downloads it again."""
    from opendimo.pipelines.sources.downloads.engine import download, forget

    path = download(item.url, cache, config, fetches)
    try:
        video = open_video(path)
    except DataError:
        forget(item.url, cache, and_file=True)
        raise
    if video.sha256 != path.name:
        forget(item.url, cache, and_file=True)
        text = f"{item.name}: the downloaded copy was damaged; the next attempt downloads it again"
        raise TransientError(text, reason="damaged")
    try:
        _check_content(video, item)
    except DataError:
        forget(item.url, cache, and_file=False)  # the file may be right for another URL
        raise
    return video


def _span_columns(source_id: str, spans: tuple[Span, ...]) -> "Row":
    """Return the columns of a source of which only spans are cut; other spans of its video are another source."""
    times = [[span.start, span.end] for span in spans]
    return {
        "source_id": stable_id("spans", source_id, times),
        "annotation_sha256": stable_id("annotation", times),
        "spans": [asdict(span) for span in spans],
    }


def _check_content(video: VideoFile, item: ListedVideo) -> None:
    """Raise `DataError` if a file does not have the SHA-256 that the list gives."""
    expected = item.sha256
    if expected and expected.lower() != video.sha256:
        text = f"{item.name}: the list says SHA-256 {printable(expected, 64)}, the file has {video.sha256}"
        raise DataError(text, reason="wrong_content")
