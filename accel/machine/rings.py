"""Rings: addresses reduced to the ring, and the few operands that really wrap made straight in a scratch of their own.

A view that starts in its ring and ends in it is a plain view; nothing here runs for it. One that runs over the end of
the ring (a view is never longer than its ring, so it does so once) has its bytes brought in line in a scratch before an
instruction, and brought back after it where it is the destination.
"""

from __future__ import annotations

from typing import Any

from accel.isa.layout import V_RING_BASE, V_RING_BYTES, W_FIRST
from accel.machine import words as s
from accel.machine.inner import inner, spliced
from accel.machine.moves import move_bytes
from accel.machine.raw import peek

__all__ = ["SLOTS", "around", "ring_rows", "scratch_bytes", "straight", "turn_back", "wraps"]

SLOTS = 5  # scratches: one for each view of an instruction, or source and destination of a copy
LINE = 64


@inner
def around(views: Any, view: int, address: int, error: Any) -> Any:
    """Return the address at which a view of a ring starts such that its lowest byte lies in the ring.

    `address` may be any number; one that splits an element is noted in `error`.
    """
    row = view * s.VX_WORDS
    if address & (peek(views, row + s.X_ITEM) - 1) != 0:
        error[0], error[s.F_A], error[s.F_B] = s.ALIGNMENT, view, address
        return address
    size, base, low = peek(views, row + V_RING_BYTES), peek(views, row + V_RING_BASE), peek(views, row + s.X_LOW)
    # Reduced before anything is added to it: no sum leaves 64 bits.
    return base - low + (address % size + low - base) % size


@spliced
def wraps(views: Any, view: int, address: int) -> Any:
    """Return whether a view at an address from `around`, in bytes of SRAM, runs over the end of its ring."""
    row = view * s.VX_WORDS
    size = peek(views, row + V_RING_BYTES)
    return size > 0 and address + peek(views, row + s.X_HIGH) > peek(views, row + V_RING_BASE) + size


@inner
def _exchange(views: Any, view: int, address: int, base: int, u8: Any, scratch: int, back: int) -> None:
    """Bring the bytes of a view that wraps in line at byte `scratch` of the arena, or bring them back."""
    row = view * s.VX_WORDS
    ring = base + peek(views, row + V_RING_BASE)
    begin = base + address + peek(views, row + s.X_LOW)
    count = peek(views, row + s.X_HIGH) - peek(views, row + s.X_LOW)
    before = ring + peek(views, row + V_RING_BYTES) - begin
    if back:
        move_bytes(u8, begin, scratch, before)
        move_bytes(u8, ring, scratch + before, count - before)
    else:
        move_bytes(u8, scratch, begin, before)
        move_bytes(u8, scratch + before, ring, count - before)


@inner
def straight(views: Any, view: int, address: int, base: int, u8: Any, config: Any, slot: int) -> Any:
    """Bring a view that wraps in line in scratch `slot`; return the byte of the arena where it starts there."""
    scratch = config[s.C_RING] + slot * config[s.C_RING_BYTES]
    _exchange(views, view, address, base, u8, scratch, s.ZERO)
    return scratch - peek(views, view * s.VX_WORDS + s.X_LOW)


@inner
def turn_back(views: Any, view: int, address: int, base: int, u8: Any, config: Any, slot: int) -> None:
    """Bring what `straight` made back to the ring."""
    _exchange(views, view, address, base, u8, config[s.C_RING] + slot * config[s.C_RING_BYTES], s.ONE)


@inner
def ring_rows(code: Any, pc: int, value: Any, views: Any, base: int, u8: Any, config: Any, reads: int,
              after: int) -> None:  # fmt: skip
    """Make every operand of a row that wraps straight, or after the row bring its destination back.

    The last word of `value` keeps where the destination was, -1 where it does not wrap.
    """
    kept = value.shape[0] - 1
    dst = code[pc, W_FIRST]
    if after:
        if value[kept] != -1:
            turn_back(views, dst, value[kept], base, u8, config, s.ZERO)
        return
    value[kept] = -1
    for j in range(reads + 1):
        view = code[pc, W_FIRST + 3 * j]
        if wraps(views, view, value[j]):
            if j == 0:
                value[kept] = value[j]
            value[j] = straight(views, view, value[j], base, u8, config, j) - base


def scratch_bytes(views: Any) -> int:
    """Return the bytes of one scratch: room for the longest view of a ring, 0 where no view is one."""
    rings = views[views[:, V_RING_BYTES] > 0]
    return -(-int((rings[:, s.X_HIGH] - rings[:, s.X_LOW]).max()) // LINE) * LINE if len(rings) else 0
