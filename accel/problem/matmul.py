"""Matrix multiplication as a problem: c = a @ b, one or a batch, with what may follow before the rounding."""

from __future__ import annotations

from typing import ClassVar

from msgspec.structs import force_setattr

from accel.errors import InputError
from accel.numerics import fmt
from accel.problem.checks import (
    check_choice,
    check_elements,
    check_flag,
    check_format,
    check_int,
    unless_given,
)
from accel.problem.workload import Operand, Problem

__all__ = ["ACTIVATIONS", "Matmul"]

ACTIVATIONS = ("none", "relu", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh")
"""What may be applied to the sums before they are rounded."""


class Matmul(Problem, frozen=True):
    """c (m, n) = a (m, k) @ b (k, n); `trans_a` stores a as (k, m), `trans_b` stores b as (n, k).

    `dtype` is the format of both inputs, `out_dtype` that of c; left empty it becomes int32 for integers, bf16 for
    8-bit floats and for uhp16, which has no signs, and otherwise `dtype`; `dtype_b` that of b where it is another one.

    batch: 0 for matrices; otherwise a, b and c have a first dimension of so many, and with `broadcast_b` b has none and
    serves all. split_k: sums are so many chains of ceil(k / split_k) steps (the last may be shorter, empty ones do not
    exist), added by a balanced binary tree of neighbours. Then, in this order, in fp32, before the one rounding to c:
    add_bias adds `bias` (n,) in fp32 to every row; `activation` of `ACTIVATIONS`; residual adds `residual`, of the
    shape of c, in the format of c or, where c has 8 bits, in bf16. scaled: c is in cfp8 with the exponent bias that the
    input `c_bias` (one uint8) names, so that it may change without a new program.
    InputError for sizes below 1, above 2^40 or not whole, and for options that do not go together.
    """

    kind: ClassVar[str] = "matmul"

    m: int
    n: int
    k: int
    dtype: str = "bf16"
    out_dtype: str = ""
    trans_a: bool = False
    trans_b: bool = False
    batch: int = 0
    broadcast_b: bool = False
    dtype_b: str = ""
    split_k: int = 1
    add_bias: bool = False
    activation: str = "none"
    residual: bool = False
    scaled: bool = False

    def __post_init__(self) -> None:
        for name in ("m", "n", "k"):
            force_setattr(self, name, check_int("matmul", name, getattr(self, name)))
        force_setattr(self, "dtype", check_format("matmul", "dtype", self.dtype))
        out = unless_given(self.out_dtype, _default_result(self.dtype))
        force_setattr(self, "out_dtype", check_format("matmul", "out_dtype", out))
        other = unless_given(self.dtype_b, None)
        force_setattr(self, "dtype_b", "" if other is None else check_format("matmul", "dtype_b", other))
        for name in ("trans_a", "trans_b", "broadcast_b", "add_bias", "residual", "scaled"):
            check_flag("matmul", name, getattr(self, name))
        force_setattr(self, "batch", check_int("matmul", "batch", self.batch, low=0))
        force_setattr(self, "split_k", check_int("matmul", "split_k", self.split_k, high=self.k))
        check_choice("matmul", "activation", self.activation, ACTIVATIONS)
        if self.broadcast_b and not self.batch:
            raise InputError("matmul: broadcast_b shares b within a batch, and batch is 0; give batch too")
        if self.follows and fmt(self.dtype).kind == "int":
            raise InputError(f"matmul: sums of {self.dtype} are int32 and have no {self.follows[0]}; leave it out")
        if (self.add_bias or self.residual or self.activation != "none") and fmt(self.out_dtype).kind == "int":
            raise InputError(f"matmul: {self.follows[0]} goes with a float result, not {self.out_dtype}; cast later")
        if self.scaled and self.out_dtype not in ("cfp8-143", "cfp8-152"):
            raise InputError(f"matmul: scaled=True quantises c, and {self.out_dtype} has no exponent bias to read; "
                             "use out_dtype='cfp8-143' or 'cfp8-152'")  # fmt: skip
        for name, operand in self.operands.items():
            check_elements("matmul", name, operand.shape, operand.role)

    @property
    def follows(self) -> tuple[str, ...]:
        """What is done to the sums before they are rounded, by the names of the fields."""
        names = ("add_bias", "activation", "residual", "scaled")
        return tuple(name for name in names if getattr(self, name) not in (False, "none"))

    @property
    def residual_dtype(self) -> str:
        """The format of the residual: that of c, or bf16 where c has 8 bits."""
        return "bf16" if fmt(self.out_dtype).bits == 8 else self.out_dtype

    @property
    def operands(self) -> dict[str, Operand]:
        """a and b as stored, what follows the products, and c."""
        lead = (self.batch,) if self.batch else ()
        a = (self.k, self.m) if self.trans_a else (self.m, self.k)
        b = (self.n, self.k) if self.trans_b else (self.k, self.n)
        c = (*lead, self.m, self.n)
        found = {
            "a": Operand((*lead, *a), self.dtype, "in"),
            "b": Operand(b if self.broadcast_b else (*lead, *b), self.dtype_b or self.dtype, "in"),
        }
        if self.add_bias:
            found["bias"] = Operand((self.n,), "fp32", "in")
        if self.residual:
            found["residual"] = Operand(c, self.residual_dtype, "in")
        if self.scaled:
            found["c_bias"] = Operand((1,), "uint8", "in")
        found["c"] = Operand(c, self.out_dtype, "out")
        return found

    @property
    def multiplied(self) -> tuple[str, ...]:
        """a, b and c: what follows the products takes no part in them."""
        return ("a", "b", "c")

    @property
    def macs(self) -> int:
        """m n k, times the matrices of the batch."""
        return self.m * self.n * self.k * max(1, self.batch)

    @property
    def label(self) -> str:
        """For example "matmul 4096x4096x4096 bf16" or "matmul 64x48x32 bf16>fp32 TN"."""
        inputs = f"{self.dtype}*{self.dtype_b}" if self.dtype_b not in ("", self.dtype) else self.dtype
        formats = inputs if inputs == self.out_dtype else f"{inputs}>{self.out_dtype}"
        flags = f" {'NT'[self.trans_a]}{'NT'[self.trans_b]}" if self.trans_a or self.trans_b else ""
        times = f"{self.batch}x " if self.batch else ""
        more = f" split_k={self.split_k}" if self.split_k > 1 else ""
        more += "".join(f" +{self.activation if name == 'activation' else name}" for name in self.follows)
        return f"matmul {times}{self.m}x{self.n}x{self.k} {formats}{flags}{more}"


def _default_result(dtype: str) -> str:
    """The format of c where none is given: one that holds sums of products of `dtype`."""
    form = fmt(dtype)
    if form.kind == "int":
        return "int32"
    return dtype if form.signed and form.bits > 8 else "bf16"
