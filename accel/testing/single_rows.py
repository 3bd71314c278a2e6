"""One table row on given arrays of codes: the program that loads them, executes the row and stores the result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from accel.numerics.formats import fmt
from accel.testing.legal_programs import Case
from accel.testing.maker import Maker, Place

__all__ = ["Array", "row_on_arrays"]


class Array(NamedTuple):
    """An operand: its format, its codes (any unsigned or storage type), and the bias word of its view."""

    dtype: str
    codes: Any
    bias: int = 0


def row_on_arrays(mnemonic: str, dst: str, operands: Mapping[str, Array], *, shape: tuple[int, ...] = (), bias: int = 0,
                  update: Any = None, seed: int = 0, **words: Any) -> Case:  # fmt: skip
    """Return the program that executes a row on whole row-major arrays of up to four dimensions; its output is "out".

    mnemonic: the row; operands: an `Array` by the name of each operand it reads; seed: of random numbers. dst: format
    of the result; shape: of the result, as the first operand's if not given; bias: bias word of the result's view;
    update: codes that dst holds before (zeros if not given); words: immediates and indices of the row.
    """
    m = Maker(1, 1, 1, name=mnemonic)
    here, stored = m.semaphore("here"), m.semaphore("stored")
    shape = shape or np.shape(next(iter(operands.values())).codes)
    inputs: dict[str, Any] = {}

    def load(name: str, dtype: str, codes: Any) -> Place:
        codes = np.ascontiguousarray(codes)
        tensor = m.tensor(name, codes.shape, dtype, inputs=True, outputs=False)
        inputs[name] = codes.astype(f"u{fmt(dtype).bytes}", copy=False).view(np.dtype(fmt(dtype).storage))
        place = m.sram(name, codes.size, dtype)
        m.copy(m.whole(place), m.whole(tensor, (codes.size,)), done=here)
        return place

    views: dict[str, tuple[int, int, int]] = {}
    with m.thread(0, 0):
        for name, array in operands.items():
            place = load(name, array.dtype, _bits(array.codes, array.dtype))
            views[name] = _row_major(m, place, np.shape(array.codes), array.bias)
        start = np.zeros(shape, f"u{fmt(dst).bytes}") if update is None else _bits(update, dst)
        result = load("dst", dst, start)
        views["dst"] = _row_major(m, result, shape, bias)
        m.wait(here, len(operands) + 1)
        m.emit(mnemonic, **views, **words)
        out = m.tensor("out", shape, dst, inputs=False, outputs=True)
        m.copy(m.whole(out, (start.size,)), m.whole(result), sent=stored)
        m.wait(stored)
    return Case(m.program(), inputs, seed, (mnemonic,))


def _bits(codes: Any, dtype: str) -> Any:
    codes = np.ascontiguousarray(codes)
    size = fmt(dtype).bytes
    return codes.view(f"u{size}") if codes.dtype.itemsize == size else codes.astype(f"u{size}")


def _row_major(m: Maker, place: Place, shape: tuple[int, ...], bias: int) -> tuple[int, int, int]:
    item = fmt(place.dtype).bytes
    strides = [item * int(np.prod(shape[d + 1 :])) for d in range(len(shape))]
    return m.view(place, shape, strides, place.begin, bias=bias)
