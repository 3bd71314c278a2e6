"""Hazard checker: races, ambiguous waits, uninitialised reads, deadlocks and lost tokens of a Program."""

from accel.check.inspection import inspect
from accel.check.text import as_data, nodes_text, report

__all__ = ["as_data", "inspect", "nodes_text", "report"]
