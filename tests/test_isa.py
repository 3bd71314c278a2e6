"""The instruction table, its codec and its manual: derived from one place, and checked against each other."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel.errors import InternalError, ProgramError
from accel.isa import codec, manual
from accel.isa.layout import CODE_WORDS, EXPR_WORDS, W_FIRST
from accel.isa.schema import WORDS_OF, Direction, Engine, Kind, Operand, Row
from accel.isa.table import BY_MNEMONIC, ROWS

WORD = st.integers(-(2**62), 2**62)
OPERAND = {
    Kind.VIEW: st.tuples(WORD, WORD, WORD),
    Kind.SEM: st.tuples(WORD, WORD),
    Kind.VALUE: st.tuples(WORD, WORD),
    Kind.TARGET: WORD,
    Kind.IMM: WORD,
    Kind.FLOAT: st.floats(width=32, allow_nan=False),
    Kind.INDEX: st.tuples(WORD, WORD, WORD, WORD, WORD, WORD),
}


@st.composite
def instructions(draw: st.DrawFn) -> codec.Instruction:
    """Draw any instruction of the table with any operand words."""
    row = draw(st.sampled_from(ROWS))
    operands = {o.name: draw(OPERAND[o.kind]) for o in row.operands}
    return codec.Instruction(row.mnemonic, draw(WORD), draw(WORD), operands)


@given(instructions())
def test_decode_undoes_encode(instruction: codec.Instruction) -> None:
    words = codec.encode(instruction.mnemonic, pred=instruction.pred, line=instruction.line, **instruction.operands)
    assert len(words) == CODE_WORDS
    assert codec.decode(words) == instruction
    assert codec.decode(np.array(words, np.int64).tolist()) == instruction


@given(st.integers(0, 2**32 - 1))
def test_float_bits_round_trip_through_the_struct_module(bits: int) -> None:
    value = codec.float_of_bits(bits)
    if value == value:
        assert codec.bits_of_float(value) == bits
        assert struct.unpack("<f", struct.pack("<I", bits))[0] == value


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: codec.encode("matmull"),
            "unknown instruction 'matmull'; the table has no such row; did you mean 'matmul'?",
        ),
        (lambda: codec.encode("wait", sem=(0, 0)), "wait needs operand 'n'; give all of sem, n"),
        (lambda: codec.encode("end", begin=1, x=2), "end has no operand 'x'; it takes begin"),
        (lambda: codec.encode("end", begin=(1, 2)), "end operand 'begin' takes 1 integer word(s), got (1, 2)"),
        (lambda: codec.decode([999] * CODE_WORDS), "unknown opcode 999; the instruction table has no such row"),
    ],
)
def test_codec_errors_name_object_rule_and_way_out(call, text: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ProgramError) as caught:
        call()
    assert str(caught.value) == text


def test_every_row_has_meaning_cost_oracle_and_a_manual_line() -> None:
    text = manual.manual()
    for row in ROWS:
        assert f"### {row.mnemonic}\n" in text
        assert row.meaning in text
        assert row.cost in manual.COST
        if row.engine is Engine.VECTOR and row.semantics is None:  # its meaning is in the manual's own text
            assert row.cost != "vector" or any(o.kind is Kind.INDEX for o in row.operands)
    assert {entry["mnemonic"] for entry in manual.rows_as_dicts()} == set(BY_MNEMONIC)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"operands": tuple(Operand(f"v{i}", Kind.VIEW, Direction.READ, ("sram",)) for i in range(5))},
            "needs 18 words",
        ),
        ({"meaning": "no full stop"}, "must be a sentence"),
        ({"cost": "free"}, "no cost rule 'free'"),
        ({"engine": Engine.VECTOR, "cost": "vector"}, "needs a semantics function"),
        ({"operands": (Operand("v", Kind.VIEW),)}, "needs a direction and a space"),
    ],
)
def test_a_broken_row_fails_when_it_is_made(changes: dict[str, object], text: str) -> None:
    good = {"mnemonic": "x", "opcode": 1, "engine": Engine.CONTROL, "cost": "issue", "operands": (), "meaning": "Does."}
    assert Row(**good).mnemonic == "x"  # type: ignore[arg-type]
    with pytest.raises(InternalError, match=text.replace("(", r"\(")):
        Row(**{**good, **changes})  # type: ignore[arg-type]


def test_operands_fit_a_row_and_do_not_overlap() -> None:
    for row in ROWS:
        spans = [range(row.word(o.name), row.word(o.name) + WORDS_OF[o.kind]) for o in row.operands]
        words = [w for span in spans for w in span]
        assert words == list(range(W_FIRST, W_FIRST + len(words)))
        assert len(words) + W_FIRST <= CODE_WORDS < EXPR_WORDS
