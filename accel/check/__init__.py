"""Hazard checker: races, ambiguous waits, uninitialised reads, deadlocks and lost tokens of a Program."""

from accel.check.inspection import inspect
from accel.check.text import as_data, hazard_report, nodes_text

__all__ = ["as_data", "hazard_report", "inspect", "nodes_text"]
