"""Elementwise functions with their gradients, dropout and bias addition, as a lesson: streaming at memory speed.

What the machine defines (and `reference` repeats in NumPy): inputs widen exactly to fp32, every operation rounds to
fp32 by itself in the order of `reference`, and the result rounds once more to its own format. exp, tanh, sigmoid and
erf are the chip's own functions (`accel.isa.transcendentals`).

1. One node, one element after the other: 342 nodes idle, and each waits for a memory that is far away.
2. Every node takes one contiguous range and walks through it in blocks (`parts/flat_streaming.py`): while block i is
   computed, block i + 1 arrives and block i - 1 leaves. The arithmetic of one element never meets that of another, so
   nothing is ever sent between nodes.
3. The steps of a function (`parts/elementwise_steps.py`) run over a whole block at a time, so that the fill of the
   vector unit is paid once in thousands of elements. A relu is one pass over bf16; an exact gelu 36 passes over fp32
   lanes, because erf costs the 31 micro-operations of its definition - and still hides behind the memory.
4. Dropout stores no mask: the random number of an element is a pure function of seed, stream and its place in the
   tensor, so the gradient draws the same mask again: two tensors cross the memory's edge instead of three.
5. The gradient of a bias sums over rows in the order of `parts/sum_orders.py`: aligned runs of rows on each node,
   their upper levels on the mesh (`parts/column_sums.py`).

The bound it approaches: compulsory bytes over memory bandwidth. On `d1` a node has 1.2 bytes of it a cycle: a bf16
element in and out leaves 3.4 cycles, in which a node can do 54 passes over fp32 lanes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from accel.hardware import ChipSpec
from accel.isa.functions import apply, fma
from accel.kernels.library import LibraryKernel, builder
from accel.kernels.parts.elementwise_steps import STEPS, WORK
from accel.kernels.parts.flat_streaming import FlatStream, FlatTiling, choose_flat
from accel.kernels.parts.flows import Piece, Sweep
from accel.kernels.parts.launch import one_nan, only_in_memory, present, tensors_of, values_of
from accel.lang import K
from accel.numerics import fmt
from accel.numerics.arrays import philox
from accel.problem.elementwise import FUNCTIONS, Elementwise
from accel.program import Program, kernel

if TYPE_CHECKING:
    from accel.lang import View

__all__ = ["KERNEL", "build", "dropout", "elementwise", "reference"]

F = np.float32
# Of the definition, which shares none with the steps of the kernel.
SQRT_HALF, NORMAL_PEAK, SQRT_2_PI = math.sqrt(0.5), 1 / math.sqrt(2 * math.pi), math.sqrt(2 / math.pi)
TANH_CUBIC = 0.044715  # Hendrycks and Gimpel, "Gaussian error linear units"


def reference(problem: Elementwise, inputs: Mapping[str, Any], *, seed: int = 0) -> dict[str, np.ndarray]:
    """Return the outputs of `problem` by name, in fp32: the definition, one rounding an operation."""
    values = values_of(problem, inputs)
    return _outputs(problem, values, np.arange(problem.size, dtype=np.uint64), seed)


def reference_at(problem: Elementwise, inputs: Mapping[str, Any], output: str, places: Any) -> np.ndarray:
    """Return the elements of one output at `places` (one array of indices)."""
    (index,) = places
    some = {name: np.asarray(v) if name == "s" else np.asarray(v)[index] for name, v in inputs.items()}
    values = values_of(problem, some)
    return _outputs(problem, values, np.asarray(index, np.uint64), 0)[output]


def _outputs(problem: Elementwise, v: Mapping[str, Any], index: Any, seed: int) -> dict[str, np.ndarray]:
    with np.errstate(all="ignore"):
        if problem.function == "dropout":
            uniform = (philox(index, np.uint32(problem.stream), np.uint64(seed)) >> np.uint32(8)) * F(2.0**-24)
            of, to = ("x", "y") if problem.direction == "fwd" else ("gy", "gx")
            return one_nan({to: np.where(uniform >= F(problem.p), v[of] * (F(1) / (F(1) - F(problem.p))), F(0))})
        if problem.direction == "fwd":
            return one_nan({"y": _forward(problem.function, v)})
        wrt = [name for name in FUNCTIONS[problem.function][0] if name != "s"]
        return one_nan(dict(zip((f"g{name}" for name in wrt), _gradients(problem.function, v), strict=True)))


def _forward(function: str, v: Mapping[str, Any]) -> Any:
    x: Any = v.get("x")
    match function:
        case "relu":
            return np.where((x > 0) | np.isnan(x), x, F(0))
        case "gelu":
            return (x * F(0.5)) * (apply("erf", x * F(SQRT_HALF)) + F(1))
        case "gelu_tanh":
            return (x * F(0.5)) * (_cubic_tanh(x) + F(1))
        case "silu":
            return x * apply("sigmoid", x)
        case "add":
            return v["a"] + v["b"]
        case "mul":
            return v["a"] * v["b"]
        case "add_scalar":
            return x + v["s"]
        case "mul_scalar":
            return x * v["s"]
        case _:
            return apply(function, x)


def _cubic_tanh(x: Any) -> Any:
    return apply("tanh", (x * x * F(TANH_CUBIC) + F(1)) * x * F(SQRT_2_PI))


def _gradients(function: str, v: Mapping[str, Any]) -> tuple[Any, ...]:
    gy, x, y = (v.get(name, F(0)) for name in ("gy", "x", "y"))
    match function:
        case "relu":
            return (np.where(x <= 0, F(0), gy),)
        case "gelu":
            density = apply("exp", x * x * F(-0.5)) * F(NORMAL_PEAK)
            return (gy * fma(x, density, (apply("erf", x * F(SQRT_HALF)) + F(1)) * F(0.5)),)
        case "gelu_tanh":
            t = _cubic_tanh(x)
            slope = (x * x * F(3.0 * TANH_CUBIC) + F(1)) * F(SQRT_2_PI) * x * (t * t * F(-1) + F(1))
            return (gy * (((t + F(1)) + slope) * F(0.5)),)
        case "silu":
            s = apply("sigmoid", x)
            return (gy * (s * (fma(-s, x, x) + F(1))),)
        case "sigmoid":
            return (gy * fma(-y, y, y),)
        case "tanh":
            return (gy * fma(-y, y, F(1)),)
        case "exp":
            return (gy * y,)
        case "add":
            return gy, gy
        case "mul":
            return gy * v["b"], gy * v["a"]
        case "add_scalar":
            return (gy,)
        case _:
            return (gy * v["s"],)


def _scale(p: float) -> np.float32:
    """Return what dropout multiplies the kept elements by: 1 / (1 - p), p in fp32 as the comparison has it."""
    return F(1) / (F(1) - F(p))


@kernel
def elementwise(
    k: K, gy: View | None, x: View | None, y: View | None, a: View | None, b: View | None, s: View | None,
    gx: View | None, ga: View | None, gb: View | None, *, tiling: FlatTiling, function: str, direction: str,
) -> None:  # fmt: skip
    """Apply `STEPS[direction][function]` to block after block."""
    tensors = present(gy=gy, x=x, y=y, a=a, b=b, gx=gx, ga=ga, gb=gb)
    writes = ("y",) if direction == "fwd" else ("gx", "ga", "gb")
    results = {name: view for name, view in tensors.items() if name in writes}
    operands = {name: view for name, view in tensors.items() if name not in results}
    first = next(iter(operands.values()))
    stream = FlatStream(k, first.shape[0], tiling, Sweep(tuple(operands), tuple(results)))
    stream.flat_in(**operands)
    stream.flat_out(**results)
    numbers: dict[str, View] = {"zero": k.sram((1,), first.dtype, "zero"), "one": k.sram((1,), "fp32", "one")}
    if s is not None:
        numbers["s"] = stream.constant("s", s)
    buffers = {name: k.sram((tiling.block,), "fp32", name) for name in WORK}
    buffers["mask"] = k.sram((tiling.block,), "uint8", "mask")
    buffers["narrow"] = k.sram((tiling.block,), first.dtype, "narrow")

    def compute(items: Iterator[Piece]) -> None:
        k.vec.fill(numbers["zero"], 0.0)
        k.vec.fill(numbers["one"], 1.0)
        for item in items:
            for piece in item.sweep(0):
                work = {name: buffer[: piece.width] for name, buffer in buffers.items()}
                STEPS[direction][function](k.vec, {**numbers, **work, **piece.views})

    stream.start(compute)


@kernel
def dropout(
    k: K, x: View | None, y: View | None, gy: View | None, gx: View | None, *, tiling: FlatTiling, p: float,
    stream: int,
) -> None:  # fmt: skip
    """y = x / (1 - p) where the element's random number is at least p, otherwise +0; gx from gy alike."""
    of, to = (x, y) if x is not None else (gy, gx)
    assert of is not None
    assert to is not None
    (size,) = of.shape
    blocks = FlatStream(k, size, tiling, Sweep(("of",), ("to",)))
    blocks.flat_in(of=of)
    blocks.flat_out(to=to)
    zero = k.sram((1,), to.dtype, "zero")
    uniform, mask = k.sram((tiling.block,), "fp32", "uniform"), k.sram((tiling.block,), "uint8", "mask")
    scaled = k.sram((tiling.block,), to.dtype, "scaled")

    def compute(items: Iterator[Piece]) -> None:
        k.vec.fill(zero, 0.0)
        for item in items:
            for piece in item.sweep(0):
                u, m, t = uniform[: piece.width], mask[: piece.width], scaled[: piece.width]
                k.vec.random(u, stream=stream, index=k.element((size,), piece.left))
                k.vec.compare(m, u, ">=", p)
                k.vec.mul(t, piece["of"], float(_scale(p)))
                k.vec.select(piece["to"], m, t, zero)

    blocks.start(compute)


def build(
    chip: ChipSpec | str, *, size: int, function: str = "relu", dtype: str = "bf16", out_dtype: str = "",
    direction: str = "fwd", p: float = 0.5, stream: int = 0, resident: Iterable[str] = (), **tiling: int,
) -> Program:  # fmt: skip
    """Return the program of an elementwise function, or of its gradient, over `size` elements for `chip`.

    Operands and fields as in `accel.problem.Elementwise`; tiling: block (elements), depth (slots). Raises InputError,
    CapacityError where a block does not fit, UnsupportedError for resident operands.
    """
    return _program(
        chip, Elementwise(size, function, dtype, out_dtype, direction, p, stream),
        resident=resident, **tiling,
    )  # fmt: skip


@builder
def _program(chip: ChipSpec, problem: Elementwise, *, resident: frozenset[str] = frozenset(), **tiling: int) -> Program:
    only_in_memory(problem, resident)
    item, out = fmt(problem.dtype).bytes, fmt(problem.out_dtype).bytes
    names = [name for name in problem.operands if name != "s"]
    outputs = [name for name in names if problem.operands[name].role == "out"]
    reads, writes = item * (len(names) - len(outputs)), out * len(outputs)
    if problem.function == "dropout":
        chosen = choose_flat(chip, problem.size, reads, writes, 4 + 1 + out, **tiling)
        tensors = tensors_of(problem, "x y gy gx")
        return dropout.build(chip, tiling=chosen, p=problem.p, stream=problem.stream, **tensors)
    chosen = choose_flat(chip, problem.size, reads, writes, 4 * len(WORK) + 1 + item, **tiling)
    return elementwise.build(
        chip, tiling=chosen, function=problem.function, direction=problem.direction,
        **tensors_of(problem, "gy x y a b s gx ga gb"),
    )  # fmt: skip


KERNEL = LibraryKernel(
    problem=Elementwise,
    program=_program,
    oracle=reference,
    oracle_at=reference_at,
    examples=(
        Elementwise(1),
        Elementwise(1031),
        Elementwise(2000, "relu", direction="bwd", out_dtype="fp32"),
        *(
            Elementwise(size, function, dtype, direction=direction)
            for size, function, dtype, direction in (
                (777, "gelu", "bf16", "fwd"), (70, "gelu", "bf16", "bwd"), (500, "gelu_tanh", "fp16", "fwd"),
                (65, "gelu_tanh", "fp32", "bwd"), (64, "silu", "fp32", "fwd"), (1300, "silu", "bf16", "bwd"),
                (99, "sigmoid", "fp16", "fwd"), (99, "sigmoid", "fp16", "bwd"), (1025, "tanh", "bf16", "fwd"),
                (3, "tanh", "bf16", "bwd"), (900, "exp", "fp32", "fwd"), (129, "exp", "fp32", "bwd"),
                (2049, "add", "bf16", "fwd"), (128, "add", "fp32", "bwd"), (640, "mul", "fp16", "fwd"),
                (641, "mul", "bf16", "bwd"), (77, "add_scalar", "bf16", "fwd"), (77, "add_scalar", "fp16", "bwd"),
                (1200, "mul_scalar", "bf16", "fwd"), (50, "mul_scalar", "fp32", "bwd"),
            )
        ),
        # In fp32, where every rounding on the way is seen.
        *(
            Elementwise(41, function, "fp32", direction=direction)
            for function in FUNCTIONS if function != "dropout" for direction in ("fwd", "bwd")
        ),
        Elementwise(3000, "dropout", p=0.25, stream=3),
        Elementwise(3000, "dropout", direction="bwd", p=0.25, stream=3),
    ),
)  # fmt: skip
