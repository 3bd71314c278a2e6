"""Every error of the kernel language once: its type, its text, and the author's line."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lang_misuse_rows  # noqa: F401 - adds to CASES
import lang_misuse_views  # noqa: F401 - adds to CASES
import numpy as np
import pytest
from lang_misuse import CASES, MINI, STALE, case, sram_overflow

from accel.errors import AccelError, CapacityError, InputError, TraceError
from accel.lang import Kernel, tensor


# --- predicates, loops, threads -------------------------------------------------------------------------------------
@case(TraceError, "'i == 0' is a run-time value: a hardware loop is traced once for all trips")
def truth_of_a_loop_index(k, x):
    for i in k.loop(4):
        if i == 0:  # here
            k.barrier()


@case(TraceError, "'i' depends on a hardware loop and has no int while tracing")
def int_of_a_loop_index(k, x):
    for i in k.loop(4):
        range(i)  # here


@case(TraceError, "'i * i' is not affine in the loop index 'i'")
def square_of_a_loop_index(k, x):
    for i in k.loop(4):
        x[i * i]  # here


@case(TraceError, "an address takes at most 4 loop terms, this expression has 5")
def five_loop_terms(k, x):
    for i in k.loop(2):
        x[i % 3 + i % 5 + i % 7 + i % 9 + i % 11]  # here


@case(TraceError, "the loop index 'i' is used after its loop has ended")
def index_after_its_loop(k, x):
    s = k.sem(4)
    for i in k.loop(4):
        k.inc(s[i])
    k.inc(s[i])  # here


@case(TraceError, "loop body is not trip-invariant: instruction 0 was inc(sem=0/0, n=1/0, at=0)")
def body_that_changes(k, x):
    s, n = k.sem(2), 0
    for _ in k.loop(4):
        k.inc(s[n])  # here
        n = 1


@case(TraceError, "a k.loop is left before its end, and the machine has no break")
def broken_loop(k, x):
    for _ in k.loop(4):  # here
        k.barrier()
        break


@case(TraceError, "this k.loop is nested 5 deep, and the machine nests 4; use range() inside")
def five_loops(k, x):
    for _ in k.loop(2):
        for _ in k.loop(2):
            for _ in k.loop(2):
                for _ in k.loop(2):
                    for _ in k.loop(2):  # here
                        k.barrier()


@case(TraceError, "k.loop(-1) makes -1 trips; the number of trips is at least 0")
def negative_loop(k, x):
    for _ in k.loop(-1):  # here
        k.barrier()


@case(TraceError, "'|' of 'i == 0', which depends on a loop index, is not a predicate of the machine")
def disjunction_of_trips(k, x):
    for i in k.loop(4):
        with k.when((i == 0) | (k.row == 0)):  # here
            k.barrier()


@case(TraceError, "5 conditions on loop indices are in force here, and a predicate holds 4")
def five_conditions_on_trips(k, x):
    for i in k.loop(9):
        with k.when((i != 1) & (i != 2) & (i != 3) & (i != 4) & (i != 5)):  # here
            k.barrier()


@case(TraceError, "k.when takes a comparison of node values or loop indices, not 'row'")
def condition_of_text(k, x):
    with k.when("row"):  # here
        k.barrier()


@case(TraceError, "the nodes split into 16 parts here, 16 roles in all, at most 8; use k.when(...)")
def a_role_a_node(k, x):
    range(k.row * 4 + k.col)  # here


@case(TraceError, "thread 'inner' is declared inside thread 'outer'")
def thread_in_a_thread(k, x):
    @k.thread
    def outer():
        @k.thread  # here
        def inner():
            k.barrier()


@case(TraceError, "thread 't' is declared inside a k.loop or k.when")
def thread_in_a_loop(k, x):
    for _ in k.loop(2):

        @k.thread  # here
        def t():
            k.barrier()


@case(TraceError, "an instruction stands outside the threads of this kernel")
def instruction_after_a_thread(k, x):
    @k.thread
    def t():
        k.barrier()

    k.barrier()  # here


@case(TraceError, "thread 't' follows instructions outside any thread")
def thread_after_an_instruction(k, x):
    k.barrier()

    @k.thread  # here
    def t():
        k.barrier()


@case(TraceError, "thread 'main' has more than 500 instructions and may never end")
def endless(k, x):
    while True:
        k.barrier()  # here


@case(TraceError, "a view of 'x' was taken inside a k.when that keeps it in bounds, and is used outside")
def view_outside_its_condition(k, x):
    b, s = k.sram((8,), "bf16", "b"), k.sem()
    with k.when(k.row > 0):
        above = x[k.row - 1]
        k.copy(b, above, done=s)
    k.copy(b, above, done=s)  # here


@case(TraceError, "semaphore s[row] was taken inside a k.when that keeps it in bounds")
def semaphore_outside_its_condition(k, x):
    s = k.sem(3, "s")
    with k.when(k.row < 3):
        mine = s[k.row]
        k.inc(mine)
    k.wait(mine)  # here


@case(TraceError, "k.rect(row + 1, row + 2, 0, 4) was taken inside a k.when that keeps it in bounds")
def target_outside_its_condition(k, x):
    with k.when(k.row < 3):
        below = k.rect(k.row + 1, k.row + 2, 0, 4)
        k.inc(k.sem(), at=below)
    k.barrier(below)  # here


@case(TraceError, "thread 'work' contains yield or async and did not run; write it as a plain function")
def generator_as_a_thread(k, x):
    @k.thread  # here
    def work():
        k.barrier()
        yield


@case(TraceError, "'row' is an integer and is compared with 2.0; use '//' where a quotient is meant")
def comparison_with_a_float(k, x):
    if k.row == k.mesh[0] / 2:  # here
        k.barrier()


# --- fifo -----------------------------------------------------------------------------------------------------------
@case(TraceError, "f.put() inside a k.loop cannot count slots; pass the index: f.put(i)")
def fifo_without_index(k, x):
    f = k.fifo((8,), "bf16", name="f")
    for _ in k.loop(2):
        f.put()  # here


@case(TraceError, "2 copies fill a slot of 'f', which counts on 1; give k.fifo(..., tokens=2)")
def fifo_of_two_copies(k, x):
    f = k.fifo((2, 8), "bf16", name="f")
    with f.put() as slot:  # here
        k.copy(slot[0], x[0])
        k.copy(slot[1], x[1])


@case(TraceError, "a copy into a slot of 'f' has a done= of its own; the fifo supplies it")
def fifo_with_done(k, x):
    f, s = k.fifo((8,), "bf16", name="f"), k.sem()
    with f.put() as slot:
        k.copy(slot, x[0], done=s)  # here


@case(TraceError, "a copy out of a slot of 'f' is followed by other instructions")
def fifo_with_a_late_copy(k, x):
    f = k.fifo((8,), "bf16", name="f")
    with f.get() as slot:  # here
        k.copy(x[0], slot)
        k.barrier()


@case(TraceError, "fifo 'f': tokens = 0; a slot is filled by at least one copy")
def fifo_of_no_copy(k, x):
    k.fifo((8,), "bf16", name="f", tokens=0)  # here


# --- habits of NumPy and other kernel languages -----------------------------------------------------------------------
@case(TraceError, "put each comparison in parentheses: (k.row == 0) & (k.col == 0)")
def comparison_without_parentheses(k, x):
    k.when(k.row == 0 & k.col == 0)  # here


@case(TraceError, "'b' is a view, which has no arithmetic; use k.vec.add(dst, x, y) and the like")
def arithmetic_of_views(k, x):
    b = k.sram((8, 8), "bf16", "b")
    2 * b[0]  # here


@case(TraceError, "'b' is a view, which has no @; use k.matmul(acc, a, b)")
def product_of_views(k, x):
    b = k.sram((8, 8), "bf16", "b")
    b @ b  # here


@case(TraceError, "'b' cannot be assigned to; use k.vec.fill, k.vec.copy or k.copy")
def assignment_to_a_view(k, x):
    k.sram((8, 8), "bf16", "b")[0] = 0  # here


@case(TraceError, "k.vec has no 'cbrt'; it has copy, cast, neg")
def instruction_that_is_none(k, x):
    k.vec.cbrt(x, x)  # here


@case(TraceError, "did you mean 'reduce_sum'?")
def instruction_misspelt(k, x):
    k.vec.reducesum(x, x)  # here


@case(TraceError, "k.inc of (0, 1) tokens; a count is an int (and at= names the nodes)")
def target_in_the_place_of_a_count(k, x):
    k.inc(k.sem(), (0, 1))  # here


@case(TraceError, "k.copy takes views of buffers and tensors, not an array; build with accel.tensor(shape, dtype)")
def array_for_a_tensor(k, x):
    k.copy(k.sram((8, 8), "bf16", "b"), np.zeros((8, 8)))  # here


@case(TraceError, "'(row + i) % 4' is not affine in the loop index 'i'")
def ring_index_in_a_loop(k, x):
    for i in k.loop(4):
        (i + k.row) % 4  # here


# --- Python in the author's function, and things of another kernel ----------------------------------------------------
@case(TraceError, "ZeroDivisionError while tracing: '4 // row' divides by zero on node (0, 0)")
def division_by_a_node(k, x):
    4 // k.row  # here


@case(TraceError, "'/' of 'row' would not be an integer; use '//'")
def true_division(k, x):
    k.row / 2  # here


@case(TraceError, "IndexError while tracing: list index out of range")
def an_error_of_the_author(k, x):
    return list(range(3))[3]  # here


@case(TraceError, "the kernel calls itself without end")
def endless_recursion(k, x):
    def again():
        return again()  # here

    again()


@case(TraceError, "'old' belongs to another kernel; use the buffers and tensors of this one")
def buffer_of_another_kernel(k, x):
    k.copy(STALE["buffer"], x[0])  # here


@case(TraceError, "this semaphore belongs to another kernel")
def semaphore_of_another_kernel(k, x):
    k.wait(STALE["sem"])  # here


@case(TraceError, "k.row_nodes() belongs to another kernel")
def target_of_another_kernel(k, x):
    k.barrier(STALE["target"])  # here


@case(TraceError, "a value of another trace is used here")
def value_of_another_kernel(k, x):
    k.row + STALE["row"]  # here


@case(TraceError, "this condition belongs to another kernel")
def condition_of_another_kernel(k, x):
    with k.when(STALE["row"] == 1):  # here
        k.barrier()


@case(TraceError, "this k belongs to a kernel that is already traced")
def k_of_another_kernel(k, x):
    STALE["k"].barrier()  # here


@case(TraceError, "this k belongs to a kernel that is already traced; use the k of the kernel that is being built")
def allocation_from_another_kernel(k, x):
    STALE["k"].sram((8,), "bf16")  # here


@pytest.fixture(autouse=True, scope="module")
def _stale() -> None:
    def old(k, x):
        STALE.update(k=k, buffer=k.sram((8,), "bf16", "old"), sem=k.sem(), row=k.row, target=k.row_nodes())

    Kernel(old).trace(MINI, {"x": tensor((8, 8))}, {})


@pytest.mark.parametrize(("fn", "error", "text"), CASES, ids=[fn.__name__ for fn, _, _ in CASES])
def test_error(fn: Callable[..., Any], error: type[AccelError], text: str) -> None:
    with pytest.raises(error) as caught:
        Kernel(fn).trace(MINI, {"x": tensor((8, 8))}, {}, row_budget=500, role_budget=8)
    assert type(caught.value) is error
    assert text in caught.value.message
    assert "\n" not in str(caught.value)
    assert caught.value.at is not None
    lines, first = inspect.getsourcelines(fn)
    marked = [first + i for i, line in enumerate(lines) if line.rstrip().endswith("# here")]
    assert caught.value.at.line == marked[0], marked
    assert Path(caught.value.at.file).name == Path(inspect.getfile(fn)).name


def test_no_text_is_pinned_twice() -> None:
    assert len({text for _, _, text in CASES}) == len(CASES)


def test_capacity_error_carries_the_allocation_map() -> None:
    with pytest.raises(CapacityError) as caught:
        Kernel(sram_overflow).trace(MINI, {"x": tensor((8, 8))}, {})
    small = next(line for line in caught.value.allocation_map.splitlines() if "small" in line)
    assert small.split()[:4] == ["0", "128", "small:", "bf16"]
    assert "lang_misuse.py" in small


def test_the_author_s_exception_is_chained() -> None:
    with pytest.raises(TraceError) as caught:
        Kernel(an_error_of_the_author).trace(MINI, {"x": tensor((8, 8))}, {})
    assert isinstance(caught.value.__cause__, IndexError)


def test_resident_and_memory_do_not_mix() -> None:
    def copies(k, x):
        k.copy(k.sram((8, 8), "bf16", "b"), x)

    with pytest.raises(
        TraceError, match=r"k\.copy touches 'x', which is resident in SRAM; use k\.preload or k\.collect"
    ):
        Kernel(copies).trace(MINI, {"x": tensor((8, 8))}, {}, resident=("x",))


BOTH = {"x": tensor(8), "y": tensor(8)}


def scale(k, x, y, *, factor, rounds=1):
    k.barrier()


@pytest.mark.parametrize(
    ("tensors", "params", "options", "text"),
    [
        ({"x": tensor(8)}, {"factor": 1}, {}, "kernel scale needs argument 'y'"),
        (BOTH, {}, {}, "kernel scale needs argument 'factor'"),
        (BOTH, {"facter": 1}, {}, "has no argument 'facter'; it takes x, y, factor"),
        (BOTH, {"factor": 1, "x": 2}, {}, "'x' is given as a tensor and as a parameter"),
        ({"x": tensor(8), "y": (8,)}, {"factor": 1}, {}, "tensor 'y' is (8,); describe it with accel.tensor"),
        (BOTH, {"factor": 1}, {"resident": "z"}, "resident names 'z', no tensor of scale"),
        (BOTH, {"factor": 1}, {"mesh": (5, 1)}, "mesh 5 x 1 does not lie in the 4 x 4"),
        (BOTH, {"factor": 1}, {"mesh": 4}, "mesh is (rows, cols), got 4"),
    ],
)  # fmt: skip
def test_arguments_that_do_not_fit(tensors: Any, params: Any, options: Any, text: str) -> None:
    with pytest.raises(InputError) as caught:
        Kernel(scale).trace(MINI, tensors, params, **options)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ((0, 4), "a tensor of shape (0, 4) has no elements"),
        ((-1,), "every dimension is at least 1"),
        ((), "a tensor of shape () has no elements"),
        ((2.5,), "a tensor's shape is a tuple of ints, got (2.5,)"),
        (None, "a tensor's shape is a tuple of ints, got None"),
        ((1 << 40, 1 << 40), "no memory here holds it"),
    ],
)
def test_shapes_that_are_none(shape: Any, text: str) -> None:
    with pytest.raises(InputError) as caught:
        tensor(shape)
    assert text in str(caught.value)


def test_tensors_larger_than_the_memory() -> None:
    with pytest.raises(CapacityError, match=r"take 2,147,483,648 B, and 'mini' holds 1,000,000,000"):
        Kernel(scale).trace(MINI, {"x": tensor((1 << 15, 1 << 15)), "y": tensor(1)}, {"factor": 1})


def test_a_description_has_no_elements() -> None:
    with pytest.raises(TraceError, match="describes a tensor and has no elements"):
        tensor((8, 8))[0]


@pytest.mark.parametrize("thing", [3, lambda: None])
def test_what_is_no_kernel(thing: Any) -> None:
    with pytest.raises(InputError, match=r"takes no argument; the first is k|made of a function"):
        Kernel(thing)
