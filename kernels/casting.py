"""Casts between formats, as a lesson: numbers in 8 bits mean nothing without a bias that lies elsewhere.

What the machine defines (and `reference` repeats in NumPy): x widens exactly and rounds once to the format of y, to
nearest even or at random (`accel.numerics`, section 3 of the machine contract). The exponent bias of a tensor in 8 bits
is a number in memory: the program reads one byte before it begins, so the same program serves every bias that `amax`
will choose.

Every node streams its own range through (`parts/flat_streaming.py`); the bias is fetched once and multicast, and slots
in SRAM refer to it. The memory moves codes, of which it knows no meaning.

The bound it approaches: compulsory bytes over memory bandwidth.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from accel.hardware import ChipSpec
from accel.kernels.library import LibraryKernel, builder, is_hard
from accel.kernels.parts.flat_streaming import FlatStream, FlatTiling, choose_flat
from accel.kernels.parts.flows import Piece, Sweep
from accel.kernels.parts.launch import only_in_memory, present, tensors_of
from accel.lang import K
from accel.numerics import as_storage, cast, fmt, from_storage
from accel.problem.optimizer import Cast
from accel.program import Program, kernel

if TYPE_CHECKING:
    from accel.lang import View

__all__ = ["KERNEL", "build", "casting", "reference"]


def reference(
    problem: Cast, inputs: Mapping[str, Any], *, seed: int = 0, meaning: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, np.ndarray]:
    """Return y of `problem`: the definition. `meaning`: how tensors in 8 bits are given and read, whatever is in them.

    A tensor in 8 bits is given as numbers of its own bias; its codes mean numbers of the bias in x_bias or y_bias.
    """
    p, own, real = problem, {}, {}
    for name, dtype in (("x", p.dtype), ("y", p.out_dtype)):
        eight = dtype.startswith("cfp8")
        own[name] = dict((meaning or {}).get(name, {"bias": fmt(dtype).default_bias} if eight else {}))
        real[name] = own[name] | ({"bias": int(np.asarray(inputs[f"{name}_bias"])[0]) & 63} if eight else {})
    values = from_storage(as_storage(inputs["x"], p.dtype, **own["x"]), p.dtype, as_="float32", **real["x"])
    draw: dict[str, Any] = {"rounding": "stochastic", "seed": seed, "stream": p.stream}
    codes = cast(values, p.out_dtype, **real["y"], **(draw if p.rounding == "stochastic" else {}))
    return {"y": from_storage(codes, p.out_dtype, as_="float32", **own["y"])}


@kernel
def casting(
    k: K, x: View, x_bias: View | None, y_bias: View | None, y: View, *, tiling: FlatTiling, rounding: str, stream: int
) -> None:
    """Cast block after block."""
    blocks = FlatStream(k, x.shape[0], tiling, Sweep(("x",), ("y",)))
    biases = {name: blocks.constant(name, tensor) for name, tensor in present(x_bias=x_bias, y_bias=y_bias).items()}
    blocks.flat_in(bias=biases.get("x_bias"), x=x)
    blocks.flat_out(bias=biases.get("y_bias"), y=y)

    def compute(items: Iterator[Piece]) -> None:
        for item in items:
            for piece in item.sweep(0):
                if rounding == "nearest":
                    k.vec.cast(piece["y"], piece["x"])
                else:
                    index = k.element(x.shape, piece.left)
                    k.vec.cast(piece["y"], piece["x"], "stochastic", stream=stream, index=index)

    blocks.start(compute)


def build(
    chip: ChipSpec | str, *, size: int, dtype: str = "bf16", out_dtype: str = "cfp8-143", rounding: str = "nearest",
    stream: int = 0, resident: Iterable[str] = (), **tiling: int,
) -> Program:  # fmt: skip
    """Return the program that casts `size` elements for `chip`; see `accel.problem.Cast`.

    tiling: block (elements), depth (slots). Raises InputError, CapacityError where a block does not fit,
    UnsupportedError for resident operands.
    """
    problem = Cast(size, dtype, out_dtype, rounding, stream)
    return _program(chip, problem, resident=resident, **tiling)


@builder
def _program(chip: ChipSpec, problem: Cast, *, resident: frozenset[str] = frozenset(), **tiling: int) -> Program:
    only_in_memory(problem, resident)
    p = problem
    chosen = choose_flat(chip, p.size, fmt(p.dtype).bytes, fmt(p.out_dtype).bytes, 0, **tiling)
    tensors = tensors_of(p, "x x_bias y_bias y")
    return casting.build(chip, tiling=chosen, rounding=p.rounding, stream=p.stream, **tensors)


def random_inputs(problem: Cast, seed: int) -> dict[str, Any]:
    """Return normal numbers, and biases near the middle; hard ones of all sizes, with infinities and NaN."""
    rng = np.random.default_rng(seed)
    found: dict[str, Any] = {"x": rng.normal(size=problem.size).astype(np.float32)}
    if is_hard(seed):
        found["x"] *= np.exp2(rng.integers(-140, 120, problem.size)).astype(np.float32)
        found["x"][rng.integers(problem.size, size=3)] = np.inf, -np.inf, np.nan
    biases = [name for name in problem.operands if name.endswith("_bias")]
    return found | {name: rng.integers(4, 20, 1).astype(np.uint8) for name in biases}


KERNEL = LibraryKernel(
    problem=Cast,
    program=_program,
    oracle=reference,
    inputs=random_inputs,
    examples=(
        Cast(1),
        Cast(5000),
        Cast(777, "fp32", "bf16", "stochastic", 3),
        Cast(2049, "cfp8-152", "fp16"),
        Cast(1300, "cfp8-143", "cfp8-152", "stochastic"),
    ),
)
