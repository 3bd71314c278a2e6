"""Kernels and their arguments: `Kernel.trace` turns a Python function into a Program."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from accel.errors import CapacityError, InputError, Location, TraceError, nearest
from accel.hardware import ChipSpec
from accel.isa.layout import BIAS_IEEE
from accel.isa.program import Program
from accel.lang.allocation import bias_word
from accel.lang.k import K
from accel.lang.link import link
from accel.lang.roles import ROLE_BUDGET, Placed, trace_roles
from accel.lang.tables import Tables
from accel.lang.tracer import ROW_BUDGET
from accel.numerics import fmt

if TYPE_CHECKING:
    from accel.lang.views import View

__all__ = ["Kernel", "TensorSpec", "kernel", "tensor"]

TENSOR_ALIGN = 4096  # bytes: one interleave block of the catalog's memory ports
LARGEST = 1 << 48  # elements: far beyond any memory, and far below where int64 byte addresses wrap


@dataclass(frozen=True)
class TensorSpec:
    """Shape and format of a tensor argument; inside the kernel the parameter is indexed like an array."""

    shape: tuple[int, ...]
    dtype: str = "bf16"
    resident: bool = False
    bias: int = 0
    denormals: str = "gap"

    def __getitem__(self, key: Any) -> View:
        """Refuse: a description has no elements. Inside a kernel the tensor of this name has."""
        raise TraceError(f"{self} describes a tensor and has no elements; index the kernel's own parameter")


def tensor(
    shape: int | Sequence[int], dtype: str = "bf16", resident: bool = False, *, bias: int | None = None,
    denormals: str = "gap",
) -> TensorSpec:  # fmt: skip
    """Describe a tensor argument: shape in elements, its number format `dtype`, and how its codes are to be read.

    resident: it lies in SRAM shards before the start (the same as naming it in `build(resident=...)`).

    bias (0 to 63; default 2^(e-1) - 1) and denormals ("gap", as printed by their maker, or "ieee") say what the codes
    of a configurable format mean: cfp8-143, cfp8-152, shp16, uhp16.

    Raises InputError for a shape that is empty, not of ints, or has a dimension below 1, and for an unknown format.
    """
    items: Any = (shape,) if hasattr(shape, "__index__") else shape
    try:
        dims = tuple(operator.index(n) for n in items)
    except TypeError:
        raise InputError(f"a tensor's shape is a tuple of ints, got {shape!r}") from None
    size = 1
    for n in dims:
        size *= n
    if not dims or min(dims) < 1:
        raise InputError(f"a tensor of shape {dims} has no elements; every dimension is at least 1")
    if size > LARGEST:
        raise InputError(f"a tensor of shape {dims} has {size:.3g} elements; no memory here holds it")
    name = fmt(dtype).name
    try:
        word = bias_word("a tensor", name, bias, denormals)
    except TraceError as error:
        raise InputError(str(error)) from None
    return TensorSpec(dims, name, bool(resident), word & ~BIAS_IEEE, denormals)


class Kernel:
    """A kernel function `fn(k, *tensors, **parameters)` and what can be asked of it."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        if not callable(fn):
            raise InputError(f"a kernel is made of a function, not of {fn!r}")
        self.fn = fn
        self.name: str = getattr(fn, "__name__", type(fn).__name__)
        try:
            self.signature = inspect.signature(fn)
        except (TypeError, ValueError):
            raise InputError(f"{self.name} has no signature to bind tensors to; wrap it in a def") from None
        if not self.signature.parameters:
            raise InputError(
                f"kernel {self.name} takes no argument; the first is k, then tensors and parameters", at=_definition(fn)
            )

    def __repr__(self) -> str:
        return f"<kernel {self.name}{self.signature}>"

    def trace(
        self,
        chip: ChipSpec,
        tensors: Mapping[str, TensorSpec],
        params: Mapping[str, Any],
        *,
        mesh: tuple[int, int] | None = None,
        resident: Iterable[str] = (),
        flops: int = 0,
        facts: Mapping[str, str] | None = None,
        row_budget: int = ROW_BUDGET,
        role_budget: int = ROLE_BUDGET,
    ) -> Program:
        """Return the program of this kernel on `chip` for tensors and parameters by name.

        mesh: use only the top-left rows x cols of the logical mesh. resident: names of tensors that lie in SRAM.
        Raises InputError for arguments that do not fit the signature, CapacityError when the tensors do not fit the
        memory, and TraceError (BoundsError, CapacityError) with the author's line for everything in the kernel.
        """
        shape = self._mesh(chip, mesh)
        placed = self._place(chip, tensors, params, resident)
        rest = list(self.signature.parameters)[1:]

        def bind(k: K, handles: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
            given = {**params, **handles}
            first = next(iter(self.signature.parameters))
            bound = self.signature.bind_partial()
            for name in (first, *rest):
                kind = self.signature.parameters[name].kind
                if kind is inspect.Parameter.VAR_KEYWORD:
                    bound.arguments[name] = {n: v for n, v in given.items() if n not in self.signature.parameters}
                elif name == first:
                    bound.arguments[name] = k
                elif name in given:
                    bound.arguments[name] = given[name]
            return bound.args, bound.kwargs

        tables = Tables(*shape)
        roles = trace_roles(self.fn, bind, chip, shape, placed, tables, row_budget, role_budget)
        return link(self.name, chip, shape, placed, tables, roles, flops, dict(facts or {}))

    def _mesh(self, chip: ChipSpec, mesh: tuple[int, int] | None) -> tuple[int, int]:
        rows, cols = chip.mesh.rows, chip.mesh.cols
        if mesh is None:
            return rows, cols
        try:
            r, c = (operator.index(n) for n in mesh)
        except (TypeError, ValueError):
            raise InputError(f"mesh is (rows, cols), got {mesh!r}") from None
        if not (1 <= r <= rows and 1 <= c <= cols):
            raise InputError(
                f"mesh {r} x {c} does not lie in the {rows} x {cols} logical nodes of {chip.name!r}; use a part of it"
            )
        return r, c

    def _place(self, chip: ChipSpec, tensors: Mapping[str, TensorSpec], params: Mapping[str, Any],
               resident: Iterable[str]) -> list[Placed]:  # fmt: skip
        """Check the arguments against the signature and give the tensors addresses in its order."""
        parameters = self.signature.parameters
        names = list(parameters)[1:]
        free = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
        takes = [
            n
            for n in names
            if parameters[n].kind not in (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
        ]
        for name in [*tensors, *params]:
            if name not in takes and not free:
                shown = ", ".join(takes) or "nothing"
                raise InputError(f"kernel {self.name} has no argument {name!r}; it takes {shown}{nearest(name, takes)}")
            if name in tensors and name in params:
                raise InputError(f"kernel {self.name}: {name!r} is given as a tensor and as a parameter; give one")
        for name in takes:
            if parameters[name].default is inspect.Parameter.empty and name not in tensors and name not in params:
                raise InputError(
                    f"kernel {self.name} needs argument {name!r}; pass {name}=accel.tensor(...) or {name}=value (on "
                    f"the command line --arg {name}=DTYPE[SHAPE] or --param {name}=VALUE)"
                )
        if not isinstance(resident, Iterable):
            raise InputError(f"resident is a list of tensor names, got {resident!r}")
        held = {resident} if isinstance(resident, str) else set(resident)
        for name in sorted(held, key=str):
            if name not in tensors:
                shown = ", ".join(tensors) or "none"
                raise InputError(
                    f"resident names {name!r}, no tensor of {self.name}; it has {shown}{nearest(str(name), tensors)}"
                )
        placed, address, bytes_in_memory = [], 0, 0
        for name in sorted(tensors, key=lambda n: names.index(n) if n in names else len(names)):
            spec = tensors[name]
            if not isinstance(spec, TensorSpec):
                raise InputError(
                    f"kernel {self.name}: tensor {name!r} is {spec!r}; describe it with accel.tensor(shape, dtype)"
                )
            here = spec.resident or name in held
            placed.append(Placed(name, spec.shape, spec.dtype, here, address, spec.bias, spec.denormals))
            nbytes = fmt(spec.dtype).bits // 8
            for n in spec.shape:
                nbytes *= n
            address += -(-nbytes // TENSOR_ALIGN) * TENSOR_ALIGN
            bytes_in_memory += 0 if here else -(-nbytes // TENSOR_ALIGN) * TENSOR_ALIGN
            if bytes_in_memory > chip.memory_capacity_bytes:
                raise CapacityError(
                    f"the tensors of {self.name} up to {name!r} take {bytes_in_memory:,} B, and {chip.name!r} "
                    f"holds {chip.memory_capacity_bytes:,}; use smaller tensors or a chip with more memory"
                )
        return placed


def kernel(fn: Callable[..., Any]) -> Kernel:
    """Make a kernel of a function, as a decorator."""
    return Kernel(fn)


def _definition(fn: Callable[..., Any]) -> Location | None:
    code = getattr(fn, "__code__", None)
    return Location(code.co_filename, code.co_firstlineno) if code is not None else None
