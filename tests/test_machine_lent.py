"""Inputs read where the caller has them and outputs written where the caller gets them: nobody can tell."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from programs import Asm

from accel.errors import UnwrittenError
from accel.machine import arena, execute
from accel.machine.arena import POISON

ORDERS = ["natural", 0, 1, 2, 3]
CODES = np.arange(64, dtype=np.uint16).reshape(8, 8) + np.uint16(0x3F80)


def round_trip(*, store_all=True):
    """x goes to y by way of SRAM, and what y then holds to z."""
    a = Asm(1, 1)
    x, y, z = a.tensor("x", (8, 8)), a.tensor("y", (8, 8), use="out"), a.tensor("z", (8, 8), use="out")
    b, c, s = a.sram("b", (8, 8)), a.sram("c", (8, 8)), a.sem("s")
    with a.thread("only"):
        rows = slice(0, 8 if store_all else 6)
        a.copy(a.at(b), a.at(x), done=s)
        a.wait(s)
        a.copy(a.at(y, rows), a.at(b, rows), done=s)
        a.wait(s)
        a.copy(a.at(c), a.at(y), done=s)
        a.wait(s)
        a.copy(a.at(z), a.at(c))
    return a.program()


@pytest.mark.parametrize("engine", ["jit", "plain"])
@pytest.mark.parametrize("order", ORDERS)
def test_an_output_that_is_read_again(order, engine):
    out = execute(round_trip(), {"x": CODES}, schedule=order, engine=engine)
    np.testing.assert_array_equal(out["y"], CODES)
    np.testing.assert_array_equal(out["z"], CODES)


@pytest.mark.parametrize("engine", ["jit", "plain"])
def test_what_nobody_stored_is_poison_when_read(engine, monkeypatch):
    monkeypatch.setattr(arena.Arena, "require_written", lambda self: None)
    out = execute(round_trip(store_all=False), {"x": CODES}, engine=engine)
    np.testing.assert_array_equal(out["z"][:6], CODES[:6])
    assert (out["z"][6:] == POISON).all()


def test_what_nobody_stored_is_an_error():
    for _ in range(2):  # the second time where the first one's bytes may lie
        with pytest.raises(UnwrittenError, match="16 of 64 elements of output 'y'"):
            execute(round_trip(store_all=False), {"x": CODES})


def test_inputs_of_any_layout_stay_as_they_are():
    frozen = CODES.copy()
    frozen.flags.writeable = False
    wide = np.zeros((8, 16), np.uint16)
    wide[:, ::2] = CODES
    for given in (CODES.copy(), frozen, wide[:, ::2], np.asfortranarray(CODES), CODES.T.copy().T):
        before = given.copy()
        np.testing.assert_array_equal(execute(round_trip(), {"x": given})["z"], CODES)
        np.testing.assert_array_equal(given, before)


def test_outputs_belong_to_the_caller():
    program, given = round_trip(), CODES.copy()
    first = execute(program, {"x": given})
    first["y"][:], first["z"][:] = 0, 1
    second = execute(program, {"x": given})
    np.testing.assert_array_equal(second["y"], CODES)
    assert (first["z"] == 1).all()
    np.testing.assert_array_equal(given, CODES)


@pytest.mark.parametrize("use", ["in", "in out"])
@pytest.mark.parametrize("order", ORDERS)
def test_a_tensor_that_is_read_and_stored_is_not_the_callers(use, order):
    a = Asm(1, 1)
    x, y = a.tensor("x", (8, 8), use=use), a.tensor("y", (8, 8), use="out")
    b, c, s = a.sram("b", (8, 8)), a.sram("c", (8, 8)), a.sem("s")
    with a.thread("only"):
        a.emit("vec.fill", dst=a.at(c), imm=0)
        a.copy(a.at(b), a.at(x), done=s)
        a.wait(s)
        a.copy(a.at(x, slice(0, 3)), a.at(c, slice(0, 3)), done=s)
        a.wait(s)
        a.copy(a.at(b, slice(0, 4)), a.at(x, slice(0, 4)), done=s)
        a.wait(s)
        a.copy(a.at(y), a.at(b))
    given, want = CODES.copy(), CODES.copy()
    want[:3] = 0
    out = execute(a.program(), {"x": given}, schedule=order)
    np.testing.assert_array_equal(out["y"], want)
    np.testing.assert_array_equal(given, CODES)


def test_tensors_that_share_bytes_stay_together():
    def of(*rows):
        tensors = [
            SimpleNamespace(address=a, nbytes=n, is_input=use == "in", is_output=use != "in") for a, n, use in rows
        ]
        return sorted(arena._apart(SimpleNamespace(tensors=tensors)))

    assert of() == []
    assert of((0, 64, "in"), (64, 64, "out")) == [0, 1]
    assert of((0, 65, "in"), (64, 64, "out"), (128, 8, "out")) == [2]
    assert of((128, 8, "out"), (0, 200, "in"), (150, 8, "out"), (200, 8, "out")) == [3]
