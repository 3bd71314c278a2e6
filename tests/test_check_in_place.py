"""Instructions that read and write one buffer: exactly in place is fine, a partial overlap is a race."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import accel

LINE = accel.tensor((4, 64), "fp32")


def found(kernel: Any, **options: Any) -> list[accel.errors.Finding]:
    return list(accel.kernel(kernel).build("mini", x=LINE, **options).findings())


def broadcast(k, x, *, fires):
    """The first node of each row sends its buffer to all of the row, itself included, then uses it again."""
    A, loaded, full, sent = k.sram((64,), "fp32", "A"), k.sem(name="loaded"), k.sem(name="full"), k.sem(name="sent")

    @k.thread
    def work():
        with k.when(k.col == 0):
            k.copy(A, x[k.row], done=loaded)
            k.wait(loaded)
            k.copy(A, A, to=k.row_nodes(), done=full, sent=sent)
            k.wait(sent)
        if fires == "sent":
            k.vec.neg(A, A)
            k.wait(full)
        else:
            k.wait(full)
            k.vec.neg(A, A)


def test_a_multicast_to_its_own_place_is_clean_once_it_is_done() -> None:
    assert found(broadcast, fires="done") == []


def test_a_multicast_to_its_own_place_still_writes_after_sent() -> None:
    races = [f for f in found(broadcast, fires="sent") if f.kind == "race"]
    assert races
    assert any((0, 0) in f.nodes for f in races)  # its own write may land on the negated bytes


VIEWS = {
    "same": lambda b: (b, b, False),
    "shifted": lambda b: (b[1:], b[:-1], True),
    "apart": lambda b: (b[:4], b[4:], False),
    "interleaved": lambda b: (b[::2], b[1::2], False),
    "transposed": lambda b: (b, b.T, True),
    "stretched": lambda b: (b, b[:1], True),
}


@pytest.mark.parametrize("name", VIEWS)
def test_a_vector_instruction_may_overlap_its_operand_only_in_place(name: str) -> None:
    def kernel(k, x, *, name):
        b = k.sram((8, 8), "fp32", "b")
        k.vec.fill(b, 1.0)
        dst, operand, _ = VIEWS[name](b)
        k.vec.neg(dst, operand)

    findings = found(kernel, name=name)
    assert [f.kind for f in findings] == ["race"] * VIEWS[name](np.zeros((8, 8)))[2]
    for f in findings:
        assert "the vec.neg at test_check_in_place.py:" in f.message
        assert "reads and writes parts of b that overlap on node (0,0) and 15 more" in f.message
        assert f.message.endswith("write to another buffer, or exactly in place")


def test_a_copy_that_overlaps_its_own_source_says_so() -> None:
    def kernel(k, x):
        b, done = k.sram((8, 8), "fp32", "b"), k.sem(name="done")
        k.vec.fill(b, 1.0)
        k.copy(b[1:], b[:-1], done=done)
        k.wait(done)

    (finding,) = found(kernel)
    assert finding.kind == "race"
    assert "the copy at test_check_in_place.py:" in finding.message
    assert "reads and writes parts of b that overlap" in finding.message


def test_slots_are_named_as_a_slice() -> None:
    def kernel(k, x):
        b, out, done = k.sram((8, 1, 64), "fp32", "b"), k.sram((64,), "fp32", "out"), k.sem(name="done")
        for s in (1, 2, 3):
            k.copy(b[s], x[0:1], done=done)
            k.vec.neg(out, b[s, 0])
        k.wait(done, 3)

    messages = [f.message for f in found(kernel) if f.kind == "race"]
    assert any(m.startswith("read of b[1:4] by the vec.neg at test_check_in_place.py:") for m in messages)


def test_a_product_may_not_be_written_over_its_own_operand() -> None:
    """In 16 bits a result has the format of what is multiplied, and every row of it reads what another one writes."""

    def kernel(k, x, *, apart):
        A = k.sram((2, 16, 16), "bf16", "A")

        @k.thread
        def work():
            k.vec.fill(A, 1)
            k.matmul(A[1] if apart else A[0], A[0], A[0])

    assert found(kernel, apart=True) == []
    assert any(f.kind == "race" for f in found(kernel, apart=False))
