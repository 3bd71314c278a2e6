"""What `matmul` computes in: the formats of a program, the unit that multiplies them, and the oracle for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from accel.errors import InputError, UnsupportedError
from accel.numerics import as_storage, cast, chain_matmul, fmt, from_storage

if TYPE_CHECKING:
    from accel.hardware import ChipSpec
    from accel.lang import K, View
    from accel.problem import Matmul
    from accel.program import Program

__all__ = ["Formats", "biases", "buffer", "meaning", "multiply", "reference", "require_supported"]


@dataclass(frozen=True)
class Formats:
    """The format of a and b, and that of c; accumulators are fp32, or int32 for integers."""

    dtype: str = "bf16"
    out_dtype: str = "bf16"

    @property
    def item(self) -> int:
        """Return the bytes of an element of a or b."""
        return fmt(self.dtype).bytes

    @property
    def out_item(self) -> int:
        """Return the bytes of an element of c."""
        return fmt(self.out_dtype).bytes

    @property
    def sums(self) -> str:
        """Return the format of the accumulators."""
        return "int32" if fmt(self.dtype).kind == "int" else "fp32"

    @property
    def rounded(self) -> bool:
        """Return whether results are cast on their way out: the accumulators of other programs are the results."""
        return self.out_dtype != self.sums

    @property
    def on_vector(self) -> bool:
        """Return whether the vector unit multiplies: matrix units take no fp32."""
        return self.dtype == "fp32"


def require_supported(chip: ChipSpec, problem: Matmul) -> None:
    """UnsupportedError, naming what is taken, where no unit of `chip` multiplies the problem's format."""
    taken = [*chip.node.matrix.step_cycles, "fp32"]
    if problem.dtype not in taken:
        raise UnsupportedError(
            f"matmul on {chip.name} does not take {problem.dtype}; use dtype={' or '.join(map(repr, taken))}"
        )


def biases(problem: Matmul, bias: int | Mapping[str, int] | None, denormals: str) -> dict[str, dict[str, Any]]:
    """Return the options of `accel.tensor` for each operand: its bias and denormals, where its format has them.

    bias: one number for every operand in a configurable format, or numbers by operand name; the rest get the default.
    InputError for a name that is no such operand.
    """
    own = [name for name, operand in problem.operands.items() if fmt(operand.dtype).kind == "cfp"]
    if not own and (bias is not None or denormals != "gap"):
        raise InputError(
            f"matmul of {problem.dtype} into {problem.out_dtype} has no operand with a bias; "
            "leave bias= and denormals= out"
        )
    given = bias if isinstance(bias, Mapping) else {} if bias is None else dict.fromkeys(own, bias)
    for name in given:
        if name not in own:
            raise InputError(f"matmul operand {name!r} has no bias; give one for {' or '.join(map(repr, own))}")
    return {name: {"bias": given.get(name), "denormals": denormals} for name in own}


def buffer(k: K, shape: tuple[int, ...], like: Any, name: str) -> View:
    """Return an SRAM buffer whose elements mean what those of the tensor `like` mean."""
    if fmt(like.dtype).kind != "cfp":
        return k.sram(shape, like.dtype, name)
    return k.sram(shape, like.dtype, name, bias=like.bias, denormals=like.denormals)


def multiply(
    k: K, tile: View, a: View, b: View, *, accumulate: bool, trans_a: bool = False, trans_b: bool = False
) -> None:
    """tile (+)= a @ b: one matrix instruction, or in fp32 one vector instruction a column of a and row of b."""
    if a.dtype != "fp32":
        k.matmul(tile, a, b, accumulate=accumulate, trans_a=trans_a, trans_b=trans_b)
        return
    left, right = a.T if trans_a else a, b.T if trans_b else b
    if not accumulate:
        k.vec.fill(tile, 0.0)
    for i in k.loop(left.shape[1]):  # both operands stretch over the tile: an outer product, added
        k.vec.fma(tile, left[:, i : i + 1], right[i : i + 1, :], tile)


def reference(
    a: Any,
    b: Any,
    *,
    dtype: str = "bf16",
    out_dtype: str = "bf16",
    trans_a: bool = False,
    trans_b: bool = False,
    meaning: Mapping[str, Mapping[str, Any]] | None = None,
) -> np.ndarray:
    """Return a @ b as the machine defines it, in NumPy alone: the chain with k ascending, then one cast to `out_dtype`.

    a (m, k) and b (k, n), or (k, m) with trans_a and (n, k) with trans_b, in any real dtype (rounded to `dtype`
    first); c is (m, n). `meaning` holds bias and denormals by operand name ("a", "b", "c"), as
    `accel.numerics.encode` takes them.
    """
    known = {} if meaning is None else meaning
    left, right = (
        from_storage(as_storage(x, dtype, **known.get(name, {})), dtype, as_="float32", **known.get(name, {}))
        for name, x in (("a", a), ("b", b))
    )
    c = chain_matmul(left.T if trans_a else left, right.T if trans_b else right)
    if out_dtype == str(c.dtype).replace("float32", "fp32"):
        return c
    last = known.get("c", {})
    return from_storage(cast(c, out_dtype, **last), out_dtype, as_="ml_dtypes", **last)


def meaning(program: Program) -> dict[str, Any]:
    """Return the keyword arguments that make `reference` the oracle of a program built by `matmul.build`."""
    tensors = {t.name: t for t in program.isa.tensors}
    own = {n: {"bias": t.bias, "denormals": t.denormals} for n, t in tensors.items() if fmt(t.dtype).kind == "cfp"}
    trans = {f"trans_{x}": program.isa.facts.get(f"trans_{x}") == "True" for x in "ab"}
    return {"dtype": tensors["a"].dtype, "out_dtype": tensors["c"].dtype, "meaning": own, **trans}
