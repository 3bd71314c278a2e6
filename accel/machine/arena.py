"""The bytes of a run: memory and the SRAM of every node in one poisoned arena, tensors in, outputs out."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from accel.errors import CapacityError, Finding, InputError, UnwrittenError, nearest
from accel.isa.layout import H_DST, H_SRC, SPACE_MEMORY, V_OBJECT, V_SPACE, W_OPCODE
from accel.isa.table import BY_OPCODE
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


def _poison(u8: Any) -> None:
    """Fill bytes that begin at an even address with the pattern of `POISON`; an odd last one gets its low byte."""
    u8[: u8.size // 2 * 2].view(np.uint16)[:] = POISON
    if u8.size % 2:
        u8[-1] = POISON & 0xFF


def _address(array: Any) -> int:
    return int(array.ctypes.data)


def _apart(program: Program) -> list[int]:
    """Return the inputs and outputs, but not both, that share no byte with another tensor."""
    spans = sorted((t.address, t.address + t.nbytes, i) for i, t in enumerate(program.tensors))
    found, reach = [], 0
    for (begin, end, i), (after, _, _) in zip(spans, [*spans, (1 << 63, 0, 0)][1:], strict=True):
        if reach <= begin and end <= after and program.tensors[i].is_input != program.tensors[i].is_output:
            found.append(i)
        reach = max(reach, end)
    return found


def _moved(program: Program) -> tuple[set[int], set[int]]:
    """Return the tensors that a row or a shard of the program reads, and those that one writes."""
    ids: tuple[list[Any], list[Any]] = ([], [])
    if len(program.shards):
        ids[0].append(program.shards[:, H_SRC])
        ids[1].append(program.shards[:, H_DST])
    for number in np.unique(program.code[:, W_OPCODE]).tolist():
        row = BY_OPCODE[number]
        rows = program.code[program.code[:, W_OPCODE] == number]
        for o in row.views:
            ids[o.name == "dst"].append(rows[:, row.word(o.name)])
    found = []
    for kind in ids:
        views = program.views[np.unique(np.concatenate([np.zeros(0, np.int64), *kind]))]
        found.append(set(views[views[:, V_SPACE] == SPACE_MEMORY, V_OBJECT].tolist()))
    return found[0], found[1]


@dataclass(frozen=True, eq=False)
class Arena:
    """One flat array: memory first, then the SRAM of each allocated node.

    bases[node]: byte where a node's SRAM begins, -1 where it has none. shadow: a byte for every element of every
    output tensor, 1 once stored; shadows[tensor]: where its bytes begin, -1 for tensors that are no output. The second
    half of `shadows` says how far from its place in the array a tensor lies: 0, but for those of `lent`, inputs taken
    where the caller has them and outputs made where the caller gets them, which spares copies of both.
    """

    program: Program
    u8: Any
    bases: Any
    shadow: Any
    shadows: Any
    stage: int = 0
    ring: int = 0
    log: int = 0
    apart: frozenset[int] = frozenset()  # tensors that may be lent
    lent: dict[int, Any] = field(default_factory=dict)

    @classmethod
    def build(cls, program: Program, allocated: Any, *, stages: int = 0, rings: int = 0, log: int = 0,
              lend: bool = False, whole: bool = False) -> Arena:  # fmt: skip
        """Allocate and poison: memory, SRAM where `allocated[node]`, and bytes for what belongs to no node.

        lend: whether tensors may lie elsewhere, for code that knows the second half of `shadows`. whole: whether
        nobody sees an output unless every element was stored, so that one the program never reads needs no poison.
        Bytes of no node are `stages` bytes at `stage` for copies under way, `rings` at `ring` for operands made
        straight, `log` at `log` for what probes record.

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
        tensors = max(1, len(program.tensors))
        shadows = np.full(2 * tensors, -1, np.int64)
        shadows[tensors:] = 0
        apart, unread = frozenset(_apart(program) if lend else ()), frozenset[int]()
        if apart:
            read, stored = _moved(program)
            apart -= {i for i in stored if program.tensors[i].is_input}  # the caller's array stays as it is
            unread = apart - read if whole else unread
        lent = {}
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
            for i, tensor in enumerate(program.tensors):
                if i in apart and not tensor.is_input:
                    lent[i] = array = np.empty(tensor.shape, fmt(tensor.dtype).storage)
                    shadows[tensors + i] = _address(array) - _address(u8) - tensor.address
                    if i not in unread:
                        _poison(array.reshape(-1).view(np.uint8))
                elif not tensor.is_input:
                    _poison(u8[tensor.address : tensor.address + tensor.nbytes])
            shadow = np.zeros(max(1, total), np.uint8)
        except MemoryError:
            raise _too_large(program, size) from None
        return cls(program, u8, bases, shadow, shadows, stage, ring, kept, apart, lent)

    def load(self, inputs: Mapping[str, Any]) -> None:
        """Copy the input tensors (arrays of storage codes) into memory; InputError for wrong names, shapes or types."""
        wanted = {t.name: t for t in self.program.tensors if t.is_input}
        for name in inputs:
            if name not in wanted:
                hint = nearest(name, wanted) or f"; its inputs are {', '.join(wanted) or 'none'}"
                raise InputError(f"program {self.program.name!r} has no input {name!r}{hint}")
        for i, tensor in enumerate(self.program.tensors):
            if not tensor.is_input:
                continue
            name = tensor.name
            if name not in inputs:
                raise InputError(f"program {self.program.name!r} needs input {name!r}; pass an array of {tensor.shape}")
            array, storage = np.asarray(inputs[name]), np.dtype(fmt(tensor.dtype).storage)
            if array.shape != tensor.shape or array.dtype != storage:
                raise InputError(
                    f"input {name!r} has shape {array.shape} of {array.dtype}; it must be {tensor.shape} of {storage}"
                )
            if i in self.apart and not tensor.is_output and array.flags.c_contiguous:
                self.lent[i] = array
                self.shadows[len(self.shadows) // 2 + i] = _address(array) - _address(self.u8) - tensor.address
            else:
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
        """Return the output tensors, as storage codes; call it once."""
        return {
            t.name: self.lent[i] if i in self.lent else self._place(t).copy()
            for i, t in enumerate(self.program.tensors)
            if t.is_output
        }

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
