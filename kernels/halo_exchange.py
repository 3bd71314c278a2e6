"""Halo exchange as a lesson: tiles of an image on a mesh get the borders of their neighbours, without memory.

What a stencil needs of the tiles around it moves from node to node, and nothing else: first the left and right borders,
then whole rows above and below, which by then hold the corners too, so four neighbours are enough for eight. The node
that needs a border pulls it; the one that has it says so before. Bits are untouched: the definition is NumPy's pad.

The bound it approaches: bytes of a border through a mesh port (`HaloExchange.port_bytes`) where x and y are resident.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from accel.hardware import ChipSpec
from accel.kernels.library import LibraryKernel, builder
from accel.kernels.parts.collective_groups import on_mesh
from accel.kernels.parts.collective_reference import halo_oracle
from accel.lang import K, TensorSpec, tensor
from accel.problem import HaloExchange
from accel.program import Program, kernel

if TYPE_CHECKING:
    from accel.lang import View

__all__ = ["KERNEL", "build", "halo_exchange"]


@kernel
def halo_exchange(k: K, x: TensorSpec, y: TensorSpec, *, problem: HaloExchange) -> None:
    """Every tile pulls its left and right borders, then whole rows above and below, corners included."""
    p, r, node = problem, problem.halo, k.row * problem.cols + k.col
    tile = k.sram((p.h + 2 * r, p.w + 2 * r, p.c), p.dtype, "tile")
    inner = tile[r : r + p.h, r : r + p.w]
    loaded, stored = k.sem(1, "loaded"), k.sem(1, "stored")
    sides = k.sem(2, "sides"), k.sem(2, "upper")
    got = k.sem(2, "got")
    if x.resident:
        k.preload(inner, x[node])
    if y.resident:
        k.collect(y[node], tile)

    def exchange(axis: int, place: Any, size: int, at: Any, mine: Any) -> None:
        """Pull the two borders along an axis: mine(low, high) are rows (or columns) of the tile."""
        extent = (p.h, p.w)[axis]
        borders = [(-1, mine(0, r), mine(extent, extent + r)), (1, mine(extent + r, extent + 2 * r), mine(r, 2 * r))]
        if size == 1:
            for _, border, source in borders:
                if p.wrap:
                    k.vec.copy(border, source)
            return
        for step, _, _ in borders:  # my part is there: tell who reads it
            with k.when(_inside(place - step, size, p.wrap)):
                k.inc(sides[axis][(1 - step) // 2], at=at((place - step) % size))
        for number, (step, border, source) in enumerate(borders):
            with k.when(_inside(place + step, size, p.wrap)):
                k.wait(sides[axis][(1 - step) // 2])
                k.pull(border, source, of=at((place + step) % size), done=got[number])
        for number, (step, _, _) in enumerate(borders):
            with k.when(_inside(place + step, size, p.wrap)):
                k.wait(got[number])

    @k.thread
    def work() -> None:
        if not p.wrap:
            _zero(k, tile, p)
        if not x.resident:
            k.copy(inner, x[node], done=loaded)
            k.wait(loaded)
        exchange(1, k.col, p.cols, lambda col: (k.row, col), lambda a, b: tile[r : r + p.h, a:b])
        exchange(0, k.row, p.rows, lambda row: (row, k.col), lambda a, b: tile[a:b])
        if not y.resident:
            k.copy(y[node], tile, sent=stored)
            k.wait(stored)


def _inside(place: Any, size: int, wrap: bool) -> Any:
    return True if wrap else (place >= 0) & (place < size)


def _zero(k: K, tile: View, p: HaloExchange) -> None:
    """Zero the borders that lie beyond the image."""
    r, whole = p.halo, (p.h + 2 * p.halo, p.w + 2 * p.halo)
    for size, here, axis in ((p.rows, k.row, 0), (p.cols, k.col, 1)):
        for edge, first in ((0, 0), (size - 1, whole[axis] - r)):
            with k.when(here == edge):
                k.vec.fill(tile[first : first + r] if axis == 0 else tile[:, first : first + r], 0)


def build(
    chip: ChipSpec | str,
    *,
    rows: int,
    cols: int,
    h: int,
    w: int,
    c: int,
    halo: int = 1,
    wrap: bool = False,
    dtype: str = "bf16",
    resident: Iterable[str] = (),
) -> Program:
    """Return the program that gives the tiles of an image their neighbours' borders; see `HaloExchange`.

    rows, cols: nodes of `chip`; h, w, c: of a tile; halo: width of the border; wrap: the image goes on at its other
    side; dtype: any format. resident: which of "x" and "y" lie in SRAM. UnsupportedError where the mesh is too
    small; CapacityError for tiles that do not fit a node; InputError for bad arguments.
    """
    return _program(chip, HaloExchange(rows, cols, h, w, c, halo, wrap, dtype), resident=resident)


@builder
def _program(chip: ChipSpec, problem: HaloExchange, *, resident: frozenset[str] = frozenset()) -> Program:
    spec, held = on_mesh(chip, problem, resident)
    tensors: dict[str, Any] = {name: tensor(o.shape, o.dtype) for name, o in problem.operands.items()}
    mesh = (problem.rows, problem.cols)
    return halo_exchange.build(spec, mesh=mesh, resident=held, problem=problem, **tensors)


KERNEL = LibraryKernel(
    problem=HaloExchange,
    program=_program,
    oracle=halo_oracle,
    examples=(
        HaloExchange(3, 4, 5, 6, 2),
        HaloExchange(2, 2, 4, 4, 3, halo=3, wrap=True, dtype="fp32"),
        HaloExchange(1, 3, 2, 5, 1, halo=2, wrap=True),
        HaloExchange(1, 1, 3, 3, 1),
    ),
)
