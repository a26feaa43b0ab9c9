"""Download files from http(s), object stores and platform pages: cached, resumable, rate limited, and logged."""

from opendimo.pipelines.sources.downloads.engine import download

__all__ = ["download"]
