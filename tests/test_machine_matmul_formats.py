"""Matmul in every format of the matrix unit against the chain of decoded values, and integers against int64."""

from __future__ import annotations

import numpy as np
import pytest
from format_oracle import values
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import Asm

from accel.machine import execute
from accel.machine.dotkernel import DOT
from accel.machine.fast import fast_path
from accel.machine.panels import EXACT_BLOCKS, FAST_BLOCKS

CFP = ("cfp8-143", "cfp8-152", "shp16", "uhp16")
PAIRS = [("bf16", "bf16"), ("fp16", "fp16"), ("shp16", "shp16"), ("uhp16", "uhp16"), ("cfp8-143", "cfp8-143"),
         ("cfp8-152", "cfp8-152"), ("cfp8-143", "cfp8-152"), ("cfp8-152", "cfp8-143")]  # fmt: skip
INTEGERS = [("int8", "int8"), ("uint8", "uint8"), ("int8", "uint8"), ("uint8", "int8")]
STORAGE = {"bf16": np.uint16, "fp16": np.uint16, "shp16": np.uint16, "uhp16": np.uint16, "cfp8-143": np.uint8,
           "cfp8-152": np.uint8, "int8": np.int8, "uint8": np.uint8}  # fmt: skip


def any_codes(rng, dtype, shape):
    storage = np.dtype(STORAGE[dtype])
    return rng.integers(0, 1 << 8 * storage.itemsize, shape).astype(f"u{storage.itemsize}").view(storage)


def chain(x, y, start):
    """Return the bits of fp32 chains over exact products; no product of two such formats has more than 22 bits."""
    c = np.zeros((len(x), y.shape[1]), np.float32) if start is None else start.copy()
    with np.errstate(all="ignore"):
        for k in range(x.shape[1]):
            c = (c.astype(np.float64) + x[:, k : k + 1].astype(np.float64) * y[k]).astype(np.float32)
    bits = c.view(np.uint32).copy()
    bits[np.isnan(c)] = 0x7FC00000
    return bits


def product(a, b, formats, start=None, biases=(0, 0), scalars=False, transposed=(False, False), engine="jit"):
    """Run dst (+)= a @ b with b's and a's own layout; biases as words, through the view or a scalar in SRAM."""
    m, n = len(a), b.shape[1]
    out = "int32" if formats[0] in ("int8", "uint8") else "fp32"
    p = Asm()
    held = [x.T.copy() if turned else x for x, turned in zip((a, b), transposed, strict=True)]
    given = dict(zip("ab", held, strict=True))
    tensors = [p.tensor(name, x.shape, f) for name, x, f in zip("ab", held, formats, strict=True)]
    buffers = [p.sram("l" + name, x.shape, f) for name, x, f in zip("ab", held, formats, strict=True)]
    acc, z = p.sram("acc", (m, n), out), p.tensor("c", (m, n), out, "out")
    here, put = p.sem("here"), p.sem("put")
    count = 2
    words = [{"bias": bias} for bias in biases]
    copies = list(zip(buffers, tensors, strict=True))
    if scalars:
        for i, bias in enumerate(biases):
            given[f"bias{i}"] = np.array([bias & 63 | 0xC0], np.uint8)  # the upper two bits are none of the bias
            copies.append((p.sram(f"s{i}", (1,), "uint8"), p.tensor(f"bias{i}", (1,), "uint8")))
            words[i] = {"bias": bias & 256, "scalar": 1 + copies[-1][0].address}
    if start is not None:
        given["start"] = start
        copies.append((acc, p.tensor("start", (m, n), out)))
    count = len(copies)
    views = []
    for i, (buffer, x, turned) in enumerate(zip(buffers, held, transposed, strict=True)):
        item, (rows, columns) = x.dtype.itemsize, x.shape
        shape, strides = ((1, columns, 1, rows), (0, item, 0, item * columns)) if turned else (
            (1, rows, 1, columns), (0, item * columns, 0, item))  # fmt: skip
        views.append(p.view(buffer, shape, strides, **(words[i] if formats[i] in CFP else {})))
    with p.thread("all"):
        for to, of in copies:
            p.copy(p.at(to), p.at(of), done=here)
        p.wait(here, count)
        p.matmul(p.mat(acc), *views, accumulate=start is not None)
        p.copy(p.at(z), p.at(acc), sent=put)
        p.wait(put)
    return execute(p.program(), given, engine=engine)["c"].view(np.uint32)


def decoded(codes, dtype, bias):
    return values(dtype, codes.view(f"u{codes.dtype.itemsize}"), bias & 63, bool(bias & 256))


@settings(max_examples=120, deadline=None)
@given(st.sampled_from(PAIRS), st.integers(1, 40), st.integers(1, 70), st.integers(1, 40), st.booleans(),
       st.tuples(st.integers(0, 63), st.integers(0, 63)), st.sampled_from([0, 256]), st.booleans(),
       st.tuples(st.booleans(), st.booleans()), st.integers(0, 2**32))  # fmt: skip
def test_floats_equal_the_chain(formats, m, n, k, accumulate, biases, rule, scalars, transposed, seed):
    rng = np.random.default_rng(seed)
    a, b = any_codes(rng, formats[0], (m, k)), any_codes(rng, formats[1], (k, n))
    for codes, dtype in ((a, formats[0]), (b, formats[1])):
        if dtype in ("bf16", "fp16"):  # few NaN and Inf, or they drown everything
            top = 0x7F80 if dtype == "bf16" else 0x7C00
            codes[((codes & top) == top) & (rng.random(codes.shape) < 0.98)] = 0x3C01
    start = (rng.standard_normal((m, n)).astype(np.float32)) if accumulate else None
    words = tuple(bias | rule for bias in biases)
    got = product(a, b, formats, start, words, scalars and formats[0] in CFP, transposed)
    x, y = (decoded(codes, f, word) for codes, f, word in zip((a, b), formats, words, strict=True))
    np.testing.assert_array_equal(got, chain(x, y, start))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(INTEGERS), st.integers(1, 40), st.integers(1, 70), st.integers(1, 40), st.booleans(),
       st.tuples(st.booleans(), st.booleans()), st.integers(0, 2**32))  # fmt: skip
def test_integers_equal_int64_modulo_2_to_32(formats, m, n, k, accumulate, transposed, seed):
    rng = np.random.default_rng(seed)
    a, b = any_codes(rng, formats[0], (m, k)), any_codes(rng, formats[1], (k, n))
    start = rng.integers(-(2**31), 2**31, (m, n)).astype(np.int32) if accumulate else None
    expected = a.astype(np.int64) @ b.astype(np.int64) + (0 if start is None else start)
    got = product(a, b, formats, start, transposed=transposed)
    np.testing.assert_array_equal(got, (expected & 0xFFFFFFFF).astype(np.uint32))


def test_integers_are_exact_where_fp32_is_not():
    k = 1300  # three blocks of steps
    a, b = np.full((3, k), 255, np.uint8), np.full((k, 5), 255, np.uint8)
    a[:, 1::2] = 254
    expected = a.astype(np.int64) @ b.astype(np.int64)
    assert expected[0, 0] > 1 << 24
    assert int(np.float32(expected[0, 0])) != expected[0, 0]
    np.testing.assert_array_equal(product(a, b, ("uint8", "uint8")), expected.astype(np.uint32))


def test_every_pair_of_8_bit_integers():
    for formats in INTEGERS:
        a, b = (np.arange(256, dtype=np.uint8).view(STORAGE[f]) for f in formats)
        got = product(a[:, None].copy(), b[None].copy(), formats).view(np.int32)
        np.testing.assert_array_equal(got, a[:, None].astype(np.int64) * b.astype(np.int64))


@pytest.mark.parametrize("rule", [0, 256])
@pytest.mark.parametrize("biases", [(0, 0), (0, 63), (31, 7), (63, 63)])
@pytest.mark.parametrize("formats", [p for p in PAIRS if p[0].startswith("cfp8")], ids=str)
def test_every_pair_of_8_bit_floats(formats, biases, rule):
    a = np.arange(256, dtype=np.uint8)
    words = [bias | rule for bias in biases]
    got = product(a[:, None].copy(), a[None].copy(), formats, biases=words)
    x, y = (decoded(a, f, word) for f, word in zip(formats, words, strict=True))
    np.testing.assert_array_equal(got, chain(x[:, None], y[None], None))


def test_plain_engine_gives_the_same_bits():
    rng = np.random.default_rng(1)
    for formats in (("fp16", "fp16"), ("cfp8-143", "cfp8-152"), ("int8", "uint8")):
        a, b = any_codes(rng, formats[0], (9, 7)), any_codes(rng, formats[1], (7, 18))
        for turned in ((False, False), (True, True)):
            jit, plain = (product(a, b, formats, biases=(5, 60), transposed=turned, engine=e) for e in ("jit", "plain"))
            np.testing.assert_array_equal(jit, plain)


@pytest.mark.skipif(not DOT, reason="this processor has no bf16 dot product")
def test_8_bit_floats_take_the_dot_product(monkeypatch):
    if not fast_path().on:
        pytest.skip(f"the dot product is off: {fast_path().reason}")
    from accel.machine import units

    spaces = []
    made = units.unit_space
    monkeypatch.setattr(units, "unit_space", lambda fast=False, sums=0: spaces.append(made(fast, sums)) or spaces[-1])
    rng = np.random.default_rng(0)
    a, b = any_codes(rng, "cfp8-143", (20, 33)), any_codes(rng, "cfp8-143", (33, 40))
    for biases, taken in (((7, 7), 4), ((63, 63), 0)):  # 2^-63 * 2^-63 is no normal number with all its places
        got = product(a, b, ("cfp8-143", "cfp8-143"), biases=biases)
        x, y = (decoded(codes, "cfp8-143", bias) for codes, bias in zip((a, b), biases, strict=True))
        np.testing.assert_array_equal(got, chain(x, y, None))
        counts = spaces[-1][1]
        assert (counts[FAST_BLOCKS], counts[EXACT_BLOCKS]) == (taken, 4 - taken)
