"""Write a static HTML report of a lake: tables, plots, pictures and videos."""

from opendimo.pipelines.report.page import write_report

__all__ = ["write_report"]
