"""Panels of a right operand that stay in the scratch from one product to the next, until a byte of it is stored to.

All that stores to the SRAM of a node while panels of it may be held tells `forget` which bytes: parts of copies and the
rows of the units. One thread of the host owns a node for the whole of a log (`worklog`), and starts it with none held.
"""

from __future__ import annotations

from typing import Any

from accel.isa.layout import V_SHAPE
from accel.machine import words as s
from accel.machine.inner import inner, spliced
from accel.machine.raw import peek, poke

__all__ = ["forget", "forget_all", "hold", "is_held"]

KEYS = 8  # shape and strides of a view stand side by side


@spliced
def forget_all(config: Any) -> None:
    """Hold no panels."""
    poke(config, s.C_HELD_HIGH, s.ZERO)


@spliced
def forget(config: Any, views: Any, view: int, at: int) -> None:
    """Hold no panels of bytes that a view which starts at byte `at` of the arena stores to."""
    row = view * s.VX_WORDS
    end, begin = peek(config, s.C_HELD_HIGH), peek(config, s.C_HELD_LOW)
    if at + peek(views, row + s.X_LOW) < end and at + peek(views, row + s.X_HIGH) > begin:
        poke(config, s.C_HELD_HIGH, s.ZERO)


@inner
def is_held(config: Any, view: Any, start: int, pairs: int) -> bool:
    """Return whether the panels of a whole right operand, its first element at byte `start`, stand in the scratch."""
    if config[s.C_HELD_HIGH] == 0 or config[s.C_HELD_KEY] != start or config[s.C_HELD_KEY + 1] != pairs:
        return False
    same = 0
    for i in range(KEYS):
        same += config[s.C_HELD_KEY + 2 + i] == view[V_SHAPE + i]
    return same == KEYS


@inner
def hold(config: Any, view: Any, start: int, pairs: int, low: int, high: int, greatest: int) -> None:
    """Note that panels stand in the scratch which were made from bytes [low, high)."""
    config[s.C_HELD_LOW], config[s.C_HELD_HIGH] = low, high
    config[s.C_HELD_KEY], config[s.C_HELD_KEY + 1], config[s.C_HELD_GREATEST] = start, pairs, greatest
    for i in range(KEYS):
        config[s.C_HELD_KEY + 2 + i] = view[V_SHAPE + i]
