"""Collectives over a mesh as a lesson: how nodes add up, spread and exchange what each of them has.

Every node holds a row of a tensor (`accel.problem.Collective` says what each operation makes of them). Sums are
defined to the bit (`collective_reference.oracle`), by the algorithm and the number of members, never by the chip:

- `ring`: the numbers are cut in as many parts as there are members. A part goes once round the ring, every member adds
  its own; then, in an all-reduce, the sum goes round once more. Each link carries 2 (P - 1) / P of the numbers, the
  least there can be (Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms", JPDC 69, 2009), in 2 (P - 1) steps.
- `grid`: the same along rows, then along columns: rows + cols steps instead of rows x cols, so less waiting.
- `recursive`: halving and doubling with partners at distance 1, 2, 4: log2 P steps each way (Thakur, Rabenseifner,
  Gropp, "Optimization of collective communication operations in MPICH", IJHPCA 19, 2005). Where P is no power of two,
  every member sends the others their parts directly, adds up in the same order of a tree, and multicasts its sum.

In all of them a message is announced by its own `done`, and a slot is written again only after its reader has given it
back. Parts are cut in slices so that one is added while the next arrives. Numbers that do not fit SRAM go in segments.

The bound it approaches: bytes through the mesh port of a node (`Collective.port_bytes`) where x and y are resident, and
memory bandwidth where they are not.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil
from typing import TYPE_CHECKING, Any

from accel.errors import InputError, UnsupportedError
from accel.hardware import ChipSpec
from accel.hardware import chip as find_chip
from accel.kernels.library import LibraryKernel
from accel.kernels.parts.collective_groups import Group
from accel.kernels.parts.collective_reference import halo_oracle, oracle
from accel.kernels.parts.collective_steps import Direct, Halves, Ring
from accel.lang import K, TensorSpec, tensor
from accel.numerics import fmt
from accel.problem import Collective, HaloExchange, Problem
from accel.program import Program, kernel

if TYPE_CHECKING:
    from accel.lang import View

__all__ = ["KERNELS", "build", "build_halo", "collective", "halo_exchange"]

SLICE_BYTES = 512  # shorter slices would be mostly latency
SLICES = 4
SLACK = 4 << 10  # SRAM for alignment of the buffers


@kernel
def collective(k: K, x: TensorSpec, y: TensorSpec, *, problem: Collective, width: int) -> None:
    """One operation among the members of every group, `width` numbers of each part at a time."""
    p, group = problem, Group(k, problem.over, problem.rows, problem.cols)
    parts, unit = _parts(p)
    data = k.sram((parts, width), p.dtype, "data")
    other = k.sram((parts, width), p.dtype, "other") if _doubled(p) else data
    steps = _Steps(k, group, p, width, data, other)
    node = k.row * p.cols + k.col
    source = x[group.number if p.op == "broadcast" else node]
    target = y[group.number if p.op == "reduce" else node]
    reads = group.member == p.root if p.op == "broadcast" else True
    writes = group.member == p.root if p.op == "reduce" else True
    own = p.op == "all_gather"  # one part of data comes in, all go out; in a reduce_scatter the other way round
    into = data[group.member] if own else data
    out = data[group.member] if p.op == "reduce_scatter" else other if p.op in ("all_to_all", "barrier") else data
    if x.resident and reads:
        for inner, outer in _pairs(into, source, unit, 0, width):
            k.preload(inner, outer)
    if y.resident and writes:
        for inner, outer in _pairs(out, target, unit, 0, width):
            k.collect(outer, inner)

    loaded, stored = k.sem(1, "loaded"), k.sem(1, "stored")

    @k.thread
    def work() -> None:
        for low in range(0, unit, width):
            high = min(unit, low + width)
            if low:
                k.barrier(group.everyone)  # nobody writes to a node that still reads the segment before
            if not x.resident:
                with k.when(reads):
                    pairs = list(_pairs(into, source, unit, low, high))
                    for inner, outer in pairs:
                        k.copy(inner, outer, done=loaded)
                    k.wait(loaded, len(pairs))
            steps.go(high - low)
            if not y.resident:
                with k.when(writes):
                    pairs = list(_pairs(out, target, unit, low, high))
                    for inner, outer in pairs:
                        k.copy(outer, inner, sent=stored)
                    k.wait(stored, len(pairs))


class _Steps:
    """What the members do with one segment, by operation and algorithm."""

    def __init__(self, k: K, group: Group, p: Collective, width: int, data: View, other: View) -> None:
        self.k, self.group, self.p, self.data, self.other = k, group, p, data, other
        item = fmt(p.dtype).bytes
        self.filled = _padded(p)
        if p.algorithm == "grid":
            self.across = Ring(
                k, Group(k, "rows", p.rows, p.cols), (p.rows, width), p.dtype, _slices(p.rows * width * item), "across"
            )
            self.down = Ring(k, Group(k, "cols", p.rows, p.cols), (width,), p.dtype, _slices(width * item), "down")
        elif p.algorithm == "ring":
            self.ring = Ring(k, group, (width,), p.dtype, _slices(width * item), "ring", adds=p.sums)
        elif p.algorithm == "recursive" and group.size & (group.size - 1) == 0:
            self.halves = Halves(k, group, width, p.dtype)
        else:
            self.direct = Direct(k, group)
        if p.op == "barrier":
            self.there = k.sem(max(1, (group.size - 1).bit_length()), "there")
        self.here = k.sem(1, "here")

    def go(self, width: int) -> None:
        """Do one segment."""
        p = self.p
        if p.sums:
            self._fill(width)
            self._add_up(width)
            if p.op == "all_reduce":
                self._spread(width)
            elif p.op == "reduce":
                self._collect(width)
        elif p.op == "all_gather":
            self._spread(width)
        elif p.op == "all_to_all":
            self.direct.exchange(self.other, self.data, width)
        elif p.op == "broadcast":
            with self.k.when(self.group.member == p.root):
                self.k.copy(self.data[:, :width], self.data[:, :width], to=self.group.everyone, done=self.here)
            self.k.wait(self.here)
        else:
            self._meet(width)

    def _fill(self, width: int) -> None:
        """Zero what no member has: the last parts of numbers that do not divide by the members."""
        for row, first in self.filled:
            if first < width:
                self.k.vec.fill(self.data[row, first:width], 0)

    def _part(self, number: Any) -> View:
        return self.data[number]

    def _add_up(self, width: int) -> None:
        p, group = self.p, self.group
        if p.algorithm == "ring":
            self.ring.reduce_scatter(self._part, width)
        elif p.algorithm == "grid":
            self.across.reduce_scatter(self._column, width)
            self.down.reduce_scatter(lambda row: self.data[row * p.cols + self.k.col], width)
        elif group.size & (group.size - 1) == 0:
            self.halves.reduce_scatter(self.data, width)
        else:
            self.direct.exchange(self.other, self.data, width)
            self.direct.add_up(self.other, width)
            self.k.vec.copy(self.data[group.member, :width], self.other[0, :width])

    def _column(self, col: Any) -> View:
        cols = self.p.cols
        return self.data[col : col + (self.p.rows - 1) * cols + 1 : cols]

    def _spread(self, width: int) -> None:
        p, group = self.p, self.group
        if p.algorithm == "ring":
            self.ring.all_gather(self._part, width)
        elif p.algorithm == "grid":
            self.down.all_gather(lambda row: self.data[row * p.cols + self.k.col], width)
            self.across.all_gather(self._column, width)
        elif p.algorithm == "recursive" and group.size & (group.size - 1) == 0:
            self.halves.all_gather(self.data, width)
        else:
            self.direct.all_gather(self.data, width)

    def _collect(self, width: int) -> None:
        """Send every member's sum to the root."""
        k, group, root = self.k, self.group, self.p.root
        own = self.data[group.member, :width]
        with k.when(group.member != root):
            k.copy(own, own, to=group.node(root), done=self.here)
        if group.size > 1:
            with k.when(group.member == root):
                k.wait(self.here, group.size - 1)

    def _meet(self, width: int) -> None:
        """Wait until all members are here, then read what the next one brought."""
        k, group = self.k, self.group
        if self.p.algorithm == "hardware":
            k.barrier(group.everyone)
        else:  # at distance 1, 2, 4, ...: after each round a node has heard of twice as many (Hensgen, Finkel, Manber)
            for level in range((group.size - 1).bit_length()):
                k.inc(self.there[level], at=group.node((group.member + 2**level) % group.size))
                k.wait(self.there[level])
        nearest = group.node((group.member + 1) % group.size)
        k.pull(self.other[:, :width], self.data[:, :width], of=nearest, done=self.here)
        k.wait(self.here)


def _slices(size: int) -> int:
    """Return in how many slices a part of `size` bytes is sent."""
    return min(SLICES, max(1, size // SLICE_BYTES))


def _parts(p: Collective) -> tuple[int, int]:
    """Return how many parts a node holds at the same time, and the numbers of a part."""
    if p.op in ("broadcast", "barrier"):
        return 1, p.elements
    return p.size, ceil(p.elements / p.size) if p.op in ("reduce", "all_reduce") else p.elements


def _doubled(p: Collective) -> bool:
    """Return whether parts arrive in a second buffer."""
    return p.op in ("all_to_all", "barrier") or (p.algorithm == "recursive" and p.size & (p.size - 1) != 0)


def _padded(p: Collective) -> list[tuple[int, int]]:
    """Return (part, first number) of what lies beyond the numbers that there are."""
    if p.op not in ("reduce", "all_reduce"):
        return []
    parts, unit = _parts(p)
    return [(row, max(0, p.elements - row * unit)) for row in range(parts) if (row + 1) * unit > p.elements]


def _pairs(inner: View, outer: View, unit: int, low: int, high: int) -> Any:
    """Yield (part of the buffer, part of the tensor's row) for numbers [low, high) of each part of `unit` numbers."""
    if inner.ndim == 1:
        yield inner[: high - low], outer[low:high]
        return
    total = outer.shape[0]
    full = total // unit
    if full:
        yield inner[:full, : high - low], outer[: full * unit].split(0, unit)[:, low:high]
    rest = min(high, total - full * unit)
    if rest > low:
        yield inner[full, : rest - low], outer[full * unit + low : full * unit + rest]


def build(
    chip: ChipSpec | str,
    *,
    rows: int,
    cols: int,
    elements: int,
    op: str = "all_reduce",
    algorithm: str = "",
    over: str = "mesh",
    root: int = 0,
    dtype: str = "fp32",
    resident: Iterable[str] = (),
    width: int = 0,
) -> Program:
    """Return the program of a collective on the top-left rows x cols nodes of `chip`; see `accel.problem.Collective`.

    resident: which of "x" and "y" lie in SRAM. width: numbers of a part that are handled at a time (0: as many as fit).
    UnsupportedError where the mesh is too small, or where resident operands do not fit; InputError for bad arguments.
    """
    problem = Collective(rows, cols, elements, op, algorithm, over, root, dtype)
    return _program(chip, problem, resident=resident, width=width)


def _program(
    chip: ChipSpec | str, problem: Collective, *, resident: Iterable[str] = (), width: int = 0
) -> Program:  # fmt: skip
    spec, held = _on(chip, problem, resident)
    _, unit = _parts(problem)
    fits = (spec.node.sram_bytes - SLACK) // (fmt(problem.dtype).bytes * _rows_needed(problem))
    if fits < 1 or (held and fits < unit):
        raise UnsupportedError(
            f"{problem.label} does not fit the SRAM of {spec.name}: it holds {max(0, fits)} numbers of each of "
            f"{problem.size} parts; use fewer elements" + (" or leave x and y in memory" if held else "")
        )
    if type(width) is not int or width < 0 or width > fits or (held and 0 < width < unit):
        raise InputError(f"collective width={width!r} does not go here; use 1 to {min(fits, unit)}, or {unit} with "
                         "resident operands")  # fmt: skip
    tensors: dict[str, Any] = {name: tensor(o.shape, o.dtype) for name, o in problem.operands.items()}
    return collective.build(
        spec,
        mesh=(problem.rows, problem.cols),
        resident=held,
        problem=problem,
        width=min(width or fits, unit),
        **tensors,
    )


def _on(chip: ChipSpec | str, problem: Any, resident: Iterable[str]) -> tuple[ChipSpec, frozenset[str]]:
    """Return the chip and the resident operands, checked."""
    spec = find_chip(chip) if isinstance(chip, str) else chip
    if problem.rows > spec.mesh.rows or problem.cols > spec.mesh.cols:
        raise UnsupportedError(
            f"{problem.label} takes {problem.rows} x {problem.cols} nodes and {spec.name} has {spec.mesh.rows} x "
            f"{spec.mesh.cols}; use a part of its mesh"
        )
    held = frozenset((resident,) if isinstance(resident, str) else resident)
    if not held <= {"x", "y"}:
        raise InputError(f"{problem.kind} has no operand {min(held - {'x', 'y'})!r} to keep resident; use 'x' or 'y'")
    return spec, held


def _rows_needed(p: Collective) -> int:
    """Return the buffers of one part's width that a node needs."""
    parts, _ = _parts(p)
    rows = parts * (2 if _doubled(p) else 1)
    if p.algorithm == "grid":
        return rows + 2 * p.rows + 2
    if p.algorithm == "ring":
        return rows + 2
    return rows + (parts if p.algorithm == "recursive" and not _doubled(p) else 0)


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


def build_halo(
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

    resident: which of "x" and "y" lie in SRAM. UnsupportedError where the mesh is too small; CapacityError for tiles
    that do not fit a node; InputError for bad arguments.
    """
    return _halo_program(chip, HaloExchange(rows, cols, h, w, c, halo, wrap, dtype), resident=resident)


def _halo_program(chip: ChipSpec | str, problem: HaloExchange, *, resident: Iterable[str] = ()) -> Program:
    spec, held = _on(chip, problem, resident)
    tensors: dict[str, Any] = {name: tensor(o.shape, o.dtype) for name, o in problem.operands.items()}
    mesh = (problem.rows, problem.cols)
    return halo_exchange.build(spec, mesh=mesh, resident=held, problem=problem, **tensors)


EXAMPLES: tuple[Problem, ...] = (
    Collective(4, 4, 1000),
    Collective(3, 2, 77, algorithm="grid", dtype="bf16"),
    Collective(2, 4, 64, algorithm="recursive"),
    Collective(3, 3, 5, algorithm="recursive", dtype="bf16"),
    Collective(4, 3, 50, op="reduce", over="rows", root=2),
    Collective(3, 4, 40, op="reduce_scatter", algorithm="grid"),
    Collective(4, 2, 33, op="reduce_scatter", over="cols", algorithm="recursive", dtype="fp16"),
    Collective(2, 3, 21, op="all_gather", dtype="bf16"),
    Collective(4, 4, 9, op="all_gather", algorithm="multicast", over="cols"),
    Collective(3, 3, 13, op="all_to_all", dtype="bf16"),
    Collective(4, 4, 100, op="broadcast", root=5),
    Collective(3, 2, 8, op="barrier"),
    Collective(1, 1, 3),
)

KERNELS = (
    LibraryKernel(problem=Collective, program=_program, oracle=oracle, examples=EXAMPLES),
    LibraryKernel(
        problem=HaloExchange,
        program=_halo_program,
        oracle=halo_oracle,
        examples=(
            HaloExchange(3, 4, 5, 6, 2),
            HaloExchange(2, 2, 4, 4, 3, halo=3, wrap=True, dtype="fp32"),
            HaloExchange(1, 3, 2, 5, 1, halo=2, wrap=True),
            HaloExchange(1, 1, 3, 3, 1),
        ),
    ),
)
