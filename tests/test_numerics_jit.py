"""The scalar bf16 functions mean the same compiled and plain."""

from __future__ import annotations

import numpy as np

from accel.jit import njit
from accel.numerics import decode, encode
from accel.numerics.bf16 import decode_bits, encode_bits

compiled_encode, compiled_decode = njit(encode_bits), njit(decode_bits)


@njit
def encode_all(bits, codes):
    for i in range(bits.size):
        codes[i] = compiled_encode(bits[i])


@njit
def decode_all(codes, bits):
    for i in range(codes.size):
        bits[i] = compiled_decode(codes[i])


def test_compiled_encode_equals_the_array_function():
    rng = np.random.default_rng(3)
    bits = rng.integers(0, 1 << 32, size=1 << 20, dtype=np.uint64).astype(np.uint32)
    bits[:8] = [0, 0x80000000, 0x7F800000, 0xFF800000, 0x7F800001, 0xFFFFFFFF, 0x7F7FFFFF, 0xFF7FFFFF]
    expected = encode(bits.view(np.float32), "bf16")
    for view in (bits, bits.view(np.int32)):  # signed words carry the same bits
        codes = np.zeros(bits.size, np.uint16)
        encode_all(view, codes)
        assert np.array_equal(codes, expected)


def test_compiled_decode_equals_the_array_function():
    codes = np.arange(1 << 16, dtype=np.uint32).astype(np.uint16)
    bits = np.zeros(codes.size, np.uint32)
    decode_all(codes, bits)
    assert np.array_equal(bits, decode(codes, "bf16").view(np.uint32))
