"""The compute instructions of a node in the slow model: operands read from its SRAM by address, results stored back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from accel.testing.slow_data import Address, Index, SlowModelError, Step, Sum, View
from accel.testing.slow_formats import INTEGERS, code_type, decode, encode, item_bytes, wrap
from accel.testing.slow_random import random_words
from accel.testing.slow_vector import FLOAT_ROWS, INTEGER_ROWS, REDUCTIONS, RELATIONS, reduce_last, same_kind

__all__ = ["ROWS", "Context", "element_places", "load", "store"]


def element_places(view: View, address: int, size: int) -> Any:
    """Return the byte of each element of a view at an address, in the view's shape; SlowModelError outside `size`."""
    places = np.full((1,) * len(view.shape), address, np.int64)
    for d, (count, stride) in enumerate(zip(view.shape, view.strides, strict=True)):
        steps = np.arange(count, dtype=np.int64) * stride
        places = places + steps.reshape([-1 if i == d else 1 for i in range(len(view.shape))])
    if view.ring_bytes:
        places = view.ring_base + (places - view.ring_base) % view.ring_bytes
    if places.size and (places.min() < 0 or places.max() + item_bytes(view.dtype) > size):
        raise SlowModelError(f"a view of shape {view.shape} at byte {address} leaves its memory of {size} bytes")
    return places


def load(space: Any, view: View, address: int) -> Any:
    """Return the unsigned codes of a view of a byte array."""
    places = element_places(view, address, len(space))
    item = item_bytes(view.dtype)
    raw = space[places[..., None] + np.arange(item)]
    return np.ascontiguousarray(raw).view(np.dtype(code_type(view.dtype)).newbyteorder("<"))[..., 0]


def store(space: Any, view: View, address: int, codes: Any) -> None:
    """Write unsigned codes, in the order of the elements, to a view of a byte array."""
    places = element_places(view, address, len(space))
    item = item_bytes(view.dtype)
    codes = np.ascontiguousarray(codes.reshape(places.shape), np.dtype(code_type(view.dtype)).newbyteorder("<"))
    space[places[..., None] + np.arange(item)] = codes[..., None].view(np.uint8).reshape(*places.shape, item)


class Context:
    """One instruction on one node: its operands as codes and numbers."""

    def __init__(self, step: Step, sram: Any, params: Sequence[int], trips: Sequence[int], seed: int) -> None:
        self.step, self.sram, self.params, self.trips, self.seed = step, sram, params, trips, seed

    def _operand(self, name: str) -> tuple[View, int]:
        operand: Address = self.step.operands[name]
        return operand.view, operand.at.value(self.params, self.trips)

    def dtype(self, name: str) -> str:
        """Return the format of a view operand."""
        return self._operand(name)[0].dtype

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the four dimensions of a view operand."""
        return self._operand(name)[0].shape

    def has(self, name: str) -> bool:
        """Return whether the instruction has an operand of this name."""
        return name in self.step.operands

    def word(self, name: str) -> int:
        """Return an immediate word."""
        return int(self.step.operands[name])

    def codes(self, name: str) -> Any:
        """Return the codes of a view operand, bits untouched."""
        return load(self.sram, *self._operand(name))

    def _bias(self, view: View) -> int:
        return view.bias if view.scalar is None else int(self.sram[view.scalar]) & 63

    def numbers(self, name: str) -> Any:
        """Return the numbers of a view operand: int64 for integers, float32 for floats (every format fits)."""
        view = self._operand(name)[0]
        numbers = decode(self.codes(name), view.dtype, self._bias(view), view.ieee)
        return numbers if view.dtype in INTEGERS else numbers.astype(np.float32)

    def put(self, codes: Any, name: str = "dst") -> None:
        """Store codes to a view operand."""
        store(self.sram, *self._operand(name), codes)

    def rounded(self, numbers: Any, random: Any = None, name: str = "dst") -> Any:
        """Return the codes of numbers in the format of a view operand, rounded once."""
        view = self._operand(name)[0]
        return encode(numbers, view.dtype, self._bias(view), view.ieee, random)

    def logical(self) -> Any:
        """Return the logical index of every element of dst, modulo 2^64."""
        index: Index = self.step.operands["index"]
        first: Sum = index.first
        flat = [first.value(self.params, self.trips)]
        for count, step in zip(self.shape("dst"), index.steps, strict=True):
            flat = [(f + i * step) % (1 << 64) for f in flat for i in range(count)]
        return np.array(flat, np.uint64).reshape(self.shape("dst"))

    def random(self) -> Any:
        """Return the random number of every element of dst."""
        return random_words(self.logical(), self.word("stream") & 0xFFFFFFFF, self.seed)

    def immediate(self, whole: bool) -> Any:
        """Return the immediate as an int64 (of an int32) or a float32."""
        bits = np.array(self.word("imm") & 0xFFFFFFFF, np.uint32)
        return bits.view(np.int32).astype(np.int64) if whole else bits.view(np.float32)


def _elementwise(c: Context) -> None:
    names = [n for n in ("x", "y", "z") if c.has(n)]
    whole = same_kind([c.dtype(n) for n in ["dst", *names]], INTEGERS)
    values = [c.numbers(n) for n in names]
    if c.has("imm"):
        values.append(c.immediate(whole))
    rows = INTEGER_ROWS if whole else FLOAT_ROWS
    if c.step.mnemonic not in rows:
        raise SlowModelError(f"{c.step.mnemonic} has no integer version")
    result = np.broadcast_to(rows[c.step.mnemonic](*values), c.shape("dst"))
    c.put(wrap(result, c.dtype("dst")) if whole else c.rounded(result))


def _cast(c: Context) -> None:
    c.put(c.rounded(c.numbers("x")))


def _cast_stochastic(c: Context) -> None:
    c.put(c.rounded(c.numbers("x"), c.random()))


def _move(c: Context) -> None:
    c.put(c.codes("x"))


def _reduce(c: Context) -> None:
    whole = same_kind([c.dtype("dst"), c.dtype("x")], INTEGERS)
    result = reduce_last(c.step.mnemonic, c.numbers("x"))
    c.put(wrap(result, c.dtype("dst")) if whole else c.rounded(result))


def _compare(c: Context) -> None:
    whole = c.dtype("x") in INTEGERS
    other = c.numbers("y") if c.has("y") else c.immediate(whole)
    if c.has("y") and c.dtype("y") != c.dtype("x"):
        raise SlowModelError(f"vec.compare of {c.dtype('x')} with {c.dtype('y')}")
    c.put(RELATIONS[c.word("relation")](c.numbers("x"), other).astype(np.uint8))


def _select(c: Context) -> None:
    c.put(np.where(c.codes("mask") != 0, c.codes("x"), c.codes("y")))


def _transpose(c: Context) -> None:
    c.put(np.swapaxes(c.codes("x"), -1, -2))


def _iota(c: Context) -> None:
    c.put(c.rounded((c.logical() & np.uint64(0xFFFFFFFF)).astype(np.uint32).view(np.int32).astype(np.int64)))


def _random(c: Context) -> None:
    bits = c.random()
    c.put(bits.astype(np.uint32) if c.dtype("dst") == "int32" else c.rounded((bits >> np.uint64(8)) * 2.0**-24))


def _rows_of(c: Context, table: str) -> list[int]:
    index: list[int] = c.numbers("index").ravel().tolist()
    for i in index:
        if not 0 <= i < c.shape(table)[2]:
            raise SlowModelError(f"{c.step.mnemonic} names row {i} of {c.shape(table)[2]}")
    return index


def _gather(c: Context) -> None:
    c.put(c.codes("x")[:, :, _rows_of(c, "x"), :])


def _scatter_add(c: Context) -> None:
    whole = same_kind([c.dtype("dst"), c.dtype("x")], INTEGERS)
    added = c.numbers("x")[0, 0]
    for i, row in enumerate(_rows_of(c, "dst")):
        total = c.numbers("dst")[0, 0, row] + added[i]
        codes = c.codes("dst")
        codes[0, 0, row] = wrap(total, c.dtype("dst")) if whole else c.rounded(total)
        c.put(codes)


def _matmul(c: Context) -> None:
    sizes = {n: (int(np.prod(c.shape(n)[:2])), int(np.prod(c.shape(n)[2:]))) for n in ("dst", "a", "b")}
    a, b = (c.numbers(n).reshape(sizes[n]) for n in ("a", "b"))
    start = c.numbers("dst").reshape(sizes["dst"]) if c.word("accumulate") else np.zeros(sizes["dst"], np.float32)
    if same_kind([c.dtype(n) for n in ("dst", "a", "b")], INTEGERS):
        total = start.astype(np.int64)
        for k in range(a.shape[1]):
            total = (total + a[:, k, None] * b[None, k, :]) & 0xFFFFFFFF
        c.put(wrap(total, c.dtype("dst")))
        return
    # An operand has at most 11 significant bits, so a product has 22 and is exact in float64; where the sum of an fp32
    # number and such a product is not, its smaller part lies too far down to make or break a tie of the fp32 rounding.
    chain = start.astype(np.float32)
    for k in range(a.shape[1]):
        product = a[:, k, None].astype(np.float64) * b[None, k, :].astype(np.float64)
        chain = (chain.astype(np.float64) + product).astype(np.float32)
    c.put(c.rounded(chain))


ROWS: dict[str, Callable[[Context], None]] = {
    **dict.fromkeys([*FLOAT_ROWS], _elementwise),
    **dict.fromkeys(REDUCTIONS, _reduce),
    "matmul": _matmul,
    "vec.cast": _cast,
    "vec.cast_sr": _cast_stochastic,
    "vec.copy": _move,
    "vec.compare": _compare,
    "vec.comparei": _compare,
    "vec.select": _select,
    "vec.transpose": _transpose,
    "vec.iota": _iota,
    "vec.random": _random,
    "vec.gather": _gather,
    "vec.scatter_add": _scatter_add,
}
