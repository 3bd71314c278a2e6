"""Expressions of a sweep against an oracle in exact fractions, and what must be refused."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accel.errors import SpecError
from accel.sweep.arithmetic import LIMIT, Column, Faults, constant
from accel.sweep.expressions import evaluate, parse

POINTS = 4
Number = int | float
Oracle = Callable[[dict[str, Number]], Any]


class NoValueError(Exception):
    """The oracle's fault."""


def rounded(exact: Fraction) -> float:
    """Return the double nearest to an exact number."""
    try:
        return float(exact)
    except OverflowError:
        raise NoValueError from None


def bounded(value: int) -> int:
    if abs(value) >= LIMIT:
        raise NoValueError
    return value


def as_fractions(a: Number, b: Number) -> tuple[Fraction, Fraction]:
    return Fraction(float(a)), Fraction(float(b))


def both_ints(a: Number, b: Number) -> bool:
    return isinstance(a, int) and isinstance(b, int)


def calculated(sign: str, a: Number, b: Number) -> Number:
    """Return a result by exact arithmetic and one rounding, or as Python defines floor and remainder."""
    if sign in ("/", "//", "%") and b == 0:
        raise NoValueError
    if sign == "/":
        x, y = as_fractions(a, b)
        return rounded(x / y)
    if both_ints(a, b):
        return bounded({"+": a + b, "-": a - b, "*": a * b, "//": a // (b or 1), "%": a % (b or 1)}[sign])
    x, y = as_fractions(a, b)
    if sign in "+-*":
        return rounded({"+": x + y, "-": x - y, "*": x * y}[sign])
    found = float(a) // float(b) if sign == "//" else float(a) % float(b)
    if not math.isfinite(found):
        raise NoValueError
    return found


def compared(sign: str, a: Number, b: Number) -> bool:
    x, y = (Fraction(a), Fraction(b)) if both_ints(a, b) else as_fractions(a, b)
    return {"<": x < y, "<=": x <= y, ">": x > y, ">=": x >= y, "==": x == y, "!=": x != y}[sign]


def extreme(name: str, values: list[Number]) -> Number:
    if not all(isinstance(value, int) for value in values):
        values = [float(value) for value in values]
    return (min if name == "min" else max)(values)


def to_whole(name: str, value: Number) -> int:
    return bounded((math.floor if name == "floor" else math.ceil)(value))


def root(value: Number) -> float:
    if value < 0:
        raise NoValueError
    return math.sqrt(value if isinstance(value, float) else float(value))


Tree = tuple[str, Oracle]
LITERALS = st.one_of(
    st.integers(0, 9),
    st.integers(0, LIMIT - 1),
    st.floats(0, 1e300, allow_nan=False),
    st.sampled_from([0.5, 1e-300, 0.1]),
)


def literal(value: Number) -> Tree:
    return repr(value), lambda _: value


def variable(name: str) -> Tree:
    return name, lambda values: values[name]


def binary(sign: str, a: Tree, b: Tree) -> Tree:
    return f"({a[0]} {sign} {b[0]})", lambda values: calculated(sign, a[1](values), b[1](values))


def power(a: Tree, n: int) -> Tree:
    def value(values: dict[str, Number]) -> Number:
        base = a[1](values)
        if n <= 1 and isinstance(base, float):
            return base**n
        assert isinstance(base, int)
        if abs(base) > 1 and n > 62:
            raise NoValueError
        return bounded(base**n)

    return f"({a[0]} ** {n})", value


def leaf() -> st.SearchStrategy[Tree]:
    return st.one_of(LITERALS.map(literal), st.sampled_from(["i", "problem.m", "kernel.x.y"]).map(variable))


def grown(below: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
    return st.one_of(
        st.builds(binary, st.sampled_from(["+", "-", "*", "/", "//", "%"]), below, below),
        below.map(lambda a: (f"(-{a[0]})", lambda values: -a[1](values))),
        below.map(lambda a: (f"abs({a[0]})", lambda values: abs(a[1](values)))),
        st.builds(
            lambda name, parts: (
                f"{name}({', '.join(p[0] for p in parts)})",
                lambda values: extreme(name, [p[1](values) for p in parts]),
            ),
            st.sampled_from(["min", "max"]),
            st.lists(below, min_size=2, max_size=3),
        ),
        st.builds(
            lambda name, a: (f"{name}({a[0]})", lambda values: to_whole(name, a[1](values))),
            st.sampled_from(["ceil", "floor"]),
            below,
        ),
        below.map(lambda a: (f"sqrt({a[0]})", lambda values: root(a[1](values)))),
    )


numbers = st.recursive(leaf(), grown, max_leaves=8)
comparisons = st.builds(
    lambda sign, a, b: (f"{a[0]} {sign} {b[0]}", lambda values: compared(sign, a[1](values), b[1](values))),
    st.sampled_from(["<", "<=", ">", ">=", "==", "!="]),
    numbers,
    numbers,
)
flags = st.recursive(
    comparisons,
    lambda below: st.one_of(
        st.builds(lambda a, b: (f"({a[0]} and {b[0]})", lambda v: a[1](v) and b[1](v)), below, below),
        st.builds(lambda a, b: (f"({a[0]} or {b[0]})", lambda v: a[1](v) or b[1](v)), below, below),
        below.map(lambda p: (f"(not {p[0]})", lambda v: not p[1](v))),
    ),
    max_leaves=4,
)
VALUES = st.fixed_dictionaries(
    {
        "i": st.lists(st.integers(-9, 9), min_size=POINTS, max_size=POINTS),
        "problem.m": st.lists(st.integers(1 - LIMIT, LIMIT - 1), min_size=POINTS, max_size=POINTS),
        "kernel.x.y": st.lists(
            st.floats(-1e300, 1e300, allow_nan=False, allow_subnormal=False), min_size=POINTS, max_size=POINTS
        ),
    }
)


def columns_of(values: dict[str, list[Number]]) -> dict[str, Column]:
    return {
        name: Column("float" if name == "kernel.x.y" else "int", np.array(column)) for name, column in values.items()
    }


def refusal(text: str) -> str | None:
    """Return what is said against a text whose names are all integers, None where it is an expression."""
    try:
        evaluate(parse(text, "here"), lambda name: constant(2), Faults())
    except SpecError as error:
        return str(error)
    return None


def check(tree: Tree, values: dict[str, list[Number]], kinds: tuple[type, ...]) -> None:
    """Compare every point of a column with the oracle: the same value of the same kind, or no value in both."""
    text, oracle = tree
    told = refusal(text)
    if told is not None:  # constants alone that have no value, which and, or may not need
        assert re.search("2\\^62|division|1.8e308|root", told), told
        if kinds != (bool,):
            with pytest.raises(NoValueError):
                oracle({name: column[0] for name, column in values.items()})
        return
    expression = parse(text, "here")
    columns, faults = columns_of(values), Faults()
    found = evaluate(expression, columns.__getitem__, faults)
    whole = np.broadcast_to(found.values, (POINTS,))
    marks = np.zeros(POINTS, int) if found.faults is None else np.broadcast_to(found.faults, (POINTS,))
    for at in range(POINTS):
        point = {name: column[at] for name, column in values.items()}
        try:
            wanted = oracle(point)
        except NoValueError:
            assert marks[at] > 0, (text, point)
            assert "column" in faults.texts[marks[at]]
        else:
            assert marks[at] == 0, (text, point, faults.texts[marks[at]])
            assert isinstance(wanted, kinds)
            assert whole[at] == wanted, (text, point)
            assert (found.kind == "int") == (isinstance(wanted, int) and not isinstance(wanted, bool))


@given(numbers, VALUES)
@settings(deadline=None, max_examples=150)
def test_numbers_are_those_of_exact_arithmetic(tree: Tree, values: dict[str, list[Number]]) -> None:
    check(tree, values, (int, float))


@given(flags, VALUES)
@settings(deadline=None, max_examples=150)
def test_flags_are_those_of_exact_arithmetic_and_stop_early(tree: Tree, values: dict[str, list[Number]]) -> None:
    check(tree, values, (bool,))


@given(st.integers(-70, 70), st.integers(0, 80))
@settings(deadline=None)
def test_integer_powers(base: int, exponent: int) -> None:
    check(
        power(variable("i"), exponent), {"i": [base, 0, 1, -1], "problem.m": [1] * 4, "kernel.x.y": [1.0] * 4}, (int,)
    )


@given(st.floats(1e-3, 1e3), st.integers(-40, 40))
@settings(deadline=None)
def test_float_powers_are_near_the_exact_ones(base: float, exponent: int) -> None:
    found = evaluate(parse("a ** b", "here"), {"a": constant(base), "b": constant(exponent)}.__getitem__, Faults())
    exact = Fraction(base) ** exponent
    assert abs(Fraction(float(found.values[0])) - exact) <= exact * Fraction(1, 10**13)


@given(st.floats(5e-324, 1.7e308))
@settings(deadline=None, max_examples=200)
def test_log2_is_exact_for_powers_of_two_and_near_for_others(value: float) -> None:
    found = float(evaluate(parse("log2(a)", "here"), lambda _: constant(value), Faults()).values[0])
    assert abs(found - math.log2(value)) <= math.ulp(found)
    share, exponent = math.frexp(value)
    if share == 0.5:
        assert found == exponent - 1


@given(
    st.lists(st.integers(1, 99), min_size=2, max_size=9),
    st.lists(st.sampled_from(["+", "-", "*", "/", "//", "%", " - -", "**"]), min_size=8, max_size=8),
)
@settings(deadline=None, max_examples=150)
def test_precedence_is_that_of_python(values: list[int], signs: list[str]) -> None:
    text = str(values[0])
    for value, sign in zip(values[1:], signs, strict=False):
        text += f" {sign} {value % 3 + 1 if sign == '**' else value}"
    try:
        wanted = eval(text)
    except ZeroDivisionError:
        wanted = None
    if wanted is None or isinstance(wanted, complex) or abs(wanted) >= 1 << 53 or "** " in text.partition("**")[2]:
        return  # beyond what the two define alike
    told = refusal(text)
    if told is not None:
        assert re.search(r"2\^62|exponent", told), told
        return
    assert evaluate(parse(text, "here"), constant, Faults()).values[0] == wanted


def test_signs_and_chains_bind_as_in_python() -> None:
    for text in (
        "-2 ** 2 == -4", "2 ** 3 ** 2 == 512", "1 < 2 < 3", "not 3 < 2 < 5", "2 in (1, 2) and 3 not in [1, -2]",
        "1 + 2 * 3 - 4 / 2 == 5", "-7 // 2 == -4", "-7 % 3 == 2", "0x10 + 0b1 + 1_000 == 1017",
        "true and not false", "True", "'bf16' in ('bf16', 'fp16')", "'a' != \"b\"", "1e3 == 1000",
    ):  # fmt: skip
        assert evaluate(parse(text, "here"), constant, Faults(), "true or false").values[0], text


REFUSED = [
    ("__import__('os').system('true')", 1, "__import__"),
    ("().__class__.__bases__[0].__subclasses__()", 1, "dot follows"),
    ("problem.m.__class__.__mro__[1]", 1, "index"),
    ("(1).real", 2, "dot follows"),
    ("'a'.upper()", 1, "dot follows"),
    ("lambda: 1", 1, "lambda"),
    ("[x for x in (1, 2)]", 1, "comprehension"),
    ("{x for x in (1, 2)}", 1, "comprehension"),
    ("sum(x for x in (1, 2))", 1, "sum cannot be called"),
    ("(x := 3)", 2, "assignment"),
    ("f'{problem}'", 1, "f-string"),
    ("b'bytes'", 1, "bytes"),
    ("9 ** 9 ** 9", 1, "2^62"),
    ("problem.m + 9 ** 99", 13, "2^62"),
    ("1 / 0", 1, "division by zero"),
    ("problem.m * (1 % 0)", 14, "division by zero"),
    ("sqrt(-1)", 1, "root of a negative"),
    ("log2(0)", 1, "logarithm"),
    ("2 ** 0.5", 6, "sqrt for roots"),
    ("2 ** -1", 1, "negative exponent"),
    ("1e308 * 10", 1, "1.8e308"),
    ("1e999", 1, "1.8e308"),
    ("4611686018427387904", 1, "2^62"),
    ("1j", 1, "complex"),
    ("None", 1, "NoneType"),
    ("...", 1, "ellipsis"),
    ("problem[0]", 1, "index"),
    ("1 if true else 2", 1, "if and else"),
    ("{'a': 1}", 1, "dict"),
    ("1 @ 2", 1, "that sign"),
    ("1 << 2", 1, "that sign"),
    ("1 & 2", 1, "that sign"),
    ("~1", 1, "that sign"),
    ("problem.m is 3", 1, "`is`"),
    ("max(*problem.m)", 1, "plain values"),
    ("max(problem.m, key=1)", 1, "plain values"),
    ("max(1)", 1, "2 to 64"),
    ("sqrt(1, 2)", 1, "one value"),
    ("sqr(1)", 1, "did you mean 'sqrt'"),
    ("await problem", 1, "await"),
    ("yield 1", 1, "invalid syntax"),
    ("import os", 1, "invalid syntax"),
    ("problem.m = 3", 11, "invalid syntax"),
    ("1; 2", 2, "invalid syntax"),
    ("1 +", 0, "invalid syntax"),
    ("(1", 1, "never closed"),
    ("m\N{LATIN SMALL LETTER E WITH ACUTE} + 1", 2, "xe9"),
    ("\N{MATHEMATICAL BOLD SMALL M} + 1", 1, "cannot stand"),
    ("1\n+ 2", 2, "cannot stand"),
    ("1 # comment", 3, "cannot stand"),
    ("'\\x41'", 2, "cannot stand"),
    ("\x00", 1, "cannot stand"),
    ("3 in 4", 6, "list of constants"),
    ("3 in (problem.m,)", 7, "constants only"),
    ("3 in (1, 'a')", 6, "of one kind"),
    ("3 in (1, -True)", 10, "before numbers"),
    ("1 < 2 in (1, 2)", 1, "stands alone"),
    ("'a' * 9", 1, "text stands where a number"),
    ("true + 1", 1, "true or false stands where a number"),
    ("not 1", 5, "compare it"),
    ("1 and true", 1, "compare it"),
    ("'a' < 'b'", 7, "no order"),
    ("'a' == 1", 8, "cannot be compared"),
    ("-" * 300 + "1", 101, "flatter"),
    ("+".join("1" * 300), 1, "flatter"),
    ("(" * 900 + "1" + ")" * 900, 0, "parentheses"),
]


@pytest.mark.parametrize(("text", "column", "rule"), REFUSED, ids=[text[:30] for text, _, _ in REFUSED])
def test_what_is_no_expression_is_refused_with_its_column(text: str, column: int, rule: str) -> None:
    with pytest.raises(SpecError) as caught:
        evaluate(parse(text, "a.toml: [constraints] c"), lambda name: constant(2), Faults())
    told = str(caught.value)
    assert told.startswith("a.toml: [constraints] c = ")
    assert f": column {column or ''}" in told, told  # 0: versions of Python differ
    assert rule in told
    assert "\n" not in told
    assert len(told) < 500


@pytest.mark.parametrize("text", ["", " ", "=", " = "])
def test_an_empty_expression_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="here is an empty expression"):
        parse(text, "here")


@pytest.mark.parametrize("text", ["1" * 1_000_000, "9 ** " * 400 + "9", "(" * 999 + ")" * 999, "not " * 499 + "true",
                                  "max(" * 400 + "1" + ", 1)" * 200, "a." * 999 + "a", "1 < " * 499 + "1",
                                  "'" + "x" * 1990 + "'", "-" * 1999, "9" * 1999, "a if " * 300])  # fmt: skip
def test_no_text_takes_long_or_breaks_the_interpreter(text: str) -> None:
    begun = time.perf_counter()
    assert len(refusal(text) or "") < 500
    assert time.perf_counter() - begun < 2


@given(st.text(max_size=60))
@settings(deadline=None, max_examples=200)
def test_any_text_is_an_expression_or_one_clear_error(text: str) -> None:
    told = refusal(text)
    assert told is None or (told.startswith("here") and "\n" not in told)


@given(st.text(alphabet="abx.012 ()+-*/%<>=!'\",[]eE_:", max_size=40))
@settings(deadline=None, max_examples=200)
def test_any_text_of_the_right_letters_is_an_expression_or_one_clear_error(text: str) -> None:
    told = refusal(text)
    assert told is None or told.startswith("here")


def test_a_fault_belongs_to_its_point_and_says_where() -> None:
    columns = {"a": Column("int", np.array([0, 1, 2])), "b": Column("int", np.array([1, 0, LIMIT - 1]))}
    faults = Faults()
    found = evaluate(parse("= 6 // a + a * b", "s.toml: [kernel] k"), columns.__getitem__, faults)
    assert found.faults is not None
    assert found.values[1] == 6
    assert found.faults[1] == 0
    assert faults.texts[found.faults[0]] == "s.toml: [kernel] k = '= 6 // a + a * b': column 8: a division by zero"
    assert "column 16: an integer of 2^62 or more" in faults.texts[found.faults[2]]


def test_what_is_not_needed_has_no_fault() -> None:
    columns = {"a": Column("int", np.array([0, 1]))}
    for text in ("a == 0 or 1 / a > 0.5", "not (a != 0 and 1 / a < 0.5)", "0 < a < 1 / a + 1 or a == 0"):
        found = evaluate(parse(text, "here"), columns.__getitem__, Faults())
        assert found.faults is None or not found.faults.any(), text
        assert found.values.all(), text


def test_names_are_text_and_never_attributes() -> None:
    assert parse("problem.m.__class__ + kernel.bk * max(a.b, 2)", "here").names == (
        "problem.m.__class__", "kernel.bk", "a.b",
    )  # fmt: skip


@pytest.mark.parametrize("text", ["a * b", "a * b * c", "d + d", "-d - d", "a ** 2", "2 ** e", "(-2) ** e", "-(a * b)"])
def test_integers_end_below_2_to_the_62(text: str) -> None:
    values = {"a": 1 << 31, "b": 1 << 31, "c": 1, "d": 1 << 61, "e": 62}
    for columns in ({name: constant(value) for name, value in values.items()},
                    {name: Column("int", np.array([1, value])) for name, value in values.items()}):  # fmt: skip
        found = evaluate(parse(text, "here"), columns.__getitem__, Faults())
        assert found.faults is not None
        assert found.faults[-1] > 0
        less = {**columns, "b": constant((1 << 31) - 1), "d": constant((1 << 61) - 1), "e": constant(61)}
        if "a ** 2" not in text:
            assert evaluate(parse(text, "here"), less.__getitem__, Faults()).faults is None
