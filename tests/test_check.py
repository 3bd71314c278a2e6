"""The checker finding by finding: what it says, where, on which nodes; clean programs; bad input."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from programs import Asm, copy_program, matmul_program, summa_program

from accel.check import inspect
from accel.errors import AccelError, BoundsError, Finding, InputError, ProgramError, UnsupportedError
from accel.hardware.catalog import chip
from accel.isa import layout as w
from accel.isa.program import Program
from accel.isa.table import BY_MNEMONIC, opcode

MINI = chip("mini")
LOOP, END, MARK, MATMUL = map(opcode, ("loop", "end", "mark", "matmul"))
CLEAN = {
    "copy": lambda: copy_program(2, 3),
    "matmul": lambda: matmul_program(4, 5, 6),
    "summa": lambda: summa_program(2, 3, 4, 4, 4, 7),
    "ring": lambda: ring(4, 3),
    "fifo": lambda: fifo(6, 2),
    "barriers": lambda: barriers(2, 2, 3),
}


def ring(nodes: int, rounds: int) -> Program:
    """Every node passes its block on to the right, double-buffered, with a credit for each slot."""
    a = Asm(1, nodes)
    x, y = a.tensor("x", (nodes, 8), "fp32"), a.tensor("y", (nodes, 8), "fp32", "out")
    buf, full, free, here = a.sram("buf", (2, 1, 8), "fp32"), a.sem("full", 2), a.sem("free", 2), a.sem("here")
    right = a.param([(n + 1) % nodes for n in range(nodes)])
    left = a.param([(n - 1) % nodes for n in range(nodes)])
    to_right = a.target(0, 0, 0, 0, (0, 0, a.expr([(right, 1)]), a.expr([(right, 1)])))
    to_left = a.target(0, 0, 0, 0, (0, 0, a.expr([(left, 1)]), a.expr([(left, 1)])))
    mine = a.expr([(w.PARAM_COL, 32)])
    with a.thread("pass on"):
        a.copy(a.at(buf, 0), a.at(x, slice(0, 1), expr=mine), done=here)
        a.wait(here)
        a.inc(free + 1, at=to_left)
        for r in range(rounds):
            s = r % 2
            if r:
                a.wait(full + s)
            a.wait(free + 1 - s)
            a.copy(a.at(buf, 1 - s), a.at(buf, s), to=to_right, done=full + 1 - s, sent=here)
            a.wait(here)
            if r + 1 < rounds:
                a.inc(free + s, at=to_left)
        a.wait(full + rounds % 2)
        a.copy(a.at(y, slice(0, 1), expr=mine), a.at(buf, rounds % 2), done=here)
        a.wait(here)
    return a.program()


def fifo(steps: int, depth: int, slots: int | None = None) -> Program:
    """A loading and a using thread; the slots start free, by tokens that are there from the start."""
    a = Asm()
    x = a.tensor("x", (steps, 4), "fp32")
    buf, own = a.sram("buf", (depth, 1, 4), "fp32"), a.sram("own", (1, 4), "fp32")
    full, free = a.sem("full", depth), a.sem("free", depth, init=1)
    with a.thread("load"):
        for t in range(steps):
            a.wait(free + t % depth)
            a.copy(a.at(buf, t % depth), a.at(x, slice(t, t + 1)), done=full + t % depth)
    with a.thread("use"):
        for t in range(steps):
            a.wait(full + t % depth)
            a.emit("vec.copy", dst=a.at(own), x=a.at(buf, t % (slots or depth)))
            a.inc(free + t % depth)
    return a.program()


def barriers(rows: int, cols: int, rounds: int) -> Program:
    """All nodes write their own part and push it to the next node, with a barrier after each step and no token."""
    a = Asm(rows, cols)
    mine, theirs, done = a.sram("mine", (8,), "fp32"), a.sram("theirs", (8,), "fp32"), a.sem("done")
    nodes = rows * cols
    row, col = (a.param([v[k] for v in (divmod((n + 1) % nodes, cols) for n in range(nodes))]) for k in (0, 1))
    r, c = a.expr([(row, 1)]), a.expr([(col, 1)])
    to = a.target(0, 0, 0, 0, (r, r, c, c))
    with a.thread("all"), a.loop(rounds):
        a.emit("vec.fill", dst=a.at(mine), imm=1.0)
        a.copy(a.at(theirs), a.at(mine), to=to, done=done)
        a.wait(done)
        a.emit("vec.neg", dst=a.at(theirs), x=a.at(theirs))
        a.barrier()
    return a.program()


def interleaved() -> Program:
    """Two threads write alternate columns of one buffer without any order: no byte is shared."""
    a = Asm()
    x = a.sram("x", (4, 8), "fp32")
    with a.thread("even"):
        a.emit("vec.fill", dst=a.at(x, slice(None), slice(0, 8, 2)), imm=1.0)
    with a.thread("odd"):
        a.emit("vec.fill", dst=a.at(x, slice(None), slice(1, 8, 2)), imm=2.0)
    return a.program()


def test_interleaved_columns_share_no_byte() -> None:
    assert inspect(interleaved(), MINI) == ()


@pytest.mark.parametrize("name", CLEAN)
def test_clean_programs_have_no_finding(name: str) -> None:
    assert inspect(CLEAN[name](), MINI) == ()


@pytest.mark.parametrize("name", CLEAN)
def test_plain_walk_says_the_same(name: str) -> None:
    program = CLEAN[name]()
    assert inspect(program, MINI, schedules=1, engine="plain") == ()
    broken = without(program, next(r for r, op in enumerate(program.code[:, 0]) if op not in (LOOP, END)))
    assert inspect(broken, MINI, schedules=1, engine="plain") == inspect(broken, MINI, schedules=1)


def without(program: Program, *rows: int) -> Program:
    """The program with rows made marks: no effect, same lines."""
    code = program.code.copy()
    for row in rows:
        code[row, [0, *range(3, w.CODE_WORDS)]] = [MARK] + [0] * (w.CODE_WORDS - 3)
    return dataclasses.replace(program, code=code)


# --- each kind: message, lines, nodes --------------------------------------------------------------------------------


def only(program: Program, kind: str, **options: Any) -> Finding:
    found = [f for f in inspect(program, MINI, **options) if f.kind == kind]
    assert len(found) == 1, found
    return found[0]


def test_read_before_the_copy_is_done() -> None:
    program = summa_program(1, 2, 4, 4, 4, 2)
    row = next(r for r in range(len(program.code)) if program.code[r, 0] == 1)  # the first wait for A_full
    found = [f for f in inspect(without(program, row), MINI) if f.kind == "race" and "A[0]" in f.message]
    assert len(found) == 1
    f = found[0]
    assert "A[0]" in f.message
    assert "copy at hand.py" in f.message
    assert "matmul at hand.py" in f.message
    assert f.nodes == ((0, 0), (0, 1))
    assert "on node (0,0) and 1 more" in f.message
    assert f.first is not None
    assert f.second is not None
    assert f.first.file == "hand.py"


def test_overwritten_while_it_is_read() -> None:
    a = Asm()
    x, y = a.sram("x", (1, 8), "fp32"), a.tensor("y", (1, 8), "fp32", "out")
    put = a.sem("put")
    with a.thread("t"):
        a.emit("vec.fill", dst=a.at(x), imm=1.0)
        a.copy(a.at(y), a.at(x), sent=put)
        a.emit("vec.fill", dst=a.at(x), imm=2.0)
        a.wait(put)
    assert str(only(a.program(), "race")) == (
        "hand.py:3: write of x by the vec.fill at hand.py:3 races with the read by the copy at hand.py:2 on node "
        "(0,0); wait for the copy's sent before overwriting its source"
    )


def test_memory_races_between_nodes() -> None:
    a = Asm(1, 2)
    x, y = a.sram("x", (1, 8), "fp32"), a.tensor("y", (4, 8), "fp32", "out")
    put = a.sem("put")
    with a.thread("t"):
        a.emit("vec.fill", dst=a.at(x), imm=1.0)
        for r in range(4):  # row 2 by both nodes
            with a.when(a.predicate((a.expr([(w.PARAM_COL, 2)]), -r, w.REL_LT if r > 1 else w.REL_GE))):
                a.copy(a.at(y, slice(r, r + 1)), a.at(x), done=put)
                a.wait(put)
    found = inspect(a.program(), MINI)
    assert {f.kind for f in found} == {"race"}
    assert all(f.nodes == ((0, 0), (0, 1)) and "write of y[" in f.message for f in found)


def test_a_copy_onto_itself() -> None:
    a = Asm()
    x, done = a.sram("x", (4, 4), "fp32"), a.sem("done")
    with a.thread("t"):
        a.emit("vec.fill", dst=a.at(x), imm=1.0)
        a.copy(a.at(x, slice(1, 4)), a.at(x, slice(0, 3)), done=done)
        a.wait(done)
    f = only(a.program(), "race")
    assert "reads and writes parts of x that overlap on node (0,0)" in f.message


def test_read_of_what_nothing_wrote() -> None:
    a = Asm()
    x, y = a.sram("x", (4, 4), "fp32"), a.sram("y", (4, 4), "fp32")
    with a.thread("t"):
        a.emit("vec.fill", dst=a.at(x, slice(0, 4), slice(0, 3)), imm=1.0)
        a.emit("vec.neg", dst=a.at(y, slice(0, 4), slice(0, 3)), x=a.at(x, slice(0, 4), slice(0, 3)))
        a.emit("vec.neg", dst=a.at(y), x=a.at(x))
    assert str(only(a.program(), "uninitialised")) == (
        "hand.py:3: read of x by the vec.neg at hand.py:3 finds bytes that nothing has written on node (0,0); "
        "copy, fill or preload them first"
    )


def test_accumulating_into_nothing() -> None:
    program = matmul_program(4, 5, 6)
    row = next(r for r in range(len(program.code)) if program.code[r, 0] == 32)
    code = program.code.copy()
    code[row, BY_MNEMONIC["matmul"].word("accumulate")] = 1
    f = only(dataclasses.replace(program, code=code), "uninitialised")
    assert "acc" in f.message
    assert "matmul" in f.message


def test_collect_of_what_nothing_wrote() -> None:
    a = Asm()
    x, y = a.sram("x", (4, 4), "fp32"), a.tensor("y", (4, 4), "fp32", "out", resident=True)
    with a.thread("t"):
        a.emit("vec.fill", dst=a.at(x, slice(0, 2)), imm=1.0)
    a.collect(a.at(y), a.at(x))
    f = only(a.program(), "uninitialised")
    assert "the collect reads bytes of x" in f.message


def test_load_of_memory_that_is_neither_input_nor_stored() -> None:
    a = Asm()
    x, t, done = a.sram("x", (4, 4), "fp32"), a.tensor("t", (4, 4), "fp32", ""), a.sem("done")
    with a.thread("t"):
        a.copy(a.at(x), a.at(t), done=done)
        a.wait(done)
    assert "read of t[0, 0]" in only(a.program(), "uninitialised").message


def test_one_semaphore_for_two_slots_is_ambiguous() -> None:
    a = Asm()
    x, b, full = a.tensor("x", (2, 4), "fp32"), a.sram("b", (2, 1, 4), "fp32"), a.sem("full")
    with a.thread("load"):
        a.copy(a.at(b, 0), a.at(x, slice(0, 1)), done=full)
        a.copy(a.at(b, 1), a.at(x, slice(1, 2)), done=full)
    with a.thread("use"):
        a.wait(full)
        a.emit("vec.neg", dst=a.at(b, 0), x=a.at(b, 0))
        a.wait(full)
        a.emit("vec.neg", dst=a.at(b, 1), x=a.at(b, 1))
    f = only(a.program(), "ambiguous", schedules=0)
    assert str(f) == (
        "hand.py:3: the wait for full at hand.py:3 may take a token of done of the copy at hand.py:2 instead of done "
        "of the copy at hand.py:1 on node (0,0), as nothing orders them; use a semaphore for each slot and giver, "
        "or wait for all at once"
    )


def test_waiting_for_both_copies_at_once_is_clean() -> None:
    assert inspect(matmul_program(3, 3, 3), MINI) == ()  # one semaphore, wait(2)


def test_one_giver_may_run_ahead() -> None:
    a = Asm()
    s = a.sem("s")
    with a.thread("give"):
        for _ in range(20):
            a.inc(s)
    with a.thread("take"):
        for _ in range(20):
            a.wait(s)
    assert inspect(a.program(), MINI) == ()


@pytest.mark.parametrize(("give", "kinds"), [((1, 1), {"ambiguous"}), ((2,), set())])
def test_two_threads_waiting_for_one_semaphore(give: tuple[int, ...], kinds: set[str]) -> None:
    a = Asm()
    s = a.sem("s")
    with a.thread("give"):
        for n in give:
            a.inc(s, n)
    for name in ("one", "two"):
        with a.thread(name):
            a.wait(s)
    found = inspect(a.program(), MINI)
    assert {f.kind for f in found} == kinds
    assert all("threads 'one' and 'two' wait for s in no order" in f.message for f in found)


def test_two_threads_at_one_barrier() -> None:
    a = Asm(1, 2)
    for name in ("one", "two"):
        with a.thread(name):
            a.barrier()
    assert any("two threads of one node join the barrier" in f.message for f in inspect(a.program(), MINI))


def test_deadlock_names_threads_semaphores_and_the_circle() -> None:
    a = Asm(1, 2)
    ping, pong = a.sem("ping"), a.sem("pong")
    with a.thread("left"):
        a.wait(pong)
        a.inc(ping)
    with a.thread("right"):
        a.wait(ping)
        a.inc(pong)
    found = inspect(a.program(), MINI)
    assert [f.kind for f in found] == ["deadlock", "deadlock"]
    assert found[0].message == (
        "thread 'left' waits for pong >= 1 at hand.py:1, which has 0 on node (0,0) and 1 more: the waits close a "
        "circle: left (0,0) waits for pong <- right (0,0) waits for ping <- left (0,0) waits for pong; "
        "give the token earlier or wait for fewer"
    )
    assert found[0].nodes == ((0, 0), (0, 1))
    assert found[0].second is not None
    assert found[0].second.line == 3


def test_deadlock_that_nobody_can_resolve() -> None:
    a = Asm()
    s = a.sem("s")
    with a.thread("t"):
        a.wait(s, 3)
    assert "nothing left to run gives it" in only(a.program(), "deadlock").message


def test_barrier_that_a_node_never_joins() -> None:
    a = Asm(1, 2)
    first = a.predicate((a.expr([(w.PARAM_COL, 1)]), 0, w.REL_EQ))
    with a.thread("t"), a.when(first):
        a.barrier()
    f = only(a.program(), "deadlock")
    assert "waits at the barrier of hand.py:1 on node (0,0)" in f.message
    assert "let every node of it join" in f.message


def test_leftover_and_unawaited() -> None:
    a = Asm(1, 2)
    x, b, s, full = a.tensor("x", (1, 4), "fp32"), a.sram("b", (1, 4), "fp32"), a.sem("s"), a.sem("full")
    with a.thread("t"):
        a.inc(s, 2)
        with a.when(a.predicate((a.expr([(w.PARAM_COL, 1)]), 0, w.REL_EQ))):
            a.copy(a.at(b), a.at(x), to=w.TARGET_ALL, done=full)
            a.wait(full)
    found = inspect(a.program(), MINI)
    assert [(f.kind, f.nodes) for f in found] == [
        ("unawaited", ((0, 1),)),
        ("leftover", ((0, 0), (0, 1))),
        ("leftover", ((0, 1),)),
    ]
    assert "nothing waits for the copy at hand.py:2 on node (0,1)" in found[0].message
    assert "s still holds 2 tokens of the inc at hand.py:1" in found[1].message


@pytest.mark.parametrize(("done", "sent", "clean"), [(-1, 0, True), (0, -1, True), (-1, -1, False)])
def test_a_store_needs_done_or_sent(done: int, sent: int, clean: bool) -> None:
    a = Asm()
    x, y, _ = a.sram("x", (1, 4), "fp32"), a.tensor("y", (1, 4), "fp32", "out"), a.sem("s")
    with a.thread("t"):
        a.emit("vec.fill", dst=a.at(x), imm=1.0)
        a.copy(a.at(y), a.at(x), done=done, sent=sent)
        if clean:
            a.wait(0)
    assert {f.kind for f in inspect(a.program(), MINI)} == (set() if clean else {"unawaited"})


def test_tokens_from_the_start_are_not_left_over() -> None:
    a = Asm()
    s = a.sem("s", init=2)
    with a.thread("t"):
        a.wait(s)
        a.inc(s)
    assert inspect(a.program(), MINI) == ()


def test_overflow_names_the_bits() -> None:
    small = MINI.replace(**{"node.semaphore_bits": 8})
    a = Asm()
    s = a.sem("s")
    with a.thread("t"):
        with a.loop(3):
            a.inc(s, 100)
        a.wait(s, 300)
    found = inspect(a.program(), small)
    assert [f.kind for f in found] == ["overflow"]
    assert "above 255, the most 8 bits hold" in found[0].message
    assert inspect(a.program(), MINI) == ()


def test_output_element_that_is_never_stored() -> None:
    a = Asm()
    x, y, s = a.sram("x", (4, 3), "fp32"), a.tensor("y", (4, 4), "fp32", "out"), a.sem("s")
    with a.thread("t"):
        a.emit("vec.fill", dst=a.at(x), imm=1.0)
        a.copy(a.at(y, slice(0, 4), slice(0, 3)), a.at(x), done=s)
        a.wait(s)
    assert only(a.program(), "unwritten").message == (
        "4 of 16 elements of output y are never stored, the first is y[0, 3]; store every element"
    )


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"schedules": -1}, "schedules=-1"),
        ({"schedules": True}, "True"),
        ({"seed": 1.5}, "1.5"),
        ({"engine": "x"}, "'x'"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], part: str) -> None:
    with pytest.raises(InputError, match="Cannot check") as error:
        inspect(copy_program(), MINI, **options)
    assert part in str(error.value)


def edited(change: Callable[[Any], None]) -> Program:
    program = copy_program(2, 2)
    code = program.code.copy()
    change(code)
    return dataclasses.replace(program, code=code)


def put(row: int, word: int, value: int) -> Callable[[Any], None]:
    def change(code: Any) -> None:
        code[row, word] = value

    return change


@pytest.mark.parametrize(
    ("program", "error", "part"),
    [
        (edited(put(0, 4, 1 << 40)), BoundsError, "leaves buffer 'b': its view starts at byte 1099511627776"),
        (edited(put(1, 3, 77)), ProgramError, "names semaphore 77 of 2; use one that the program has"),
        (edited(put(1, 5, -2)), ProgramError, "has a count of -2; counts and trips cannot be negative"),
    ],
)
def test_broken_rows_are_refused_by_line(program: Program, error: type[AccelError], part: str) -> None:
    with pytest.raises(error, match=part):
        inspect(program, MINI)


def test_huge_meshes_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="smaller mesh"):
        inspect(copy_program(1500, 1500), MINI)


# --- schedules and scale -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 17])
def test_other_schedules_find_the_same(seed: int) -> None:
    program = summa_program(2, 3, 2, 2, 2, 5)
    ready = next(r for r, op in enumerate(program.code[:, 0]) if op == MATMUL)
    early = without(program, ready - 1)  # a wait for B_full: its token stays, and no wait is ambiguous
    natural = inspect(early, MINI, schedules=0)
    assert {f.kind for f in natural} >= {"race"}
    assert sides(inspect(early, MINI, schedules=3, seed=seed)) >= sides(natural)
    for clean in CLEAN.values():
        assert inspect(clean(), MINI, schedules=6, seed=seed) == ()


def sides(findings: tuple[Finding, ...]) -> set[tuple[str, frozenset[Any], tuple[tuple[int, int], ...]]]:
    """Findings whatever side came first."""
    return {(f.kind, frozenset((f.first, f.second)), f.nodes) for f in findings}


def test_a_mesh_of_342_nodes_is_clean_and_its_mutant_is_grouped() -> None:
    d1 = chip("d1")
    program = summa_program(18, 19, 4, 4, 4, 8)
    assert inspect(program, d1, schedules=1) == ()
    compute = next(r for r, op in enumerate(program.code[:, 0]) if op == MATMUL)
    found = [f for f in inspect(without(program, compute - 2), d1, schedules=0) if f.kind == "race"]
    assert any(len(f.nodes) == 342 and "on node (0,0) and 341 more" in f.message for f in found)
