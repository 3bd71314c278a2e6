"""Vector rows longer than the piece that the executor takes at a time (and not a whole number of pieces or chains)."""

from __future__ import annotations

import numpy as np
import pytest
from format_oracle import BYTES, FLOATS, INTEGERS, nearest, philox, stochastic, values
from row_bench import Operand, dense
from test_machine_rows import INTEGER_ORACLE, REGION, RELATIONS, check, logical, memory, read, tame, to, tree, wrapped
from test_machine_vector import ORACLE

from accel.isa.codec import Bits
from accel.machine.nests import PIECE

SHAPE = (2, PIECE + 475)
BASE, STEPS = 3, (0, 0, 40000, -7)  # of a logical index


def rows(dtype: str, region: int, *, backwards: bool = False, bias: int = 0) -> Operand:
    """Two long rows with a gap between them, from their first element on or from their last."""
    item, columns = BYTES[dtype], SHAPE[1]
    start = region * REGION + ((columns - 1) * item if backwards else 0)
    return Operand(dtype, SHAPE, ((columns + 9) * item, -item if backwards else item), start, bias=bias)


def operands(dst: str, **others: str) -> dict[str, Operand]:
    made = {"dst": rows(dst, 0, bias=7 if dst == "cfp8-143" else 0)}
    for region, (name, dtype) in enumerate(others.items(), 1):
        made[name] = rows(dtype, region, backwards=region == 1, bias=9 if dtype == "cfp8-143" else 0)
    return made


def test_the_rows_are_several_pieces() -> None:
    assert SHAPE[1] > PIECE
    assert SHAPE[1] % PIECE % 16 != 0


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "cfp8-143"])
def test_float_rows(dtype):
    three, sram = operands(dtype, x=dtype, y=dtype, z=dtype), memory(1)
    for operand in three.values():
        tame(np.random.default_rng(operand.address), sram, operand)
    x, y, z = (read(sram, three[n]) for n in "xyz")
    with np.errstate(all="ignore"):
        check("vec.fma", sram, three, to(sram, three["dst"], ORACLE["vec.fma"](x, y, z)))
        del three["z"]
        check("vec.sub", sram, three, to(sram, three["dst"], ORACLE["vec.sub"](x, y)))


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integer_rows(dtype):
    three, sram = operands(dtype, x="int8", y="int32", z="uint8"), memory(2)
    x, y, z = (read(sram, three[n]) for n in "xyz")
    check("vec.fma", sram, three, wrapped(INTEGER_ORACLE["vec.fma"](x, y, z), dtype))


@pytest.mark.parametrize("relation", RELATIONS)
@pytest.mark.parametrize("dtype", ["bf16", "int8"])
def test_compare(dtype, relation):
    both, sram = operands("uint8", x=dtype, y=dtype), memory(3)
    for name in ("x", "y"):
        tame(np.random.default_rng(ord(name)), sram, both[name])
    x, y = read(sram, both["x"]), read(sram, both["y"])
    check("vec.compare", sram, both, RELATIONS[relation](x, y).astype(int), relation=relation)
    del both["y"]
    check("vec.comparei", sram, both, RELATIONS[relation](x, 1).astype(int), relation=relation,
          imm=Bits(1) if dtype == "int8" else 1.0)  # fmt: skip


@pytest.mark.parametrize("dtype", ["int32", "bf16", "int8"])
def test_select(dtype):
    three, sram = operands(dtype, mask="uint8", x=dtype, y=dtype), memory(4)
    three["mask"].write(sram, np.random.default_rng(4).choice([0, 1, 200], SHAPE))
    mask, x, y = (three[n].read(sram) for n in ("mask", "x", "y"))
    check("vec.select", sram, three, np.where(mask != 0, x, y))


@pytest.mark.parametrize(
    ("target", "source"),
    [("bf16", "int32"), ("int8", "fp32"), ("int8", "int32"), ("int32", "bf16"), ("cfp8-143", "bf16")],
)
def test_cast(target, source):
    both, sram = operands(target, x=source), memory(5)
    if source in FLOATS:
        tame(np.random.default_rng(5), sram, both["x"])
    check("vec.cast", sram, both, to(sram, both["dst"], read(sram, both["x"]).astype(np.float64)))


def drawn(stream: int, seed: int) -> np.ndarray:
    index = logical(SHAPE, BASE, STEPS)
    return np.array([philox(int(i), stream, seed) for i in index.ravel()]).reshape(SHAPE)


def test_stochastic_cast():
    both, sram = operands("bf16", x="fp32"), memory(6)
    both["x"].write(sram, nearest("fp32", np.random.default_rng(6).standard_normal(SHAPE)))
    x, numbers = read(sram, both["x"]), drawn(3, 77)
    want = [stochastic("bf16", float(v), int(r)) for v, r in zip(x.ravel(), numbers.ravel(), strict=True)]
    check("vec.cast_sr", sram, both, np.array(want).reshape(SHAPE), seed=77, stream=3, index=(BASE, 0, *STEPS))


@pytest.mark.parametrize("dtype", ["int32", "fp32"])
def test_random_and_iota(dtype):
    dst, sram, numbers = rows(dtype, 0, backwards=True), memory(7), drawn(2, 5)
    want = numbers if dtype == "int32" else nearest("fp32", (numbers >> 8) * 2.0**-24)
    check("vec.random", sram, {"dst": dst}, want, seed=5, stream=2, index=(BASE, 0, *STEPS))
    index = logical(SHAPE, BASE, STEPS) % 2**32
    signed = np.where(index >= 2**31, index - 2**32, index).astype(np.float64)
    check("vec.iota", sram, {"dst": dst}, index if dtype == "int32" else nearest(dtype, signed),
          index=(BASE, 0, *STEPS))  # fmt: skip


@pytest.mark.parametrize("dtype", ["fp32", "int32", "int8"])
def test_reductions(dtype):
    whole = dtype in INTEGERS
    x, sram = rows(dtype, 1), memory(8)
    if not whole:
        x.write(sram, nearest(dtype, np.random.default_rng(8).standard_normal(SHAPE)))
    dst = dense("int32" if whole else dtype, (2, 1), 0)
    for mnemonic, fold, start in (("vec.reduce_sum", lambda a, b: a + b, 0), ("vec.reduce_max", max, -(2**31)),
                                  ("vec.reduce_min", min, 2**31 - 1)):  # fmt: skip
        given = read(sram, x)
        if whole:
            want = np.array([[tree([int(v) for v in r], fold, start)] for r in given])
            check(mnemonic, sram, {"dst": dst, "x": x}, wrapped(want, "int32"))
        else:
            want = np.array([[tree(list(r), fold, np.float32(start))] for r in given], np.float32)
            check(mnemonic, sram, {"dst": dst, "x": x}, to(sram, dst, want))


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "cfp8-143"])
def test_rows_by_index_in_formats_of_their_own_bias(dtype):
    """The rows that a scatter adds, and the table that it adds them to, have each a bias."""
    shape, more = (1, 1, *SHAPE), dtype == "cfp8-143"
    table, added = dense(dtype, shape, 0, bias=7 * more), dense(dtype, shape, REGION, bias=9 * more)
    index, sram = dense("int32", (1, 1, 1, 2), 2 * REGION), memory(9)
    index.write(sram, np.array([1, 1]))
    for operand in (table, added):
        tame(np.random.default_rng(operand.address), sram, operand)
    codes, numbers = table.read(sram)[0, 0], read(sram, added)[0, 0]
    with np.errstate(all="ignore"):
        for row in numbers:
            codes[1] = nearest(dtype, values(dtype, codes[1], table.bias) + row, table.bias)
    check("vec.scatter_add", sram, {"dst": table, "x": added, "index": index}, codes)
    moved = added.read(sram)[0, 0][[1, 1]]
    check("vec.gather", sram, {"dst": table, "x": added, "index": index}, moved)
