"""Matrix multiplication, c = a @ b, as a lesson in three versions: one node, SUMMA, stationary accumulators.

What the machine defines (and `reference` repeats in NumPy): every element of c is one chain of fp32 fused
multiply-adds with k ascending (of integers: a sum modulo 2^32), then one rounding to the format of c. All three
versions therefore give the same bits, in every format: `matmul_formats.py` says what differs between formats.

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
   that hold them. The tiling comes from `matmul_choice.choose`, a closed form.

   A batch, or a small result with a long k, does not fill a mesh: then the mesh is cut in *teams*, each a small grid
   that works as above. Teams deal the matrices of a batch. `split_k` cuts k in chains, which teams add up side by side;
   then each sends the others its share of every tile's rows, so that no node adds up more than its share, in the order
   of a fixed tree (`matmul_reference.sums`). That changes the order of a sum, so it must be asked for. Bias,
   activation, residual and the quantisation to cfp8 with a bias read at run time are done in fp32 on the strips of
   results on their way out, while the next tile is multiplied.

The bound it approaches: max(multiply-adds / matrix units of the mesh, compulsory bytes / memory bandwidth).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from accel.errors import InputError, UnsupportedError
from accel.hardware import ChipSpec
from accel.kernels.library import LibraryKernel, builder
from accel.kernels.parts.matmul_chains import multiply_visit
from accel.kernels.parts.matmul_choice import TILE, choose, fill_in
from accel.kernels.parts.matmul_formats import Formats, biases, buffer, multiply, require_supported
from accel.kernels.parts.matmul_panels import Panels, Visit, load
from accel.kernels.parts.matmul_reference import meaning, oracle, oracle_at, reference
from accel.kernels.parts.matmul_results import Block, Place, Results
from accel.kernels.parts.matmul_teams import Team, share
from accel.kernels.parts.matmul_tiling import Tiling
from accel.lang import K, TensorSpec, tensor
from accel.numerics import Codes, as_storage
from accel.problem import Matmul
from accel.program import Program, Verified, kernel

if TYPE_CHECKING:
    from accel.lang import View

__all__ = ["VERSIONS", "build", "meaning", "one_node", "reference", "stationary", "summa", "verify"]


def verify(program: Program, a: Any, b: Any, *, blocks: int | None = None, seed: int = 0) -> Verified:
    """Run `program` (built here) on a and b and compare every computed element with `reference`, bit for bit.

    blocks: None runs the whole program; a number runs the same program restricted to the causal slice of that many
    boxes of c, drawn after the build from `seed`, each over the full k. For a batch, or where something follows the
    sums, `KERNEL.oracle` is the definition; InputError.
    """
    if set(program.inputs) != {"a", "b"} or "activation" in program.isa.facts or len(program.outputs["c"][0]) != 2:
        raise InputError("verify compares c = a @ b alone; for batches and epilogues compare with KERNEL.oracle")
    known = meaning(program)
    shape, out_dtype = program.outputs["c"]
    last = known["meaning"].get("c", {})
    sample = None if blocks is None else program.sample_outputs(blocks, seed)
    boxes = [((0, shape[0]), (0, shape[1]))] if sample is None else sample.regions["c"]
    got = as_storage(program.run(a=a, b=b, sample=sample)["c"], out_dtype, **last)
    left, right = (x if isinstance(x, Codes) else np.asarray(x) for x in (a, b))
    seen, wrong = np.zeros(shape, bool), 0
    for (r0, r1), (c0, c1) in boxes:
        part_a = left[:, r0:r1] if known["trans_a"] else left[r0:r1]
        part_b = right[c0:c1] if known["trans_b"] else right[:, c0:c1]
        want = as_storage(reference(part_a, part_b, **known), out_dtype, **last)
        differ = want.view(f"u{want.itemsize}") != got[r0:r1, c0:c1].view(f"u{got.itemsize}")
        wrong += int((differ & ~seen[r0:r1, c0:c1]).sum())
        seen[r0:r1, c0:c1] = True
    return Verified(int(seen.sum()), got.size, wrong)


@kernel
def one_node(k: K, a: TensorSpec, b: TensorSpec, c: TensorSpec, *, bm: int, bn: int, bk: int) -> None:
    """Version 1: node (0, 0) does everything, tile after tile; ragged tiles are shorter views."""
    A, B, out = buffer(k, (bm, bk), a, "A"), buffer(k, (bk, bn), b, "B"), buffer(k, (bm, bn), c, "out")
    acc = k.sram((bm, bn), Formats(a.dtype).sums, "acc")
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
                    multiply(k, acc[:h, :w], A[:h, :d], B[:d, :w], accumulate=t > 0)
                _round(k, out[:h, :w], acc[:h, :w])
                k.copy(c[i : i + h, j : j + w], out[:h, :w], sent=stored)
                k.wait(stored)


@kernel
def summa(k: K, a: TensorSpec, b: TensorSpec, c: TensorSpec, *, bm: int, bn: int, bk: int) -> None:
    """Version 2: one tile of c a node, panels multicast from rotating owners, double-buffered; shapes must divide."""
    (R, P), row, col = k.mesh, k.row, k.col
    A, B, out = buffer(k, (2, bm, bk), a, "A"), buffer(k, (2, bk, bn), b, "B"), buffer(k, (bm, bn), c, "out")
    acc = k.sram((bm, bn), Formats(a.dtype).sums, "acc")
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
            multiply(k, acc, A[s], B[s], accumulate=t > 0)
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
def stationary(
    k: K, a: TensorSpec, b: TensorSpec, c: TensorSpec, bias: TensorSpec | None = None,
    residual: TensorSpec | None = None, c_bias: TensorSpec | None = None, *, tiling: Tiling, trans_a: bool,
    trans_b: bool, formats: Formats | None = None,
) -> None:  # fmt: skip
    """Version 3: see the module text. `tiling` says how; operands with `.resident` come from the nodes' own SRAM."""
    T = tiling
    formats = formats or Formats(a.dtype, c.dtype)
    A = Panels(k, "A", a, T, across=T.bm, share=T.rows, owners=T.grid_cols, deep_first=trans_a)
    B = Panels(k, "B", b, T, across=T.bn, share=T.cols, owners=T.grid_rows, deep_first=not trans_b)
    results = Results(k, c, T, formats, bias, residual, c_bias)
    team = Team.of(k, T)
    if team is None:
        return  # fewer groups of 8, or matrices, than nodes: these have nothing to do

    top, height = share(team.row, T.m, T.grid_rows)  # this node's rows of c
    left, width = share(team.col, T.n, T.grid_cols)
    matrices, chains = team.matrices(), team.chains()
    A.place(
        k, start=top, extent=height, passes=T.passes_m, here=team.col, owner=lambda x: (k.row, team.left + x),
        nodes=k.rect(k.row, k.row + 1, team.left, team.left + T.grid_cols), matrices=matrices, chains=chains,
    )  # fmt: skip
    B.place(
        k, start=left, extent=width, passes=T.passes_n, here=team.row, owner=lambda x: (team.top + x, k.col),
        nodes=k.rect(team.top, team.top + T.grid_rows, k.col, k.col + 1), matrices=matrices, chains=chains,
    )  # fmt: skip
    results.place(k, Place(top, left, A.cuts, B.cuts, matrices, team.replica, team.peer))
    blocks = [
        Block(matrix, i, j) for matrix in range(len(matrices)) for i in range(T.passes_m) for j in range(T.passes_n)
    ]
    A.follow([Visit(block.matrix, x, block.i) for block in blocks for x in range(len(chains))])
    B.follow([Visit(block.matrix, x, block.j) for block in blocks for x in range(len(chains))])

    @k.thread
    def load_a() -> None:
        load(k, A)

    @k.thread
    def load_b() -> None:
        load(k, B)

    @k.thread
    def compute() -> None:
        for p, block in enumerate(blocks):
            levels: list[View] = []  # one sum for each bit of the number of chains that are done
            for x in range(len(chains)):
                tile = results.tile(k, p, block, len(levels))
                number = p * len(chains) + x
                multiply_visit(k, A, number, B, number, tile, trans_a=trans_a, trans_b=trans_b)
                levels.append(tile)
                done = x + 1
                while len(levels) > 1 and (done % 2 == 0 or x + 1 == len(chains)):
                    right = levels.pop()
                    k.vec.add(levels[-1], levels[-1], right)
                    done //= 2
            results.finished(k, p)

    if not results.direct:

        @k.thread
        def drain() -> None:
            results.drain(k, blocks)


def _round(k: K, out: View, acc: View) -> None:
    """Cast the accumulators to the format of the result; where that is their own, bits move."""
    (k.vec.copy if out.dtype == acc.dtype else k.vec.cast)(out, acc)


VERSIONS = {"one_node": one_node, "summa": summa, "stationary": stationary}


def build(
    chip: ChipSpec | str,
    *,
    m: int,
    n: int,
    k: int,
    dtype: str = "bf16",
    out_dtype: str = "",
    trans_a: bool = False,
    trans_b: bool = False,
    batch: int = 0,
    broadcast_b: bool = False,
    dtype_b: str = "",
    split_k: int = 1,
    add_bias: bool = False,
    activation: str = "none",
    residual: bool = False,
    scaled: bool = False,
    resident: Iterable[str] = (),
    bias: int | Mapping[str, int] | None = None,
    denormals: str = "gap",
    version: str = "stationary",
    **tiling: int,
) -> Program:
    """Return the program of c = a @ b for `chip`: a (m, k), b (k, n), c (m, n).

    trans_a, trans_b: stored as (k, m), (n, k). dtype: a format of the chip's matrix unit, or fp32, which the vector
    unit multiplies. out_dtype: any format (empty: see `Matmul`); integers add up in int32 modulo 2^32, and casts to
    integer formats saturate. batch, broadcast_b, dtype_b, split_k, add_bias, activation, residual, scaled: as in
    `Matmul`, which names the operands that they bring. bias, denormals: of operands in cfp8-143, cfp8-152, shp16 and
    uhp16: one bias for all or a dict by name ("a", "b", "c"); where `scaled`, c is written with the bias that the input
    c_bias holds, and read with this one. resident: which operands already lie in SRAM. version: "stationary" takes
    any shape, bm, bn and bk (at most so many rows and columns of a tile, and the depth of a step) and the fields of
    `Tiling` (default: chosen in closed form); "one_node" and "summa" take bm, bn, bk and
    plain operands in memory, and "summa" only shapes that divide by them. Raises InputError and UnsupportedError.
    """
    problem = Matmul(
        m, n, k, dtype, out_dtype, trans_a, trans_b, batch, broadcast_b, dtype_b, split_k, add_bias, activation,
        residual, scaled,
    )  # fmt: skip
    return _program(chip, problem, resident=resident, bias=bias, denormals=denormals, version=version, **tiling)


@builder
def _program(
    spec: ChipSpec,
    problem: Matmul,
    *,
    resident: frozenset[str] = frozenset(),
    bias: int | Mapping[str, int] | None = None,
    denormals: str = "gap",
    version: str = "stationary",
    **tiling: int,
) -> Program:
    """Build the program of a problem."""
    require_supported(spec, problem)
    held = resident
    if not held <= set(problem.operands):
        known = " or ".join(map(repr, problem.operands))
        raise InputError(f"matmul has no operand {min(held - set(problem.operands))!r} to keep resident; use {known}")
    own = biases(problem, bias, denormals)
    tensors: dict[str, Any] = {
        name: tensor(o.shape, o.dtype, **own.get(name, {})) for name, o in problem.operands.items()
    }
    if version == "stationary":
        formats = Formats.of(problem)
        chosen = choose(
            spec, problem.m, problem.n, problem.k, resident=held, formats=formats, batch=max(1, problem.batch),
            split_k=problem.split_k, tile={name: tiling.pop(name) for name in TILE if name in tiling},
        )  # fmt: skip
        chosen = fill_in(chosen, spec, resident=held, formats=formats, **tiling) if tiling else chosen
        return stationary.build(
            spec, resident=held, flops=problem.flops,
            facts=_facts(problem), tiling=chosen,
            trans_a=problem.trans_a, trans_b=problem.trans_b, formats=formats, **tensors,
        )  # fmt: skip
    return _lesson(spec, problem, version, held, tensors, tiling)


def _facts(problem: Matmul) -> dict[str, str]:
    """Return what `reference` must know of a problem and its tensors do not say."""
    facts = {"trans_a": str(problem.trans_a), "trans_b": str(problem.trans_b)}
    more = {"split_k": str(problem.split_k), "activation": problem.activation}
    return facts | {name: text for name, text in more.items() if text not in ("1", "none")}


def _lesson(
    chip: ChipSpec,
    problem: Matmul,
    version: str,
    held: frozenset[str],
    tensors: dict[str, Any],
    tiling: dict[str, int],
) -> Program:
    """Build version 1 or 2, with tiles that fit by default."""
    m, n, k = problem.m, problem.n, problem.k
    if version not in VERSIONS:
        raise InputError(f"matmul has no version {version!r}; use one of {', '.join(VERSIONS)}")
    if held or problem.trans_a or problem.trans_b or problem.batch or problem.split_k > 1 or problem.follows:
        raise UnsupportedError(f"matmul version {version!r} takes plain operands in memory; use version='stationary'")
    rows, cols = chip.mesh.rows, chip.mesh.cols
    if version == "summa":
        default = {"bm": m // rows, "bn": n // cols, "bk": min(64, k)}
    else:
        default = {"bm": min(m, 64), "bn": min(n, 64), "bk": min(k, 128)}
    sizes: dict[str, Any] = {**default, **tiling}
    if version == "summa" and (m != rows * sizes["bm"] or n != cols * sizes["bn"] or k % sizes["bk"]):
        raise UnsupportedError(
            f"matmul version 'summa' needs m = {rows} bm, n = {cols} bn and k a multiple of bk on {chip.name}, "
            f"got {m}x{n}x{k} with {sizes}; use version='stationary' for any shape"
        )
    return VERSIONS[version].build(chip, flops=problem.flops, **sizes, **tensors)


KERNEL = LibraryKernel(
    problem=Matmul,
    program=_program,
    oracle=oracle,
    oracle_at=oracle_at,
    examples=(
        Matmul(1, 1, 1),
        Matmul(13, 7, 31),
        Matmul(61, 47, 67, out_dtype="fp32", trans_a=True),
        Matmul(40, 33, 29, dtype="fp32", trans_b=True),
        Matmul(17, 19, 23, dtype="int8"),
        Matmul(33, 9, 41, dtype="cfp8-143"),
        Matmul(9, 17, 21, batch=5, broadcast_b=True, trans_a=True),
        Matmul(11, 18, 133, split_k=7, out_dtype="fp32", residual=True),
        Matmul(20, 35, 26, batch=3, split_k=3, add_bias=True, activation="relu", residual=True, out_dtype="cfp8-152"),
        Matmul(12, 26, 17, add_bias=True, activation="gelu"),
        Matmul(10, 12, 30, dtype="cfp8-143", dtype_b="cfp8-152", out_dtype="cfp8-143", scaled=True),
    ),
)
