"""Matrix multiplication, c = a @ b, as a lesson in three versions: one node, SUMMA, stationary accumulators.

What the machine defines (and `reference` repeats in NumPy): every element of c is one chain of fp32 fused
multiply-adds with k ascending, then one rounding to the format of c. All three versions therefore give the same bits.

1. `one_node` - a loop on node (0, 0): load a tile of a and of b, multiply, store. Loads and matrix unit take turns,
   and one node of many works: utilization is below 1/nodes.
2. `summa` - every node owns one tile of c; panels of a are multicast along rows and panels of b along columns, in
   two slots, so that step t + 1 arrives while step t is multiplied (van de Geijn and Watts, "SUMMA", 1997). Memory
   sends each operand once per pass over the mesh. What is lost: all results leave at the end while nobody
   multiplies; shapes must divide by the tiles.
3. `stationary` (the default) - the block of a node is cut in passes whose accumulators stay put over all of k, with k
   steps as deep as SRAM allows, since each step moves every 16x16 accumulator block in and out of the matrix unit
   once (16 exposed cycles on `d1`, against bk cycles of multiplying). Two accumulator tiles let pass p + 1 multiply
   while pass p is rounded and stored, so only the last pass's store shows. Rows and columns are dealt in groups of 8;
   the ragged ends are roles of their own. Operands may be resident: then their pieces are multicast by the nodes
   that hold them. The tiling comes from `matmul_tiling.choose`, a closed form.

The bound it approaches: max(multiply-adds / matrix units of the mesh, compulsory bytes / memory bandwidth).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np

from accel.errors import InputError, UnsupportedError
from accel.hardware import ChipSpec
from accel.hardware import chip as find_chip
from accel.kernels.matmul_tiling import GROUP, Tiling, choose, fill_in
from accel.lang import K, TensorSpec, tensor
from accel.numerics import chain_matmul, fmt, from_storage, as_storage
from accel.problem import Matmul
from accel.program import Program, kernel

if TYPE_CHECKING:
    from accel.lang import Loop, View

__all__ = ["VERSIONS", "build", "one_node", "reference", "stationary", "summa"]


def reference(a: Any, b: Any, *, out_dtype: str = "bf16", trans_a: bool = False, trans_b: bool = False) -> np.ndarray:
    """Return a @ b as the machine defines it, in NumPy alone: float64 per step, rounded to fp32, k ascending.

    a (m, k) and b (k, n), or transposed as named, in any real dtype (rounded to bf16 first); c is (m, n).
    """
    left, right = (from_storage(as_storage(x, "bf16"), "bf16", as_="float32") for x in (a, b))
    c = chain_matmul(left.T if trans_a else left, right.T if trans_b else right)
    return from_storage(as_storage(c, out_dtype), out_dtype, as_="native")


@kernel
def one_node(k: K, a: TensorSpec, b: TensorSpec, c: TensorSpec, *, bm: int, bn: int, bk: int) -> None:
    """Version 1: node (0, 0) does everything, tile after tile; ragged tiles are shorter views."""
    A, B = k.sram((bm, bk), "bf16", "A"), k.sram((bk, bn), "bf16", "B")
    acc, out = k.sram((bm, bn), "fp32", "acc"), k.sram((bm, bn), c.dtype, "out")
    loaded, stored = k.sem(name="loaded"), k.sem(name="stored")
    m, depth, n = a.shape[0], a.shape[1], b.shape[1]
    if k.row + k.col != 0:
        return

    @k.thread
    def work() -> None:
        for i in range(0, m, bm):
            for j in range(0, n, bn):
                h, w = min(bm, m - i), min(bn, n - j)
                for t in range(0, depth, bk):
                    d = min(bk, depth - t)
                    k.copy(A[:h, :d], a[i : i + h, t : t + d], done=loaded)
                    k.copy(B[:d, :w], b[t : t + d, j : j + w], done=loaded)
                    k.wait(loaded, 2)
                    k.matmul(acc[:h, :w], A[:h, :d], B[:d, :w], accumulate=t > 0)
                _round(k, out[:h, :w], acc[:h, :w])
                k.copy(c[i : i + h, j : j + w], out[:h, :w], sent=stored)
                k.wait(stored)


@kernel
def summa(k: K, a: TensorSpec, b: TensorSpec, c: TensorSpec, *, bm: int, bn: int, bk: int) -> None:
    """Version 2: one tile of c a node, panels multicast from rotating owners, double-buffered; shapes must divide."""
    (R, P), row, col = k.mesh, k.row, k.col
    A, B = k.sram((2, bm, bk), "bf16", "A"), k.sram((2, bk, bn), "bf16", "B")
    acc, out = k.sram((bm, bn), "fp32", "acc"), k.sram((bm, bn), c.dtype, "out")
    A_full, B_full, A_free, B_free = (k.sem(2, name) for name in ("A_full", "B_full", "A_free", "B_free"))
    ready, stored = k.sem(name="ready"), k.sem(name="stored")
    steps = a.shape[1] // bk

    @k.thread
    def load() -> None:
        for t in range(steps):
            s = t % 2
            with k.when(col == t % P):  # this column owns panel t of a
                if t >= 2:
                    k.wait(A_free[s], P)
                k.copy(A[s], a[row * bm : (row + 1) * bm, t * bk : (t + 1) * bk], to=k.row_nodes(), done=A_full[s])
            with k.when(row == t % R):
                if t >= 2:
                    k.wait(B_free[s], R)
                k.copy(B[s], b[t * bk : (t + 1) * bk, col * bn : (col + 1) * bn], to=k.col_nodes(), done=B_full[s])

    @k.thread
    def compute() -> None:
        for t in range(steps):
            s = t % 2
            k.wait(A_full[s])
            k.wait(B_full[s])
            k.matmul(acc, A[s], B[s], accumulate=t > 0)
            if t + 2 < steps:  # credit to the next owner of this slot
                k.inc(A_free[s], at=(row, (t + 2) % P))
                k.inc(B_free[s], at=((t + 2) % R, col))
        _round(k, out, acc)
        k.inc(ready)

    @k.thread
    def store() -> None:
        k.wait(ready)
        k.copy(c[row * bm : (row + 1) * bm, col * bn : (col + 1) * bn], out, sent=stored)
        k.wait(stored)


@kernel
def stationary(k: K, a: TensorSpec, b: TensorSpec, c: TensorSpec, *, tiling: Tiling, trans_a: bool, trans_b: bool) -> None:
    """Version 3: see the module text. `tiling` says how; operands with `.resident` come from the nodes' own SRAM."""
    T, row, col = tiling, k.row, k.col
    S, passes = T.stages, [(i, j) for i in range(T.passes_m) for j in range(T.passes_n)]
    direct = c.resident and c.dtype == "fp32"  # the accumulators are the result
    A_full, B_full, A_free, B_free = (k.sem(S, name) for name in ("A_full", "B_full", "A_free", "B_free"))
    acc_full, acc_free, sent = k.sem(T.accumulators, "acc_full"), k.sem(T.accumulators, "acc_free"), k.sem(2, "sent")
    A = k.sram((S, T.bk, T.bm) if trans_a else (S, T.bm, T.bk), "bf16", "A")
    B = k.sram((S, T.bn, T.bk) if trans_b else (S, T.bk, T.bn), "bf16", "B")
    acc = k.sram((T.accumulators, T.bm, T.bn), "fp32", "acc") if not direct else None
    if a.resident:
        homes = T.homes(T.grid_cols)
        a_home = k.sram((homes, T.piece, T.rows) if trans_a else (homes, T.rows, T.piece), "bf16", "a_home")
    if b.resident:
        homes = T.homes(T.grid_rows)
        b_home = k.sram((homes, T.cols, T.piece) if trans_b else (homes, T.piece, T.cols), "bf16", "b_home")
    if c.resident:
        c_home = k.sram((T.rows, T.cols), c.dtype, "c_home")
    elif c.dtype == "bf16":
        out = k.sram((2, T.strip, T.bn), "bf16", "out")
    if row >= T.grid_rows or col >= T.grid_cols:
        return  # fewer groups of 8 than nodes: these have nothing to do

    top, height = _share(row, T.m, T.grid_rows)  # this node's rows of c
    left, width = _share(col, T.n, T.grid_cols)
    row_cuts, col_cuts = _cuts(height, T.passes_m), _cuts(width, T.passes_n)
    row_nodes = k.rect(row, row + 1, 0, T.grid_cols)
    col_nodes = k.rect(0, T.grid_rows, col, col + 1)
    total = len(passes) * T.steps

    def a_view(where: Any, rows: slice, depth: slice) -> View:
        return where[depth, rows] if trans_a else where[rows, depth]

    def b_view(where: Any, depth: slice, cols: slice) -> View:
        return where[cols, depth] if trans_b else where[depth, cols]

    if a.resident:
        for home in range(T.homes(T.grid_cols)):
            _home(k, a_view, a_home[home], a, home, T, owner=col, owners=T.grid_cols, start=top, extent=height, a_side=True)
    if b.resident:
        for home in range(T.homes(T.grid_rows)):
            _home(k, b_view, b_home[home], b, home, T, owner=row, owners=T.grid_rows, start=left, extent=width, a_side=False)
    if c.resident:
        k.collect(c[top : top + height, left : left + width], c_home[:height, :width])

    def pieces(t: int | Loop, resident: bool, g: int | Loop, owners: int) -> Iterator[tuple[Any, Any, Any, Any]]:
        """Yield (owner, first column, columns, home) of every piece of step t of a pass, g counting over passes."""
        if not resident:
            yield g % owners, 0, min(T.bk, T.k - t * T.bk) if isinstance(t, int) else T.bk, None
            return
        for x in range(T.pieces):
            u = t * T.pieces + x
            if u * T.piece < T.k:
                yield u % owners, x * T.piece, min(T.piece, T.k - u * T.piece), u // owners

    def depth_of(t: int | Loop) -> int:
        return min(T.bk, T.k - t * T.bk) if isinstance(t, int) else T.bk

    def count(t: int | Loop, resident: bool) -> int:
        return ceil(depth_of(t) / T.piece) if resident else 1

    @k.thread
    def load_a() -> None:
        def load(p: int, t: Any, wait: bool) -> None:
            i, g = passes[p][0], p * T.steps + t
            r0, r1 = row_cuts[i], row_cuts[i + 1]
            for owner, first, deep, home in pieces(t, a.resident, g, T.grid_cols):
                with k.when(col == owner):
                    if wait:
                        k.wait(A_free[g % S], T.grid_cols)
                    panel = a_view(A[g % S], slice(0, r1 - r0), slice(first, first + deep))
                    if a.resident:
                        source = a_view(a_home[home], slice(r0, r1), slice(0, deep))
                    else:
                        source = a_view(a, slice(top + r0, top + r1), slice(t * T.bk, t * T.bk + deep))
                    k.copy(panel, source, to=row_nodes, done=A_full[g % S])

        _walk(k, T, len(passes), load, a.resident)

    @k.thread
    def load_b() -> None:
        def load(p: int, t: Any, wait: bool) -> None:
            j, g = passes[p][1], p * T.steps + t
            c0, c1 = col_cuts[j], col_cuts[j + 1]
            for owner, first, deep, home in pieces(t, b.resident, g, T.grid_rows):
                with k.when(row == owner):
                    if wait:
                        k.wait(B_free[g % S], T.grid_rows)
                    panel = b_view(B[g % S], slice(first, first + deep), slice(0, c1 - c0))
                    if b.resident:
                        source = b_view(b_home[home], slice(0, deep), slice(c0, c1))
                    else:
                        source = b_view(b, slice(t * T.bk, t * T.bk + deep), slice(left + c0, left + c1))
                    k.copy(panel, source, to=col_nodes, done=B_full[g % S])

        _walk(k, T, len(passes), load, b.resident)

    @k.thread
    def compute() -> None:
        def multiply(p: int, t: Any, free: bool) -> None:
            (i, j), g = passes[p], p * T.steps + t
            h, w, deep = row_cuts[i + 1] - row_cuts[i], col_cuts[j + 1] - col_cuts[j], depth_of(t)
            k.wait(A_full[g % S], count(t, a.resident))
            k.wait(B_full[g % S], count(t, b.resident))
            if direct:
                tile = c_home[row_cuts[i] : row_cuts[i + 1], col_cuts[j] : col_cuts[j + 1]]
            else:
                assert acc is not None
                tile = acc[p % T.accumulators, :h, :w]
            panel_a = a_view(A[g % S], slice(0, h), slice(0, deep))
            panel_b = b_view(B[g % S], slice(0, deep), slice(0, w))
            k.matmul(tile, panel_a, panel_b, accumulate=not (isinstance(t, int) and t == 0), trans_a=trans_a, trans_b=trans_b)
            if free:  # credit to whoever fills this slot next
                after = (g + S) % T.steps if isinstance(g, int) else t + S
                for owner, *_ in pieces(after, a.resident, g + S, T.grid_cols):
                    k.inc(A_free[g % S], at=(row, owner))
                for owner, *_ in pieces(after, b.resident, g + S, T.grid_rows):
                    k.inc(B_free[g % S], at=(owner, col))

        for p in range(len(passes)):
            if p >= T.accumulators and not direct:
                k.wait(acc_free[p % T.accumulators])
            last = max(0, min(T.steps, total - S - p * T.steps))  # from here on nobody refills the slot
            looped = not (a.resident or b.resident)
            for t, free in _span(k, T.steps, looped, 1, min(T.steps - 1, last), lambda t: t < last):
                multiply(p, t, free)
            if not direct:
                k.inc(acc_full[p % T.accumulators])

    if direct:
        return

    @k.thread
    def drain() -> None:
        assert acc is not None
        strips = 0
        for p, (i, j) in enumerate(passes):
            h, w, slot = row_cuts[i + 1] - row_cuts[i], col_cuts[j + 1] - col_cuts[j], p % T.accumulators
            k.wait(acc_full[slot])
            if c.resident:
                k.vec.cast(c_home[row_cuts[i] : row_cuts[i + 1], col_cuts[j] : col_cuts[j + 1]], acc[slot, :h, :w])
            for r in range(0, 0 if c.resident else h, T.strip):
                high = min(T.strip, h - r)
                y, x = top + row_cuts[i] + r, left + col_cuts[j]
                if strips >= 2:
                    k.wait(sent[strips % 2])
                source = acc[slot, r : r + high, :w]
                if c.dtype == "bf16":
                    source = out[strips % 2, :high, :w]
                    k.vec.cast(source, acc[slot, r : r + high, :w])
                k.copy(c[y : y + high, x : x + w], source, sent=sent[strips % 2])
                strips += 1
            if c.dtype == "fp32":  # results leave straight from the accumulators, so both must be out
                for s in range(max(0, strips - 2), strips):
                    k.wait(sent[s % 2])
                strips = 0
            if p + T.accumulators < len(passes):
                k.inc(acc_free[slot])
        for s in range(max(0, strips - 2), strips):
            k.wait(sent[s % 2])


def _round(k: K, out: View, acc: View) -> None:
    """Round the accumulators to the format of the result; fp32 moves bits."""
    (k.vec.copy if out.dtype == "fp32" else k.vec.cast)(out, acc)


def _share(index: Any, size: int, owners: int) -> tuple[Any, int]:
    """Return (first element, elements) of the node at `index`: whole groups of 8, differing by at most one group."""
    each, more = divmod(ceil(size / GROUP), owners)
    first, groups = (index * (each + 1), each + 1) if index < more else (index * each + more, each)
    if index == owners - 1:
        return first * GROUP, size - (ceil(size / GROUP) - groups) * GROUP
    return first * GROUP, groups * GROUP


def _cuts(extent: int, parts: int) -> list[int]:
    """Return the parts + 1 borders that cut `extent` elements in parts of whole groups, as equal as can be."""
    groups = ceil(extent / GROUP)
    return [min(extent, GROUP * (x * groups // parts)) for x in range(parts + 1)]


def _home(
    k: K, view: Callable[..., View], home: View, source: TensorSpec, index: int, T: Tiling, *, owner: Any, owners: int,
    start: Any, extent: int, a_side: bool,
) -> None:  # fmt: skip
    """Declare that this node holds piece `index * owners + owner` of a resident operand, where there is one."""
    full = T.k // T.piece
    first = index * owners
    if first >= ceil(T.k / T.piece):
        return
    if owner + first < full:
        deep = T.piece
    elif owner + first == full and T.k % T.piece:
        deep = T.k % T.piece
    else:
        return
    depth = slice((owner + first) * T.piece, (owner + first) * T.piece + deep)
    across = slice(start, start + extent)
    inner, own = slice(0, deep), slice(0, extent)
    if a_side:
        k.preload(view(home, own, inner), view(source, across, depth))
    else:
        k.preload(view(home, inner, own), view(source, depth, across))


def _walk(k: K, T: Tiling, passes: int, load: Callable[[int, Any, bool], None], resident: bool) -> None:
    """Call load(pass, step, must wait for the slot) for every step; the regular middle of a pass is a hardware loop."""
    for p in range(passes):
        fresh = max(0, T.stages - p * T.steps)  # the first steps of all find their slots empty
        for t, wait in _span(k, T.steps, not resident, fresh, T.steps - 1, lambda t, fresh=fresh: t >= fresh):
            load(p, t, wait)


def _span(k: K, steps: int, looped: bool, low: int, high: int, flag: Callable[[int], bool]) -> Iterable[tuple[Any, bool]]:
    """Yield (step, flag) over range(steps), those in [low, high) as a hardware loop where there are enough of them."""
    if not looped or high - low < 4:
        low = high = steps
    for t in range(low):
        yield t, flag(t)
    if high > low:
        for i in k.loop(high - low):
            yield i + low, flag(low)
    for t in range(high, steps):
        yield t, flag(t)


VERSIONS = {"one_node": one_node, "summa": summa, "stationary": stationary}


def build(
    chip: ChipSpec | str,
    *,
    m: int,
    n: int,
    k: int,
    dtype: str = "bf16",
    out_dtype: str = "bf16",
    trans_a: bool = False,
    trans_b: bool = False,
    resident: Iterable[str] = (),
    version: str = "stationary",
    **tiling: int,
) -> Program:
    """Return the program of c = a @ b for `chip`: a (m, k), b (k, n), c (m, n); transposed as stored where named.

    resident: which of "a", "b", "c" already lie in SRAM. version: "stationary" takes any shape and the fields of
    `Tiling` (default: chosen in closed form); "one_node" and "summa" take bm, bn, bk and operands in memory, and
    "summa" only shapes that divide by them. Raises InputError and UnsupportedError.
    """
    spec = find_chip(chip) if isinstance(chip, str) else chip
    problem = Matmul(m, n, k, dtype=dtype, out_dtype=out_dtype, trans_a=trans_a, trans_b=trans_b)
    _supported(spec, problem)
    held = frozenset((resident,) if isinstance(resident, str) else resident)
    if not held <= {"a", "b", "c"}:
        raise InputError(f"matmul has no operand {min(held - {'a', 'b', 'c'})!r} to keep resident; use 'a', 'b' or 'c'")
    tensors = {name: tensor(o.shape, o.dtype) for name, o in problem.operands.items()}
    if version == "stationary":
        out_bytes = fmt(out_dtype).bits // 8
        chosen = choose(spec, m, n, k, resident=held, out_bytes=out_bytes)
        chosen = fill_in(chosen, spec, resident=held, out_bytes=out_bytes, **tiling) if tiling else chosen
        return stationary.build(
            spec, resident=held, flops=problem.flops, tiling=chosen, trans_a=trans_a, trans_b=trans_b, **tensors
        )
    return _lesson(spec, problem, version, held, tensors, tiling)


def _supported(chip: ChipSpec, problem: Matmul) -> None:
    taken = [f for f in ("bf16",) if f in chip.node.matrix.step_cycles]
    if problem.dtype not in taken:
        raise UnsupportedError(f"matmul on {chip.name} takes {', '.join(taken) or 'no format'}, not {problem.dtype}")
    if problem.out_dtype not in ("bf16", "fp32"):
        raise UnsupportedError(f"matmul stores bf16 or fp32, not {problem.out_dtype}; cast the result in a kernel of your own")


def _lesson(
    chip: ChipSpec, problem: Matmul, version: str, held: frozenset[str], tensors: dict[str, TensorSpec], tiling: dict[str, int]
) -> Program:
    """Build version 1 or 2, with tiles that fit by default."""
    m, n, k = problem.m, problem.n, problem.k
    if version not in VERSIONS:
        raise InputError(f"matmul has no version {version!r}; use one of {', '.join(VERSIONS)}")
    if held or problem.trans_a or problem.trans_b:
        raise UnsupportedError(f"matmul version {version!r} takes plain operands in memory; use version='stationary'")
    rows, cols = chip.mesh.rows, chip.mesh.cols
    if version == "summa":
        default = {"bm": m // rows, "bn": n // cols, "bk": min(64, k)}
    else:
        default = {"bm": min(m, 64), "bn": min(n, 64), "bk": min(k, 128)}
    sizes = {**default, **tiling}
    if version == "summa" and (m != rows * sizes["bm"] or n != cols * sizes["bn"] or k % sizes["bk"]):
        raise UnsupportedError(
            f"matmul version 'summa' needs m = {rows} bm, n = {cols} bn and k a multiple of bk on {chip.name}, "
            f"got {m}x{n}x{k} with {sizes}; use version='stationary' for any shape"
        )
    return VERSIONS[version].build(chip, flops=problem.flops, **sizes, **tensors)
