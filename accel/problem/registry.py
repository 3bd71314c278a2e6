"""The kinds of problem by name: the one place that turns plain data into a problem of the right kind."""

from __future__ import annotations

from accel.errors import InputError, nearest
from accel.problem.attention import Attention
from accel.problem.collective import Collective, HaloExchange
from accel.problem.conv import Conv2d
from accel.problem.conv3d import Conv3d
from accel.problem.conv_transpose import ConvTranspose2d
from accel.problem.elementwise import BiasAdd, Elementwise
from accel.problem.grouped_matmul import GroupedMatmul
from accel.problem.losses import CrossEntropy, ElementLoss
from accel.problem.matmul import Matmul
from accel.problem.movement import Concat, Embedding, Slice, Transpose
from accel.problem.norms import BatchNorm, GroupNorm, LayerNorm
from accel.problem.optimizer import Amax, Cast, GradNorm, Optimizer
from accel.problem.pool import Pool2d
from accel.problem.resize import Resize2d
from accel.problem.rows import Reduce, Softmax
from accel.problem.streaming import StreamingConv
from accel.problem.workload import Problem

__all__ = ["from_dict", "kind", "kinds"]

_KINDS: dict[str, type[Problem]] = {
    problem.kind: problem
    for problem in (
        ConvTranspose2d, Pool2d, Resize2d,
        Matmul, Conv2d, Conv3d, Softmax, Reduce, LayerNorm, GroupNorm, BatchNorm, CrossEntropy, ElementLoss, Collective,
        HaloExchange, Elementwise, BiasAdd,
        Optimizer, GradNorm, Amax, Cast,
        StreamingConv,
        Attention, Transpose, Concat, Slice, Embedding, GroupedMatmul,
    )
}  # fmt: skip


def kinds() -> tuple[str, ...]:
    """Names of the kinds of problem."""
    return tuple(_KINDS)


def kind(name: str) -> type[Problem]:
    """Return the class of a kind of problem; InputError with the nearest name for an unknown one."""
    if name not in _KINDS:
        raise InputError(f"problem: kind {name!r} is not one of {', '.join(_KINDS)}{nearest(name, _KINDS)}")
    return _KINDS[name]


def from_dict(data: object) -> Problem:
    """Build the problem that `data` of `Problem.to_dict` says; InputError for an unknown kind, key or value."""
    name = data.get("kind") if isinstance(data, dict) else None
    return kind(str(name)).from_dict(data)
