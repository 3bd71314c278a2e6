"""matmul in every format: bit equality with the oracle, exact integers against int64, biases, results, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import accel
from accel.cli.inputs import random_inputs
from accel.errors import InputError
from accel.kernels import matmul
from accel.numerics import FORMATS, Codes, as_storage, decode, encode
from accel.problem import Matmul

CHIP = accel.chip("mini")
INPUTS = (*CHIP.node.matrix.step_cycles, "fp32")
SIZE = st.one_of(st.integers(1, 40), st.sampled_from([7, 8, 9, 31, 33, 61, 64, 67]))


def codes(rng, shape, dtype):
    """Codes of a format, any of them where every code is a number, hard ones often; no infinities and NaN."""
    row = FORMATS[dtype]
    if dtype == "fp32":
        bits = rng.integers(0, 1 << 32, shape, dtype=np.uint64).astype(np.uint32) & np.uint32(0xC7FFFFFF)
        return (bits | np.uint32(0x30000000)).view(np.float32)
    raw = rng.integers(0, 1 << row.bits, shape).astype(f"uint{row.bits}")
    if row.inf_nan:
        top = np.asarray(((1 << row.exponent) - 1) << row.mantissa, raw.dtype)
        raw = np.where(raw & top == top, raw ^ (np.asarray(1, raw.dtype) << (row.bits - 2)), raw)
    return raw.view(row.storage)


def operands(rng, m, n, k, dtype, biases):
    """Inputs that reach every code, as `run` takes them."""
    given = []
    for name, shape in (("a", (m, k)), ("b", (k, n))):
        raw = codes(rng, shape, dtype)
        if FORMATS[dtype].kind == "cfp":
            given.append(Codes(raw, dtype, **biases[name]))
        elif dtype in ("bf16", "fp16"):
            given.append(Codes(raw, dtype))
        else:
            given.append(raw)
    return given


@settings(max_examples=40, deadline=None)
@given(
    SIZE, SIZE, SIZE, st.sampled_from(INPUTS), st.sampled_from(sorted(FORMATS)), st.integers(0, 40),
    st.sampled_from(["gap", "ieee"]), st.sets(st.sampled_from("abc")), st.integers(0, 2**32),
)  # fmt: skip
def test_every_format_is_bit_equal_to_its_oracle(m, n, k, dtype, out_dtype, bias, denormals, resident, seed):
    kinds = [FORMATS[dtype].kind, FORMATS[out_dtype].kind]
    options = {"bias": bias, "denormals": denormals} if "cfp" in kinds else {}
    program = matmul.build(CHIP, m=m, n=n, k=k, dtype=dtype, out_dtype=out_dtype, resident=resident, **options)
    own = {name: {"bias": bias, "denormals": denormals} for name in "ab"}
    a, b = operands(np.random.default_rng(seed), m, n, k, dtype, own)
    assert matmul.verify(program, a, b) == (m * n, m * n, 0)
    natural = program.run(a=a, b=b)["c"]
    assert program.run(a=a, b=b, schedule=seed)["c"].tobytes() == natural.tobytes()
    program.check()


@pytest.mark.parametrize("dtype", INPUTS)
@pytest.mark.parametrize("flags", [(False, False), (True, False), (False, True), (True, True)])
def test_small_integers_are_exact_in_int64_in_every_format(dtype, flags):
    rng = np.random.default_rng(3)
    m, n, k = 37, 29, 50
    low = 0 if dtype in ("uhp16", "uint8") else -2
    a, b = rng.integers(low, 3, (m, k)), rng.integers(low, 3, (k, n))
    stored = [(x.T if flag else x) for x, flag in zip((a, b), flags, strict=True)]
    out = "int32" if dtype in ("int8", "uint8") else "fp32"
    program = matmul.build(CHIP, m=m, n=n, k=k, dtype=dtype, out_dtype=out, trans_a=flags[0], trans_b=flags[1])
    assert (program.run(a=stored[0], b=stored[1])["c"].astype(np.int64) == a @ b).all()


@pytest.mark.parametrize("dtype", INPUTS)
@pytest.mark.parametrize("version", ["one_node", "summa"])
def test_the_lesson_versions_take_every_format(version, dtype):
    m, n, k = (64, 64, 128) if version == "summa" else (33, 20, 70)
    program = matmul.build(CHIP, m=m, n=n, k=k, dtype=dtype, version=version)
    own = {"bias": FORMATS[dtype].default_bias}
    a, b = operands(np.random.default_rng(5), m, n, k, dtype, {"a": own, "b": own})
    assert matmul.verify(program, a, b).wrong == 0
    program.check()


def test_each_operand_has_its_own_bias():
    biases = {"a": 3, "b": 20, "c": 11}
    program = matmul.build(CHIP, m=9, n=10, k=12, dtype="cfp8-152", out_dtype="cfp8-152", bias=biases)
    rng = np.random.default_rng(0)
    a, b = rng.integers(-3, 4, (9, 12)), rng.integers(-3, 4, (12, 10)) * 2.0**-8
    out = program.run(a=a, b=b)["c"]
    exact_a = decode(encode(a, "cfp8-152", bias=3), "cfp8-152", bias=3)
    exact_b = decode(encode(b, "cfp8-152", bias=20), "cfp8-152", bias=20)
    assert np.array_equal(exact_a, a)
    assert np.array_equal(exact_b, b)
    assert np.array_equal(out, decode(encode(a @ b, "cfp8-152", bias=11), "cfp8-152", bias=11))


def test_integer_sums_wrap_and_casts_of_them_saturate():
    k = 8200
    a, b = np.full((1, k), 255, np.uint8), np.full((k, 1), 255, np.uint8)
    wide = matmul.build(CHIP, m=1, n=1, k=k, dtype="uint8").run(a=a, b=b)["c"]
    assert wide.dtype == np.int32
    assert int(wide[0, 0]) == 255 * 255 * k
    deep = 1 << 16
    a, b = np.full((1, deep), 255, np.uint8), np.full((deep, 1), 255, np.uint8)
    wrapped = matmul.build(CHIP, m=1, n=1, k=deep, dtype="uint8").run(a=a, b=b)["c"]
    assert int(wrapped[0, 0]) == (255 * 255 * deep + (1 << 31)) % (1 << 32) - (1 << 31) < 0
    short = matmul.build(CHIP, m=1, n=1, k=4, dtype="int8", out_dtype="int8").run(a=[[100] * 4], b=[[-100]] * 4)
    assert short["c"].tolist() == [[-128]]


def test_results_take_the_format_that_holds_them_where_none_is_given():
    wanted = {"bf16": "bf16", "fp16": "fp16", "fp32": "fp32", "shp16": "shp16", "uhp16": "bf16"}
    wanted |= {"cfp8-143": "bf16", "cfp8-152": "bf16", "int8": "int32", "uint8": "int32"}
    for dtype, out in wanted.items():
        assert Matmul(4, 4, 4, dtype=dtype).out_dtype == out
        assert matmul.build(CHIP, m=4, n=4, k=4, dtype=dtype).outputs["c"] == ((4, 4), out)


def test_fp32_runs_at_the_peak_of_the_vector_unit():
    chip = accel.chip("mini")
    problem = Matmul(256, 256, 256, dtype="fp32")
    timing = matmul.build(chip, m=256, n=256, k=256, dtype="fp32").time()
    assert timing.seconds >= problem.bound(chip).seconds
    assert timing.tflops * 1e12 == pytest.approx(timing.utilization * chip.peak_flops("fp32"))
    assert timing.utilization > 0.4


def test_codes_of_another_bias_are_refused():
    program = matmul.build(CHIP, m=2, n=2, k=2, dtype="cfp8-143", bias=4)
    raw = np.zeros((2, 2), np.uint8)
    with pytest.raises(InputError, match="decode them"):
        program.run(a=Codes(raw, "cfp8-143", bias=5), b=raw)


@pytest.mark.parametrize("dtype", INPUTS)
def test_random_inputs_are_values_of_their_format_and_verify(dtype):
    program = matmul.build(CHIP, m=24, n=16, k=20, dtype=dtype)
    drawn = random_inputs(program, 7, hard=True)
    again = random_inputs(program, 7, hard=True)
    for tensor in program.isa.tensors:
        if tensor.is_input:
            values = drawn[tensor.name]
            options = {"bias": tensor.bias, "denormals": tensor.denormals} if FORMATS[dtype].kind == "cfp" else {}
            stored = as_storage(values, dtype, **options)
            assert np.array_equal(decode(stored, dtype, **options), values.astype(np.float64), equal_nan=True)
            assert len(np.unique(stored)) > 20
            assert again[tensor.name].tobytes() == values.tobytes()
    assert matmul.verify(program, drawn["a"], drawn["b"]).wrong == 0
