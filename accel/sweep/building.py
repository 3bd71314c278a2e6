"""A point of a sweep made of its values: frame, chip, problems, parameters of the kernel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from accel.errors import SpecError
from accel.hardware import FrameFormat
from accel.sweep.axes import plain_value
from accel.sweep.names import FRAME_FIELDS, SIZING
from accel.sweep.point import Point
from accel.sweep.views import View

__all__ = ["build_point"]


def build_point(view: View, index: int) -> Point:
    """Return point `index`, the only one of `view`; AccelError where its values do not go together."""
    names, document = view.names, view.names.document
    known = {name: view.value(name) for name in document.names}
    frame = _frame(known) if document.framed else None
    sizing: dict[str, Any] = {}
    if document.size_sram:
        sizing = {name: known.get(f"frame.{name}", default) for name, default in SIZING.items()}
    chip = names.chips.build(known, frame if document.size_sram else None, sizing)
    work = names.problems.build({name: value for name, value in known.items() if name.startswith("problem.")})
    kernel = {
        name.removeprefix("kernel."): plain_value(value) for name, value in known.items() if name.startswith("kernel.")
    }
    resident = kernel.pop("resident", ())
    held = (resident,) if isinstance(resident, str) else tuple(resident)
    values = {axis.name: plain_value(axis.values[int(view.places[axis.name][0])]) for axis in document.axes}
    return Point(index, values, chip, work, kernel, held, frame, document.fidelity)


def _frame(known: Mapping[str, Any]) -> FrameFormat:
    fields = [name for name in FRAME_FIELDS if name not in SIZING and f"frame.{name}" in known]
    try:
        return FrameFormat(**{name: known[f"frame.{name}"] for name in fields})
    except SpecError as error:
        raise SpecError(f"frame.{error}") from None
