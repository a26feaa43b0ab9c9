"""Videos with one view and no cameras: a video file, a folder of them, or a list of paths and URLs."""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from pipelines.sources.config import SourcesConfig
from pipelines.sources.download import download
from pipelines.sources.items import (
    VIDEO_SUFFIXES,
    Rows,
    capture_row,
    fingerprint,
    new_work,
    open_video,
    source_row,
    videos_in,
)
from pipelines.sources.lists import LIST_SUFFIXES, Entry, read_list
from pipelines.stage import DataError, Work
from storage_schemas.ids import stable_id

KIND = "internet"
VIEW = "main"


def discover(path: Path, config: SourcesConfig) -> list[Work]:
    """List the videos of a folder (all levels, by suffix), of a list, or the one file that `path` is.

    Raises `DataError` where there is nothing to ingest.
    """
    if path.is_dir():
        videos = videos_in(path, recursive=True)
        if not videos:
            raise DataError(f"{path}: no videos below; files with {', '.join(sorted(VIDEO_SUFFIXES))} are taken")
        return [_local(video, video.relative_to(path).as_posix(), Entry("", str(video)), config) for video in videos]
    if path.suffix.lower() in LIST_SUFFIXES:
        return [_listed(entry, path, config) for entry in read_list(path)]
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return [_local(path, path.name, Entry("", str(path)), config)]
    raise DataError(f"{path}: neither a folder, nor a list ({', '.join(LIST_SUFFIXES)}), nor a video")


def rows(payload: dict[str, Any], config: SourcesConfig, cache: Path) -> Rows:
    """The rows of one video, downloaded first where it is a URL. Raises the errors of `download`, and `DataError`."""
    url = payload.get("url")
    path = download(url, cache, config) if url else Path(payload["video"])
    video = open_video(path)
    capture_id = stable_id(KIND, video.sha256)
    source = source_row(video, payload, capture_id=capture_id, view=VIEW)
    capture = capture_row(
        payload, capture_id=capture_id, take=payload["name"], views=[VIEW], sync_method="single", gravity_down=None
    )
    return {"sources": [source], "captures": [capture]}


def _listed(entry: Entry, path: Path, config: SourcesConfig) -> Work:
    if entry.problem:
        name = f"{path.name} {entry.place}"
        return new_work(KIND, name, entry.uri or f"{path} {entry.place}", entry.place, problem=entry.problem)
    if "://" in entry.uri:
        return _remote(entry, config)
    listed = Path(entry.uri)
    video = listed if listed.is_absolute() else (path.parent / listed)
    if not listed.is_absolute() and not video.resolve().is_relative_to(path.parent.resolve()):
        problem = f"{path} {entry.place}: {entry.uri} leaves the folder of the list: write the whole path"
        return new_work(KIND, entry.uri, entry.uri, None, problem=problem)
    return _local(video, entry.uri, entry, config)


def _local(video: Path, name: str, entry: Entry, config: SourcesConfig) -> Work:
    problem = None if video.is_file() else f"no file {video}: correct the path, or remove it from the list"
    rights = _rights(entry, config)
    payload = {"video": str(video), **rights}
    return new_work(KIND, name, str(video), [fingerprint(video), rights], payload, problem)


def _remote(entry: Entry, config: SourcesConfig) -> Work:
    rights = _rights(entry, config)
    try:
        parts = urlsplit(entry.uri)
        host = parts.hostname or ""
    except ValueError as error:
        return new_work(KIND, entry.place, entry.uri, rights, problem=f"{entry.place}: not a URL: {error}")
    # what follows "?" or stands before "@" may be a secret: it is not part of names, which go into logs
    query = f"?{stable_id(parts.query)[:8]}" if parts.query else ""
    name = f"{host}{parts.path}{query}"
    problem = None
    if parts.scheme not in ("http", "https") or not host:
        problem = f"{name}: cannot fetch {parts.scheme}://; give an http or https URL, or a path"
    uri = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    content = [stable_id(entry.uri), rights, config.allow_private, config.max_bytes]
    return new_work(KIND, name, uri, content, {"url": entry.uri, **rights}, problem)


def _rights(entry: Entry, config: SourcesConfig) -> dict[str, str | None]:
    return {
        "licence": entry.licence or config.licence,
        "attribution": entry.attribution or config.attribution,
        "subject": entry.subject,
    }
