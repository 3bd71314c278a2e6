"""Every vector row against NumPy: float32 where it rounds as IEEE says, float64 where exact, special values by rule."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from programs import Asm

from accel.isa.table import ROWS
from accel.machine import execute

VALUES = np.array(
    [0.0, -0.0, 1.0, -1.0, 1.5, -2.75, 3.0e38, -3.0e38, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 1.1e-38, 1e-40, 0.1,
     7.0, 65504.0, 1.00390625, 1.01171875], np.float32,
)  # fmt: skip
SIGNALLING = np.array([0x7F800001, 0xFFC12345], np.uint32).view(np.float32)
CANONICAL = 0x7FC00000


def bits(x):
    """Return fp32 bits with every NaN canonical."""
    x = np.asarray(x, np.float32)
    out = x.view(np.uint32).copy()
    out[np.isnan(x)] = CANONICAL
    return out


def to_bf16(x):
    """Return bf16 codes by exact nearest-even over the two neighbours, independent of any bit trick."""
    out = np.zeros(x.shape, np.uint16)
    for i, v in np.ndenumerate(x):
        raw = int(np.float32(v).view(np.uint32))
        if math.isnan(v):
            out[i] = 0x7FC0
        elif math.isinf(v):
            out[i] = raw >> 16
        else:
            low, high = raw >> 16, (raw >> 16) + 1
            size = Fraction(abs(float(v)))
            below = Fraction(float(np.uint32((low & 0x7FFF) << 16).view(np.float32)))
            top = np.uint32((high & 0x7FFF) << 16).view(np.float32)
            # beyond the largest finite code the next step up counts as if the exponent went on
            above = Fraction(2) ** 128 if np.isinf(top) else Fraction(float(top))
            nearer = low if size - below < above - size else high if size - below > above - size else low + (low & 1)
            out[i] = nearer
    return out


def run_row(mnemonic, operands, out_dtype="fp32", engine="jit", imm=None, dtypes=None, reduce_to=None):
    """Run one row on flat fp32 operands; return the storage codes of dst."""
    p = Asm()
    shape = operands[0].shape if operands else (40,)
    dtypes = dtypes or ["fp32"] * len(operands)
    names = "xyz"[: len(operands)]
    tensors = [p.tensor(n, o.shape, d) for n, o, d in zip(names, operands, dtypes, strict=True)]
    buffers = [p.sram(n, o.shape, d) for n, o, d in zip(names, operands, dtypes, strict=True)]
    result = reduce_to or shape
    out, res = p.tensor("out", result, out_dtype, "out"), p.sram("res", result, out_dtype)
    here, put = p.sem("here"), p.sem("put")
    with p.thread("all"):
        for tensor, buffer in zip(tensors, buffers, strict=True):
            p.copy(p.at(buffer), p.at(tensor), done=here)
        p.wait(here, len(operands))
        more = {} if imm is None else {"imm": imm}
        p.emit(mnemonic, dst=p.at(res), **{n: p.at(b) for n, b in zip(names, buffers, strict=True)}, **more)
        p.copy(p.at(out), p.at(res), sent=put)
        p.wait(put)
    return execute(p.program(), dict(zip(names, operands, strict=True)), engine=engine)["out"]


def larger(x, y):
    return np.where(np.isnan(x) | np.isnan(y), np.nan, np.where((x == y) & np.signbit(x), y, np.where(x >= y, x, y)))


def smaller(x, y):
    return np.where(np.isnan(x) | np.isnan(y), np.nan, np.where((x == y) & np.signbit(x), x, np.where(x < y, x, y)))


def exact_fma(x, y, z):
    """Return x * y + z rounded once, through rationals where all is finite."""
    out = np.empty(x.shape, np.float32)
    for i in np.ndindex(x.shape):
        a, b, c = float(x[i]), float(y[i]), float(z[i])
        if not (math.isfinite(a) and math.isfinite(b) and math.isfinite(c)):
            out[i] = np.float64(a) * np.float64(b) + np.float64(c)
            continue
        exact = Fraction(a) * Fraction(b) + Fraction(c)
        if exact == 0:
            out[i] = a * b + c if a == 0 or b == 0 else 0.0  # signed zeros as IEEE has them; x - x is +0
        else:
            out[i] = round_to_fp32(exact)
    return out


def round_to_fp32(exact):
    """Return the fp32 number nearest to a rational, ties to even."""
    sign, size = (-1.0 if exact < 0 else 1.0), abs(exact)
    exponent = max(-149, math.floor(math.log2(size)) - 23 if size > Fraction(2) ** -1000 else -149)
    for shift in (exponent - 1, exponent, exponent + 1):
        unit = Fraction(2) ** max(-149, shift)
        quotient = round(size / unit)  # Python rounds a rational half to even
        if quotient < 1 << 24:
            value = float(quotient * unit)
            return np.float32(sign * np.inf) if value >= 2.0**128 else np.float32(sign * value)
        if quotient == 1 << 24 and size / unit < (1 << 24):
            value = float(quotient * unit)
            return np.float32(sign * np.inf) if value >= 2.0**128 else np.float32(sign * value)
    return np.float32(sign * np.inf)


ORACLE = {
    "vec.cast": lambda x: x,
    "vec.neg": lambda x: -x,
    "vec.abs": np.abs,
    "vec.relu": lambda x: np.where(np.isnan(x), np.nan, np.where(x > 0, x, np.float32(0))),
    "vec.sqrt": lambda x: np.sqrt(x.astype(np.float64)),  # a float64 root rounds to fp32 without double rounding
    "vec.add": lambda x, y: x + y,
    "vec.sub": lambda x, y: x - y,
    "vec.mul": lambda x, y: x * y,
    "vec.div": lambda x, y: x / y,
    "vec.max": larger,
    "vec.min": smaller,
    "vec.fma": exact_fma,
}
IMMEDIATE = {"vec.addi": "vec.add", "vec.muli": "vec.mul", "vec.maxi": "vec.max", "vec.mini": "vec.min"}
ELSEWHERE = {"vec.cast_sr", "vec.compare", "vec.comparei", "vec.select", "vec.iota", "vec.random"}  # test_machine_rows
# Functions on fp32 lanes are held to their definitions in test_transcendentals.
ELEMENTWISE = [row for row in ROWS if row.cost == "vector" and row.mnemonic not in ELSEWHERE and not row.wide]


def test_every_elementwise_row_has_an_oracle():
    assert {r.mnemonic for r in ELEMENTWISE} == set(ORACLE) | set(IMMEDIATE) | {"vec.fill", "vec.copy"}


def grid(count):
    values = np.concatenate([VALUES, SIGNALLING])
    if count == 1:
        rng = np.random.default_rng(1)
        return [np.concatenate([values, rng.integers(0, 1 << 32, 3000, dtype=np.uint32).view(np.float32)])]
    pairs = np.stack(np.meshgrid(*[values] * count), -1).reshape(-1, count)
    rng = np.random.default_rng(2)
    more = rng.integers(0, 1 << 32, (2000, count), dtype=np.uint32).view(np.float32)
    near = rng.standard_normal((500, count)).astype(np.float32)
    return [np.ascontiguousarray(column) for column in np.concatenate([pairs, more, near]).T]


@pytest.mark.parametrize("mnemonic", sorted(ORACLE))
def test_row_in_fp32(mnemonic):
    reads = len(next(r for r in ROWS if r.mnemonic == mnemonic).views) - 1
    operands = grid(reads)
    with np.errstate(all="ignore"):
        want = bits(np.asarray(ORACLE[mnemonic](*operands)).astype(np.float32))
    got = run_row(mnemonic, operands)
    np.testing.assert_array_equal(got.view(np.uint32), want)


@pytest.mark.parametrize("mnemonic", sorted(IMMEDIATE))
@pytest.mark.parametrize("imm", [0.0, -0.0, 0.3, -np.inf, np.nan])
def test_immediate_row(mnemonic, imm):
    (x,) = grid(1)
    with np.errstate(all="ignore"):
        want = bits(np.asarray(ORACLE[IMMEDIATE[mnemonic]](x, np.full_like(x, imm))).astype(np.float32))
    np.testing.assert_array_equal(run_row(mnemonic, [x], imm=imm).view(np.uint32), want)


@pytest.mark.parametrize("mnemonic", [r.mnemonic for r in ELEMENTWISE if r.mnemonic != "vec.copy"])
def test_plain_engine_gives_the_same_bits(mnemonic):
    row = next(r for r in ROWS if r.mnemonic == mnemonic)
    operands = [o[:300] for o in grid(len(row.views) - 1)] if len(row.views) > 1 else []
    imm = 0.3 if row.operands[-1].name == "imm" else None
    for dtype in ("fp32", "bf16"):
        jit = run_row(mnemonic, operands, dtype, imm=imm)
        np.testing.assert_array_equal(
            jit.view(np.uint8), run_row(mnemonic, operands, dtype, engine="plain", imm=imm).view(np.uint8)
        )


def test_cast_to_bf16_is_nearest_even():
    rng = np.random.default_rng(4)
    ties = (np.arange(0, 1 << 16, 97, dtype=np.uint32) << 16 | 0x8000).view(np.float32)
    x = np.concatenate([VALUES, ties, rng.integers(0, 1 << 32, 3000, dtype=np.uint32).view(np.float32)])
    np.testing.assert_array_equal(run_row("vec.cast", [x], "bf16"), to_bf16(x))


def test_bf16_operands_widen_exactly_and_round_once():
    codes = np.arange(0, 1 << 16, 7, dtype=np.uint16)
    other = codes[::-1].copy()
    wide, more = ((c.astype(np.uint32) << 16).view(np.float32) for c in (codes, other))
    with np.errstate(all="ignore"):
        want = to_bf16((wide.astype(np.float64) * more.astype(np.float64)).astype(np.float32))
    np.testing.assert_array_equal(run_row("vec.mul", [codes, other], "bf16", dtypes=["bf16", "bf16"]), want)


def test_copy_leaves_every_bit():
    codes = np.arange(1 << 16, dtype=np.uint16)
    np.testing.assert_array_equal(run_row("vec.copy", [codes], "bf16", dtypes=["bf16"]), codes)


@pytest.mark.parametrize(("dtype", "want"), [("fp32", np.float32(0.3)), ("bf16", np.uint16(0x3E9A))])
def test_fill(dtype, want):
    assert (run_row("vec.fill", [], dtype, imm=0.3) == want).all()


def fold(mnemonic, row):
    """Return the reduction of the contract, in NumPy: 16 chains, then a tree of neighbours."""
    function, identity = {"sum": (np.add, 0.0), "max": (larger, -np.inf), "min": (smaller, np.inf)}[mnemonic]
    chains = np.full(16, identity, np.float32)
    for i, v in enumerate(row):
        chains[i % 16] = function(chains[i % 16], v)
    while len(chains) > 1:
        chains = function(chains[0::2], chains[1::2]).astype(np.float32)
    return chains[0]


@pytest.mark.parametrize("what", ["sum", "max", "min"])
@pytest.mark.parametrize("length", [1, 2, 15, 16, 17, 100, 1024, 1031, 2100])
def test_reduce(what, length):
    rng = np.random.default_rng(length)
    x = (rng.standard_normal((2, 3, length)) * 100).astype(np.float32)
    x[0, 1, length // 2] = np.nan
    x[1, 2] = -0.0
    want = bits(np.array([[fold(what, row) for row in plane] for plane in x]))
    for engine in ("jit", "plain"):
        got = run_row(f"vec.reduce_{what}", [x], reduce_to=(2, 3, 1), engine=engine)
        np.testing.assert_array_equal(got.view(np.uint32)[..., 0], want)


def test_broadcast_and_strided_views():
    rng = np.random.default_rng(8)
    x, y = rng.standard_normal((3, 5, 1100)).astype(np.float32), rng.standard_normal((5,)).astype(np.float32)
    p = Asm()
    tx, ty = p.tensor("x", x.shape, "fp32"), p.tensor("y", y.shape, "fp32")
    out = p.tensor("o", (3, 550, 5), "fp32", "out")
    bx, by, res = p.sram("x", x.shape, "fp32"), p.sram("y", y.shape, "fp32"), p.sram("r", (3, 550, 5), "fp32")
    here, put = p.sem("here"), p.sem("put")
    with p.thread("all"):
        p.copy(p.at(bx), p.at(tx), done=here)
        p.copy(p.at(by), p.at(ty), done=here)
        p.wait(here, 2)
        # every second element of x, transposed into the result; y is the same along the first and last dimension
        p.emit("vec.add", dst=p.view(res, (3, 5, 550), (550 * 5 * 4, 4, 5 * 4)),
               x=p.view(bx, (3, 5, 550), (5 * 1100 * 4, 1100 * 4, 8)),
               y=p.view(by, (3, 5, 550), (0, 4, 0)))  # fmt: skip
        p.copy(p.at(out), p.at(res), sent=put)
        p.wait(put)
    got = execute(p.program(), {"x": x, "y": y})["o"]
    np.testing.assert_array_equal(got, (x[..., ::2] + y[:, None]).transpose(0, 2, 1))
