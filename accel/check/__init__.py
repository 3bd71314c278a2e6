"""Hazard checker: races, ambiguous waits, uninitialised reads, deadlocks and lost tokens of a Program."""

from accel.check.inspection import inspect

__all__ = ["inspect"]
