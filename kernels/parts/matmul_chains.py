"""The inner loop of `matmul`: panels in, one multiply a step, slots given back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from accel.kernels.parts.matmul_formats import multiply
from accel.kernels.parts.matmul_panels import Panels, span
from accel.lang import K

if TYPE_CHECKING:
    from accel.lang import View

__all__ = ["multiply_visit", "skip_visit"]


def multiply_visit(k: K, A: Panels, a: int, B: Panels, b: int, tile: View, *, trans_a: bool, trans_b: bool) -> None:
    """tile = the product of visit number a of A and number b of B, one chain; slots go back to who fills them next."""
    T, left, right, first_a, first_b = A.tiling, A.visits[a], B.visits[b], A.firsts[a], B.firsts[b]
    steps = A.steps(left)
    last_a, last_b = _refilled(A, a, steps), _refilled(B, b, steps)
    middle = min(steps - 1, last_a, last_b)
    for t, _ in span(k, steps, A.looped and B.looped, 1, middle, range(0)):
        g, h = first_a + t, first_b + t
        k.wait(A.full[g % T.stages], A.count(left, t))
        k.wait(B.full[h % T.stages], B.count(right, t))
        more = not (isinstance(t, int) and t == 0)
        multiply(k, tile, A.panel(left, g, t), B.panel(right, h, t), accumulate=more, trans_a=trans_a, trans_b=trans_b)
        inside = not isinstance(t, int)
        if inside or t < last_a:
            _give_back(k, A, g)
        if inside or t < last_b:
            _give_back(k, B, h)


def skip_visit(k: K, side: Panels, number: int) -> None:
    """Let the panels of a visit pass, which only other nodes use."""
    T, visit, first = side.tiling, side.visits[number], side.firsts[number]
    last = _refilled(side, number, side.steps(visit))
    for t, _ in span(k, side.steps(visit), side.looped, 0, min(side.steps(visit) - 1, last), range(0)):
        g = first + t
        k.wait(side.full[g % T.stages], side.count(visit, t))
        if not isinstance(t, int) or t < last:
            _give_back(k, side, g)


def _refilled(side: Panels, number: int, steps: int) -> int:
    """Return how many steps of a visit use slots that are filled again."""
    return max(0, min(steps, side.total - side.firsts[number] - side.tiling.stages))


def _give_back(k: K, side: Panels, g: Any) -> None:
    for owner in side.owners_of(g + side.tiling.stages):
        k.inc(side.free[g % side.tiling.stages], at=side.owner(owner))
