"""What `k.copy`, `k.preload` and `k.collect` take: spaces, formats and shapes, checked once per pair of layouts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from accel.errors import TraceError
from accel.isa.layout import DIR_PRELOAD, SPACE_MEMORY, SPACE_SRAM
from accel.lang.reach import check_guard
from accel.lang.views import Layout, View

if TYPE_CHECKING:
    from accel.lang.tracer import Tracer

__all__ = ["copy_views", "own", "pull_views", "shard_views"]

LOAD, PUSH, STORE = 0, 1, 2


def _owned(t: Tracer, what: str, view: View) -> Layout:
    given: object = view
    if hasattr(given, "__array__"):
        raise TraceError(
            f"{what} takes views of buffers and tensors, not an array; build with accel.tensor(shape, dtype), and "
            "give the array to run"
        )
    if not isinstance(given, View):
        raise TraceError(f"{what} takes views of buffers and tensors, not {view!r}; index a k.sram buffer or a tensor")
    own(t, view.lay)
    return view.lay


def own(t: Tracer, lay: Layout) -> None:
    """Check that a view is of this kernel, and used where it is in bounds."""
    if lay.tracer is not t:
        raise TraceError(f"{lay.name!r} belongs to another kernel; use the buffers and tensors of this one")
    if lay.guard:
        check_guard(t, f"a view of {lay.name!r}", lay.guard)


def _alike(what: str, dst: Layout, src: Layout) -> tuple[int, int]:
    if dst.dtype != src.dtype:
        raise TraceError(
            f"{what} moves bits: {dst.name!r} is {dst.dtype}, {src.name!r} is {src.dtype}; k.vec.cast in SRAM first"
        )
    if dst.more[2] != src.more[2] and not (dst.more[3] or src.more[3]):
        raise TraceError(
            f"{what} moves bits: {dst.name!r} and {src.name!r} are {dst.dtype} of different bias or denormals; "
            "k.vec.cast in SRAM first"
        )
    if dst.squeezed()[0] != src.squeezed()[0]:
        raise TraceError(f"{what} of {src} into {dst}; shapes must be equal up to ones")
    return dst.plain(), src.plain()


def copy_views(t: Tracer, dst: View, src: View) -> tuple[int, int, int]:
    """Return the descriptor ids of both sides of a copy and its kind: LOAD, PUSH or STORE."""
    to, of = _owned(t, "k.copy", dst), _owned(t, "k.copy", src)
    if to.space == of.space == SPACE_MEMORY:
        raise TraceError(f"k.copy from tensor {of.name!r} to tensor {to.name!r}; go through a k.sram buffer")
    for lay in (to, of):
        if lay.space == SPACE_MEMORY and t.resident[lay.obj]:
            raise TraceError(
                f"k.copy touches {lay.name!r}, which is resident in SRAM; use k.preload or k.collect and its buffers"
            )
    ids = _alike("k.copy", to, of)
    if of.space == SPACE_MEMORY and not t.active.dead:
        t.trace.read.add(of.obj)
    if to.space == SPACE_MEMORY and not t.active.dead:
        t.trace.written.add(to.obj)
    return (*ids, LOAD if of.space == SPACE_MEMORY else STORE if to.space == SPACE_MEMORY else PUSH)


def pull_views(t: Tracer, dst: View, src: View) -> tuple[int, int]:
    """Return the descriptor ids of both sides of a pull, both in SRAM."""
    to, of = _owned(t, "k.pull", dst), _owned(t, "k.pull", src)
    for lay in (to, of):
        if lay.space == SPACE_MEMORY:
            raise TraceError(f"k.pull moves from the SRAM of another node, and {lay.name!r} is a tensor; use k.copy")
    return _alike("k.pull", to, of)


def shard_views(t: Tracer, what: str, direction: int, dst: View, src: View) -> tuple[int, int]:
    """Return the descriptor ids of a preload (buffer, tensor) or a collect (tensor, buffer)."""
    to, of = _owned(t, what, dst), _owned(t, what, src)
    buffer, tensor = (to, of) if direction == DIR_PRELOAD else (of, to)
    if buffer.space != SPACE_SRAM or tensor.space != SPACE_MEMORY:
        order = "a buffer, then a tensor" if direction == DIR_PRELOAD else "a tensor, then a buffer"
        raise TraceError(f"{what} takes {order}; got {to.name!r}, then {of.name!r}")
    if not t.resident[tensor.obj]:
        raise TraceError(
            f"{what} touches {tensor.name!r}, which lies in memory; use k.copy, or build with resident={tensor.name!r}"
        )
    (t.trace.read if direction == DIR_PRELOAD else t.trace.written).add(tensor.obj)
    return _alike(what, to, of)
