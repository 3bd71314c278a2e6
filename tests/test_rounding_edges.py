"""Rounding where it is hardest: every exponent with edge significands through the rows, against whole numbers.

The operands are of the kind that Berkeley TestFloat generates: all exponents (subnormals, overflow, infinities and NaN
among them) with significands of few ones, few zeros and alternating bits, and partners whose exponent puts the result
at an edge. The oracle computes with Python's integers and rounds once; no float takes part in a finite result.
"""

from __future__ import annotations

from itertools import product
from math import isqrt

import numpy as np
import pytest
from format_oracle import nearest
from row_bench import Operand, dense, run
from test_machine_vector import run_row

NAN, INF = 0x7FC00000, 0x7F800000
SIGNIFICANDS = (0, 1, 2, 0x2AAAAA, 0x3FFFFF, 0x400000, 0x400001, 0x555555, 0x7FFFFE, 0x7FFFFF)
FEW = (0, 1, 0x400000, 0x555555, 0x7FFFFE, 0x7FFFFF)
PIECE = 20_000  # elements an instruction takes
Exact = tuple[int, int, int, bool]  # (sign, n, e, more): (-1)^sign n 2^e, and something below one unit of n if `more`


def exact(code: int) -> Exact:
    """Value of finite fp32 bits, by the definition of binary32."""
    exponent, fraction = code >> 23 & 0xFF, code & 0x7FFFFF
    return code >> 31, fraction + (bool(exponent) << 23), max(exponent, 1) - 150, False


def rounded(value: Exact, digits: int = 24, unit: int = -149, infinity: int = INF) -> int:
    """Code nearest to a value that is not 0, ties to even: `digits` significant bits, multiples of 2^unit."""
    sign, n, e, more = value
    drop = max(n.bit_length() - digits, unit - e)
    if drop <= 0:
        assert not more
        kept = n << -drop
    else:
        rest, half, kept = n & ((1 << drop) - 1), 1 << (drop - 1), n >> drop
        kept += rest > half or (rest == half and (more or kept & 1 == 1))
    # A normal number's hidden bit counts as one exponent step, so that a carry into the next exponent needs no rule.
    size = ((e + drop - unit) << (digits - 1)) + kept
    return min(size, infinity) | sign * (infinity + (1 << (digits - 1)))


def times(x: Exact, y: Exact) -> Exact:
    return x[0] ^ y[0], x[1] * y[1], x[2] + y[2], False


def plus(x: Exact, y: Exact) -> Exact:
    low = min(x[2], y[2])
    total = sum((-1) ** sign * (n << (e - low)) for sign, n, e, _ in (x, y))
    return int(total < 0), abs(total), low, False


def over(x: Exact, y: Exact) -> Exact:
    n, rest = divmod(x[1] << 60, y[1])
    return x[0] ^ y[0], n, x[2] - y[2] - 60, rest != 0


def root(x: Exact) -> Exact:
    shift = 60 + (x[2] & 1)
    n = isqrt(x[1] << shift)
    return 0, n, (x[2] - shift) // 2, n * n != x[1] << shift


EXACT = {"vec.add": plus, "vec.mul": times, "vec.div": over, "vec.sqrt": root,
         "vec.fma": lambda x, y, z: plus(times(x, y), z)}  # fmt: skip
# Infinities, NaN, signs of zero: float64 has the same rules, and neither overflows nor underflows on fp32 operands.
SPECIAL = {"vec.add": np.add, "vec.mul": np.multiply, "vec.div": np.divide, "vec.sqrt": np.sqrt,
           "vec.fma": lambda x, y, z: x * y + z}  # fmt: skip


def want(mnemonic: str, codes: np.ndarray) -> np.ndarray:
    """The fp32 bits of a row for operands (count, operands)."""
    with np.errstate(all="ignore"):
        wide = codes.view(np.float32).astype(np.float64)
        out = SPECIAL[mnemonic](*wide.T).astype(np.float32)
        bits = np.where(np.isnan(out), np.uint32(NAN), out.view(np.uint32))
    finite = np.isfinite(wide).all(axis=1)
    if mnemonic == "vec.div":
        finite &= wide[:, 1] != 0
    if mnemonic == "vec.sqrt":
        finite &= wide[:, 0] > 0
    for at in np.flatnonzero(finite):
        value = EXACT[mnemonic](*(exact(int(code)) for code in codes[at]))
        if value[1]:
            bits[at] = rounded(value)
    return bits


def numbers(exponents: object, significands: object, negative: object) -> np.ndarray:
    """fp32 bits of fields; exponents beyond the ends become those of zero and of infinity."""
    clipped = np.clip(np.asarray(exponents), 0, 255).astype(np.uint32)
    return np.asarray(negative, np.uint32) << 31 | clipped << 23 | np.asarray(significands, np.uint32)


def singles() -> np.ndarray:
    fields = np.array(list(product(range(256), SIGNIFICANDS, (0, 1))))
    return numbers(*fields.T)[:, None]


def pairs(mnemonic: str) -> np.ndarray:
    """Every exponent of x; that of y so that the result is where it underflows, is 1, or overflows, or sums meet."""
    away = {"vec.add": (-25, -24, -23, -2, -1, 0, 1, 2, 23, 24, 25),
            "vec.mul": (-25, -24, -23, -1, 0, 1, 2, 127, 253, 254, 255),
            "vec.div": (-25, -24, -23, -1, 0, 1, 2, 127, 253, 254, 255)}[mnemonic]  # fmt: skip
    ex, d, sx, sy = np.array(list(product(range(256), away, FEW, FEW))).T
    ey = {"vec.add": ex + d, "vec.mul": d + 127 - ex, "vec.div": ex + 127 - d}[mnemonic]
    signs = np.random.default_rng(0).integers(0, 2, (2, ex.size))
    return np.stack([numbers(ex, sx, signs[0]), numbers(ey, sy, signs[1])], axis=1)


def triples() -> np.ndarray:
    """Products at the edges and in the middle, with addends from far below to far above, or that cancel."""
    away = (-100, -50, -49, -48, -47, -26, -25, -24, -23, -2, -1, 0, 1, 2, 22, 23, 24, 25, 26, 48, 49)
    some = (0, 1, 0x400000, 0x7FFFFF)
    edges = (0, 1, 64, 115, 127, 190, 254, 255)
    ex, ey, d, sx, sy, sz = np.array(list(product(edges, edges, away, some, some, some))).T
    signs = np.random.default_rng(1).integers(0, 2, (3, ex.size))
    xyz = [numbers(ex, sx, signs[0]), numbers(ey, sy, signs[1]), numbers(ex + ey - 127 + d, sz, signs[2])]
    return np.stack(xyz, axis=1)


def traps() -> np.ndarray:
    """x y exactly between two fp32 numbers, and z far below what fp64 keeps of the sum: it alone decides."""
    # (1 + 2^-12 odd)(1 + 2^-12) = ... + odd 2^-24: half of the last place of fp32.
    ex, ey, odd, depth = np.array(list(product((40, 100, 127, 170), (90, 127, 160), (1, 3, 5, 7), range(54, 120, 9)))).T
    signs = np.random.default_rng(2).integers(0, 2, (3, ex.size))
    x, y = numbers(ex, odd << 11, signs[0]), numbers(ey, np.full(ex.size, 1 << 11), signs[1])
    made = np.stack([x, y, numbers(ex + ey - 127 - depth, np.zeros(ex.size, int), signs[2])], axis=1)
    return made[ex + ey - 127 - depth > 0]


def rows_agree(mnemonic: str, codes: np.ndarray) -> np.ndarray:
    expected = want(mnemonic, codes)
    for at in range(0, len(codes), PIECE):
        piece = codes[at : at + PIECE]
        got = run_row(mnemonic, [np.ascontiguousarray(c).view(np.float32) for c in piece.T]).view(np.uint32)
        wrong = np.flatnonzero(got != expected[at : at + PIECE])
        assert not wrong.size, [(*map(hex, piece[w]), hex(got[w]), hex(expected[at + w])) for w in wrong[:5]]
    return expected


def test_square_roots_of_every_exponent() -> None:
    rows_agree("vec.sqrt", singles())


@pytest.mark.parametrize("mnemonic", ["vec.add", "vec.mul", "vec.div"])
def test_pairs_with_results_at_the_edges(mnemonic: str) -> None:
    codes = rows_agree(mnemonic, pairs(mnemonic)) & 0x7FFFFFFF
    # The list reaches what it is for: zeros, subnormals, the first normal number, the largest ones, infinity.
    for low, high in ((0, 0), (1, 0x7FFFFF), (0x800000, 0x800000), (0x7F000000, 0x7F7FFFFF), (INF, INF), (NAN, NAN)):
        assert ((low <= codes) & (codes <= high)).any(), hex(low)


def test_fused_multiply_add_at_the_edges() -> None:
    rows_agree("vec.fma", triples())


def test_fused_multiply_add_rounds_once_where_fp64_would_round_twice() -> None:
    codes = traps()
    expected = rows_agree("vec.fma", codes)
    x, y, z = codes.view(np.float32).astype(np.float64).T
    twice = (x * y + z).astype(np.float32).view(np.uint32)
    assert 0.2 < (twice != expected).mean() < 0.8  # the ties go the right way by chance about every other time


@pytest.mark.parametrize(
    ("dtype", "digits", "unit", "infinity"), [("bf16", 8, -133, 0x7F80), ("fp16", 11, -24, 0x7C00)]
)
def test_casts_of_every_exponent(dtype: str, digits: int, unit: int, infinity: int) -> None:
    codes = casts(digits)
    expected = [
        rounded(exact(c), digits, unit, infinity) if 0 < c & 0x7FFFFFFF < INF
        else (c >> 31) << 15 | (0 if c & 0x7FFFFFFF == 0 else infinity) if c & 0x7FFFFFFF <= INF
        else infinity | 1 << (digits - 2)
        for c in codes.tolist()
    ]  # fmt: skip
    assert run_row("vec.cast", [codes.view(np.float32)], dtype).view(np.uint16).tolist() == expected


@pytest.mark.parametrize("ieee", [False, True])
@pytest.mark.parametrize(("dtype", "digits", "bias"), [("cfp8-143", 4, 7), ("cfp8-152", 3, 15), ("cfp8-143", 4, 63)])
def test_casts_to_8_bits_of_every_exponent(dtype: str, digits: int, bias: int, ieee: bool) -> None:
    codes = casts(digits)
    x, dst = dense("fp32", codes.shape, 0), Operand(dtype, codes.shape, (1,), 40_000, bias=bias, ieee=ieee)
    memory = np.zeros(1 << 16, np.uint8)
    x.write(memory, codes)
    got = dst.read(run("vec.cast", memory, {"dst": dst, "x": x}))
    with np.errstate(invalid="ignore"):  # a signalling NaN is a NaN
        expected = nearest(dtype, codes.view(np.float32), bias, ieee)
    np.testing.assert_array_equal(got, expected)


def casts(digits: int) -> np.ndarray:
    """Every exponent with significands on, below and above the halfway points of a shorter significand."""
    half = 1 << (23 - digits)
    ties = {odd * half + d for odd in (1, 3, (0x800000 // half) - 1) for d in (-1, 0, 1)}
    significands = sorted(ties | {0, 1, 0x555555, 0x7FFFFF})
    return numbers(*np.array(list(product(range(256), significands, (0, 1)))).T)
