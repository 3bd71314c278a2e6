"""Problems that normalise: layer norm and RMS norm over rows, group norm and batch norm over channels of images."""

from __future__ import annotations

from typing import ClassVar

from msgspec.structs import force_setattr

from accel.errors import InputError
from accel.problem.checks import (
    check_choice,
    check_elements,
    check_float_format,
    check_int,
    check_number,
    unless_given,
)
from accel.problem.workload import Operand, Problem

__all__ = ["BatchNorm", "GroupNorm", "LayerNorm"]


class LayerNorm(Problem, frozen=True):
    """y[r, c] = (x[r, c] - mean[r]) * rstd[r] * gamma[c] + beta[c]; function "rms": without mean and beta.

    rstd = 1 / sqrt(variance + epsilon), variance the biased one (for "rms" the mean square). fwd returns mean and rstd
    as well, which bwd takes. x, y, gy, gx are in `dtype` (bf16, fp16, fp32), parameters and statistics in fp32, the
    parameters' gradients in `out_dtype` (bf16 where left empty). InputError for sizes, formats and directions that do
    not exist.
    """

    kind: ClassVar[str] = "layernorm"

    rows: int
    columns: int
    function: str = "layer"
    dtype: str = "bf16"
    out_dtype: str = ""
    direction: str = "fwd"
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        for name in ("rows", "columns"):
            force_setattr(self, name, check_int(self.kind, name, getattr(self, name)))
        check_choice(self.kind, "function", self.function, ("layer", "rms"))
        _check_formats(self)
        check_choice(self.kind, "direction", self.direction, ("fwd", "bwd"))
        force_setattr(self, "epsilon", check_number(self.kind, "epsilon", self.epsilon, low=0.0))
        for name, operand in self.operands.items():
            check_elements(self.kind, name, operand.shape, operand.role)

    @property
    def operands(self) -> dict[str, Operand]:
        """fwd: x, gamma, beta -> y, mean, rstd. bwd: gy, x, gamma, mean, rstd -> gx, ggamma, gbeta."""
        whole, layer = (self.rows, self.columns), self.function == "layer"
        statistics = ("mean", "rstd") if layer else ("rstd",)
        parameters = ("gamma", "beta") if layer else ("gamma",)
        return _operands(self, whole, self.columns, self.rows, statistics, parameters)

    @property
    def macs(self) -> int:
        """0: no multiply-adds that the field counts; the bound is bytes."""
        return 0

    @property
    def label(self) -> str:
        """For example "layernorm 2048x12288 bf16 fwd"."""
        name = "layernorm" if self.function == "layer" else "rmsnorm"
        return f"{name} {self.rows}x{self.columns} {self.dtype} {self.direction}"


class GroupNorm(Problem, frozen=True):
    """Normalisation of images (n, h, w, c) over h, w and the c / groups channels of each group; gamma, beta (c,).

    y = (x - mean[n, group]) * rstd[n, group] * gamma[c] + beta[c]. groups=1 is layer norm over an image, groups=c
    instance norm. Formats, statistics and directions as in `LayerNorm`. InputError where groups does not divide c.
    """

    kind: ClassVar[str] = "groupnorm"

    n: int
    h: int
    w: int
    c: int
    groups: int = 1
    dtype: str = "bf16"
    out_dtype: str = ""
    direction: str = "fwd"
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        for name in ("n", "h", "w", "c", "groups"):
            force_setattr(self, name, check_int(self.kind, name, getattr(self, name)))
        if self.c % self.groups:
            raise InputError(
                f"groupnorm: groups={self.groups} does not divide c={self.c}; use a divisor of the channels"
            )
        _check_formats(self)
        check_choice(self.kind, "direction", self.direction, ("fwd", "bwd"))
        force_setattr(self, "epsilon", check_number(self.kind, "epsilon", self.epsilon, low=0.0))
        for name, operand in self.operands.items():
            check_elements(self.kind, name, operand.shape, operand.role)

    @property
    def operands(self) -> dict[str, Operand]:
        """fwd: x, gamma, beta -> y, mean, rstd (n, groups). bwd: gy, x, gamma, mean, rstd -> gx, ggamma, gbeta."""
        return _operands(
            self, (self.n, self.h, self.w, self.c), self.c, (self.n, self.groups), ("mean", "rstd"), ("gamma", "beta")
        )

    @property
    def macs(self) -> int:
        """0: no multiply-adds that the field counts; the bound is bytes."""
        return 0

    @property
    def label(self) -> str:
        """For example "groupnorm 8x28x28x256/32 bf16 fwd"."""
        return f"groupnorm {self.n}x{self.h}x{self.w}x{self.c}/{self.groups} {self.dtype} {self.direction}"


class BatchNorm(Problem, frozen=True):
    """Normalisation of every channel of (n, h, w, c) over the n * h * w rows; gamma, beta, statistics (c,) in fp32.

    fwd (training): statistics of this batch, and new running ones: running + momentum * (batch - running), with the
    unbiased variance, as PyTorch does. inference: y from the running statistics. bwd: gy, x, gamma, mean, rstd -> gx,
    ggamma, gbeta. Formats as in `LayerNorm`. InputError for training on a single row, which has no unbiased variance.
    """

    kind: ClassVar[str] = "batchnorm"

    n: int
    h: int
    w: int
    c: int
    dtype: str = "bf16"
    out_dtype: str = ""
    direction: str = "fwd"
    epsilon: float = 1e-5
    momentum: float = 0.1

    def __post_init__(self) -> None:
        for name in ("n", "h", "w", "c"):
            force_setattr(self, name, check_int(self.kind, name, getattr(self, name)))
        _check_formats(self)
        check_choice(self.kind, "direction", self.direction, ("fwd", "bwd", "inference"))
        force_setattr(self, "epsilon", check_number(self.kind, "epsilon", self.epsilon, low=0.0))
        force_setattr(self, "momentum", check_number(self.kind, "momentum", self.momentum, low=0.0, high=1.0))
        if self.direction == "fwd" and self.rows == 1:
            raise InputError("batchnorm: one row has no unbiased variance; train on more, or use direction='inference'")
        for name, operand in self.operands.items():
            check_elements(self.kind, name, operand.shape, operand.role)

    @property
    def rows(self) -> int:
        """n h w, over which each channel is normalised."""
        return self.n * self.h * self.w

    @property
    def operands(self) -> dict[str, Operand]:
        """fwd: x, gamma, beta, running_mean, running_var -> y, mean, rstd, new_mean, new_var; the others: see above."""
        whole, channel = (self.n, self.h, self.w, self.c), (self.c,)
        usual = _operands(self, whole, self.c, channel, ("mean", "rstd"), ("gamma", "beta"))
        if self.direction == "bwd":
            return usual
        running = {name: Operand(channel, "fp32", "in") for name in ("running_mean", "running_var")}
        inputs = {name: usual[name] for name in ("x", "gamma", "beta")} | running
        if self.direction == "inference":
            return inputs | {"y": usual["y"]}
        new = {name: Operand(channel, "fp32", "out") for name in ("new_mean", "new_var")}
        return inputs | {name: usual[name] for name in ("y", "mean", "rstd")} | new

    @property
    def macs(self) -> int:
        """0: no multiply-adds that the field counts; the bound is bytes."""
        return 0

    @property
    def label(self) -> str:
        """For example "batchnorm 256x56x56x64 bf16 fwd"."""
        return f"batchnorm {self.n}x{self.h}x{self.w}x{self.c} {self.dtype} {self.direction}"


def _check_formats(problem: LayerNorm | GroupNorm | BatchNorm) -> None:
    """Set dtype, and out_dtype of the parameters' gradients: bf16 unless said otherwise."""
    for name, given in (("dtype", problem.dtype), ("out_dtype", unless_given(problem.out_dtype, "bf16"))):
        force_setattr(problem, name, check_float_format(problem.kind, name, given))


def _operands(
    problem: LayerNorm | GroupNorm | BatchNorm, whole: tuple[int, ...], channels: int,
    statistics_shape: int | tuple[int, ...], statistics: tuple[str, ...], parameters: tuple[str, ...],
) -> dict[str, Operand]:  # fmt: skip
    """Return the operands of a normalisation, forward or backward; statistics and parameters are fp32."""
    shape = (statistics_shape,) if isinstance(statistics_shape, int) else statistics_shape
    if problem.direction != "bwd":
        return {
            "x": Operand(whole, problem.dtype, "in"),
            **{name: Operand((channels,), "fp32", "in") for name in parameters},
            "y": Operand(whole, problem.dtype, "out"),
            **{name: Operand(shape, "fp32", "out") for name in statistics},
        }
    return {
        "gy": Operand(whole, problem.dtype, "in"),
        "x": Operand(whole, problem.dtype, "in"),
        "gamma": Operand((channels,), "fp32", "in"),
        **{name: Operand(shape, "fp32", "in") for name in statistics},
        "gx": Operand(whole, problem.dtype, "out"),
        **{f"g{name}": Operand((channels,), problem.out_dtype, "out") for name in parameters},
    }
