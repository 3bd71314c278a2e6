"""Problems of the end of a training step: gradient norm, weight update, and the exponent bias of 8-bit copies."""

from __future__ import annotations

from typing import ClassVar

from msgspec.structs import force_setattr

from accel.errors import InputError
from accel.problem.checks import (
    check_choice,
    check_flag,
    check_float_format,
    check_format,
    check_int,
    check_number,
    unless_given,
)
from accel.problem.workload import Operand, Problem

__all__ = ["Amax", "Cast", "GradNorm", "Optimizer"]

METHODS = ("sgd", "adam", "adamw", "lamb")
COPIES = ("none", "bf16", "fp16", "cfp8-143", "cfp8-152")


class _MemoryBound(Problem, frozen=True):
    """No multiply-adds that the field counts: the bound is bytes."""

    @property
    def macs(self) -> int:
        """0: the bound is bytes."""
        return 0


class Optimizer(_MemoryBound, frozen=True):
    """One step of an optimizer over a tensor of `size` weights, flattened; for LAMB the tensor is a layer.

    method: sgd (with `momentum`, `nesterov`), adam (weight decay added to the gradient), adamw (decoupled), lamb.
    Inputs: weights w, gradients g (in `dtype`), moments m and v as far as the method has them, fp32; and numbers of one
    element that change from step to step: lr; factor, by which gradients are multiplied (the inverse of the loss scale
    times that of clipping, see `GradNorm`); overflow (uint8): not 0 leaves weights and moments as they are; correction
    (2,) = 1 - beta1^t, 1 - beta2^t, for all but sgd. Outputs: new_w, new_m, new_v.

    weights: "fp32", beside which `copy` in another format is written for the next forward pass ("none": no copy), or
    "bf16" without any. rounding: of the copy or of bf16 weights, "nearest" or "stochastic" with the seed of the run,
    `stream` and an element's place. A copy in 8 bits takes its exponent bias from the input copy_bias (1,) uint8.
    InputError for anything else.
    """

    kind: ClassVar[str] = "optimizer"

    size: int
    method: str = "adamw"
    dtype: str = "bf16"
    weights: str = "fp32"
    copy: str = ""
    rounding: str = "nearest"
    stream: int = 0
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        force_setattr(self, "size", check_int(self.kind, "size", self.size))
        check_choice(self.kind, "method", self.method, METHODS)
        force_setattr(self, "dtype", check_float_format(self.kind, "dtype", self.dtype))
        check_choice(self.kind, "weights", self.weights, ("fp32", "bf16"))
        force_setattr(self, "copy", unless_given(self.copy, "bf16" if self.weights == "fp32" else "none"))
        check_choice(self.kind, "copy", self.copy, COPIES)
        check_choice(self.kind, "rounding", self.rounding, ("nearest", "stochastic"))
        force_setattr(self, "stream", check_int(self.kind, "stream", self.stream, low=0, high=(1 << 32) - 1))
        check_flag(self.kind, "nesterov", self.nesterov)
        for name in ("momentum", "beta1", "beta2"):
            value = check_number(self.kind, name, getattr(self, name), low=0.0, high=1.0 - 2.0**-24)
            force_setattr(self, name, value)
        for name in ("weight_decay", "epsilon"):
            force_setattr(self, name, check_number(self.kind, name, getattr(self, name), low=0.0))
        if self.weights == "bf16" and self.copy != "none":
            raise InputError(f"optimizer: bf16 weights need no copy={self.copy!r}; leave it out, or use weights='fp32'")
        if self.rounding == "stochastic" and self.weights == "fp32" and self.copy == "none":
            raise InputError("optimizer: nothing is rounded without a copy; leave rounding out, or name a copy")
        if self.nesterov and not (self.method == "sgd" and self.momentum):
            raise InputError("optimizer: nesterov is a form of momentum; use method='sgd' with momentum above 0")

    @property
    def moments(self) -> tuple[str, ...]:
        """The moments that the method keeps."""
        if self.method == "sgd":
            return ("m",) if self.momentum else ()
        return ("m", "v")

    @property
    def operands(self) -> dict[str, Operand]:
        """Tensors of the size of the weights, numbers, then what is written."""
        whole, one = (self.size,), (1,)
        found = {"w": Operand(whole, self.weights, "in"), "g": Operand(whole, self.dtype, "in")}
        found |= {name: Operand(whole, "fp32", "in") for name in self.moments}
        found |= {"lr": Operand(one, "fp32", "in"), "factor": Operand(one, "fp32", "in")}
        found["overflow"] = Operand(one, "uint8", "in")
        if self.method != "sgd":
            found["correction"] = Operand((2,), "fp32", "in")
        if self.copy.startswith("cfp8"):
            found["copy_bias"] = Operand(one, "uint8", "in")
        found["new_w"] = Operand(whole, self.weights, "out")
        found |= {f"new_{name}": Operand(whole, "fp32", "out") for name in self.moments}
        if self.copy != "none":
            found["copy"] = Operand(whole, self.copy, "out")
        return found

    @property
    def label(self) -> str:
        """For example "adamw 1048576 bf16 fp32+bf16"."""
        copy = "" if self.copy == "none" else f"+{self.copy}"
        how = " stochastic" if self.rounding == "stochastic" else ""
        name = "nesterov" if self.nesterov else self.method
        return f"{name} {self.size} {self.dtype} {self.weights}{copy}{how}"


class GradNorm(_MemoryBound, frozen=True):
    """Norm of all gradients (size,), in `dtype`, with what follows from it for this step and the next.

    Inputs: g; scale (1,) fp32, the loss scale that is in them; streak (1,) int32, steps without overflow so far.
    Outputs, one element each: norm of g / scale; overflow (uint8), 1 if that is not finite; factor, what gradients are
    to be multiplied with: 1 / scale, times max_norm / (norm + 1e-6) where that is below 1 (max_norm 0: never);
    new_scale, times `backoff` after an overflow, times `growth` after `interval` steps without; new_streak.
    """

    kind: ClassVar[str] = "grad_norm"

    size: int
    dtype: str = "bf16"
    max_norm: float = 1.0
    growth: float = 2.0
    backoff: float = 0.5
    interval: int = 2000

    def __post_init__(self) -> None:
        force_setattr(self, "size", check_int(self.kind, "size", self.size))
        force_setattr(self, "dtype", check_float_format(self.kind, "dtype", self.dtype))
        force_setattr(self, "max_norm", check_number(self.kind, "max_norm", self.max_norm, low=0.0))
        force_setattr(self, "growth", check_number(self.kind, "growth", self.growth, low=1.0))
        force_setattr(self, "backoff", check_number(self.kind, "backoff", self.backoff, low=2.0**-24, high=1.0))
        force_setattr(self, "interval", check_int(self.kind, "interval", self.interval, high=(1 << 31) - 1))

    @property
    def operands(self) -> dict[str, Operand]:
        """g, scale, streak; norm, factor, overflow, new_scale, new_streak."""
        one = (1,)
        return {
            "g": Operand((self.size,), self.dtype, "in"),
            "scale": Operand(one, "fp32", "in"),
            "streak": Operand(one, "int32", "in"),
            "norm": Operand(one, "fp32", "out"),
            "factor": Operand(one, "fp32", "out"),
            "overflow": Operand(one, "uint8", "out"),
            "new_scale": Operand(one, "fp32", "out"),
            "new_streak": Operand(one, "int32", "out"),
        }

    @property
    def label(self) -> str:
        """For example "grad_norm 1048576 bf16"."""
        return f"grad_norm {self.size} {self.dtype}"


class Amax(_MemoryBound, frozen=True):
    """Largest magnitude of x (size,), a history of such, and the exponent bias for an 8-bit format that follows.

    Inputs: x in `dtype`, history (entries,) fp32, the newest first. Outputs: amax (1,) fp32; new_history with amax in
    front, or the last entry again where amax is not finite; bias (1,) uint8: the largest bias of 0 to 63 with which
    `target` (cfp8-143 or cfp8-152) holds 2^margin times the largest of new_history, 0 where none does.
    """

    kind: ClassVar[str] = "amax"

    size: int
    dtype: str = "bf16"
    target: str = "cfp8-143"
    entries: int = 16
    margin: int = 0

    def __post_init__(self) -> None:
        force_setattr(self, "size", check_int(self.kind, "size", self.size))
        force_setattr(self, "dtype", check_float_format(self.kind, "dtype", self.dtype))
        check_choice(self.kind, "target", check_format(self.kind, "target", self.target), ("cfp8-143", "cfp8-152"))
        force_setattr(self, "entries", check_int(self.kind, "entries", self.entries, high=4096))
        force_setattr(self, "margin", check_int(self.kind, "margin", self.margin, low=0, high=63))

    @property
    def operands(self) -> dict[str, Operand]:
        """x, history; amax, new_history, bias."""
        return {
            "x": Operand((self.size,), self.dtype, "in"),
            "history": Operand((self.entries,), "fp32", "in"),
            "amax": Operand((1,), "fp32", "out"),
            "new_history": Operand((self.entries,), "fp32", "out"),
            "bias": Operand((1,), "uint8", "out"),
        }

    @property
    def label(self) -> str:
        """For example "amax 1048576 bf16 for cfp8-143"."""
        return f"amax {self.size} {self.dtype} for {self.target}"


class Cast(_MemoryBound, frozen=True):
    """y = x in another float format, over `size` elements: the way to 8 bits and back, or between 16 and 32.

    dtype, out_dtype: fp32, bf16, fp16, cfp8-143 or cfp8-152. An operand in 8 bits has the exponent bias that the input
    x_bias or y_bias (1,) uint8 holds, as `Amax` chooses it. rounding: "nearest", or "stochastic" with the seed of the
    run, `stream` and an element's place. InputError for another format, or two equal ones.
    """

    kind: ClassVar[str] = "cast"

    size: int
    dtype: str = "bf16"
    out_dtype: str = "cfp8-143"
    rounding: str = "nearest"
    stream: int = 0

    def __post_init__(self) -> None:
        force_setattr(self, "size", check_int(self.kind, "size", self.size))
        for name in ("dtype", "out_dtype"):
            check_choice(self.kind, name, getattr(self, name), ("fp32", *COPIES[1:]))
        check_choice(self.kind, "rounding", self.rounding, ("nearest", "stochastic"))
        force_setattr(self, "stream", check_int(self.kind, "stream", self.stream, low=0, high=(1 << 32) - 1))
        if self.dtype == self.out_dtype and not self.dtype.startswith("cfp8"):
            raise InputError(f"cast: {self.dtype} to itself changes nothing; leave it out, or name another out_dtype")

    @property
    def operands(self) -> dict[str, Operand]:
        """x, the biases of operands in 8 bits, and y."""
        whole, one = (self.size,), (1,)
        found = {"x": Operand(whole, self.dtype, "in")}
        for name, dtype in (("x_bias", self.dtype), ("y_bias", self.out_dtype)):
            if dtype.startswith("cfp8"):
                found[name] = Operand(one, "uint8", "in")
        return found | {"y": Operand(whole, self.out_dtype, "out")}

    @property
    def label(self) -> str:
        """For example "cast 1048576 bf16>cfp8-143"."""
        how = " stochastic" if self.rounding == "stochastic" else ""
        return f"cast {self.size} {self.dtype}>{self.out_dtype}{how}"
