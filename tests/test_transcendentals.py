"""exp, log, tanh, sigmoid, erf, rsqrt: errors in ulp over every bf16 and fp16 number, exact values, cost, engines."""

from __future__ import annotations

import math
import types

import numpy as np
import pytest

import accel
from accel.errors import UnsupportedError
from accel.isa import transcendentals as t
from accel.isa.functions import apply
from accel.isa.table import BY_MNEMONIC
from accel.testing.slow_functions import FUNCTIONS

NAMES = ("exp", "log", "tanh", "sigmoid", "erf", "rsqrt")
EACH = pytest.mark.parametrize("name", NAMES)
FULL = (1 << 32) // 3 * 2 + 1  # odd, so that multiples of it modulo 2^32 meet every exponent and every last bit


def exact(name, x):
    """Return the function in float64, whose error is far below what is measured here; NaN where it has no value."""
    with np.errstate(all="ignore"):
        wide = x.astype(np.float64)
        if name == "erf":
            return np.array([math.erf(v) for v in wide.flat]).reshape(wide.shape)
        if name == "sigmoid":
            e = np.exp(-abs(wide))
            return np.where(wide < 0, e, 1.0) / (1.0 + e)
        if name == "rsqrt":
            return 1.0 / np.sqrt(wide)
        return getattr(np, name)(wide)


def ulps(got, want):
    """Return the error in units of the last place of the fp32 number next to the exact one, 0 where both are equal."""
    with np.errstate(all="ignore"):
        unit = np.maximum(np.exp2(np.floor(np.log2(abs(want))) - 23), 2.0**-149)
        error = abs(got.astype(np.float64) - want) / unit
        rounded = want.astype(np.float32)
    same = (got == rounded) | (np.isnan(got) & np.isnan(want))
    return np.where(same & ~np.isfinite(rounded), 0.0, np.where(want == 0.0, np.where(got == 0.0, 0.0, np.inf), error))


def run(name, x, dtype="fp32", engine="jit"):
    """Return one instruction's result on a 1-D array."""

    @accel.kernel
    def one(k, x, y):
        a, b, done = k.sram(x.shape, x.dtype, "a"), k.sram(y.shape, y.dtype, "b"), k.sem(name="done")
        k.copy(a, x, done=done)
        k.wait(done)
        getattr(k.vec, name)(b, a)
        k.copy(y, b, sent=done)
        k.wait(done)

    parts = []
    for first in range(0, len(x), 1 << 13):
        piece = x[first : first + (1 << 13)]
        program = one.build("mini", mesh=(1, 1), x=accel.tensor(piece.shape, dtype), y=accel.tensor(piece.shape, dtype))
        parts.append(program.run(x=piece, engine=engine)["y"])
    return np.concatenate(parts)


def every(dtype):
    """Return every number of a 16-bit format as fp32."""
    codes = np.arange(1 << 16, dtype=np.uint16)
    return (codes.astype(np.uint32) << 16).view(np.float32) if dtype == "bf16" else codes.view(np.float16).astype("f4")


def sampled(count):
    """Return fp32 numbers of every exponent and both signs, and those around the ends of the functions' domains."""
    spread = (np.arange(count, dtype=np.uint64) * FULL & 0xFFFFFFFF).astype(np.uint32).view(np.float32)
    ends = np.array([1.0, 0.5625, 4.0, 3.92, 0.75, 1.5, 88.72284, 89.0, -87.33655, -103.97208, -103.27893, -104.0, 17.0,
                     9.0, 2.0**-126, 2.0**-149, 2.0**127], np.float32)  # fmt: skip
    near = (ends.view(np.int32)[:, None] + np.arange(-40, 41, dtype=np.int32)).ravel().view(np.float32)
    normal = np.random.default_rng(7).standard_normal(count).astype(np.float32) * np.float32(8)
    return np.concatenate([spread, near, -near, normal])


@EACH
@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_error_over_every_16_bit_number(name, dtype):
    x = every(dtype)
    assert ulps(apply(name, x), exact(name, x)).max() <= t.ULP[name]


@EACH
def test_error_over_a_sample_of_fp32(name):
    x = sampled(60_000)
    assert ulps(apply(name, x), exact(name, x)).max() <= t.ULP[name]


@EACH
@pytest.mark.nightly
def test_error_over_a_dense_sample_of_fp32(name):
    count = 200 << 20
    for first in range(0, count, 1 << 20):
        x = ((np.arange(first, first + (1 << 20), dtype=np.uint64) * FULL) & 0xFFFFFFFF).astype(np.uint32).view("f4")
        assert ulps(apply(name, x), exact(name, x)).max() <= t.ULP[name]


@EACH
@pytest.mark.parametrize("dtype", ["bf16", "fp16", "fp32"])
def test_the_executor_computes_the_definition_and_rounds_once(name, dtype):
    x = sampled(20_000) if dtype == "fp32" else every(dtype)
    with np.errstate(all="ignore"):
        want = accel.numerics.round_to(apply(name, x), dtype)
    got = accel.numerics.round_to(run(name, x, dtype), dtype)
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(np.signbit(got[got == 0]), np.signbit(want[want == 0]))


@EACH
def test_the_plain_engine_gives_the_same_bits(name):
    x = np.concatenate([sampled(100), every("bf16")[::331]])
    np.testing.assert_array_equal(run(name, x).view(np.uint32), run(name, x, engine="plain").view(np.uint32))


@EACH
def test_the_slow_model_agrees_to_the_bit(name):
    x = np.concatenate([sampled(600), every("bf16")[::41]])
    want = FUNCTIONS[f"vec.{name}"](x)
    np.testing.assert_array_equal(apply(name, x), want)
    np.testing.assert_array_equal(np.signbit(apply(name, x)[want == 0]), np.signbit(want[want == 0]))


INF, LEAST = math.inf, 2.0**-149
EXACT = {  # pairs, since 0.0 and -0.0 are one key
    "exp": [(0.0, 1.0), (-0.0, 1.0), (INF, INF), (-INF, 0.0), (89.0, INF), (-104.0, 0.0), (-103.5, LEAST)],
    "log": [(1.0, 0.0), (0.0, -INF), (-0.0, -INF), (INF, INF), (-1.0, math.nan), (-INF, math.nan), (-LEAST, math.nan)],
    "tanh": [(0.0, 0.0), (-0.0, -0.0), (INF, 1.0), (-INF, -1.0), (LEAST, LEAST), (20.0, 1.0)],
    "sigmoid": [(0.0, 0.5), (-0.0, 0.5), (INF, 1.0), (-INF, 0.0), (-103.5, LEAST), (50.0, 1.0)],
    "erf": [(0.0, 0.0), (-0.0, -0.0), (INF, 1.0), (-INF, -1.0), (4.5, 1.0), (LEAST, LEAST)],
    "rsqrt": [
        (0.0, INF),
        (-0.0, -INF),
        (INF, 0.0),
        (-1.0, math.nan),
        (-INF, math.nan),
        (4.0, 0.5),
        (2.0**-148, 2.0**74),
    ],
}


@EACH
def test_exact_values(name):
    x, want = np.array([*EXACT[name], (math.nan, math.nan)], np.float32).T
    got = run(name, x)
    np.testing.assert_array_equal(got, want)
    number = ~np.isnan(want)
    np.testing.assert_array_equal(np.signbit(got[number]), np.signbit(want[number]))


@pytest.mark.parametrize("name", ["tanh", "erf"])
def test_odd_functions_are_odd_to_the_bit(name):
    x = sampled(20_000)
    x = x[~np.isnan(x)]
    np.testing.assert_array_equal(apply(name, -x).view(np.uint32), (-apply(name, x)).view(np.uint32))


def test_exp_never_falls_from_zero_on_and_is_at_most_one_below():
    x = np.unique(sampled(40_000))
    y = apply("exp", x[x >= 0])
    assert (y[1:] >= y[:-1]).all()
    assert apply("exp", x[x < 0]).max() <= 1.0


class Counted:
    """A number that counts the operations made with it; negation and the absolute value are free."""

    total = 0
    divisions = 0

    def __add__(self, other):
        Counted.total += 1
        return self

    __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __add__

    def __truediv__(self, other):
        Counted.divisions += 1
        return self

    __rtruediv__ = __truediv__

    def __neg__(self):
        return self

    __abs__ = __neg__


@EACH
def test_a_row_costs_the_micro_operations_of_its_definition(name):
    roots = []

    def micro(*operands):
        Counted.total += 1
        return next(o for o in operands if isinstance(o, Counted))

    def root(x):
        roots.append(x)
        return x

    scope = dict(vars(t))
    for other, value in vars(t).items():
        if isinstance(value, types.FunctionType):
            scope[other] = types.FunctionType(value.__code__, scope, other)
    scope.update({f.__name__: micro for f in t.MICRO}, square_root=root)
    Counted.total = Counted.divisions = 0
    scope[name](Counted(), None, None)
    passes = BY_MNEMONIC[f"vec.{name}"].passes
    parts = passes if isinstance(passes, tuple) else (passes,)
    assert parts == (Counted.total, *["divide_passes"] * Counted.divisions, *["sqrt_passes"] * len(roots))


def test_a_function_of_bf16_costs_what_one_of_fp32_does():
    def cycles(dtype):
        @accel.kernel
        def one(k, x):
            a = k.sram(x.shape, dtype, "a")
            k.vec.exp(a, a)

        return one.build("mini", mesh=(1, 1), x=accel.tensor((64, 64), dtype)).time().cycles

    assert cycles("bf16") == cycles("fp32") >= 64 * 64 // 16 * 12


def test_integers_are_refused():
    @accel.kernel
    def one(k, x):
        a = k.sram(x.shape, "int32", "a")
        k.vec.exp(a, a)

    with pytest.raises(UnsupportedError, match=r"k\.vec\.exp computes in floats"):
        one.build("mini", x=accel.tensor((8,), "int32"))
