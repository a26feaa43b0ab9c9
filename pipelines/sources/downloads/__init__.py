"""Getting files from http(s), object stores and platform pages: once, resumable, within limits, with a ledger."""

from opendimo.pipelines.sources.downloads.engine import download

__all__ = ["download"]
