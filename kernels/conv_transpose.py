"""Transposed convolution in its three training directions, as a lesson: a convolution with its roles exchanged.

A convolution is a linear map of images; its transpose is its data gradient. Used forward, to make images larger, the
data gradient is called a transposed convolution, so nothing new is computed here:

- forward: y = data gradient, with x in the place of gy: one chain over filter taps r, s and then channels c of the
  group, over the taps that land (contract, section 3). Then the bias (fp32), the activation, and one rounding;
- its data gradient is the convolution itself: gx = conv(gy, w), padding taking part as +0;
- its weight gradient is that of the convolution, with gy as the image and x as the gradient of the output.

The filter is stored as the convolution stores it, w (R, S, K / groups, C): tap, channel of y within the group, channel
of x. Where the stride is above 1 several sizes of y convolve to the same size of x; `output_pad` says which is meant.

1. *Zeros between the pixels*: spread x out with stride - 1 zeros in between and convolve: stride^2 times the work, and
   another result where a weight is infinite.
2. *Residue classes* (`parts/conv_data_gradient.py`): the outputs p with one remainder of p + pad by the stride read
   the same taps at the same distances, so each class is a dense product with a subset of the filter, and no zero is
   ever multiplied.

The bound: max(multiply-adds / matrix units of the mesh, compulsory bytes / memory bandwidth).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from accel.errors import InputError
from accel.hardware import ChipSpec
from accel.kernels.library import LibraryKernel, builder
from accel.kernels.parts import conv_forward, conv_reference, conv_weight_gradient
from accel.kernels.parts.conv_data_gradient import cut_for, emit
from accel.kernels.parts.conv_data_tiling import Cut
from accel.kernels.parts.matmul_formats import Formats
from accel.kernels.parts.matmul_reference import activated
from accel.lang import K, TensorSpec, tensor
from accel.numerics import cast, fmt, from_storage
from accel.problem.checks import unless_given
from accel.problem.conv_transpose import ConvTranspose2d
from accel.program import Program, kernel

__all__ = ["KERNEL", "build", "oracle", "oracle_at", "transposed", "transposed_bias"]


def oracle(
    problem: ConvTranspose2d, inputs: Mapping[str, Any], *, meaning: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """Return the output of `problem` by name, as values of its format: the adjoint convolution's, under our names.

    meaning: bias and denormals by operand name, of operands in a configurable format.
    """
    name, operand = next((n, o) for n, o in problem.operands.items() if o.role == "out")
    return {name: oracle_at(problem, inputs, name, [np.arange(size) for size in operand.shape], meaning=meaning)}


def oracle_at(
    problem: ConvTranspose2d, inputs: Mapping[str, Any], output: str, index: Sequence[Any], *,
    meaning: Mapping[str, Mapping[str, Any]] | None = None,
) -> Any:  # fmt: skip
    """Return the elements `np.ix_(*index)` of the output, where the whole would take too long."""
    known = {} if meaning is None else meaning
    sums_dtype = "int32" if fmt(problem.dtype).kind == "int" else "fp32"
    adjoint = type(problem.adjoint).from_dict({**problem.adjoint.to_dict(), "out_dtype": sums_dtype})
    sums = conv_reference.oracle_at(
        adjoint, problem.renamed(inputs), problem.names[output], index, meaning=problem.renamed(known)
    )
    if problem.bias:
        sums = sums + np.asarray(inputs["bias"], np.float32)[index[-1]]
    if problem.activation != "none":
        with np.errstate(all="ignore"):
            sums = activated(problem.activation, sums)
            sums = np.where(np.isnan(sums), np.uint32(0x7FC00000).view(np.float32), sums)
    dtype = problem.out_dtype
    own = known.get(output, {})
    return sums if dtype == sums_dtype else from_storage(cast(sums, dtype, **own), dtype, as_="ml_dtypes", **own)


@kernel
def transposed(k: K, x: TensorSpec, w: TensorSpec, y: TensorSpec, *, cut: Cut) -> None:
    """y = activation(transposed convolution of x): the data gradient's products, with x in the place of gy."""
    emit(k, x, w, y, cut)


@kernel
def transposed_bias(k: K, x: TensorSpec, w: TensorSpec, bias: TensorSpec, y: TensorSpec, *, cut: Cut) -> None:
    """The same, with a bias for each channel of y added to the sums."""
    emit(k, x, w, y, cut, bias)


def build(
    chip: ChipSpec | str,
    *,
    n: int,
    h: int,
    w: int,
    c: int,
    k: int,
    r: int,
    s: int,
    stride: int | tuple[int, ...] = 1,
    pad: int | tuple[int, ...] = 0,
    dilation: int | tuple[int, ...] = 1,
    output_pad: int | tuple[int, ...] = 0,
    groups: int = 1,
    dtype: str = "bf16",
    out_dtype: str = "bf16",
    direction: str = "fwd",
    bias: bool = False,
    activation: str | None = None,
    resident: Iterable[str] = (),
    **tiling: int,
) -> Program:
    """Return the program of one direction of a transposed convolution for `chip`; shapes as in `ConvTranspose2d`.

    direction: "fwd" (x, w -> y), "dgrad" (gy, w -> gx) or "wgrad" (x, gy -> gw). dtype: a format of the chip's matrix
    unit, or fp32, which the vector unit multiplies. bias, activation (as of conv2d): forward, before the one
    rounding.
    resident: operands that lie in SRAM. tiling: fields of the tiling of the convolution that is run. Raises InputError
    and UnsupportedError.
    """
    problem = ConvTranspose2d(
        n, h, w, c, k, r, s, stride, pad, dilation, output_pad, groups, dtype, out_dtype, direction, bias,
        unless_given(activation, "none"),
    )  # fmt: skip
    return _program(chip, problem, resident=resident, **tiling)


@builder
def _program(
    spec: ChipSpec, problem: ConvTranspose2d, *, resident: frozenset[str] = frozenset(), **tiling: Any
) -> Program:
    held = resident
    for name in held:
        if name not in problem.operands:
            raise InputError(
                f"{problem.kind} has no operand {name!r} to keep resident; use {', '.join(problem.operands)}"
            )
    if problem.direction != "fwd":
        return _adjoint(spec, problem, held, tiling)
    roles = frozenset(problem.names[name] for name in held if name != "bias")
    formats = Formats(problem.dtype, problem.out_dtype, add_bias=problem.bias, activation=problem.activation)
    cut = cut_for(spec, problem.adjoint.geometry, formats, roles, tiling)
    tensors: dict[str, Any] = {name: tensor(o.shape, o.dtype) for name, o in problem.operands.items()}
    entry = transposed_bias if problem.bias else transposed
    return entry.build(spec, resident=tuple(sorted(held)), flops=problem.flops, cut=cut, **tensors)


def _adjoint(chip: ChipSpec, problem: ConvTranspose2d, held: frozenset[str], tiling: Mapping[str, Any]) -> Program:
    """Return the adjoint convolution's program with its tensors called as they are here."""
    roles = frozenset(problem.names[name] for name in held)
    make = conv_forward.build if problem.direction == "dgrad" else conv_weight_gradient.program
    made = make(chip, problem.adjoint, resident=roles, **tiling)
    ours = {theirs: name for name, theirs in problem.names.items()}
    tensors = tuple(replace(t, name=ours[t.name]) for t in made.isa.tensors)
    return Program(replace(made.isa, tensors=tensors), chip)


KERNEL = LibraryKernel(
    problem=ConvTranspose2d,
    program=_program,
    oracle=oracle,
    oracle_at=oracle_at,
    examples=(
        ConvTranspose2d(1, 1, 1, 1, 1, 1, 1),
        ConvTranspose2d(2, 5, 4, 9, 12, 4, 4, stride=2, pad=1, bias=True, activation="relu"),
        ConvTranspose2d(1, 4, 5, 6, 9, 3, 3, stride=2, bias=True, activation="gelu_tanh", out_dtype="fp32"),
        ConvTranspose2d(3, 4, 3, 6, 10, 3, 2, stride=(3, 2), output_pad=(2, 1), groups=2, out_dtype="fp32"),
        ConvTranspose2d(1, 3, 5, 7, 7, 3, 3, stride=2, pad=1, output_pad=1, groups=7, dtype="fp32"),
        ConvTranspose2d(2, 4, 5, 8, 6, 3, 3, stride=2, pad=1, dilation=2, direction="dgrad"),
        ConvTranspose2d(2, 4, 5, 8, 6, 3, 3, stride=2, output_pad=1, direction="wgrad"),
    ),
)
