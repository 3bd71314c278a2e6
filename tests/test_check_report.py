"""The report that people read: every line that takes part, quoted; a way to go wrong; the way out in their names."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

import accel
from accel.check import as_data, hazard_report, nodes_text
from accel.errors import DeadlockError, Finding, HazardError, Location
from accel.files import source_text

LINE = accel.tensor((4, 64), "fp32")
HERE = Path(__file__)


def found(kernel: Any, *, chip: str = "mini", **options: Any) -> list[Finding]:
    return list(accel.kernel(kernel).build(chip, **options).findings())


def line_of(text: str) -> int:
    """The only line of this file that holds `text` and ends on the mark of its kernel."""
    return next(i for i, line in enumerate(HERE.read_text("utf-8").splitlines(), 1) if line.strip() == text)


def two_threads(k, x):
    A, B, full = k.sram((64,), "fp32", "A"), k.sram((64,), "fp32", "B"), k.sem(name="full")

    @k.thread
    def load():
        k.copy(A, x[0], done=full)
        k.wait(full)
        k.vec.fill(A, 7.0)

    @k.thread
    def use():
        k.vec.add(B, A, 1.5)


def test_the_fix_names_the_token_the_lines_and_the_threads() -> None:
    copy, use = line_of("k.copy(A, x[0], done=full)"), line_of("k.vec.add(B, A, 1.5)")
    findings = {(f.sides[0].at.line, f.sides[1].at.line): f for f in found(two_threads, x=LINE) if f.kind == "race"}  # type: ignore[union-attr]
    fill = line_of("k.vec.fill(A, 7.0)")
    assert {frozenset(pair) for pair in findings} == {frozenset((copy, use)), frozenset((fill, use))}
    f = findings[fill, use]
    assert f.thing == "A"
    assert [(s.does, s.thread) for s in f.sides] == [("write", "load"), ("read", "use")]
    assert f.fix.startswith(f"let thread 'load' give a token after line {fill} (k.inc")
    assert f.fix.endswith(f"k.wait for it before line {use}")


def test_the_fix_for_a_copy_names_its_own_token() -> None:
    def kernel(k, x):
        A, B = k.sram((64,), "fp32", "A"), k.sram((64,), "fp32", "B")
        full, gone = k.sem(name="full"), k.sem(name="gone")
        k.copy(A, x[0], done=full)
        k.vec.neg(B, A)
        k.wait(full)
        k.copy(B, A, done=full, sent=gone)
        k.vec.fill(A, 1.0)
        k.wait(full)
        k.wait(gone)

    early, late = (f for f in found(kernel, x=LINE) if f.kind == "race")
    lines = [[s.at.line for s in f.sides if s.at] for f in (early, late)]
    tail = "; on another node, pass the token on with k.inc"
    assert early.fix == f"k.wait(full), the done= of line {lines[0][0]}, before line {lines[0][1]}{tail}"
    assert late.fix == f"k.wait(gone), the sent= of line {lines[1][0]}, before line {lines[1][1]}{tail}"
    assert late.why[1].endswith("the copy sends the new bytes instead of the old")


def test_the_report_quotes_the_lines_it_speaks_of() -> None:
    with pytest.raises(HazardError) as caught:
        accel.kernel(two_threads).build("mini", x=LINE).check()
    text = str(caught.value)
    assert text.startswith(f"two_threads has {len(caught.value.findings)} hazards: ")
    assert "| k.copy(A, x[0], done=full)" in text
    assert "| k.vec.add(B, A, 1.5)" in text
    assert "   on   (0,0), (0,1), (0,2), (0,3) and 12 more" in text
    for f in caught.value.findings:
        assert f.message in text
        assert f.fix in text
        assert all(line in text for line in f.why)


@pytest.mark.parametrize(("write", "calls"), [
    ("vec.add", lambda k, b, a: k.vec.add(b, a, 2.0)), ("vec.sub", lambda k, b, a: k.vec.sub(b, a, 2.0)),
    ("vec.max", lambda k, b, a: k.vec.max(b, a, 2.0)), ("vec.compare", lambda k, b, a: k.vec.compare(b, a, "<", 2.0)),
])  # fmt: skip
def test_messages_say_what_the_author_wrote(write: str, calls: Any) -> None:
    def kernel(k, x):
        a, b = k.sram((64,), "fp32", "a"), k.sram((64,), "uint8" if write == "vec.compare" else "fp32", "b")
        calls(k, b, a)

    [f] = found(kernel, x=LINE)
    if write == "vec.sub":  # its line holds both calls, so the table's own spelling stands
        write = "vec.add"
    assert f"by the {write} at" in f.message


def test_a_subtraction_is_told_from_an_addition_by_its_line() -> None:
    def kernel(k, x):
        a, b = k.sram((64,), "fp32", "a"), k.sram((64,), "fp32", "b")
        k.vec.sub(b, a, 2.0)

    [f] = found(kernel, x=LINE)
    assert "by the vec.sub at" in f.message


@pytest.mark.parametrize(("given", "says"), [
    ("done", "k.wait(full), its done=, before using its data"), ("", "give it done= and wait for that before using"),
])  # fmt: skip
def test_unawaited_says_what_is_missing(given: str, says: str) -> None:
    def kernel(k, x):
        A, full = k.sram((64,), "fp32", "A"), k.sem(name="full")
        k.copy(A, x[0], done=full if given else None)

    messages = [f.message for f in found(kernel, x=LINE) if f.kind == "unawaited"]
    assert len(messages) == 1
    assert says in messages[0]


@pytest.mark.parametrize("awaited", ["sent", "done"])
def test_either_token_of_a_store_will_do(awaited: str) -> None:
    def kernel(k, y):
        A, tokens = k.sram((64,), "fp32", "A"), {name: k.sem(name=name) for name in ("sent", "done")}
        with k.when(k.row + k.col == 0):
            k.vec.fill(A, 0.0)
            for i in range(4):
                k.copy(y[i], A, **tokens)
                k.wait(tokens[awaited])

    assert {f.kind for f in found(kernel, y=LINE)} == {"leftover"}  # of the other token, and nothing else


def test_unawaited_stores_want_sent() -> None:
    def kernel(k, y):
        A = k.sram((64,), "fp32", "A")
        with k.when(k.row + k.col == 0):
            k.vec.fill(A, 0.0)
            for i in range(4):
                k.copy(y[i], A)

    messages = [f.message for f in found(kernel, y=LINE) if f.kind == "unawaited"]
    assert messages
    assert all(m.endswith("give it sent= and wait for that before its source changes") for m in messages)


def test_a_circle_of_waits_is_told_step_by_step() -> None:
    def kernel(k):
        ping, pong = k.sem(name="ping"), k.sem(name="pong")

        @k.thread
        def left():
            k.wait(pong)
            k.inc(ping)

        @k.thread
        def right():
            k.wait(ping)
            k.inc(pong)

    with pytest.raises(DeadlockError) as caught:
        accel.kernel(kernel).build("mini").check()
    f = caught.value.findings[0]
    assert [s.thread for s in f.sides] == ["left", "right"]
    assert f.why[0].startswith("left (0,0) waits for pong, at test_check_report.py:")
    assert f.why[1].startswith("right (0,0) waits for ping, at test_check_report.py:")
    assert f.why[-1] == "which waits for the first of these"


def test_two_nodes_that_store_to_one_place_are_told_so() -> None:
    def kernel(k, y):
        A, put = k.sram((4, 64), "fp32", "A"), k.sem(name="put")
        k.vec.fill(A, 0.0)
        k.copy(y, A, sent=put)
        k.wait(put)

    [f] = found(kernel, y=LINE)
    assert "by another node's run of it" in f.message
    assert f.fix == "let one node write it, or let each node write a part of its own"


def test_nodes_are_compressed() -> None:
    nodes = [(r, c) for r in range(16) for c in range(16)]
    assert nodes_text(nodes) == "(0,0), (0,1), (0,2), (0,3) and 252 more"
    assert nodes_text(nodes[:4]) == "(0,0), (0,1), (0,2), (0,3)"
    assert nodes_text([]) == ""


@pytest.mark.parametrize("engine", ["jit", "plain"])
def test_findings_do_not_depend_on_engine_schedules_or_the_run(engine: str) -> None:
    from accel.check import inspect
    from accel.hardware.catalog import chip

    program = accel.kernel(two_threads).build("mini", x=LINE, mesh=(1, 2)).isa
    first = inspect(program, chip("mini"), schedules=0)
    assert first
    for schedules, seed in ((0, 0), (3, 0), (5, random.Random(1).randrange(1000))):
        assert inspect(program, chip("mini"), schedules=schedules, seed=seed, engine=engine) == first


def test_data_holds_what_the_report_says() -> None:
    for f in found(two_threads, x=LINE):
        data = as_data(f)
        assert data["message"] == f.message
        assert data["nodes"] == [list(n) for n in f.nodes]
        assert [s["line"] for s in data["sides"]] == [s.at.line for s in f.sides if s.at]
        assert all(s["text"] for s in data["sides"])
        assert f.fix in hazard_report("p", [f])


@pytest.mark.parametrize("name", ["/dev/zero", "/etc/hostname", "no\0where.py", "missing.py", "<stdin>"])
def test_only_files_of_python_are_quoted(name: str) -> None:
    assert source_text(Location(name, 1)) == ""


def test_a_quoted_line_cannot_play_with_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "evil.py"
    path.write_text("x = 1 \x1b[31m red\n" + "y" * 500 + "\n", "utf-8")
    assert source_text(Location(str(path), 1)) == "x = 1  [31m red"
    assert len(source_text(Location(str(path), 2))) == 200
    assert source_text(Location(str(path), 99)) == ""
