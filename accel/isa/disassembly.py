"""Disassembly for reading: one line an instruction, with names instead of indices and the author's line behind."""

from __future__ import annotations

from collections.abc import Iterator

from accel.isa.codec import Instruction, decode
from accel.isa.layout import (
    E_LOOPS,
    E_NLOOPS,
    E_NPARAMS,
    E_PARAMS,
    EXPR_LOOP_WORDS,
    P_COUNT,
    P_TERMS,
    REL_EQ,
    REL_GE,
    REL_LT,
    REL_NE,
    SPACE_SRAM,
    T_COL0,
    T_COL1,
    T_ROW0,
    T_ROW1,
    TARGET_ALL,
    TARGET_SELF,
    V_DTYPE,
    V_NDIM,
    V_OBJECT,
    V_SHAPE,
    V_SPACE,
    V_STRIDE,
)  # fmt: skip
from accel.isa.program import Program
from accel.isa.schema import Kind
from accel.isa.table import BY_MNEMONIC
from accel.numerics import by_code

__all__ = ["disassemble", "row_text"]

RELATION = {REL_EQ: "== 0", REL_NE: "!= 0", REL_LT: "< 0", REL_GE: ">= 0"}


def disassemble(program: Program, role: int | None = None) -> str:
    """Return the listing of a program (all roles, or one): maps first, then every thread's rows."""
    return "\n".join(_listing(program, role)) + "\n"


def _listing(program: Program, only: int | None) -> Iterator[str]:
    yield f"program {program.name}  mesh {program.rows} x {program.cols}  {program.instructions} instructions"
    for t in program.tensors:
        marks = " ".join(m for m, on in (("in", t.is_input), ("out", t.is_output), ("resident", t.resident)) if on)
        yield f"tensor {t.name} {_shape(t.shape, t.dtype)} @{t.address:#x} {marks}"
    for b in program.buffers:
        yield f"buffer {b.name} {_shape(b.shape, b.dtype)} @{b.offset:#x} {b.nbytes} B"
    for s in program.semaphores:
        yield f"semaphore {s.name}[{s.count}] from {s.index}, starts at {s.init}"
    for role in range(program.roles) if only is None else [only]:
        nodes = [program.node(int(n)) for n in (program.role_of == role).nonzero()[0]]
        shown = " ".join(f"({r},{c})" for r, c in nodes[:4]) + (f" and {len(nodes) - 4} more" if len(nodes) > 4 else "")
        yield f"\nrole {role}: {len(nodes)} nodes {shown}"
        for thread in range(program.threads):
            first, last = (int(x) for x in program.spans[role, thread])
            if first == last:
                continue
            names = program.thread_names[role]
            yield f"  thread {names[thread] if thread < len(names) else thread}:"
            depth = 0
            for at in range(first, last):
                instruction = decode(program.code[at])
                depth -= instruction.mnemonic == "end"
                yield _line(program, at, instruction, max(depth, 0))
                depth += instruction.mnemonic == "loop"


def row_text(program: Program, at: int) -> str:
    """Return the instruction of one code row as text: predicate, mnemonic and operands by name."""
    return _text(program, decode(program.code[at]))


def _text(program: Program, i: Instruction) -> str:
    parts = []
    for operand in BY_MNEMONIC[i.mnemonic].operands:
        value = i.operands[operand.name]
        if operand.kind is Kind.VIEW and isinstance(value, tuple):
            parts.append(_view(program, *value))
        elif operand.kind is Kind.SEM and isinstance(value, tuple):
            if value[0] >= 0:
                parts.append(f"{operand.name}={_semaphore(program, *value)}")
        elif operand.kind is Kind.VALUE and isinstance(value, tuple):
            parts.append(f"{operand.name}={_sum(program, *value)}")
        elif operand.kind is Kind.TARGET and isinstance(value, int):
            if value != TARGET_SELF:
                parts.append(f"{operand.name}={_target(program, value)}")
        else:
            parts.append(f"{operand.name}={value}")
    guard = f"@({_pred(program, i.pred)}) " if i.pred else ""
    return f"{guard}{i.mnemonic} {', '.join(parts)}".rstrip()


def _line(program: Program, at: int, i: Instruction, depth: int) -> str:
    line = program.lines[i.line] if i.line < len(program.lines) else "?"
    text = f"    {at:6d}  {'  ' * depth}{_text(program, i)}"
    return f"{text:<100s} ; {line}"


def _shape(shape: tuple[int, ...], dtype: str) -> str:
    return f"{dtype}[{','.join(map(str, shape))}]"


def _view(program: Program, view: int, address: int, expr: int) -> str:
    words = program.views[view]
    index = int(words[V_OBJECT])
    name, base = (
        (program.buffers[index].name, program.buffers[index].offset)
        if int(words[V_SPACE]) == SPACE_SRAM
        else (program.tensors[index].name, program.tensors[index].address)
    )
    first = max(0, 4 - int(words[V_NDIM]))
    shape = ",".join(str(int(w)) for w in words[V_SHAPE + first : V_SHAPE + 4])
    stride = ",".join(str(int(w)) for w in words[V_STRIDE + first : V_STRIDE + 4])
    return f"{name}+{_sum(program, address - base, expr)} {by_code(int(words[V_DTYPE])).name}[{shape}:{stride}]"


def _sum(program: Program, constant: int, expr: int) -> str:
    words = program.exprs[expr]
    terms = [str(constant)] if constant or expr == 0 else []
    for j in range(int(words[E_NPARAMS])):
        index, coef = int(words[E_PARAMS + 2 * j]), int(words[E_PARAMS + 2 * j + 1])
        name = ("row", "col")[index] if index < 2 else f"p{index}"
        terms.append(name if coef == 1 else f"{coef}*{name}")
    for j in range(int(words[E_NLOOPS])):
        depth, coef, mul, add, mod = (int(w) for w in words[E_LOOPS + EXPR_LOOP_WORDS * j :][:EXPR_LOOP_WORDS])
        inner = f"i{depth}" if mul == 1 else f"{mul}*i{depth}"
        inner = f"({inner}+{add})" if add else inner
        inner = f"({inner}%{mod})" if mod else inner
        terms.append(inner if coef == 1 else f"{coef}*{inner}")
    return "+".join(terms)


def _semaphore(program: Program, index: int, expr: int) -> str:
    for s in program.semaphores:
        if s.index <= index < s.index + s.count:
            return f"{s.name}[{_sum(program, index - s.index, expr)}]"
    return f"semaphore[{_sum(program, index, expr)}]"


def _target(program: Program, target: int) -> str:
    if target == TARGET_ALL:
        return "all"
    words = program.targets[target]
    r0, r1, c0, c1 = (_sum(program, int(words[w]), int(words[w + 1])) for w in (T_ROW0, T_ROW1, T_COL0, T_COL1))
    rows = r0 if r0 == r1 else f"{r0}..{r1}"
    cols = c0 if c0 == c1 else f"{c0}..{c1}"
    return f"({rows}; {cols})"


def _pred(program: Program, pred: int) -> str:
    words = program.preds[pred]
    terms = []
    for j in range(int(words[P_COUNT])):
        expr, constant, relation = (int(w) for w in words[P_TERMS + 3 * j : P_TERMS + 3 * j + 3])
        terms.append(f"{_sum(program, constant, expr)} {RELATION[relation]}")
    return " and ".join(terms)
