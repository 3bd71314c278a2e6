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

from accel.errors import CapacityError, InputError
from accel.hardware import ChipSpec
from accel.kernels.library import LibraryKernel, builder
from accel.kernels.parts.collective_groups import Group, on_mesh
from accel.kernels.parts.collective_reference import oracle
from accel.kernels.parts.collective_steps import Direct, Halves, Ring
from accel.lang import K, TensorSpec, tensor
from accel.numerics import fmt
from accel.problem import Collective
from accel.program import Program, kernel

if TYPE_CHECKING:
    from accel.lang import View

__all__ = ["KERNEL", "build", "collective"]

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

    elements: of each node's part; op, algorithm, over ("mesh", "rows", "cols"), root and dtype: as there.
    resident: which of "x" and "y" lie in SRAM. width: numbers of a part that are handled at a time (0: as many as fit).
    CapacityError where the mesh is too small, or where resident operands do not fit; InputError for bad arguments.
    """
    problem = Collective(rows, cols, elements, op, algorithm, over, root, dtype)
    return _program(chip, problem, resident=resident, width=width)


@builder
def _program(
    chip: ChipSpec, problem: Collective, *, resident: frozenset[str] = frozenset(), width: int = 0
) -> Program:  # fmt: skip
    spec, held = on_mesh(chip, problem, resident)
    _, unit = _parts(problem)
    fits = (spec.node.sram_bytes - SLACK) // (fmt(problem.dtype).bytes * _rows_needed(problem))
    if fits < 1 or (held and fits < unit):
        raise CapacityError(
            f"a node holds {max(0, fits)} numbers of each of {problem.size} parts; use fewer elements"
            + (" or leave x and y in memory" if held else "")
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


def _rows_needed(p: Collective) -> int:
    """Return the buffers of one part's width that a node needs."""
    parts, _ = _parts(p)
    rows = parts * (2 if _doubled(p) else 1)
    if p.algorithm == "grid":
        return rows + 2 * p.rows + 2
    if p.algorithm == "ring":
        return rows + 2
    return rows + (parts if p.algorithm == "recursive" and not _doubled(p) else 0)


EXAMPLES = (
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

KERNEL = LibraryKernel(problem=Collective, program=_program, oracle=oracle, examples=EXAMPLES)
