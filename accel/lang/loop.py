"""Hardware loops, traced twice and compared, and predicated blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from accel.errors import Location, TraceError
from accel.isa import table
from accel.isa.codec import float_of_bits
from accel.isa.layout import W_LINE, W_OPCODE, W_PRED
from accel.isa.schema import WORDS_OF, Kind
from accel.lang.expr import Expr
from accel.lang.pred import Pred

if TYPE_CHECKING:
    from accel.lang.tracer import Row, Saved, Tracer

__all__ = ["HardwareLoop", "When"]

SMALLEST_NORMAL = 2.0**-126  # of fp32


def _number(bits: int) -> str:
    """Return an immediate as text: of an integer row it is an int32, whose small values are no normal fp32 numbers."""
    value = float_of_bits(bits)
    if value == 0 or abs(value) >= SMALLEST_NORMAL:
        return repr(value)
    return str(bits - ((bits >> 31) << 32))


def describe(row: Row) -> str:
    """Return a short text of a code row, for messages."""
    entry = table.BY_OPCODE[row[W_OPCODE]]
    parts = []
    for operand in entry.operands:
        at = entry.word(operand.name)
        words = row[at : at + WORDS_OF[operand.kind]]
        said = _number(words[0]) if operand.kind is Kind.FLOAT else "/".join(map(str, words))
        parts.append(f"{operand.name}={said}")
    return f"{entry.mnemonic}({', '.join(parts)}{f', pred={row[W_PRED]}' if row[W_PRED] else ''})"


class HardwareLoop:
    """The iterator behind `k.loop`: runs the body twice, compares what it emitted, keeps it once."""

    __slots__ = (
        "_begin",
        "_first",
        "_index",
        "_saved",
        "_trip",
        "at",
        "dead",
        "depth",
        "most",
        "name",
        "open",
        "tracer",
        "trips",
    )  # fmt: skip

    def __init__(self, tracer: Tracer, trips: int | Expr, most: int, at: Location) -> None:
        self.tracer, self.trips, self.most, self.at = tracer, trips, most, at
        self.depth, self.open, self.name, self.dead = 0, False, "i", False
        self._trip, self._begin = 0, 0
        self._first: list[Row] = []

    def __iter__(self) -> HardwareLoop:
        return self

    def __next__(self) -> Expr:
        tracer = self.tracer
        self._trip += 1
        if self._trip == 1:
            return self._start()
        tracer.leave_to(self)
        if self.dead:
            raise self._finish()
        rows = tracer.rows
        body = rows[self._begin + 1 :]
        if self._trip == 2:
            self._first = body
            del rows[self._begin + 1 :]
            return self._index
        if body != self._first:
            self._differ(body)
        if body:
            distance = len(body) + 1
            opened = rows[self._begin]
            rows[self._begin] = (*opened[:5], distance, *opened[6:])
            tracer.push((END, 0, opened[W_LINE], distance, *PAD_END))
        else:
            del rows[self._begin :]
        raise self._finish()

    def _start(self) -> Expr:
        # Where nothing of the body ever runs it is traced once, for its errors, and dropped.
        self.dead = self.most == 0 or self.tracer.active.dead
        self._index, self._begin, self._saved = self.tracer.enter_loop(self)
        return self._index

    def _finish(self) -> StopIteration:
        self.tracer.exit_loop(self, self._saved)
        return StopIteration()

    def _differ(self, body: list[Row]) -> None:
        first = self._first
        n = next((i for i, (a, b) in enumerate(zip(first, body, strict=False)) if a != b), min(len(first), len(body)))
        one = describe(first[n]) if n < len(first) else "absent"
        two = describe(body[n]) if n < len(body) else "absent"
        row = body[n] if n < len(body) else first[n]
        raise TraceError(
            f"loop body is not trip-invariant: instruction {n} was {one} on the first trip and {two} on the second "
            "(Python state changed between them); derive it from the loop index, for example i % 2, or use range()",
            at=self.tracer.tables.lines.items[row[W_LINE]],
        )


class When:
    """The context manager behind `k.when`: instructions inside take effect only where the predicate holds."""

    __slots__ = ("_pred", "_saved", "_tracer")

    def __init__(self, tracer: Tracer, pred: Pred | Expr | bool | int) -> None:
        self._tracer, self._pred = tracer, pred

    def __enter__(self) -> None:
        self._saved: Saved = self._tracer.enter_when(self._pred)

    def __exit__(self, *exc: object) -> None:
        self._tracer.restore(self._saved)


END = table.opcode("end")
PAD_END = (0,) * 12
