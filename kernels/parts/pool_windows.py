"""Which windows of a pooling read which rows: the taps of a band of rows, and what its arithmetic depends on."""

from __future__ import annotations

from typing import NamedTuple

from accel.kernels.parts.row_bands import Read, Stencil
from accel.lang import SRAM_ALIGN
from accel.problem.convolution import Axis
from accel.problem.pool import Pool2d

__all__ = ["Geometry", "Tap", "stencil"]


class Tap(NamedTuple):
    """One tap along an axis: outputs [low, high) of the band read positions first, first + stride, ... of its rows."""

    low: int
    high: int
    first: int


class Geometry(NamedTuple):
    """All that the arithmetic of a band depends on: the taps along both axes, and the divisors of a mean.

    rows, columns: the taps in order, those without an output as empty; outputs: how many of each the band has;
    inputs: rows and columns of x (or gx) in the band; counts: (low, high, elements inside) along each axis.
    """

    rows: tuple[Tap, ...]
    columns: tuple[Tap, ...]
    outputs: tuple[int, int]
    inputs: tuple[int, int]
    counts: tuple[tuple[tuple[int, int, int], ...], tuple[tuple[int, int, int], ...]]


def _taps(axis: Axis, outputs: tuple[int, int], inputs: tuple[int, int]) -> tuple[Tap, ...]:
    """Return where each tap of outputs [low, high) lands inside positions [first, end)."""
    found = []
    for t in range(axis.taps):
        offset = t * axis.dilation - axis.pad
        low = max(outputs[0], -((offset - inputs[0]) // axis.stride))
        high = max(low, min(outputs[1], (inputs[1] - 1 - offset) // axis.stride + 1))
        found.append(Tap(low - outputs[0], high - outputs[0], low * axis.stride + offset - inputs[0]))
    return tuple(found)


def _counts(axis: Axis, outputs: tuple[int, int], include_pad: bool) -> tuple[tuple[int, int, int], ...]:
    """Return (low, high, divisor) stretches of outputs whose windows hold equally many elements."""
    found: list[tuple[int, int, int]] = []
    for o in range(*outputs):
        inside = sum(0 <= o * axis.stride - axis.pad + t * axis.dilation < axis.size for t in range(axis.taps))
        count, at = axis.taps if include_pad else inside, o - outputs[0]
        if found and found[-1][2] == count:
            found[-1] = (found[-1][0], at + 1, count)
        else:
            found.append((at, at + 1, count))
    return tuple(found)


def _span(axis: Axis, low: int, high: int) -> tuple[int, int]:
    """Return the positions [first, end) inside the image from the first to the last that outputs [low, high) read."""
    if low >= high:
        return 0, 0
    first = low * axis.stride - axis.pad
    end = (high - 1) * axis.stride - axis.pad + (axis.taps - 1) * axis.dilation + 1
    return max(0, first), min(axis.size, end)


def _readers(axis: Axis, low: int, high: int) -> tuple[int, int]:
    """Return the outputs [first, end) whose windows can hold a position of [low, high)."""
    first = max(0, -((axis.dilation * (axis.taps - 1) - axis.pad - low) // axis.stride))
    end = min(axis.out, (high - 1 + axis.pad) // axis.stride + 1)
    return (first, end) if first < end else (0, 0)


def stencil(problem: Pool2d) -> Stencil:
    """Return what a band of rows of the result reads, and what its arithmetic depends on."""
    rows, columns = problem.axes
    across = (0, columns.out), (0, columns.size)
    forward, mean = problem.direction == "fwd", problem.function == "avg"

    def spans(low: int, high: int) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
        """Outputs, the rows that their windows hold, and the rows of x or gx that count in this band."""
        outputs = (low, high) if forward else _readers(rows, low, high)
        held = _span(rows, *outputs)
        return outputs, held, held if forward else (low, high)

    def reach(low: int, high: int) -> dict[str, tuple[int, int]]:
        outputs, held, _ = spans(low, high)
        return {"x": held} if forward else {"gy": outputs} if mean else {"gy": outputs, "x": held}

    def kind(low: int, high: int) -> tuple[Geometry, Geometry]:
        outputs, held, target = spans(low, high)
        counts = tuple(
            _counts(axis, span, problem.count_include_pad) for axis, span in ((rows, outputs), (columns, across[0]))
        )
        made = [
            Geometry(
                _taps(rows, outputs, span), _taps(columns, *across), (outputs[1] - outputs[0], columns.out),
                (span[1] - span[0], columns.size), (counts[0], counts[1]),
            )
            for span in (held, target)
        ]  # fmt: skip
        return made[0], made[1]

    def work(kind: tuple[Geometry, Geometry]) -> dict[str, tuple[int, str]]:
        held, target = kind
        outputs, inputs = held.outputs[0] * held.outputs[1], held.inputs[0] * held.inputs[1]
        wide = inputs if forward else outputs
        found = {"wide": (wide, "fp32")} if problem.dtype != "fp32" and (mean or not forward) else {}
        if not forward:
            found |= {"sums": (target.inputs[0] * target.inputs[1], "fp32")}
        if mean:
            found |= {"terms": (outputs, "fp32")}
        else:
            found |= {"best": (outputs, problem.dtype)}
        if not mean and not forward:
            taps = "uint8" if problem.r * problem.s < 256 else "int32"
            found |= {"mask": (outputs, "uint8"), "which": (outputs, taps), "part": (outputs, "fp32")}
        return {name: (max(1, size), dtype) for name, (size, dtype) in found.items()}

    shape = (problem.p, problem.q) if forward else (problem.h, problem.w)
    reads = {"x": Read(problem.w, problem.dtype)} if forward else {"gy": Read(problem.q, problem.dtype)}
    if not forward and not mean:
        reads["x"] = Read(problem.w, problem.dtype)
    constants = 8 * problem.r * problem.s + 4 * SRAM_ALIGN  # divisors and numbers of taps, and a zero
    return Stencil(problem.n, *shape, problem.c, problem.out_dtype, reads, reach, kind, work, constants=constants)
