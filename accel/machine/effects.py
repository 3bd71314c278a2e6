"""What instructions do to bits: one part of a copy, one matmul, one vector row; or, for a slice, to what matters."""

from __future__ import annotations

from typing import Any

from accel.isa.layout import SPACE_MEMORY, SPACE_SRAM, V_OBJECT, V_SPACE, W_FIRST, W_OPCODE
from accel.isa.table import opcode
from accel.jit import njit
from accel.machine import words as s
from accel.machine.matmul import matmul
from accel.machine.moves import move, touch
from accel.machine.operands import place
from accel.machine.vector import OP_COPY, elementwise, info, reduce

__all__ = ["compute", "part"]

OP_MATMUL = opcode("matmul")
DST, X, Y, Z = 0, 1, 2, 3  # places of the views of a vector row; an immediate follows the last view
MM_DST, MM_A, MM_B, MM_ACCUMULATE = (place("matmul", name) for name in ("dst", "a", "b", "accumulate"))


@njit
def part(u8: Any, shadow: Any, shadows: Any, views: Any, bases: Any, needed: Any, nest: Any, dst_view: int, dst: int,
         src_view: int, src: int, issuer: int, node: int) -> None:  # fmt: skip
    """Move the bits of one copy to one destination node (the issuer itself where dst is memory)."""
    src_object, dst_object = views[src_view, V_OBJECT], views[dst_view, V_OBJECT]
    if views[src_view, V_SPACE] == SPACE_SRAM:
        if needed[issuer, src_object] == 0:
            return
        src += bases[issuer]
    to_memory = views[dst_view, V_SPACE] == SPACE_MEMORY
    if not to_memory:
        if needed[node, dst_object] == 0:
            return
        dst += bases[node]
    move(u8, views[dst_view], dst, views[src_view], src, nest)
    if to_memory and shadows[dst_object] >= 0:
        at = shadows[dst_object] + (dst - views[dst_view, s.X_BEGIN]) // views[dst_view, s.X_ITEM]
        touch(shadow, views[dst_view], at, nest)


@njit
def _need(needed: Any, node: int, item: int, config: Any) -> None:
    if needed[node, item] == 0:
        needed[node, item] = 1
        config[s.C_CHANGED] = 1


@njit
def compute(code: Any, pc: int, value: Any, views: Any, needed: Any, node: int, base: int, config: Any, u8: Any, u16: Any,
            u32: Any, f32: Any, work: Any, work32: Any, piece: Any, piece32: Any, nest: Any) -> None:  # fmt: skip
    """Run a matmul or vector row on the SRAM that begins at byte `base`, if its destination matters."""
    op = code[pc, W_OPCODE]
    dst_view = code[pc, W_FIRST]
    if needed[node, views[dst_view, V_OBJECT]] == 0:
        return
    index, reads, has_imm, folds = (-1, 2, 0, 0) if op == OP_MATMUL else info(op)
    if config[s.C_MARK]:
        for j in range(1, reads + 1):
            _need(needed, node, views[code[pc, W_FIRST + 3 * j], V_OBJECT], config)
        return
    # Rows that read fewer views pass dst for the rest, unread.
    x_view = code[pc, W_FIRST + 3] if reads > 0 else dst_view
    y_view = code[pc, W_FIRST + 6] if reads > 1 else dst_view
    z_view = code[pc, W_FIRST + 9] if reads > 2 else dst_view
    dst, x, y, z = base + value[DST], base + value[X], base + value[Y], base + value[Z]
    if op == OP_MATMUL:
        matmul(f32, u16, work, work32, views[dst_view], (base + value[MM_DST]) >> 2, views[x_view],
               (base + value[MM_A]) >> 1, views[y_view], (base + value[MM_B]) >> 1, value[MM_ACCUMULATE])  # fmt: skip
    elif op == OP_COPY:
        move(u8, views[dst_view], dst, views[x_view], x, nest)
    elif folds:
        reduce(u16, u32, piece, piece32, op, views[dst_view], dst, views[x_view], x)
    else:
        elementwise(u16, u32, piece, piece32, nest, index, reads, views[dst_view], dst, views[x_view], x, views[y_view],
                    y, views[z_view], z, value[reads + 1], has_imm)  # fmt: skip


if (MM_DST, MM_A, MM_B) != (DST, X, Y):
    raise AssertionError("compute() reads the views of every row in the same places")
