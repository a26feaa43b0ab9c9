"""Recognise file types by suffix, and by the first bytes whatever the suffix."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Foreign:
    """A file type that is not a video: its description and the reject reason."""

    text: str
    reason: str


VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".wmv", ".flv"}
    | {".mts", ".m2ts", ".3gp", ".3g2", ".mxf", ".ogv", ".vob", ".gif"}
)
LENGTH = 512  # number of leading bytes to inspect
ARCHIVES = (
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"PK\x05\x06", "an empty ZIP archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"BZh", "a bzip2 archive"),
    (0, b"\xfd7zXZ\x00", "an xz archive"),
    (0, b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (0, b"Rar!\x1a\x07", "a RAR archive"),
    (257, b"ustar", "a tar archive"),
)
TEXTS = (
    (b"<!doctype html", "a web page"),
    (b"<html", "a web page"),
    (b"<?xml", "an XML document"),
    (b"#extm3u", "a playlist"),
    (b"ffconcat", "a playlist"),
    (b"version https://git-lfs", "a pointer of Git LFS: fetch the file itself"),
    (b"%pdf-", "a PDF document"),
)


def foreign(start: bytes) -> Foreign | None:
    """Return the type of a file that starts with these bytes; None if it may be a video."""
    for offset, magic, text in ARCHIVES:
        if start[offset : offset + len(magic)] == magic:
            return Foreign(text, "archive")
    plain = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return next((Foreign(text, "not_a_video") for magic, text in TEXTS if plain.startswith(magic)), None)
