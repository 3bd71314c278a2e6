"""What instructions do to bits: one part of a copy, one matmul, one vector row; or, for a slice, to what matters."""

from __future__ import annotations

from typing import Any

from accel.isa.layout import SPACE_MEMORY, SPACE_SRAM, V_OBJECT, V_SPACE, W_FIRST, W_OPCODE
from accel.machine import words as s
from accel.machine.codes import AT_LEAVES
from accel.machine.held import forget, forget_all
from accel.machine.inner import inner, spliced
from accel.machine.moves import move, touch
from accel.machine.raw import peek
from accel.machine.rings import straight, turn_back, wraps
from accel.machine.units import AT_RINGS, VIEWS, call_rings, call_unit

__all__ = ["compute", "land", "lent", "part"]


@spliced
def lent(shadows: Any, tensor: int) -> Any:
    """Return how many bytes beyond its place in the arena a tensor lies (`arena.Arena`)."""
    return shadows[(shadows.shape[0] >> 1) + tensor]


@spliced
def part(u8: Any, shadow: Any, shadows: Any, views: Any, bases: Any, needed: Any, nest: Any, dst_view: int, dst: int,
         src_view: int, src: int, issuer: int, node: int, config: Any) -> None:  # fmt: skip
    """Move the bits of one copy to one destination node (the issuer itself where dst is memory).

    issuer: the node whose SRAM is read.
    """
    if views[src_view, V_SPACE] == SPACE_SRAM:
        if needed[issuer, views[src_view, V_OBJECT]] == 0:
            return
        if wraps(views, src_view, src):
            src = straight(views, src_view, src, bases[issuer], u8, config, s.ONE)
        else:
            src += bases[issuer]
    else:
        src += lent(shadows, views[src_view, V_OBJECT])
    land(u8, shadow, shadows, views, bases, needed, nest, dst_view, dst, src_view, src, node, config)


@spliced
def land(u8: Any, shadow: Any, shadows: Any, views: Any, bases: Any, needed: Any, nest: Any, dst_view: int, dst: int,
         src_view: int, src: int, node: int, config: Any) -> None:  # fmt: skip
    """Write bits that begin at byte `src` of the arena to one destination node, if they matter there."""
    dst_object = views[dst_view, V_OBJECT]
    if views[dst_view, V_SPACE] == SPACE_MEMORY:
        move(u8, views[dst_view], dst + lent(shadows, dst_object), views[src_view], src, nest)
        if shadows[dst_object] >= 0:
            at = shadows[dst_object] + (dst - views[dst_view, s.X_BEGIN]) // views[dst_view, s.X_ITEM]
            touch(shadow, views[dst_view], at, nest)
        return
    if needed[node, dst_object] == 0:
        return
    bent = wraps(views, dst_view, dst)
    at = straight(views, dst_view, dst, bases[node], u8, config, s.ZERO) if bent else dst + bases[node]
    move(u8, views[dst_view], at, views[src_view], src, nest)
    if bent:
        turn_back(views, dst_view, dst, bases[node], u8, config, s.ZERO)
        forget_all(config)
    else:
        forget(config, views, dst_view, at)


@inner
def _mark(needed: Any, config: Any, node: int, buffer: int) -> None:
    if needed[node, buffer] == 0:
        needed[node, buffer] = 1
        config[s.C_CHANGED] = 1


@spliced
def compute(code: Any, pc: int, value: Any, views: Any, needed: Any, node: int, base: int, config: Any, units: Any,
            leaves: Any, u8: Any, u16: Any, u32: Any, f32: Any, work: Any, work32: Any, nest: Any,
            error: Any) -> None:  # fmt: skip
    """Run a matmul or vector row on the SRAM that begins at byte `base`, if its destination matters."""
    if needed[node, views[code[pc, W_FIRST], V_OBJECT]] == 0:
        return
    reads = VIEWS[code[pc, W_OPCODE]]
    if config[s.C_MARK]:
        for j in range(reads + 1):
            view = code[pc, W_FIRST + 3 * j]
            _mark(needed, config, node, views[view, V_OBJECT])
            if views[view, s.X_HOLDER] != 0:  # what its bias scalar holds decides as much as its codes do
                _mark(needed, config, node, views[view, s.X_HOLDER] - 1)
        return
    rings = config[s.C_RING_BYTES] != 0
    if rings:
        forget_all(config)  # what is made straight changes places
        call_rings(units, AT_RINGS, 0, (code, pc, value, views, base, u8, config, reads, s.ZERO))
    call_unit(units, AT_LEAVES, peek(leaves, pc), (code, pc, value, views, base, u8, u16, u32, f32, work, work32, nest,
                                                   units, config, error))  # fmt: skip
    if rings:
        call_rings(units, AT_RINGS, 0, (code, pc, value, views, base, u8, config, reads, s.ONE))
        forget_all(config)
    else:
        forget(config, views, code[pc, W_FIRST], base + value[0])
