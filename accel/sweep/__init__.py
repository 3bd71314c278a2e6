"""Sweeps: a space of design points as ten lines of TOML, and every point of it timed."""

from accel.sweep.axes import Axis
from accel.sweep.point import Limits, Point
from accel.sweep.space import Space

__all__ = ["Axis", "Limits", "Point", "Space"]
