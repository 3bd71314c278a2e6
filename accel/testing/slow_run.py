"""The door to the slow model: decodes a Program into plain data, runs it, and turns its failures into errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from accel.errors import ProgramError
from accel.isa import layout as w
from accel.isa.codec import Instruction, decode
from accel.isa.program import Program
from accel.isa.schema import Kind
from accel.isa.table import BY_MNEMONIC
from accel.numerics.formats import by_code, fmt
from accel.testing.slow_data import (
    Address,
    Block,
    Guard,
    Index,
    Rectangle,
    Shard,
    SlowModelError,
    SlowProgram,
    Step,
    Sum,
    View,
)
from accel.testing.slow_model import Record, SlowModel

__all__ = ["SlowResult", "decoded", "slow_run"]

RELATIONS = {w.REL_EQ: "==", w.REL_NE: "!=", w.REL_LT: "<", w.REL_GE: ">="}


@dataclass(frozen=True)
class SlowResult:
    """outputs: storage codes by name of tensor; records: what the probes saw, in one legal order."""

    outputs: dict[str, Any]
    records: tuple[Record, ...]


def slow_run(program: Program, inputs: Mapping[str, Any], *, seed: int = 0) -> SlowResult:
    """Run a program in the slow model.

    inputs: arrays of storage codes in the shapes of the tensors, as `accel.machine.execute` takes them. seed: of the
    random instructions. Raises ProgramError for a program that no engine may follow or that leaves its bounds.
    """
    program.require_sound()
    model = SlowModel(decoded(program), seed)
    try:
        outputs = model.run(inputs)
    except SlowModelError as error:
        raise ProgramError(f"Cannot run {program.name!r} in the slow model: {error}; correct the program") from None
    return SlowResult(outputs, tuple(model.records))


def decoded(program: Program) -> SlowProgram:
    """Return a program as the plain data of `slow_data`."""
    decoder = _Decoder(program)
    threads = tuple(
        tuple(tuple(decoder.step(row) for row in program.code[first:last]) for first, last in program.spans[role])
        for role in range(program.roles)
    )
    shards = tuple(
        Shard(
            int(row[w.H_ROLE]),
            int(row[w.H_DIRECTION]) == w.DIR_PRELOAD,
            decoder.address(*(int(v) for v in row[w.H_DST : w.H_DST + 3])),
            decoder.address(*(int(v) for v in row[w.H_SRC : w.H_SRC + 3])),
        )
        for row in program.shards
    )
    blocks = tuple(
        Block(t.name, fmt(t.dtype).storage, t.shape, t.address, t.nbytes, t.is_input, t.is_output)
        for t in program.tensors
    )
    return SlowProgram(
        rows=program.rows, cols=program.cols, roles=tuple(int(r) for r in program.role_of), threads=threads,
        params=tuple(tuple(int(v) for v in row) for row in program.params),
        semaphores=tuple(int(v) for v in program.semaphore_init), shards=shards, blocks=blocks, marks=program.marks,
        sram_bytes=program.sram_bytes, memory_bytes=program.memory_bytes,
    )  # fmt: skip


class _Decoder:
    """Turns the words of rows, views, expressions, predicates and targets into values."""

    def __init__(self, program: Program) -> None:
        self.program = program

    def sum(self, constant: int, expr: int) -> Sum:
        words = [int(v) for v in self.program.exprs[expr]]
        params = tuple((words[w.E_PARAMS + 2 * j], words[w.E_PARAMS + 2 * j + 1]) for j in range(words[w.E_NPARAMS]))
        loops = []
        for j in range(words[w.E_NLOOPS]):
            depth, coef, mul, add, modulus = words[w.E_LOOPS + w.EXPR_LOOP_WORDS * j :][: w.EXPR_LOOP_WORDS]
            loops.append((depth, coef, mul, add, modulus))
        return Sum(constant, params, tuple(loops))

    def view(self, number: int) -> View:
        words = [int(v) for v in self.program.views[number]]
        return View(
            memory=words[w.V_SPACE] == w.SPACE_MEMORY,
            dtype=by_code(words[w.V_DTYPE]).name,
            shape=tuple(words[w.V_SHAPE : w.V_SHAPE + w.DIMS]),
            strides=tuple(words[w.V_STRIDE : w.V_STRIDE + w.DIMS]),
            ring_base=words[w.V_RING_BASE],
            ring_bytes=words[w.V_RING_BYTES],
            bias=words[w.V_BIAS] % w.BIAS_IEEE,
            ieee=words[w.V_BIAS] >= w.BIAS_IEEE,
            scalar=words[w.V_SCALAR] - 1 if words[w.V_SCALAR] else None,
        )

    def address(self, view: int, constant: int, expr: int) -> Address:
        return Address(self.view(view), self.sum(constant, expr))

    def target(self, number: int) -> Rectangle:
        row = [int(v) for v in self.program.targets[number]]
        if number == w.TARGET_ALL:  # the rectangle is the mesh, whatever the fixed row of the table holds
            row = [0, 0, self.program.rows - 1, 0, 0, 0, self.program.cols - 1, 0]
        r0, r1, c0, c1 = (self.sum(row[at], row[at + 1]) for at in (w.T_ROW0, w.T_ROW1, w.T_COL0, w.T_COL1))
        return Rectangle(r0, r1, c0, c1, itself=number == w.TARGET_SELF)

    def guards(self, number: int) -> tuple[Guard, ...]:
        words = [int(v) for v in self.program.preds[number]]
        terms = []
        for j in range(words[w.P_COUNT]):
            expr, constant, relation = words[w.P_TERMS + 3 * j :][:3]
            terms.append(Guard(self.sum(constant, expr), RELATIONS[relation]))
        return tuple(terms)

    def step(self, row: Any) -> Step:
        instruction: Instruction = decode(row)
        entry = BY_MNEMONIC[instruction.mnemonic]
        operands: dict[str, Any] = {}
        for o in entry.operands:
            value: Any = instruction.operands[o.name]
            if o.kind is Kind.VIEW:
                value = self.address(*value)
            elif o.kind is Kind.SEM:
                value = None if value[0] == -1 else self.sum(*value)
            elif o.kind is Kind.VALUE:
                value = self.sum(*value)
            elif o.kind is Kind.TARGET:
                value = self.target(value)
            elif o.kind is Kind.INDEX:
                value = Index(self.sum(value[0], value[1]), tuple(value[2:]))
            elif o.kind is Kind.FLOAT:
                value = int(row[entry.word(o.name)])  # the bits: an integer row reads them as an int32
            operands[o.name] = value
        return Step(instruction.mnemonic, self.guards(instruction.pred), operands)
