"""Names of the kernels: which lesson and which kind of problem each stands for; importing this loads nothing else."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from accel.errors import InputError, UnsupportedError, nearest

if TYPE_CHECKING:
    from accel.kernels.library import LibraryKernel
    from accel.problem import Problem

__all__ = ["CATALOG", "Entry", "kernel_of", "library_kernel", "names"]

_NONE: Mapping[str, Any] = MappingProxyType({})


class Entry(NamedTuple):
    """A name on the command line: the lesson (module of this folder), the kind of problem, fields that it presets."""

    lesson: str
    kind: str
    preset: Mapping[str, Any] = _NONE


_ELEMENTWISE = (
    "relu", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh", "exp", "add", "mul", "add_scalar", "mul_scalar", "dropout",
)  # fmt: skip

CATALOG: dict[str, Entry] = {
    "matmul": Entry("matmul", "matmul"),
    "grouped_matmul": Entry("grouped_matmul", "grouped_matmul"),
    "attention": Entry("attention", "attention"),
    "all_reduce": Entry("collectives", "collective", {"op": "all_reduce"}),
    "reduce": Entry("collectives", "collective", {"op": "reduce"}),
    "reduce_scatter": Entry("collectives", "collective", {"op": "reduce_scatter"}),
    "all_gather": Entry("collectives", "collective", {"op": "all_gather"}),
    "all_to_all": Entry("collectives", "collective", {"op": "all_to_all"}),
    "broadcast": Entry("collectives", "collective", {"op": "broadcast"}),
    "barrier": Entry("collectives", "collective", {"op": "barrier"}),
    "halo_exchange": Entry("halo_exchange", "halo_exchange"),
    "softmax": Entry("softmax", "softmax"),
    "transpose": Entry("data_movement", "transpose"),
    "concat": Entry("data_movement", "concat"),
    "slice": Entry("data_movement", "slice"),
    "embedding": Entry("embedding", "embedding"),
    "layernorm": Entry("layernorm", "layernorm"),
    "reduce_sum": Entry("reductions", "reduce", {"function": "sum"}),
    "reduce_mean": Entry("reductions", "reduce", {"function": "mean"}),
    "reduce_max": Entry("reductions", "reduce", {"function": "max"}),
    "reduce_min": Entry("reductions", "reduce", {"function": "min"}),
    "cross_entropy": Entry("cross_entropy", "cross_entropy"),
    "l1_loss": Entry("losses", "element_loss", {"function": "l1"}),
    "l2_loss": Entry("losses", "element_loss", {"function": "l2"}),
    "huber_loss": Entry("losses", "element_loss", {"function": "huber"}),
    "groupnorm": Entry("groupnorm", "groupnorm"),
    "batchnorm": Entry("batchnorm", "batchnorm"),
    "rmsnorm": Entry("layernorm", "layernorm", {"function": "rms"}),
    "conv2d": Entry("conv2d", "conv2d"),
    "conv3d": Entry("conv3d", "conv3d"),
    "streaming_conv": Entry("streaming_conv", "streaming_conv"),
    "bias_add": Entry("bias_add", "bias_add"),
    "grad_norm": Entry("grad_norm", "grad_norm"),
    "amax": Entry("amax", "amax"),
    "cast": Entry("casting", "cast"),
    "sgd": Entry("optimizers", "optimizer", {"method": "sgd"}),
    "adam": Entry("optimizers", "optimizer", {"method": "adam"}),
    "adamw": Entry("optimizers", "optimizer", {"method": "adamw"}),
    "lamb": Entry("optimizers", "optimizer", {"method": "lamb"}),
    **{name: Entry("elementwise", "elementwise", {"function": name}) for name in _ELEMENTWISE},
    "conv_transpose": Entry("conv_transpose", "conv_transpose"),
    "max_pool": Entry("pooling", "pool", {"function": "max"}),
    "avg_pool": Entry("pooling", "pool", {"function": "avg"}),
    "resize": Entry("resize", "resize"),
}


def names() -> tuple[str, ...]:
    """Return the names of the library's kernels."""
    return tuple(CATALOG)


def library_kernel(name: str) -> LibraryKernel:
    """Return the kernel of a catalog name; InputError with the nearest name for any other."""
    if name not in CATALOG:
        raise InputError(f"unknown kernel {name!r}{nearest(name, CATALOG)}; the library has {', '.join(CATALOG)}")
    return _of_kind(CATALOG[name].lesson, CATALOG[name].kind)


def kernel_of(problem: Problem) -> LibraryKernel:
    """Return the kernel that computes `problem`; UnsupportedError for a kind without one."""
    for entry in CATALOG.values():
        if entry.kind == problem.kind:
            return _of_kind(entry.lesson, entry.kind)
    kinds = ", ".join(dict.fromkeys(entry.kind for entry in CATALOG.values()))
    raise UnsupportedError(
        f"the library has no kernel for {problem.kind}; it has {kinds}: write one with @accel.kernel"
    )


def _of_kind(lesson: str, kind: str) -> LibraryKernel:
    """Return the kernel of a lesson, whose module has KERNEL, or KERNELS with one for each of its kinds."""
    module = importlib.import_module(f"accel.kernels.{lesson}")
    for kernel in getattr(module, "KERNELS", None) or (module.KERNEL,):
        if kernel.problem.kind == kind:
            found: LibraryKernel = kernel
            return found
    raise UnsupportedError(f"the lesson {lesson} of the library has no kernel for {kind}")
