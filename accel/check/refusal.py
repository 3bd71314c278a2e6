"""Errors for rows that break the machine, in the words of the executor: run and check refuse a program alike."""

from __future__ import annotations

from accel.check import layout as w
from accel.check.layout import State
from accel.errors import AccelError, BoundsError, Location, ProgramError
from accel.isa import layout as isa
from accel.isa.fitting import location
from accel.isa.program import Program
from accel.isa.table import BY_OPCODE

__all__ = ["refusal"]


def _object(program: Program, view: int) -> tuple[str, int, int]:
    """Return (what a view names, first byte, one past the last byte)."""
    row = program.views[view].tolist()
    if row[isa.V_SPACE] == isa.SPACE_SRAM:
        buffer = program.buffers[row[isa.V_OBJECT]]
        return f"buffer {buffer.name!r}", buffer.offset, buffer.offset + buffer.nbytes
    tensor = program.tensors[row[isa.V_OBJECT]]
    return f"tensor {tensor.name!r}", tensor.address, tensor.address + tensor.nbytes


def refusal(program: Program, state: State, shard: tuple[int, int] | None = None) -> AccelError:
    """Return the error for what the core noted in the header; shard: (index, node) where a preload or collect broke."""
    what, value = int(state.m[w.X_ERROR_WHAT]), int(state.m[w.X_ERROR_VALUE])
    at: Location | None
    if shard is not None:
        row, node = shard
        line = int(program.shards[row, isa.H_LINE])
        at, name = program.lines[line] if 0 <= line < len(program.lines) else None, "shard"
        what = w.WRONG_ADDRESS
    else:
        row, node = int(state.m[w.X_ERROR_ROW]), int(state.m[w.X_ERROR_NODE])
        code = int(program.code[row, isa.W_OPCODE])
        at, name = location(program, row), BY_OPCODE[code].mnemonic if code in BY_OPCODE else f"opcode {code}"
    where = f"{name} (row {row}) on node {program.node(node)}"
    if what in (w.WRONG_ADDRESS, w.WRONG_ALIGNMENT):
        thing, begin, end = _object(program, int(state.m[w.X_ERROR_VIEW]))
        if what == w.WRONG_ADDRESS:
            return BoundsError(
                f"{where} leaves {thing}: its view starts at byte {value}, the object is bytes {begin} to {end}; "
                "keep every view inside one buffer or tensor", at=at,
            )  # fmt: skip
        return ProgramError(f"{where} uses byte {value} of {thing}, which splits an element; use whole elements", at=at)
    text = {
        w.WRONG_OPCODE: "is no instruction that a program may hold; rebuild the program",
        w.WRONG_SEM: f"names semaphore {value} of {program.semaphore_init.size}; use one that the program has",
        w.WRONG_TARGET: "names a target outside the mesh; a store names its own node, a pull one node",
        w.WRONG_LOOP: f"breaks the nesting of loops; they nest at most {isa.DEPTHS} deep, each with its own end",
        w.WRONG_COUNT: f"has a count of {value}; counts and trips cannot be negative",
        w.WRONG_BARRIER: "joins a barrier of nodes that it is not one of; correct its target",
    }[what]
    if what == w.WRONG_TARGET and name == "pull":
        text = "names a target outside the mesh, or several nodes; a pull names one node"
    return ProgramError(f"{where} {text}", at=at)
