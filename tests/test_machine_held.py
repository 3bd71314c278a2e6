"""Panels that stay in the scratch: whatever stores to the bytes they were made from makes the next product see it."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import accel
from accel.lang import K, TensorSpec
from accel.machine import effects, execute
from accel.machine.matmul import PAIRED
from accel.machine.words import C_HELD_HIGH
from accel.plain_twins import twin

ROWS, DEPTH, COLUMNS = 20, 64, 32
WAYS = ("copy", "one element", "vector", "neighbour", "pull", "another's", "nothing")


@accel.kernel
def twice(k: K, a: TensorSpec, b: TensorSpec, d: TensorSpec, y: TensorSpec, z: TensorSpec, *, way: str) -> None:
    """y = a b; then something stores to b, or beside it; then z = a b once more."""
    A, B = k.sram(a.shape, "bf16", "A"), k.sram(b.shape, "bf16", "B")
    D, acc = k.sram(b.shape, "bf16", "D"), k.sram((ROWS, COLUMNS), "fp32", "acc")
    done, ready, sent = k.sem(name="done"), k.sem(name="ready"), k.sem(name="sent")
    for buffer, source in ((A, a), (B, b), (D, d)):
        k.copy(buffer, source, done=done)
    k.wait(done, 3)
    k.matmul(acc, A, B)
    k.copy(y[k.row, k.col], acc, sent=done)
    k.wait(done)
    k.barrier()
    if way == "copy":
        k.copy(B, d, done=done)
        k.wait(done)
    elif way == "one element":
        k.copy(B[DEPTH - 1 :, COLUMNS - 1 :], d[DEPTH - 1 :, COLUMNS - 1 :], done=done)
        k.wait(done)
    elif way == "vector":
        k.vec.copy(B[3], D[5])
    elif way == "neighbour":
        k.copy(B[:, 4:9], D[:, 4:9], to=(k.row, 1 - k.col), done=ready, sent=sent)
        k.wait(ready)
        k.wait(sent)
    elif way == "pull":
        k.pull(B[7:9], D[7:9], of=(k.row, 1 - k.col), done=ready)
        k.wait(ready)
    elif way == "another's":
        k.vec.copy(D[0], D[1])
    k.matmul(acc, A, B)
    k.copy(z[k.row, k.col], acc, sent=done)
    k.wait(done)


def operands():
    rng = np.random.default_rng(1)
    return {name: rng.normal(size=shape).astype(ml_dtypes.bfloat16)
            for name, shape in (("a", (ROWS, DEPTH)), ("b", (DEPTH, COLUMNS)), ("d", (DEPTH, COLUMNS)))}  # fmt: skip


def program(way):
    specs = {name: accel.tensor(x.shape) for name, x in operands().items()}
    out = accel.tensor((1, 2, ROWS, COLUMNS), "fp32")
    return twice.build("mini", mesh=(1, 2), **specs, y=out, z=out, way=way)


def chain(a, b):
    sums = np.zeros((ROWS, COLUMNS), np.float32)
    for k in range(DEPTH):
        sums = (sums + a[:, k : k + 1].astype(np.float64) * b[k].astype(np.float64)).astype(np.float32)
    return sums


def after(way):
    """Return b as the second product must see it."""
    given = operands()
    b, d = given["b"].copy(), given["d"]
    where = {"copy": np.s_[:], "one element": np.s_[-1:, -1:], "neighbour": np.s_[:, 4:9], "pull": np.s_[7:9]}
    if way == "vector":
        b[3] = d[5]
    elif way in where:
        b[where[way]] = d[where[way]]
    return b


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("options", [{}, {"threads": 2}, {"schedule": 3}, {"schedule": 4}], ids=str)
def test_the_next_product_sees_what_was_stored(way, options):
    given = operands()
    results = program(way).run(**given, **options)
    for name, b in (("y", given["b"]), ("z", after(way))):
        for node in range(2):
            np.testing.assert_array_equal(results[name][0, node], chain(given["a"], b), f"{way}, {name}")


@pytest.mark.skipif(not PAIRED, reason="panels are held where registers are widest")
@pytest.mark.parametrize("way", ["copy", "one element", "vector"])
def test_panels_that_nobody_forgets_give_old_bits(way, monkeypatch):
    """In plain Python, without what tells of a store: the second product is the first again."""
    built, given = program(way), operands()
    codes = {name: x.view(np.uint16) for name, x in given.items()}
    scope = twin(effects.compute).__globals__
    results = execute(built.isa, codes, engine="plain")
    np.testing.assert_array_equal(results["z"][0, 0], chain(given["a"], after(way)))
    seen = []
    monkeypatch.setitem(scope, "forget", lambda config, *_: seen.append(int(config[C_HELD_HIGH])))
    stale = execute(built.isa, codes, engine="plain")
    assert any(seen), "no panels were held"
    assert not np.array_equal(stale["z"], results["z"])
