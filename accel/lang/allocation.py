"""SRAM and semaphores: static, at the same place on every node, checked against the chip."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

from accel.errors import CapacityError, Location, TraceError
from accel.isa.layout import BIAS_IEEE, SPACE_MEMORY, SPACE_SRAM
from accel.isa.program import Buffer as BufferRow
from accel.isa.program import Semaphore
from accel.lang.expr import Expr
from accel.lang.sync import Sem
from accel.lang.tracer import SRAM_ALIGN
from accel.lang.views import Buffer, Layout, TensorRef, View
from accel.numerics import fmt

if TYPE_CHECKING:
    from accel.lang.tracer import Tracer

__all__ = ["DENORMALS", "allocate_buffer", "allocate_semaphores", "allocation_map", "bias_word", "checked_shape",
           "tensor_ref"]  # fmt: skip

DENORMALS = ("gap", "ieee")  # rules of configurable formats: as their maker prints them, or as IEEE 754 has them


def checked_shape(what: str, shape: object) -> tuple[int, ...]:
    """Return a shape as ints of at least 1; TraceError names what has the bad one."""
    items = (shape,) if isinstance(shape, Expr) or hasattr(shape, "__index__") else shape
    try:
        out = tuple(operator.index(n) for n in items)  # type: ignore[attr-defined]
    except TypeError:
        raise TraceError(f"the shape of {what} is {shape!r}; give a tuple of ints") from None
    if not out or min(out) < 1:
        raise TraceError(f"the shape of {what} is {out}; every dimension is at least 1")
    return out


def row_major(item: int, shape: tuple[int, ...]) -> tuple[tuple[int, ...], int]:
    """Return the byte strides and the byte size of an array of `item` bytes an element."""
    strides = [item]
    for n in reversed(shape):
        strides.append(strides[-1] * n)
    size = strides.pop()
    return tuple(reversed(strides)), size


def bias_word(what: str, dtype: str, bias: object, denormals: str) -> int:
    """Return the bias word of a view (`accel.isa.layout`); TraceError for a bias or rule that the format has not."""
    form = fmt(dtype)
    if denormals not in DENORMALS:
        raise TraceError(f"{what}: denormals={denormals!r}; use {' or '.join(map(repr, DENORMALS))}")
    if form.kind != "cfp":
        if bias is not None or denormals != "gap":
            raise TraceError(f"{what} is {form.name}, whose exponent bias is fixed; leave out bias= and denormals=")
        return 0
    if isinstance(bias, Expr):
        raise TraceError(
            f"{what}: its bias {bias} differs between nodes, and a buffer means the same on all; read it from a "
            "one-element uint8 buffer"
        )
    try:
        number = form.default_bias if bias is None else operator.index(bias)  # type: ignore[arg-type]
    except TypeError:
        raise TraceError(f"{what}: bias={bias!r}; give an int from 0 to 63, or a one-element uint8 buffer") from None
    if not 0 <= number <= 63:
        raise TraceError(f"{what}: bias={number}; a bias is 0 to 63")
    return number + (BIAS_IEEE if denormals == "ieee" else 0)


def _bias(t: Tracer, what: str, dtype: str, bias: object, denormals: str) -> tuple[int, int, int, int]:
    """Return what a layout keeps of a bias: a number, or the place of the SRAM scalar that holds it."""
    if not isinstance(bias, View):
        return 0, 0, bias_word(what, dtype, bias, denormals), 0
    lay, word = bias.lay, bias_word(what, dtype, 0, denormals)
    single = lay.tracer is t and lay.space == SPACE_SRAM and lay.dtype == "uint8" and set(lay.shape) <= {1}
    if not single or bias.s is not t.dom.zero:
        raise TraceError(
            f"{what}: its bias scalar is {lay} in {lay.dtype}; use a k.sram((1,), 'uint8') at a fixed place"
        )
    return 0, 0, word, 1 + bias.c


def allocate_buffer(
    t: Tracer, shape: object, dtype: str, name: str | None, at: Location, bias: object = None, denormals: str = "gap"
) -> Buffer:
    """Return a new SRAM buffer behind the last one; CapacityError with the allocation map when it does not fit."""
    name = f"buffer{len(t.trace.buffers)}" if name is None else name
    _allowed(t, f"buffer {name!r}")
    dims, form = checked_shape(f"buffer {name!r}", shape), fmt(dtype)
    if any(b.name == name for b in t.trace.buffers):
        raise TraceError(f"two buffers are named {name!r}; give each its own name")
    strides, size = row_major(form.bytes, dims)
    offset = -(-t.trace.sram_bytes // SRAM_ALIGN) * SRAM_ALIGN
    free = max(t.chip.node.sram_bytes - offset, 0)
    if size > free:
        raise CapacityError(
            f"SRAM overflow: {name!r} {dims} in {form.name} needs {size:,} B, {free:,} B are free of "
            f"{t.chip.node.sram_bytes:,}; use smaller tiles or fewer slots",
            allocation_map=allocation_map(t),
        )
    more = _bias(t, f"buffer {name!r}", form.name, bias, denormals)
    lay = Layout(t, SPACE_SRAM, len(t.trace.buffers), name, form.name, form.bytes, dims, strides, more)
    t.trace.buffers.append(BufferRow(name, form.name, dims, offset, size, at))
    t.trace.sram_bytes = offset + size
    return Buffer(lay, offset, t.dom.zero)


def allocate_semaphores(t: Tracer, n: int, name: str | None, init: int, at: Location) -> Sem:
    """Return `n` new semaphores behind the last ones; CapacityError when the node has fewer."""
    count: object = n
    if isinstance(count, str):
        raise TraceError(f"k.sem({count!r}): the first argument is how many; write k.sem(name={count!r})")
    name = f"sem{len(t.trace.semaphores)}" if name is None else name
    _allowed(t, f"semaphore {name!r}")
    n, init, top = operator.index(n), operator.index(init), t.most_tokens
    if n < 1 or not 0 <= init <= top:
        raise TraceError(f"semaphore {name!r}: n = {n}, init = {init}; n is at least 1 and init from 0 to {top}")
    index = sum(s.count for s in t.trace.semaphores)
    if index + n > t.chip.node.semaphores:
        raise CapacityError(
            f"semaphore {name!r} needs {n}, {t.chip.node.semaphores - index} are free of {t.chip.node.semaphores} "
            f"on a node of {t.chip.name!r}; share one where waits are ordered anyway"
        )
    if any(s.name == name for s in t.trace.semaphores):
        raise TraceError(f"two semaphores are named {name!r}; give each its own name")
    t.trace.semaphores.append(Semaphore(name, index, n, init, at))
    return Sem(t, name, index, n)


def _allowed(t: Tracer, what: str) -> None:
    t.check_open()
    if t.loops:
        raise TraceError(f"{what} is allocated inside a k.loop; allocate before the loop")


def allocation_map(t: Tracer) -> str:
    """Return the SRAM allocations so far, one line each."""
    lines = [f"{'offset':>9} {'bytes':>9}  buffer"]
    lines += [
        f"{b.offset:>9} {b.nbytes:>9}  {b.name}: {b.dtype} {b.shape}  {b.line or ''}".rstrip() for b in t.trace.buffers
    ]
    lines.append(f"{t.trace.sram_bytes:>9} {t.chip.node.sram_bytes - t.trace.sram_bytes:>9}  (free)")
    return "\n".join(lines)


def tensor_ref(
    t: Tracer, index: int, name: str, shape: tuple[int, ...], dtype: str, address: int, resident: bool, bias: int = 0
) -> TensorRef:
    """Return the handle of a tensor argument at a byte address of the chip's memory; `bias` is its bias word."""
    item = fmt(dtype).bytes
    lay = Layout(t, SPACE_MEMORY, index, name, dtype, item, shape, row_major(item, shape)[0], (0, 0, bias, 0))
    return TensorRef(lay, address, t.dom.zero, resident)
