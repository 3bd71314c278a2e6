"""What `matmul` computes in: the formats of a program, and the unit that multiplies them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from accel.errors import InputError, UnsupportedError
from accel.kernels.parts.epilogue import work_of
from accel.numerics import fmt

if TYPE_CHECKING:
    from accel.hardware import ChipSpec
    from accel.lang import K, View
    from accel.problem import Matmul

MIXED = ({"cfp8-143", "cfp8-152"}, {"int8", "uint8"})  # pairs of formats that one instruction multiplies

__all__ = ["Formats", "biases", "buffer", "multiply", "require_supported"]


@dataclass(frozen=True)
class Formats:
    """The formats of a, b and c, and what follows the sums; accumulators are fp32, or int32 for integers.

    dtype_b: of b where it is not that of a (both have one width). add_bias, activation, scaled: as in `Matmul`.
    residual: the format of what is added before rounding, empty for nothing. shared_b: one b serves a whole batch.
    """

    dtype: str = "bf16"
    out_dtype: str = "bf16"
    dtype_b: str = ""
    add_bias: bool = False
    activation: str = "none"
    residual: str = ""
    scaled: bool = False
    shared_b: bool = False

    @classmethod
    def of(cls, problem: Matmul) -> Formats:
        """Return what `problem` computes in."""
        return cls(
            problem.dtype, problem.out_dtype, problem.dtype_b, problem.add_bias, problem.activation,
            problem.residual_dtype if problem.residual else "", problem.scaled, problem.broadcast_b,
        )  # fmt: skip

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
    def touched(self) -> bool:
        """Return whether anything happens to the sums before they are rounded."""
        return self.add_bias or self.activation != "none" or bool(self.residual)

    @property
    def buffers(self) -> tuple[str, ...]:
        """Return the working buffers of the activation, fp32, of the size of a strip of results."""
        return work_of(self.activation)

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
    other = problem.dtype_b or problem.dtype
    if other != problem.dtype and ({problem.dtype, other} not in MIXED or other not in taken):
        raise UnsupportedError(
            f"matmul on {chip.name} does not multiply {problem.dtype} by {other}; use one format for both, "
            "cfp8-143 with cfp8-152, or int8 with uint8, where the chip has them"
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
