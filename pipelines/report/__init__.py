"""A static page that shows what is in a lake: for people who would rather look than read."""

from opendimo.pipelines.report.page import write_report

__all__ = ["write_report"]
