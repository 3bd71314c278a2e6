"""The bytes of a run: memory and the SRAM of every node in one poisoned arena, tensors in, outputs out."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from accel.errors import CapacityError, Finding, InputError, UnwrittenError, nearest
from accel.numerics.formats import fmt

if TYPE_CHECKING:
    from accel.isa.program import Program, Tensor

__all__ = ["POISON", "Arena"]

# A signalling NaN as bf16 (0x7FA5) and as fp32 (0x7FA57FA5): what nobody wrote turns all that uses it into NaN.
POISON = np.uint16(0x7FA5)
LINE = 64


def host_bytes() -> int:
    """Return the physical memory of this machine in bytes, or no limit where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 1 << 62


def _too_large(program: Program, size: int) -> CapacityError:
    return CapacityError(
        f"Cannot run {program.name!r}: its memory and SRAM take {size >> 20} MiB, more than this machine has; "
        "verify a sample of the outputs instead, or use a smaller problem"
    )


def _rounded(count: int) -> int:
    return -(-count // LINE) * LINE


@dataclass(frozen=True, eq=False)
class Arena:
    """One flat array: memory first, then the SRAM of each allocated node.

    bases[node]: byte where a node's SRAM begins, -1 where it has none. shadow: a byte for every element of every
    output tensor, 1 once stored; shadows[tensor]: where its bytes begin, -1 for tensors that are no output.
    """

    program: Program
    u8: Any
    bases: Any
    shadow: Any
    shadows: Any
    stage: int = 0
    ring: int = 0
    log: int = 0

    @classmethod
    def build(cls, program: Program, allocated: Any, *, stages: int = 0, rings: int = 0, log: int = 0) -> Arena:
        """Allocate and poison: memory, SRAM where `allocated[node]`, and bytes for what belongs to no node.

        These are `stages` bytes at `stage` for copies under way, `rings` at `ring` for operands made straight, `log` at
        `log` for what probes record.

        CapacityError if the host has no room.
        """
        memory, node = _rounded(max(program.memory_bytes, 1)), _rounded(max(program.sram_bytes, 1))
        bases = np.full(program.nodes, -1, np.int64)
        places = np.flatnonzero(allocated)
        bases[places] = memory + node * np.arange(len(places))
        stage = memory + node * len(places)
        ring = stage + _rounded(stages)
        kept = ring + _rounded(rings)
        size = kept + _rounded(log)
        shadows = np.full(max(1, len(program.tensors)), -1, np.int64)
        total = 0
        for i, tensor in enumerate(program.tensors):
            if tensor.is_output:
                shadows[i], total = total, total + tensor.nbytes // fmt(tensor.dtype).bytes
        if size + total > host_bytes():  # an operating system that overcommits would end the process later on
            raise _too_large(program, size)
        try:
            room = np.empty(size + LINE, np.uint8)
            skip = -room.ctypes.data % LINE
            u8 = room[skip : skip + size]
            words = u8.view(np.uint16)
            words[memory // 2 :] = POISON
            for tensor in program.tensors:
                if not tensor.is_input:
                    u8[tensor.address : tensor.address + tensor.nbytes // 2 * 2].view(np.uint16)[:] = POISON
                    if tensor.nbytes % 2:
                        u8[tensor.address + tensor.nbytes - 1] = POISON & 0xFF
            shadow = np.zeros(max(1, total), np.uint8)
        except MemoryError:
            raise _too_large(program, size) from None
        return cls(program, u8, bases, shadow, shadows, stage, ring, kept)

    def load(self, inputs: Mapping[str, Any]) -> None:
        """Copy the input tensors (arrays of storage codes) into memory; InputError for wrong names, shapes or types."""
        wanted = {t.name: t for t in self.program.tensors if t.is_input}
        for name in inputs:
            if name not in wanted:
                hint = nearest(name, wanted) or f"; its inputs are {', '.join(wanted) or 'none'}"
                raise InputError(f"program {self.program.name!r} has no input {name!r}{hint}")
        for name, tensor in wanted.items():
            if name not in inputs:
                raise InputError(f"program {self.program.name!r} needs input {name!r}; pass an array of {tensor.shape}")
            array, storage = np.asarray(inputs[name]), np.dtype(fmt(tensor.dtype).storage)
            if array.shape != tensor.shape or array.dtype != storage:
                raise InputError(
                    f"input {name!r} has shape {array.shape} of {array.dtype}; it must be {tensor.shape} of {storage}"
                )
            self._place(tensor)[...] = array

    def _place(self, tensor: Tensor) -> Any:
        flat = self.u8[tensor.address : tensor.address + tensor.nbytes]
        return flat.view(fmt(tensor.dtype).storage).reshape(tensor.shape)

    def written(self, index: int) -> Any:
        """Return the boolean mask of the elements of an output tensor that were stored."""
        tensor, start = self.program.tensors[index], int(self.shadows[index])
        count = tensor.nbytes // fmt(tensor.dtype).bytes
        return self.shadow[start : start + count].view(np.bool_).reshape(tensor.shape)

    def outputs(self) -> dict[str, Any]:
        """Return copies of the output tensors, as storage codes."""
        return {t.name: self._place(t).copy() for t in self.program.tensors if t.is_output}

    def require_written(self) -> None:
        """Raise UnwrittenError if an element of an output that is no input as well was never stored."""
        findings = []
        for i, tensor in enumerate(self.program.tensors):
            if not tensor.is_output or tensor.is_input:
                continue
            mask = self.written(i)
            if mask.all():
                continue
            missing = int(mask.size - np.count_nonzero(mask))
            first = np.unravel_index(int(np.argmin(mask)), tensor.shape) if tensor.shape else ()
            at = ", ".join(str(int(k)) for k in first)
            text = (
                f"{missing} of {mask.size} elements of output {tensor.name!r} were never stored, the first at [{at}]; "
                "store every element"
            )
            findings.append(Finding("unwritten", text, None, None, ()))
        if findings:
            raise UnwrittenError(findings[0].message, findings)
