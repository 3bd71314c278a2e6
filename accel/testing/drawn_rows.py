"""Draws one legal compute instruction for every row of the instruction table that works on SRAM."""

from __future__ import annotations

from collections.abc import Callable

from accel.isa.codec import Bits
from accel.isa.schema import Kind
from accel.isa.table import BY_MNEMONIC
from accel.testing.hard_values import special_codes
from accel.testing.pool import Operand, Pool

__all__ = ["COMPUTE", "compute_rows", "draw_compute"]

RANDOM_BASES = (0, 1, 6, (1 << 32) - 3, (1 << 40) - 9, -5)
FLOAT_ONLY = ("vec.div", "vec.sqrt", "vec.scatter_add", "vec.exp", "vec.log", "vec.tanh", "vec.sigmoid", "vec.erf",
              "vec.rsqrt")  # fmt: skip


def _bits(p: Pool) -> Bits:
    c = p.choices
    return Bits(int(special_codes("fp32")[c.integer(0, 60)]) if c.one_in(2) else c.integer(0, 0xFFFFFFFF))


def _kind(p: Pool, mnemonic: str) -> tuple[str, ...]:
    """Draw the formats that the values of an arithmetic row may have."""
    whole = p.limits.integers and mnemonic not in FLOAT_ONLY and (not p.limits.floats or p.choices.one_in(3))
    return p.limits.integers if whole else p.limits.floats


def _any(p: Pool) -> str:
    return p.choices.pick(p.limits.floats + p.limits.integers)


def _emit(p: Pool, mnemonic: str, **operands: Operand | int | Bits | tuple[int, ...]) -> None:
    words = {n: v.words if isinstance(v, Operand) else v for n, v in operands.items()}
    p.maker.emit(mnemonic, **words)


def _elementwise(p: Pool, mnemonic: str) -> None:
    """Same shape everywhere, formats of one kind; sometimes written exactly where an operand is read."""
    row, formats, shape = BY_MNEMONIC[mnemonic], _kind(p, mnemonic), p.shape()
    dst = p.operand(p.choices.pick(formats), shape, writes=True)
    more: dict[str, Operand | Bits] = {}
    for o in row.views[1:]:
        same = dst.dtype in formats and p.choices.one_in(6)
        more[o.name] = dst if same else p.operand(p.choices.pick(formats), shape, avoid=[dst.place])
    if row.operands[-1].kind is Kind.FLOAT:
        more["imm"] = _bits(p)
    _emit(p, mnemonic, dst=dst, **more)


def _move(p: Pool, mnemonic: str) -> None:
    dtype, shape = _any(p), p.shape()
    dst = p.operand(dtype, shape, writes=True)
    _emit(p, mnemonic, dst=dst, x=p.operand(dtype, shape, avoid=[dst.place]))


def _index(p: Pool) -> tuple[int, ...]:
    first = p.choices.pick(RANDOM_BASES)
    loops = [(d, 3, 1, 0, 0) for d in range(len(p.loops))]
    expr = p.maker.expr([(1, 5)], loops) if p.choices.one_in(2) else 0
    return (first, expr, *(p.choices.pick((1, 0, 4, 5, 1000, 1 << 32, -3)) for _ in range(4)))


def _cast(p: Pool, mnemonic: str) -> None:
    shape, drawn = p.shape(), mnemonic == "vec.cast_sr"
    dst = p.operand(_any(p), shape, writes=True)
    x = p.operand(p.choices.pick(p.limits.floats) if drawn else _any(p), shape, avoid=[dst.place])
    if drawn:
        _emit(p, mnemonic, dst=dst, x=x, stream=p.choices.pick((0, 1, (1 << 32) - 1)), index=_index(p))
    else:
        _emit(p, mnemonic, dst=dst, x=x)


def _compare(p: Pool, mnemonic: str) -> None:
    shape, dtype = p.shape(), _any(p)
    dst = p.operand("uint8", shape, writes=True)
    relation = p.choices.integer(1, 6)
    x = p.operand(dtype, shape, avoid=[dst.place])
    other = {"y": p.operand(dtype, shape, avoid=[dst.place])} if mnemonic == "vec.compare" else {"imm": _bits(p)}
    _emit(p, mnemonic, dst=dst, x=x, **other, relation=relation)


def _select(p: Pool, mnemonic: str) -> None:
    shape, dtype = p.shape(), _any(p)
    dst = p.operand(dtype, shape, writes=True)
    mask = p.operand("uint8", shape, avoid=[dst.place])
    x, y = (dst if p.choices.one_in(6) else p.operand(dtype, shape, avoid=[dst.place]) for _ in range(2))
    _emit(p, mnemonic, dst=dst, mask=mask, x=x, y=y)


def _reduce(p: Pool, mnemonic: str) -> None:
    formats, shape = _kind(p, mnemonic), (*p.shape(3), p.choices.integer(1, p.limits.longest))
    dst = p.operand(p.choices.pick(formats), (*shape[:-1], 1), writes=True)
    _emit(p, mnemonic, dst=dst, x=p.operand(p.choices.pick(formats), shape, avoid=[dst.place]))


def _transpose(p: Pool, mnemonic: str) -> None:
    dtype, shape = _any(p), (*p.shape(3), p.choices.integer(1, 6))
    shape = shape if len(shape) > 1 else (1, *shape)
    dst = p.operand(dtype, (*shape[:-2], shape[-1], shape[-2]), writes=True)
    _emit(p, mnemonic, dst=dst, x=p.operand(dtype, shape, avoid=[dst.place]))


def _iota(p: Pool, mnemonic: str) -> None:
    formats = [f for f in ("int32", "fp32", "bf16", "fp16") if f in p.limits.floats + p.limits.integers]
    _emit(p, mnemonic, dst=p.operand(p.choices.pick(formats), p.shape(), writes=True), index=_index(p))


def _random(p: Pool, mnemonic: str) -> None:
    formats = [f for f in ("int32", "fp32") if f in p.limits.floats + p.limits.integers]
    dst = p.operand(p.choices.pick(formats), p.shape(), writes=True)
    _emit(p, mnemonic, dst=dst, stream=p.choices.pick((0, 7, (1 << 32) - 1)), index=_index(p))


def _gather(p: Pool, mnemonic: str) -> None:
    c = p.choices
    rows, count, width = c.integer(1, 6), c.integer(1, 6), c.integer(1, 6)
    scatter = mnemonic == "vec.scatter_add"
    dtype = c.pick(p.limits.floats) if scatter else _any(p)
    moved, table = (count, width), (rows, width)
    dst = p.operand(dtype, table if scatter else moved, writes=True)
    x = p.operand(dtype, moved if scatter else table, avoid=[dst.place])
    _emit(p, mnemonic, dst=dst, x=x, index=p.operand("int32", (count,), below=rows))


def _matmul(p: Pool, mnemonic: str) -> None:
    c = p.choices
    m, n, k = (c.integer(1, p.limits.longest if c.one_in(6) else 9) for _ in range(3))
    narrow, bytewise = p.products()
    whole = bool(bytewise) and (not narrow or c.one_in(4))
    a = c.pick(bytewise) if whole else c.pick(narrow)
    other = bytewise if whole else [f for f in narrow if f == a or (f[:4] == a[:4] == "cfp8")]
    accumulate = c.integer(0, 1)
    rounded = [] if whole or accumulate else [f for f in p.limits.floats if f in p.limits.results]
    sums = c.pick(rounded) if rounded and c.one_in(3) else "int32" if whole else "fp32"
    dst = p.operand(sums, p.pairs(m, n), writes=True)
    left = p.operand(a, p.pairs(m, k), avoid=[dst.place])
    right = p.operand(c.pick(other), p.pairs(k, n), avoid=[dst.place])
    _emit(p, mnemonic, dst=dst, a=left, b=right, accumulate=accumulate)


def _probe(p: Pool, mnemonic: str) -> None:
    marks = p.maker.marks
    marks.append(f"probe{len(marks)}")
    _emit(p, mnemonic, x=p.operand(_any(p), p.shape()), name=len(marks) - 1)


def _mark(p: Pool, mnemonic: str) -> None:
    p.maker.marks.append(f"phase{len(p.maker.marks)}")
    _emit(p, mnemonic, phase=len(p.maker.marks) - 1)


SPECIAL: dict[str, Callable[[Pool, str], None]] = {
    "mark": _mark, "probe": _probe, "matmul": _matmul, "vec.copy": _move, "vec.cast": _cast, "vec.cast_sr": _cast,
    "vec.compare": _compare, "vec.comparei": _compare, "vec.select": _select, "vec.transpose": _transpose,
    "vec.iota": _iota, "vec.random": _random, "vec.gather": _gather, "vec.scatter_add": _gather,
}  # fmt: skip
# Every row that works on one node's SRAM; control and data movement are drawn by `legal_programs`.
COMPUTE: dict[str, Callable[[Pool, str], None]] = SPECIAL | {
    m: _reduce if row.cost == "reduce" else _elementwise
    for m, row in BY_MNEMONIC.items()
    if m.startswith("vec.") and m not in SPECIAL
}


def compute_rows(p: Pool) -> list[str]:
    """Return the mnemonics that the limits of a pool leave, in the order of the table.

    A row is left out where no format that is left has it; masks, relations and row numbers take theirs in any case.
    """
    limits = p.limits
    wanted = [m for m in BY_MNEMONIC if m in COMPUTE and (not limits.rows or m in limits.rows)]
    return [m for m in wanted if m not in limits.without and _has_formats(p, m)]


def _has_formats(p: Pool, mnemonic: str) -> bool:
    used = {*p.limits.floats, *p.limits.integers}
    if mnemonic == "matmul":
        return any(p.products())
    if mnemonic in FLOAT_ONLY or mnemonic == "vec.cast_sr":
        return bool(p.limits.floats)
    if mnemonic == "vec.random":
        return bool(used & {"int32", "fp32"})
    return mnemonic != "vec.iota" or bool(used & {"int32", "fp32", "bf16", "fp16"})


def draw_compute(p: Pool, mnemonic: str = "") -> str:
    """Emit one legal instruction on the buffers of a pool, of a drawn row or of this one; return its mnemonic."""
    chosen = mnemonic or p.choices.pick(compute_rows(p))
    COMPUTE[chosen](p, chosen)
    return chosen
