"""Transpose, concat and slice as a lesson: moving numbers through the nodes without ever reading a short run.

Bits are untouched, so the definition is NumPy's own (`_moved`). All three cut a tensor in tiles and deal them over the
nodes (`parts/tile_tasks.py`): thread `load` fills a slot, `store` empties it, two slots each, so that memory never
waits. What differs is what happens in between:

- concat and its gradient, a split: nothing. Tiles keep their rows, only the place differs.
- slice: outer axes step in memory, a row at a time. A step along the last axis would read single numbers: the run is
  read as it lies and thinned out in SRAM. The gradient writes zeros first, then whole rows with what was taken.
- transpose: where the last axis stays last, tiles are only put elsewhere. Otherwise a tile spans the last axis of the
  source and that of the target, long runs of both, and `vec.transpose` exchanges them in SRAM.

The bound it approaches: compulsory bytes over memory bandwidth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from accel.hardware import ChipSpec
from accel.kernels.library import LibraryKernel, builder
from accel.kernels.parts.launch import only_in_memory
from accel.kernels.parts.tile_tasks import Tasks, Tile, cut, thread
from accel.lang import K, TensorSpec, tensor
from accel.numerics import as_storage, fmt, from_storage
from accel.problem import Concat, Problem, Slice, Transpose
from accel.program import Program, kernel

__all__ = ["KERNELS", "build_concat", "build_slice", "build_transpose", "concat", "slices", "spread", "transpose"]

RUN_BYTES = 256  # shortest run of memory that tiles are cut to
TRIPS = 4  # tiles a node at least, so that loads and stores overlap
TILE_BYTES = 64 << 10  # beyond it nothing is gained


class _Slots:
    """Two slots of a shape with their semaphores; trips are counted over all tasks."""

    def __init__(self, k: K, shape: Sequence[int], dtype: str, name: str) -> None:
        self.k, self.buffer = k, k.sram((2, *shape), dtype, name)
        self.full, self.free = k.sem(2, f"{name}_full"), k.sem(2, f"{name}_free", 1)

    def load(self, trip: int, inner: Callable[[Any], Any], source: Any) -> None:
        """Fill slot `trip` from memory when it is free."""
        self.k.wait(self.free[trip % 2])
        self.k.copy(inner(self.buffer[trip % 2]), source, done=self.full[trip % 2])

    def store(self, trip: int, inner: Callable[[Any], Any], target: Any) -> None:
        """Empty slot `trip` to memory when it is full."""
        self.k.wait(self.full[trip % 2])
        self.k.copy(target, inner(self.buffer[trip % 2]), sent=self.free[trip % 2])


@kernel
def transpose(
    k: K, *, names: tuple[str, str], axes: tuple[int, ...], blocks: tuple[int, ...], **tensors: TensorSpec
) -> None:
    """y = x with axis d of y the axis `axes[d]` of x, in tiles of `blocks` along the axes of x; names: of x and y."""
    x, y = (tensors[name] for name in names)
    tasks, last = Tasks(k, x.shape, blocks), axes[-1]
    taken = _Slots(k, blocks, x.dtype, "tile")
    back = tuple(axes.index(axis) for axis in range(4))  # axis of y that an axis of x is
    thread(k, "load", tasks, lambda trip, tile: taken.load(trip, tile.at, tile.of(x)))
    if last == 3:
        thread(k, "store", tasks,
               lambda trip, tile: taken.store(trip, tile.at, _placed(tile, y, axes).transpose(*back)))  # fmt: skip
        return
    others = [axis for axis in range(4) if axis not in (3, last)]
    order = (*others, 3, last)  # of a turned tile: the last axis of y is innermost
    turned = _Slots(k, [blocks[axis] for axis in order], x.dtype, "turned")

    def corner(tile: Tile, slot: Any) -> Any:
        return slot[tuple(slice(0, tile.sizes[axis]) for axis in order)]

    def turn(trip: int, tile: Tile) -> None:
        slot = trip % 2
        k.wait(taken.full[slot])
        k.wait(turned.free[slot])
        source = tile.at(taken.buffer[slot]).transpose(*others, last, 3)
        k.vec.transpose(corner(tile, turned.buffer[slot]), source)
        k.inc(taken.free[slot])
        k.inc(turned.full[slot])

    def store(trip: int, tile: Tile) -> None:
        place = _placed(tile, y, axes).transpose(*(back[axis] for axis in order))
        turned.store(trip, partial(corner, tile), place)

    thread(k, "turn", tasks, turn)
    thread(k, "store", tasks, store)


def _placed(tile: Tile, y: Any, axes: tuple[int, ...]) -> Any:
    """Return the part of y that a tile of x becomes, in the order of y."""
    return y[tuple(slice(tile.starts[axis], tile.starts[axis] + tile.sizes[axis]) for axis in axes)]


@kernel
def concat(
    k: K, *, pieces: dict[str, tuple[int, int]], whole: str, blocks: tuple[int, ...], **tensors: TensorSpec
) -> None:
    """Every part is a tensor of its own: read (or, in the gradient, written) beside its place in the `whole`."""
    joined = tensors[whole]
    slots = _Slots(k, blocks, joined.dtype, "tile")
    moves: list[tuple[Tile, Any, Any, int]] = []  # tile, part, first along the axis, trip
    trips = shift = 0
    for name, (first, _) in pieces.items():
        part = tensors[name]
        tasks = Tasks(k, part.shape, [min(b, n) for b, n in zip(blocks, part.shape, strict=True)], shift)
        for trip in range(len(tasks)):
            moves += [(tile, part, first, trips + trip) for tile in tasks.tiles(trip)]
        trips, shift = trips + len(tasks), (shift - tasks.total) % k.nodes

    def run(act: Callable[..., None], from_whole: bool) -> None:
        for tile, part, first, trip in moves:
            with k.when(tile.when):
                act(trip, tile.at, tile.of(joined, None, (0, first, 0)) if from_whole else tile.of(part))

    @k.thread
    def load() -> None:
        run(slots.load, whole == "gy")

    @k.thread
    def store() -> None:
        run(slots.store, whole == "y")


@kernel
def slices(k: K, *, names: tuple[str, str], ranges: tuple[range, ...], blocks: tuple[int, ...],
           **tensors: TensorSpec) -> None:  # fmt: skip
    """y = x[ranges]; names: of x and y."""
    x, y = (tensors[name] for name in names)
    steps, first = [taken.step for taken in ranges], [taken.start for taken in ranges]
    tasks, by = Tasks(k, y.shape, blocks), steps[-1]
    thin = _Slots(k, blocks, x.dtype, "tile")
    if by == 1:  # runs stay runs
        thread(k, "load", tasks, lambda trip, tile: thin.load(trip, tile.at, tile.of(x, steps, first)))
    else:
        full = _Slots(k, (*blocks[:3], (blocks[3] - 1) * by + 1), x.dtype, "run")

        def near(tile: Tile, slot: Any) -> Any:
            """All that lies between the first and the last number of every run of a tile."""
            return slot[(*(slice(0, size) for size in tile.sizes[:3]), slice(0, (tile.sizes[3] - 1) * by + 1))]

        def load(trip: int, tile: Tile) -> None:
            begin = first[3] + by * tile.starts[3]
            rows = Tile(tile.when, tile.starts[:3], tile.sizes[:3]).of(x, steps[:3], first[:3])
            full.load(trip, partial(near, tile), rows[..., begin : begin + (tile.sizes[3] - 1) * by + 1])

        def pick(trip: int, tile: Tile) -> None:
            slot = trip % 2
            k.wait(full.full[slot])
            k.wait(thin.free[slot])
            k.vec.copy(tile.at(thin.buffer[slot]), near(tile, full.buffer[slot])[..., ::by])
            k.inc(full.free[slot])
            k.inc(thin.full[slot])

        thread(k, "load", tasks, load)
        thread(k, "pick", tasks, pick)
    thread(k, "store", tasks, lambda trip, tile: thin.store(trip, tile.at, tile.of(y)))


@kernel
def spread(k: K, gy: TensorSpec, gx: TensorSpec, *, ranges: tuple[range, ...], blocks: tuple[int, ...]) -> None:
    """gx is zero but for gy at `ranges`: whole rows are written, after zeros where some rows are not taken."""
    tasks, last = Tasks(k, gy.shape, blocks), ranges[3]
    thin = _Slots(k, blocks, gy.dtype, "tile")
    full = _Slots(k, (*blocks[:3], gx.shape[3]), gy.dtype, "rows")
    cleared = k.sem(1, "cleared")
    thread(k, "load", tasks, lambda trip, tile: thin.load(trip, tile.at, tile.of(gy)))

    def rows(tile: Tile, slot: Any) -> Any:
        return slot[tuple(slice(0, size) for size in tile.sizes[:3])]

    def place(trip: int, tile: Tile) -> None:
        slot = trip % 2
        k.wait(thin.full[slot])
        k.wait(full.free[slot])
        taken = rows(tile, full.buffer[slot])[
            ..., last.start : last.start + (len(last) - 1) * last.step + 1 : last.step
        ]
        k.vec.copy(taken, tile.at(thin.buffer[slot]))
        k.inc(thin.free[slot])
        k.inc(full.full[slot])

    @k.thread
    def work() -> None:
        k.vec.fill(full.buffer[0], 0)
        k.vec.fill(full.buffer[1], 0)
        _clear(k, gx, full.buffer[0], ranges, cleared)
        for trip in range(len(tasks)):
            for tile in tasks.tiles(trip):
                with k.when(tile.when):
                    place(trip, tile)

    def store(trip: int, tile: Tile) -> None:
        outer = Tile(tile.when, tile.starts[:3], tile.sizes[:3])
        full.store(trip, partial(rows, tile), outer.of(gx, [r.step for r in ranges[:3]], [r.start for r in ranges[:3]]))

    thread(k, "store", tasks, store)


def _clear(k: K, gx: TensorSpec, zeros: Any, ranges: tuple[range, ...], cleared: Any) -> None:
    """Write zeros to all of gx where some of its rows are not taken, before anyone writes what was."""
    if all(len(taken) == size for taken, size in zip(ranges[:3], gx.shape[:3], strict=True)):
        return
    tasks = Tasks(k, gx.shape, zeros.shape)
    for trip in range(len(tasks)):
        for tile in tasks.tiles(trip):
            with k.when(tile.when):
                k.copy(tile.of(gx), tile.at(zeros), done=cleared)
                k.wait(cleared)
    k.barrier()


# --- definition and builders ----------------------------------------------------------------------------------------
def _moved(problem: Transpose | Concat | Slice, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the outputs as NumPy makes them of arrays of any kind."""
    p = problem
    if isinstance(p, Transpose):
        source, target = p.operands
        return {target: inputs[source].transpose(p.axes)}
    if isinstance(p, Concat):
        if p.direction == "fwd":
            return {"y": np.concatenate([inputs[name] for name in p.pieces], axis=1)}
        return {name: inputs["gy"][:, first : first + size] for name, (first, size) in p.pieces.items()}
    where = np.ix_(*(np.asarray(taken) for taken in p.ranges))
    if p.direction == "fwd":
        return {"y": inputs["x"][where]}
    gx = np.zeros((p.n, p.h, p.w, p.c), inputs["gy"].dtype)
    gx[where] = inputs["gy"]
    return {"gx": gx}


def _oracle(problem: Any, inputs: Mapping[str, Any], *, meaning: Mapping[str, Any] | None = None) -> dict[str, Any]:
    known = {} if meaning is None else meaning
    codes = {name: as_storage(x, problem.dtype, **known.get(name, {})) for name, x in inputs.items()}
    return {
        name: from_storage(np.ascontiguousarray(y), problem.dtype, as_="ml_dtypes", **known.get(name, {}))
        for name, y in _moved(problem, codes).items()
    }


def _blocks(
    chip: ChipSpec, sizes: Sequence[int], dtype: str, shares: int, last: Sequence[int] = (3,)
) -> tuple[int, ...]:
    """Return tiles of which `shares` fit SRAM, with long runs along the axes `last`."""
    item = fmt(dtype).bytes
    elements = max(1, min(TILE_BYTES, (chip.node.sram_bytes - 4096) // shares) // item)
    least = [RUN_BYTES // item if axis in last else 1 for axis in range(len(sizes))]
    return cut(sizes, elements, TRIPS * chip.mesh.rows * chip.mesh.cols, least)


@builder
def _transpose(spec: ChipSpec, problem: Transpose, *, resident: frozenset[str] = frozenset()) -> Program:
    only_in_memory(problem, resident)
    x, y = problem.operands
    blocks = _blocks(spec, problem.operands[x].shape, problem.dtype, 5, (3, problem.axes[-1]))
    return transpose.build(spec, names=(x, y), axes=problem.axes, blocks=blocks, **_tensors(problem))


@builder
def _concat(spec: ChipSpec, problem: Concat, *, resident: frozenset[str] = frozenset()) -> Program:
    only_in_memory(problem, resident)
    largest = (problem.outer, max(size for _, size in problem.pieces.values()), problem.inner)
    blocks = _blocks(spec, largest, problem.dtype, 3, (2,))
    whole = "y" if problem.direction == "fwd" else "gy"
    return concat.build(spec, pieces=problem.pieces, whole=whole, blocks=blocks, **_tensors(problem))


@builder
def _slice(spec: ChipSpec, problem: Slice, *, resident: frozenset[str] = frozenset()) -> Program:
    only_in_memory(problem, resident)
    ranges, by = problem.ranges, problem.ranges[3].step
    sizes = [len(taken) for taken in ranges]
    if problem.direction == "fwd":
        blocks = _blocks(spec, sizes, problem.dtype, 3 if by == 1 else 3 + 2 * by)
        return slices.build(spec, names=("x", "y"), ranges=ranges, blocks=blocks, **_tensors(problem))
    outer = _blocks(spec, sizes[:3], problem.dtype, 3 * (sizes[3] + problem.c), ())  # a tile takes whole rows
    return spread.build(spec, ranges=ranges, blocks=(*outer, sizes[3]), **_tensors(problem))


def _tensors(problem: Problem) -> dict[str, Any]:
    """Return the tensors of a problem by name."""
    return {n: tensor(o.shape, o.dtype) for n, o in problem.operands.items()}


def build_transpose(
    chip: ChipSpec | str, *, n: int, h: int, w: int, c: int, source: str = "nhwc", target: str = "nchw",
    dtype: str = "bf16", direction: str = "fwd", resident: Iterable[str] = (),
) -> Program:  # fmt: skip
    """Return the program that puts the axes of x in another order on `chip`; see `accel.problem.Transpose`.

    n, h, w, c: sizes; source, target: the order of the axes before and after; dtype: any format; direction: "fwd" or
    "bwd"; resident: operands in SRAM, none yet. InputError for bad sizes or orders;
    UnsupportedError for resident operands.
    """
    return _transpose(chip, Transpose(n, h, w, c, source, target, dtype, direction), resident=resident)


def build_concat(
    chip: ChipSpec | str, *, outer: int, inner: int, parts: str | tuple[int, ...], dtype: str = "bf16",
    direction: str = "fwd", resident: Iterable[str] = (),
) -> Program:  # fmt: skip
    """Return the program that joins tensors along an axis on `chip`, or splits one; see `accel.problem.Concat`.

    outer, inner: elements before and behind the axis; parts: sizes along it; dtype: any format; direction: "fwd" or
    "bwd"; resident: operands in SRAM, none yet. InputError for bad sizes;
    UnsupportedError for resident operands.
    """
    return _concat(chip, Concat(outer, inner, parts, dtype, direction), resident=resident)


def build_slice(
    chip: ChipSpec | str, *, n: int, h: int, w: int, c: int, index: str = ":", dtype: str = "bf16",
    direction: str = "fwd", resident: Iterable[str] = (),
) -> Program:  # fmt: skip
    """Return the program that takes a slice with steps on `chip`, or its gradient; see `accel.problem.Slice`.

    n, h, w, c: sizes of x; index: what is taken, "::2,1:-1"; dtype: any format; direction: "fwd" or "bwd"; resident:
    operands in SRAM, none yet. InputError for bad sizes or index;
    UnsupportedError for resident operands; CapacityError for a gradient whose rows do not fit a node.
    """
    return _slice(chip, Slice(n, h, w, c, index, dtype, direction), resident=resident)


KERNELS = (
    LibraryKernel(
        problem=Transpose,
        program=_transpose,
        oracle=_oracle,
        examples=(
            Transpose(2, 5, 7, 3),
            Transpose(2, 5, 7, 3, direction="bwd", dtype="fp32"),
            Transpose(1, 1, 61, 130, target="nhcw"),
            Transpose(3, 4, 5, 6, target="cwhn", dtype="uint8"),
            Transpose(2, 9, 4, 130, target="nwhc"),
        ),
    ),
    LibraryKernel(
        problem=Concat,
        program=_concat,
        oracle=_oracle,
        examples=(
            Concat(5, 7, "3+1+4"),
            Concat(5, 7, "3+1+4", direction="bwd", dtype="fp32"),
            Concat(1, 1, "1+1"),
            Concat(33, 1, "40+64", dtype="cfp8-143"),
        ),
    ),
    LibraryKernel(
        problem=Slice,
        program=_slice,
        oracle=_oracle,
        examples=(
            Slice(4, 6, 7, 5, "::2,1:-1,:,1:4"),
            Slice(4, 6, 7, 50, "1:,:,::3,2::3", "fp32"),
            Slice(4, 6, 7, 5, "::2,1:-1,:,1:4", direction="bwd"),
            Slice(3, 5, 4, 20, ":,:,:,3::2", "fp32", "bwd"),
            Slice(1, 1, 1, 1),
        ),
    ),
)
