"""Products that leave rows of zeros out, or take windows that overlap: the bits of the chain, always."""

from __future__ import annotations

import numpy as np
import pytest
from test_machine_matmul import SPECIAL, chain, random_bf16

from accel.isa.layout import CODE_WORDS, V_DTYPE, V_SHAPE, V_STRIDE
from accel.machine import matmul
from accel.machine.dotkernel import DOT
from accel.machine.matmul import A_WORD, ACCUMULATE, B_WORD, DST, DST_WORD, A, B
from accel.machine.moves import nest_space
from accel.machine.units import unit_space
from accel.machine.words import CONFIG_WORDS, VX_WORDS, X_ITEM
from accel.numerics.formats import fmt
from accel.plain_twins import twin

PATHS = [False, True] if DOT else [False]
ODD_CHAINS = np.array([0x80000000, 0x00000000, 0x7FC00001, 0xFF800001, 0x7F800000, 0xFF800000, 0x00000001, 0x80000001,
                       0x3F800000, 0x7FC00000], np.uint32)  # fmt: skip


def product(codes, shape, strides, at, b, c, *, fast, engine=matmul.run_matmul):
    """Return the bits of one matmul; its left operand is a view of `codes`, (m0, m1, k0, k1), strides in codes."""
    m, (k, n) = shape[0] * shape[1], b.shape
    sizes = (4 * m * n, 2 * codes.size, 2 * k * n)
    places = np.cumsum([0, *(size + 127 & -64 for size in sizes)])
    arena = np.full(int(places[-1]), 0xA5, np.uint8)
    u16, u32 = arena.view(np.uint16), arena.view(np.uint32)
    u16[places[1] // 2 :][: codes.size], u16[places[2] // 2 :][: b.size] = codes, b.ravel()
    if c is not None:
        u32[: m * n] = c.ravel()
    views = np.zeros((3, VX_WORDS), np.int64)
    forms = (((1, m, 1, n), (0, n, 0, 1), "fp32"), (shape, strides, "bf16"), ((1, k, 1, n), (0, n, 0, 1), "bf16"))
    for i, (sizes_of, steps, dtype) in enumerate(forms):
        views[i, [V_DTYPE, X_ITEM]] = fmt(dtype).code, fmt(dtype).bytes
        views[i, V_SHAPE : V_SHAPE + 4] = sizes_of
        views[i, V_STRIDE : V_STRIDE + 4] = np.array(steps) * fmt(dtype).bytes
    code, value = np.zeros((1, CODE_WORDS), np.int64), np.zeros(8, np.int64)
    code[0, [DST_WORD, A_WORD, B_WORD]] = 0, 1, 2
    code.flags.writeable = False
    value[[DST, A, B, ACCUMULATE]] = places[0], places[1] + 2 * at, places[2], c is not None
    work, work32 = unit_space(fast)
    spare = np.zeros(CONFIG_WORDS, np.int64)
    with np.errstate(all="ignore"):
        engine(code, 0, value, views, 0, arena, u16, u32, u32.view(np.float32), work, work32, nest_space(), spare,
               spare, spare)  # fmt: skip
    return u32[: m * n].reshape(m, n).copy()


def dense(a, b, c, **more):
    m, k = a.shape
    return product(a.ravel(), (1, m, 1, k), (0, k, 0, 1), 0, b, c, **more)


def expected(a, b, c):
    return chain(a, b, None if c is None else c.view(np.float32))


@pytest.mark.parametrize("fast", PATHS)
@pytest.mark.parametrize("zeros", ["none", "first", "last", "some", "most", "all"])
def test_rows_of_zeros(fast, zeros):
    rng = np.random.default_rng([ord(letter) for letter in zeros])
    for number, (m, n, k) in enumerate(
        [(1, 32, 32), (14, 32, 64), (15, 50, 64), (49, 128, 128), (98, 64, 96), (113, 33, 544), (240, 16, 32)]
    ):
        a, b = random_bf16(rng, (m, k)), random_bf16(rng, (k, n))
        out = {"none": [], "first": [0], "last": [m - 1], "all": list(range(m))}.get(zeros)
        if out is None:
            out = np.flatnonzero(rng.random(m) < (0.3 if zeros == "some" else 0.9))
        a[out] = rng.choice([0x0000, 0x8000], (len(out), k))
        c = rng.standard_normal((m, n)).astype(np.float32).view(np.uint32)
        odd = c.copy()
        odd[rng.integers(0, m, 3), rng.integers(0, n, 3)] = rng.choice(ODD_CHAINS, 3)
        poor = b.copy()
        poor[rng.integers(0, k), rng.integers(0, n)] = rng.choice(SPECIAL)
        for right, start in ((b, None), (b, c), (b, odd), (poor, None), (poor, c)):
            np.testing.assert_array_equal(dense(a, right, start, fast=fast), expected(a, right, start), str(number))


@pytest.mark.parametrize("fast", PATHS)
@pytest.mark.parametrize("code", ODD_CHAINS.tolist())
@pytest.mark.parametrize("sign", [0x0000, 0x8000])
def test_a_chain_that_zeros_change_is_not_left_out(fast, code, sign):
    rng = np.random.default_rng(0)
    a, b = random_bf16(rng, (20, 64)), random_bf16(rng, (64, 48))
    a[7] = sign
    c = rng.standard_normal((20, 48)).astype(np.float32).view(np.uint32)
    for column in (0, 15, 16, 47):
        start = c.copy()
        start[7, column] = code
        np.testing.assert_array_equal(dense(a, b, start, fast=fast), expected(a, b, start))


def test_without_a_look_at_the_chains_bits_would_differ(monkeypatch):
    if not matmul.PAIRED:
        pytest.skip("rows are left out where registers are widest")
    unit = twin(matmul.run_matmul)
    a, b = np.zeros((2, 32), np.uint16), np.full((32, 32), 0x3F80, np.uint16)
    c = np.full((2, 32), 0x80000000, np.uint32)
    assert (dense(a, b, c, fast=False, engine=unit) == 0).all()
    scope = twin(unit.__globals__["multiply_bf16"]).__globals__
    monkeypatch.setitem(scope, "zeros_matter", lambda *_: False)
    assert (dense(a, b, c, fast=False, engine=unit) == 0x80000000).all()


@pytest.mark.parametrize("fast", PATHS)
@pytest.mark.parametrize("spoil", [None, 0x0001, 0x7F80, 0x7FA5, 0x7F7F, "between"])
def test_windows_that_overlap(fast, spoil):
    rng = np.random.default_rng(3)
    for rows, pixels, channels, taps, at in ((4, 28, 64, 3, 0), (2, 9, 32, 3, 64), (5, 7, 96, 2, 2), (3, 5, 32, 7, 1)):
        width = pixels + taps + 1
        frame = random_bf16(rng, (rows + taps, width, channels)).ravel()
        frame = np.concatenate([frame, np.full(2 * channels, 0x7FA5, np.uint16)])
        if spoil == "between":  # what no window reads
            frame.reshape(-1, channels)[pixels + taps - 1 : width] = 0x7FA5
            frame[:at] = 0x7FA5
        elif spoil is not None:
            frame[rng.integers(0, rows * width * channels)] = spoil
        shape, strides = (rows, pixels, taps, taps * channels), (width * channels, channels, width * channels, 1)
        picked = np.lib.stride_tricks.as_strided(frame[at:], shape, [2 * s for s in strides])
        a = picked.reshape(rows * pixels, -1).copy()
        b = random_bf16(rng, (a.shape[1], 64))
        for c in (None, rng.standard_normal((len(a), 64)).astype(np.float32).view(np.uint32)):
            got = product(frame, shape, strides, at, b, c, fast=fast)
            np.testing.assert_array_equal(got, expected(a, b, c))


@pytest.mark.parametrize("fast", PATHS)
def test_rows_backwards(fast):
    rng = np.random.default_rng(4)
    a, b = random_bf16(rng, (30, 64)), random_bf16(rng, (64, 32))
    got = product(a.ravel(), (3, 10, 1, 64), (640, -64, 0, 1), 9 * 64, b, None, fast=fast)
    np.testing.assert_array_equal(got, expected(a.reshape(3, 10, 64)[:, ::-1].reshape(30, 64), b, None))


def frame_of(rng, lines, pixels, channels, taps, scale):
    """Return a frame with a border of zeros for taps x taps, flat, and the shape and strides of its windows."""
    frame = np.zeros((lines + taps - 1, pixels + taps - 1, channels), np.uint16)
    border = taps // 2
    inside = frame[border : border + lines, border : border + pixels]
    numbers = (rng.standard_normal(inside.shape) * scale).astype(np.float32)
    inside[...] = numbers.view(np.uint32) >> 16
    frame[rng.random(frame.shape[:2]) < 0.05] = 0x8000  # some pixels are -0
    line = frame.shape[1] * channels
    return frame.ravel(), (lines, pixels, taps, taps * channels), (line, channels, line, 1)


@pytest.mark.parametrize("fast", PATHS)
@pytest.mark.parametrize(("scale", "spoil"), [(1.0, None), (1.0, 0x7F7F), (1.0, 0x0001), (2.0**-75, None),
                                              (2.0**-67, None)])  # fmt: skip
def test_frames_with_a_border(fast, scale, spoil):
    rng = np.random.default_rng(5)
    cases = ((7, 7, 256, 3, 64), (3, 5, 288, 3, 40), (2, 30, 96, 5, 32), (6, 9, 64, 3, 7))
    for lines, pixels, channels, taps, n in cases:
        frame, shape, strides = frame_of(rng, lines, pixels, channels, taps, scale)
        if spoil is not None:
            frame[rng.integers(0, frame.size, 2)] = spoil
        a = np.lib.stride_tricks.as_strided(frame, shape, [2 * s for s in strides]).reshape(lines * pixels, -1)
        numbers = (rng.standard_normal((a.shape[1], n)) * scale).astype(np.float32)
        b = (numbers.view(np.uint32) >> 16).astype(np.uint16)
        c = rng.standard_normal((len(a), n)).astype(np.float32).view(np.uint32)
        odd = c.copy()
        odd[rng.integers(0, len(a), 9), rng.integers(0, n, 9)] = rng.choice(ODD_CHAINS, 9)
        poor = b.copy()
        poor[rng.integers(0, len(b)), rng.integers(0, n)] = 0x7F80
        for right, start in ((b, None), (b, odd), (poor, None)):
            got = product(frame, shape, strides, 0, right, start, fast=fast)
            np.testing.assert_array_equal(got, expected(a, right, start), f"{lines} x {pixels} x {channels}")


@pytest.mark.parametrize("fast", PATHS)
def test_frames_larger_than_the_scratch(fast):
    rng = np.random.default_rng(6)
    for lines, pixels, channels, taps in ((41, 40, 64, 3), (1, 1500, 32, 2), (3, 1300, 32, 2), (2, 40, 1024, 3)):
        frame, shape, strides = frame_of(rng, lines, pixels, channels, taps, 1.0)
        a = np.lib.stride_tricks.as_strided(frame, shape, [2 * s for s in strides]).reshape(lines * pixels, -1)
        b = random_bf16(rng, (a.shape[1], 16))
        np.testing.assert_array_equal(product(frame, shape, strides, 0, b, None, fast=fast), expected(a, b, None))
    a, b = random_bf16(rng, (2100, 64)), random_bf16(rng, (64, 48))  # rows side by side, taken like a frame
    np.testing.assert_array_equal(dense(a, b, None, fast=fast), expected(a, b, None))


@pytest.mark.parametrize("fast", PATHS)
@pytest.mark.parametrize("spoil", [None, 0x0001])
def test_windows_of_long_lines_that_lie_far_apart(fast, spoil):
    """Rows taken at a time are fewer than a line has: some of them span two lines, and what lies between those."""
    rng = np.random.default_rng(7)
    cases = ((2, 1100, 2, 3, 150000), (3, 1010, 8, 7, 79496), (2, 1100, 32, 2, 35232))
    for lines, pixels, channels, taps, line in cases:
        frame = random_bf16(rng, (lines - 1) * line + (pixels + taps) * channels)
        if spoil is not None:
            frame[:: frame.size // 7] = spoil
        shape, strides = (lines, pixels, 1, taps * channels), (line, channels, 0, 1)
        a = np.lib.stride_tricks.as_strided(frame, shape, [2 * s for s in strides]).reshape(lines * pixels, -1)
        b = random_bf16(rng, (a.shape[1], 16))
        np.testing.assert_array_equal(product(frame, shape, strides, 0, b, None, fast=fast), expected(a, b, None))
