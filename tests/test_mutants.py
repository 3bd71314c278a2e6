"""Mutants of programs by hand and of the library: the checker sees mistakes of order, values see the others."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from programs import copy_program, matmul_program, summa_program
from test_check import barriers, fifo, ring
from test_check_mutants_rows import pulls, streams

import accel
from accel.errors import InputError
from accel.isa.program import Program as Data
from accel.testing import MutationScore, kernel_property, mutants, mutation_score
from accel.testing.mutation import KINDS

MINI = accel.chip("mini")
SYNCHRONISATION = [kind for kind, (of_order, _) in KINDS.items() if of_order]
BALANCED = ["missing pair", "wait past its use", "inc before its use", "merged slots"]
ARITHMETIC = [kind for kind in KINDS if kind not in SYNCHRONISATION]
# Programs, and the mistakes of order that do no harm in them, by kind. What they have in common: a token that nobody
# takes any more (the last credits), a wait for a slot that nobody has used yet (the first uses), or two slots whose
# waits stand back to back.
BY_HAND: dict[str, tuple[Any, dict[str, int]]] = {
    "copy": (lambda: copy_program(2, 2), {}),
    "matmul": (lambda: matmul_program(3, 4, 5), {}),
    "summa": (lambda: summa_program(2, 3, 2, 2, 2, 5), {"merged slots": 2}),
    "ring": (lambda: ring(3, 4), {"wrong peer": 2, "missing pair": 1, "wait past its use": 2, "inc before its use": 1,
                                  "merged slots": 1}),
    "fifo": (lambda: fifo(5, 2), {"missing inc": 2, "wait past its use": 2, "inc before its use": 2,
                                  "merged slots": 1}),
    "barriers": (lambda: barriers(1, 2, 2), {}),
    "pulls": (pulls, {"wrong peer": 2, "missing pair": 1, "wait past its use": 2, "inc before its use": 1,
                      "merged slots": 2}),
    "streams": (streams, {"missing pair": 9, "wait past its use": 2, "inc before its use": 2}),
}  # fmt: skip
# Small problems of the library: seconds each, with all that a kernel does.
LIBRARY: dict[str, tuple[str, dict[str, Any]]] = {
    "matmul": ("matmul", {"m": 13, "n": 9, "k": 40}),
    "conv2d": ("conv2d", {"n": 1, "h": 5, "w": 4, "c": 3, "k": 4, "r": 3, "s": 3, "pad": 1}),
    "softmax": ("softmax", {"rows": 5, "columns": 24}),
    "layernorm": ("layernorm", {"rows": 5, "columns": 24}),
    "all_reduce": ("all_reduce", {"rows": 3, "cols": 3, "elements": 24}),
    "weight gradient": (
        "conv2d",
        {"n": 2, "h": 5, "w": 4, "c": 3, "k": 4, "r": 3, "s": 3, "pad": 1, "direction": "wgrad"},
    ),
}
# Longer programs, a minute each: here a sample of their mistakes of order, all others at night.
LONGER: dict[str, tuple[str, dict[str, Any]]] = {
    "attention": ("attention", {"b": 1, "h": 1, "q": 11, "kv": 9, "d": 8, "causal": True}),
    "adamw": ("adamw", {"size": 90}),
    "data gradient": ("conv2d", {"n": 1, "h": 5, "w": 4, "c": 3, "k": 4, "r": 3, "s": 3, "pad": 1,
                                 "direction": "dgrad"}),
}  # fmt: skip


@pytest.mark.parametrize("name", BY_HAND)
def test_mistakes_of_order_are_flagged_or_harmless(name: str) -> None:
    make, harmless = BY_HAND[name]
    score = mutation_score(program_of(make()), kinds=SYNCHRONISATION)
    assert score.total == len(score.flagged) + len(score.harmless) > 5
    assert Counter(s.mutant.kind for s in score.harmless) == harmless
    both_lines(score)


@pytest.mark.parametrize("name", ["copy", "matmul", "summa", "ring", "pulls", "streams"])
def test_mistakes_of_arithmetic_are_killed(name: str) -> None:
    score = mutation_score(program_of(BY_HAND[name][0]()), kinds=ARITHMETIC)
    assert not score.survivors
    assert not score.equivalent
    assert score.total > 0


def property_of(name: str) -> Any:
    kernel, case = {**LIBRARY, **LONGER}[name]
    return kernel_property(kernel, cases=[case])


@pytest.mark.parametrize("name", [*LIBRARY, *LONGER])
def test_mistakes_of_order_in_the_library(name: str) -> None:
    score = mutation_score(property_of(name), kinds=SYNCHRONISATION, most=30)
    assert score.total > 20
    assert not score.survivors, str(score)
    assert score.share(True) == 1
    both_lines(score)


@pytest.mark.parametrize("name", [*LIBRARY, *LONGER])
def test_mistakes_of_arithmetic_in_the_library(name: str) -> None:
    """Every mistake is killed, or proven to be none; of those there are few: x - y and y - x have one square."""
    score = mutation_score(property_of(name), kinds=ARITHMETIC)
    assert score.total > 20
    assert not score.survivors, str(score)
    assert score.share(False) == 1
    assert score.equivalent_share <= 0.02, str(score)


@pytest.mark.parametrize("name", [*BY_HAND, *LIBRARY, *LONGER])
def test_balanced_mistakes_name_both_lines(name: str) -> None:
    """Waits and tokens that still add up: the checker shows the two lines that now meet, or what nobody waits for."""
    subject = program_of(BY_HAND[name][0]()) if name in BY_HAND else property_of(name)
    score = mutation_score(subject, kinds=BALANCED, most=40)
    assert not score.survivors, str(score)
    assert score.flagged
    for seen in score.flagged:
        both = [f for f in seen.findings if f.first is not None and f.second is not None]
        unawaited = [f for f in seen.findings if f.kind == "unawaited" and f.first is not None]
        assert both or unawaited, (str(seen.mutant), seen.findings)  # the program's end is on no line


@pytest.mark.nightly
@pytest.mark.parametrize("name", [*LIBRARY, *LONGER])
def test_all_mistakes_of_order_in_the_library(name: str) -> None:
    score = mutation_score(property_of(name), kinds=SYNCHRONISATION)
    assert not score.survivors, str(score)


def program_of(data: Data) -> accel.Program:
    return accel.Program(data, MINI)


def both_lines(score: MutationScore) -> None:
    """What has two sides names both: a race its accesses, an ambiguous wait its givers. Everything names a line."""
    for seen in score.flagged:
        assert seen.findings
        for finding in seen.findings:
            assert finding.first is not None or finding.kind == "unwritten", finding
            assert finding.second is not None or finding.kind not in ("race", "ambiguous"), finding


def test_every_kind_is_made_of_something() -> None:
    made = Counter(m.kind for make, _ in BY_HAND.values() for m in mutants(program_of(make())))
    made.update(m.kind for m in mutants(accel.kernels.matmul.build(MINI, m=13, n=9, k=40)))
    assert set(made) == set(KINDS)


def test_a_mutant_says_what_it_is() -> None:
    program = accel.kernels.matmul.build(MINI, m=8, n=8, k=8)
    found = mutants(program, kinds="missing wait")
    assert found
    for mutant in found:
        assert mutant.synchronisation
        assert mutant.lines
        assert str(mutant).startswith(str(mutant.lines[0]))
        assert "without the wait of" in str(mutant)
        assert mutant.program.isa.instructions == program.isa.instructions
    everything = mutants(program)
    assert len({m.program.isa.code.tobytes() + m.program.isa.views.tobytes() for m in everything}) == len(everything)
    few = mutants(program, most=20, seed=1)
    assert len(few) == 20
    assert len({m.kind for m in few}) > 10


def test_a_test_that_is_too_weak_leaves_survivors() -> None:
    """Zeros as inputs hide nearly every mistake of arithmetic: the score tells."""
    program = accel.kernels.matmul.build(MINI, m=3, n=2, k=2)
    zeros = {"a": [[0.0] * 2] * 3, "b": [[0.0] * 2] * 2}
    score = mutation_score(program, zeros, kinds=["dropped step", "swapped tile", "shifted halo"])
    assert score.survivors
    assert score.share(False) < 1
    assert "random inputs kill it, the inputs that were given do not" in str(score)


def test_a_score_of_what_has_hazards_is_refused() -> None:
    broken = mutants(accel.kernels.matmul.build(MINI, m=8, n=8, k=8), kinds="missing wait")[0].program
    with pytest.raises(InputError, match="itself has hazards, so mutants say nothing"):
        mutation_score(broken)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda p: mutants(3), "mutants are made of a program, got 3"),
        (lambda p: mutants(p, kinds=["missing weight"]), "no kind of mutant 'missing weight'; did you mean"),
        (lambda p: mutants(p, most=0), "most must be a whole number of at least 1, got 0"),
        (lambda p: mutation_score("matmul"), "a mutation score is of a program or a kernel_property, got 'matmul'"),
        (lambda p: mutation_score(p, [3]), "inputs= are arrays by name, one dict or several"),
    ],
)
def test_bad_arguments(call: Any, text: str) -> None:
    with pytest.raises(InputError) as caught:
        call(accel.kernels.matmul.build(MINI, m=8, n=8, k=8))
    assert text in str(caught.value)
