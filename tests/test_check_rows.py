"""The checker's view of pulls, probes, tables, masks, random numbers, rings and bias scalars."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import accel
from accel.errors import AccelError, Finding

LINE = accel.tensor((4, 64), "fp32")


def found(kernel: Any, **options: Any) -> list[Finding]:
    options.setdefault("x", LINE)
    return list(accel.kernel(kernel).build("mini", mesh=(1, 2), **options).findings())


def kinds(kernel: Any, **options: Any) -> set[str]:
    return {f.kind for f in found(kernel, **options)}


# --- pull ------------------------------------------------------------------------------------------------------------


def neighbour(k, x, *, drop=""):
    """Node (0,1) pulls what node (0,0) loaded; node (0,0) fills its buffer again once that was read."""
    A, B = k.sram((64,), "fp32", "A"), k.sram((64,), "fp32", "B")
    loaded, ready, got, freed = (k.sem(name=n) for n in ("loaded", "ready", "got", "freed"))

    @k.thread
    def work():
        with k.when(k.col == 0):
            k.copy(A, x[0], done=loaded)
            k.wait(loaded)
            if drop != "ready":
                k.inc(ready, at=(0, 1))
            if drop != "freed":
                k.wait(freed)
            k.vec.fill(A, 1.0)
        with k.when(k.col == 1):
            if drop != "ready":
                k.wait(ready)
            k.pull(B, A, of=(0, 0), done=got, sent=None if drop == "freed" else freed)
            if drop != "got":
                k.wait(got)
            k.vec.neg(B, B)


def test_a_pull_in_order_is_clean() -> None:
    assert found(neighbour) == []


@pytest.mark.parametrize(
    ("drop", "kind", "text"),
    [
        ("ready", "race", "of A by"),  # the owner writes A while it is read from afar
        ("freed", "race", "read of A by the pull"),
        ("got", "race", "write of B by the vec.neg"),
    ],
)
def test_a_pull_out_of_order_is_reported(drop: str, kind: str, text: str) -> None:
    findings = found(neighbour, drop=drop)
    assert any(f.kind == kind and text in f.message for f in findings), findings
    assert drop != "got" or "unawaited" in {f.kind for f in findings}


def test_a_pull_of_what_nobody_wrote_names_the_node_it_reads() -> None:
    def kernel(k, x):
        A, B, got = k.sram((64,), "fp32", "A"), k.sram((64,), "fp32", "B"), k.sem(name="got")
        with k.when(k.col == 1):
            k.pull(B, A, of=(0, 0), done=got)
            k.wait(got)

    [f] = found(kernel)
    assert (f.kind, f.nodes) == ("uninitialised", ((0, 0),))


def test_a_pull_whose_end_nobody_awaits_is_reported() -> None:
    def kernel(k, x):
        A, B, sent = k.sram((64,), "fp32", "A"), k.sram((64,), "fp32", "B"), k.sem(name="sent")
        k.vec.fill(A, 1.0)
        k.barrier()
        k.pull(B, A, of=(0, 1 - k.col), sent=sent)
        k.wait(sent)

    assert kinds(kernel) == {"unawaited"}


def test_stuck_threads_know_that_a_pull_would_give_their_token() -> None:
    def kernel(k, x):
        A, B = k.sram((64,), "fp32", "A"), k.sram((64,), "fp32", "B")
        freed, go, got = k.sem(name="freed"), k.sem(name="go"), k.sem(name="got")
        with k.when(k.col == 0):
            k.wait(freed)
            k.inc(go, at=(0, 1))
        with k.when(k.col == 1):
            k.wait(go)
            k.pull(B, A, of=(0, 0), done=got, sent=freed)
            k.wait(got)

    findings = found(kernel)
    assert {f.kind for f in findings} == {"deadlock"}
    assert all("the waits close a circle" in f.message for f in findings)


# --- rows that read and write whole views ----------------------------------------------------------------------------


def rows_kernel(k, x, *, what):
    """One instruction on operands of which `what[1]` was never written."""
    name, missing = what
    made: dict[str, Any] = {}

    def operand(which: str, shape: tuple[int, ...], dtype: str) -> Any:
        made[which] = k.sram(shape, dtype, which)
        if which != missing:
            k.vec.fill(made[which], 0)
        return made[which]

    table, rows, index = (
        operand("table", (8, 16), "fp32"), operand("rows", (4, 16), "fp32"), operand("index", (4,), "int32"),
    )  # fmt: skip
    mask, out = operand("mask", (4, 16), "uint8"), k.sram((4, 16), "fp32", "out")
    if name == "gather":
        k.vec.gather(out, table, index)
    elif name == "scatter_add":
        k.vec.scatter_add(table, rows, index)
    elif name == "select":
        k.vec.select(out, mask, rows, table[:4])
    elif name == "compare":
        k.vec.compare(k.sram((4, 16), "uint8", "bits"), rows, "<", table[4:])
    elif name == "transpose":
        k.vec.transpose(k.sram((16, 4), "fp32", "turned"), rows)
    else:
        k.probe(rows, "rows")


@pytest.mark.parametrize(
    ("name", "reads"),
    [
        ("gather", {"table", "index"}), ("scatter_add", {"table", "rows", "index"}),
        ("select", {"mask", "rows", "table"}), ("compare", {"rows", "table"}), ("transpose", {"rows"}),
        ("probe", {"rows"}),
    ],
)  # fmt: skip
def test_every_operand_that_is_read_must_hold_a_value(name: str, reads: set[str]) -> None:
    assert found(rows_kernel, what=(name, "")) == []
    for missing in ("table", "rows", "index", "mask"):
        findings = found(rows_kernel, what=(name, missing))
        assert [f.kind for f in findings] == ["uninitialised"] * (missing in reads), (name, missing)


@pytest.mark.parametrize("what", ["iota", "random", "cast_sr"])
def test_rows_that_make_numbers_write_their_destination(what: str) -> None:
    def kernel(k, x, *, what):
        out, wide = k.sram((64,), "fp32", "out"), k.sram((64,), "fp32", "wide")
        if what == "iota":
            k.vec.iota(out)
        elif what == "random":
            k.vec.random(out, stream=3)
        else:
            k.vec.fill(wide, 0.5)
            out = k.sram((64,), "bf16", "narrow")
            k.vec.cast(out, wide, "stochastic", stream=3)
        k.probe(out, "out")

    assert found(kernel, what=what) == []


@pytest.mark.parametrize("name", ["gather", "transpose", "scatter_add"])
def test_rows_that_are_not_element_by_element_cannot_work_in_place(name: str) -> None:
    def kernel(k, x, *, name):
        square, index = k.sram((8, 8), "fp32", "square"), k.sram((8,), "int32", "index")
        k.vec.fill(square, 1.0)
        k.vec.iota(index)
        if name == "transpose":
            k.vec.transpose(square, square)
        elif name == "gather":
            k.vec.gather(square, square, index)
        else:
            k.vec.scatter_add(square, square, index)

    [f] = found(kernel, name=name)
    assert f.kind == "race"
    assert "reads and writes parts of square that overlap" in f.message


def test_a_probe_reads_while_a_copy_writes() -> None:
    def kernel(k, x):
        A, full = k.sram((64,), "fp32", "A"), k.sem(name="full")
        k.vec.fill(A, 0.0)
        k.copy(A, x[0], done=full)
        k.probe(A, "early")
        k.wait(full)

    [f] = found(kernel)
    assert f.kind == "race"
    assert "read of A by the probe" in f.message


# --- bias scalars ----------------------------------------------------------------------------------------------------


def scaled(k, x, *, wait, move=False):
    """A cast to a format whose bias is a byte of SRAM that a copy brings."""
    bias, known = k.sram((1,), "uint8", "bias"), k.sem(name="known")
    code = k.sram((64,), "cfp8-143", "code", bias=bias)
    wide, other = k.sram((64,), "fp32", "wide"), k.sram((64,), "cfp8-143", "other", bias=bias)
    k.vec.fill(wide, 1.0)
    if wait == "never":
        k.vec.cast(code, wide)
        return
    k.copy(bias, x, done=known)
    if wait == "late" and not move:
        k.vec.cast(code, wide)
    k.wait(known)
    k.vec.cast(code, wide)
    if move:
        k.copy(bias, x, done=known)
        k.vec.copy(other, code)
        k.wait(known)


@pytest.mark.parametrize(("wait", "kind"), [("before", set()), ("late", {"race"}), ("never", {"uninitialised"})])
def test_a_bias_in_sram_is_read_wherever_codes_are_made(wait: str, kind: set[str]) -> None:
    findings = found(scaled, x=accel.tensor((1,), "uint8"), wait=wait)
    assert {f.kind for f in findings} >= kind
    assert bool(findings) == bool(kind)
    assert all("bias" in f.message for f in findings)


def test_moving_codes_does_not_read_their_bias() -> None:
    assert found(scaled, x=accel.tensor((1,), "uint8"), wait="before", move=True) == []


# --- rings against sets of bytes -------------------------------------------------------------------------------------


SLOTS = 5


def ring_pair(k, x, *, write, read, depth):
    """A copy into slots [write, write + depth) of a ring and a read of [read, read + depth), in no order."""
    frames, out = k.sram((SLOTS, 8), "fp32", "frames"), k.sram((depth, 8), "fp32", "out")
    full = k.sem(name="full")
    k.vec.fill(frames, 0.0)
    ring = frames.ring()
    k.copy(ring[write : write + depth], x[:depth, :8], done=full)
    k.vec.neg(out, ring[read : read + depth])
    k.wait(full)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_views_of_a_ring_race_exactly_where_they_share_a_slot(depth: int) -> None:
    for write, read in itertools.product(range(0, 2 * SLOTS, 2), range(3, 3 + SLOTS)):
        shared = {(write + i) % SLOTS for i in range(depth)} & {(read + i) % SLOTS for i in range(depth)}
        assert kinds(ring_pair, write=write, read=read, depth=depth) == ({"race"} if shared else set()), (write, read)


@pytest.mark.parametrize("first", range(3, 3 + SLOTS))
def test_a_ring_is_initialised_slot_by_slot(first: int) -> None:
    def kernel(k, x, *, first, last):
        frames, out = k.sram((SLOTS, 8), "fp32", "frames"), k.sram((3, 8), "fp32", "out")
        ring = frames.ring()
        k.vec.fill(ring[first : first + 3], 1.0)
        k.vec.neg(out, ring[last : last + 3])

    for last in range(first, first + SLOTS):
        clean = (last - first) % SLOTS == 0
        assert kinds(kernel, first=first, last=last) == (set() if clean else {"uninitialised"}), (first, last)


# --- refusals --------------------------------------------------------------------------------------------------------


def refusal(act: Any) -> tuple[type[AccelError], str]:
    with pytest.raises(AccelError) as caught:
        act()
    return type(caught.value), str(caught.value)


def broken(which: str) -> accel.Program:
    from programs import Asm

    from accel.hardware.catalog import chip
    from accel.isa import layout as w

    a = Asm(1, 2)
    x, y = a.tensor("x", (4, 4), "fp32"), a.tensor("y", (4, 4), "fp32", "out")
    b, s = a.sram("b", (4, 4), "fp32"), a.sem("s")
    with a.thread("t"):
        a.copy(a.at(b), a.at(x), done=s)
        a.wait(s, -3 if which == "count" else 1)
        if which == "store":
            a.copy(a.at(y), a.at(b), to=w.TARGET_ALL, done=s)
        elif which == "semaphore":
            a.wait(9)
        elif which == "bounds":
            a.emit("vec.fill", dst=a.view(b, (4, 4), (16, 4), 32), imm=0.0)
        elif which == "alignment":
            a.emit("vec.fill", dst=a.view(b, (2,), (4,), 2), imm=0.0)
        elif which == "mesh":
            a.inc(s, at=a.target(0, 0, 1, 2))
        elif which == "trips":
            with a.loop(-2):
                a.wait(s)
    return accel.Program(a.program(), chip("mini"))


@pytest.mark.parametrize("which", ["store", "count", "semaphore", "bounds", "alignment", "mesh", "trips"])
def test_run_and_check_refuse_in_the_same_words(which: str) -> None:
    program = broken(which)
    run = refusal(lambda: program.run(x=np.zeros((4, 4), np.float32)))
    assert run == refusal(program.findings)
