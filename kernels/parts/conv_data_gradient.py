"""The data gradient of a convolution: products of shifted gradients with taps, only where a tap lands.

gx[n, h, w, c] is one chain over r, s, k ascending, of the taps that land on an output gradient; others take no part, so
an infinite weight never meets padding. A tile of accumulators stays put over the whole chain. For every row of the
filter the positions fall into stretches where the same taps land, and each stretch is one matrix product with the taps
of a row and the filters as K, read backwards by a negative stride; with a stride above 1 each residue class of
positions is a dense tile of its own. Borders differ only in which stretches there are.

Where no chain has a second product (one row of taps, or a stride that leaves one) and the matrix unit can write gx's
format, products write results, rounded as they leave; otherwise they add to accumulators, which are rounded after the
last.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from accel.errors import UnsupportedError
from accel.hardware import ChipSpec
from accel.kernels.library import operand_names
from accel.kernels.parts.conv_data_choice import choose, fill_in
from accel.kernels.parts.conv_data_tiling import Cut, form_of
from accel.kernels.parts.conv_data_work import Work
from accel.kernels.parts.matmul_formats import Formats
from accel.lang import K, TensorSpec, tensor
from accel.problem.convolution import Convolution, Geometry
from accel.program import Program, kernel

__all__ = ["build", "cut_for", "data_gradient", "emit"]


def emit(k: K, gy: TensorSpec, w: TensorSpec, gx: TensorSpec, cut: Cut, bias: TensorSpec | None = None) -> None:
    """Emit what this node does: gy (N, outputs, K), w (taps, C / groups, K), gx (N, positions, C), bias (C,)."""
    work = Work(k, gy, w, gx, cut, bias)
    if k.row >= cut.bands * cut.share:
        return  # these rows are too few for another band
    work.place()
    if cut.gx_stays:
        work.collect()

    @k.thread
    def filters() -> None:
        work.load_filter()

    if not cut.direct:

        @k.thread
        def windows() -> None:
            work.load_windows()

    @k.thread
    def compute() -> None:
        work.compute()

    if cut.rounds and cut.gx_stays:
        return  # the products have written all there is

    @k.thread
    def drain() -> None:
        (work.store if cut.rounds else work.drain)()


@kernel
def data_gradient(k: K, gy: TensorSpec, w: TensorSpec, gx: TensorSpec, *, cut: Cut) -> None:
    """gx from gy and w; see the text of the module. `cut` says who computes what, from `cut_for`."""
    emit(k, gy, w, gx, cut)


def cut_for(
    chip: ChipSpec, shape: Geometry, formats: Formats, resident: frozenset[str], tiling: Mapping[str, int]
) -> Cut:
    """Return how the data gradient of a convolution is cut over `chip`; tiling: fields of `Cut` that are given.

    formats: of gy and w (dtype) and gx, and what follows the sums; resident: which of "gy", "w" and "gx" lie in SRAM.
    UnsupportedError for a format that no unit takes; InputError for a tiling that is not legal.
    """
    dtype = formats.dtype
    taken = [*chip.node.matrix.step_cycles, "fp32"]
    if dtype not in taken:
        raise UnsupportedError(
            f"a convolution on {chip.name} does not take {dtype}; use dtype={' or '.join(map(repr, taken))}"
        )
    cut = choose(chip, form_of(shape, chip, formats), formats, resident)
    return fill_in(cut, chip, **tiling) if tiling else cut


def build(chip: ChipSpec, problem: Convolution, *, resident: Iterable[str] = (), **tiling: int) -> Program:
    """Return the program of a convolution's data gradient; `problem` has direction "dgrad".

    resident: names of operands that lie in SRAM; tiling: fields of `Cut` (share, per_pass, frames, rows, columns,
    inner, width, filters, windows, sums, outs). InputError and UnsupportedError as `cut_for`.
    """
    held, options = operand_names(resident), problem.to_dict()
    cut = cut_for(chip, problem.geometry, Formats(options["dtype"], options["out_dtype"]), held, tiling)
    tensors: dict[str, Any] = {name: tensor(o.shape, o.dtype) for name, o in problem.operands.items()}
    return data_gradient.build(chip, resident=tuple(sorted(held)), flops=problem.flops, cut=cut, **tensors)
