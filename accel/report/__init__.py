"""Results for people: tables in the terminal, one HTML page, Markdown, tidy CSV and figures for papers."""

from accel.report.writing import write_report

__all__ = ["write_report"]
