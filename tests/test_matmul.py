"""The matmul kernels against an oracle they share nothing with, on shapes nobody chose."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import accel
from accel.errors import CapacityError, InputError, UnsupportedError
from accel.kernels import matmul
from accel.kernels.parts.matmul_choice import choose
from accel.kernels.parts.matmul_formats import Formats
from accel.report.showcase import hard_values

SIZE = st.one_of(st.integers(1, 40), st.sampled_from([1, 7, 8, 9, 13, 31, 32, 33, 61, 64, 67, 97, 127, 128, 131]))
RESIDENT = st.sets(st.sampled_from("abc"))


@settings(max_examples=40)
@given(
    SIZE, SIZE, SIZE, RESIDENT, st.booleans(), st.booleans(), st.sampled_from(["bf16", "fp32"]), st.integers(0, 2**32)
)
@example(1, 1, 1, set(), False, False, "bf16", 0)
@example(131, 127, 97, {"a", "b", "c"}, True, True, "fp32", 1)
def test_any_shape_is_bit_equal_and_free_of_hazards(
    m: int, n: int, k: int, resident: set[str], trans_a: bool, trans_b: bool, out_dtype: str, seed: int
) -> None:
    program = matmul.build(
        "mini", m=m, n=n, k=k, resident=resident, trans_a=trans_a, trans_b=trans_b, out_dtype=out_dtype
    )
    a = hard_values((k, m) if trans_a else (m, k), seed)
    b = hard_values((n, k) if trans_b else (k, n), seed + 1)
    assert matmul.verify(program, a, b) == (m * n, m * n, 0)
    natural = program.run(a=a, b=b)["c"]
    for schedule in (seed, seed + 1):
        assert program.run(a=a, b=b, schedule=schedule)["c"].tobytes() == natural.tobytes()
    program.check()
    assert program.isa.flops == 2 * m * n * k


@settings(max_examples=25)
@given(SIZE, SIZE, SIZE, st.integers(1, 90), st.integers(1, 90), st.integers(1, 90), RESIDENT)
def test_a_given_tile_is_kept_and_changes_no_bit(
    m: int, n: int, k: int, bm: int, bn: int, bk: int, resident: set[str]
) -> None:
    wanted = {"bm": bm, "bn": bn, "bk": bk}
    free = choose(accel.chip("mini"), m, n, k, resident=frozenset(resident), formats=Formats(), tile={"bk": bk})
    if bm <= 8 < -(-m // free.grid_rows) or bn <= 8 < -(-n // free.grid_cols):
        return  # a pass could leave a node without rows: refused, as the bad requests below show
    program = matmul.build("mini", m=m, n=n, k=k, resident=resident, **wanted)
    kept = choose(accel.chip("mini"), m, n, k, resident=frozenset(resident), formats=Formats(), tile=wanted)
    assert kept.bm < bm + 8
    assert kept.bn < bn + 8
    assert kept.bk == min(bk, k)
    a, b = hard_values((m, k), 5), hard_values((k, n), 6)
    assert matmul.verify(program, a, b).wrong == 0
    program.check(1)


@settings(max_examples=25)
@given(SIZE, SIZE, SIZE, st.data())
def test_every_legal_tiling_gives_the_same_bits(m: int, n: int, k: int, data: st.DataObject) -> None:
    chip = accel.chip("mini")
    resident = data.draw(RESIDENT)
    default = choose(chip, m, n, k, resident=frozenset(resident), formats=Formats())
    tiling = {
        "passes_m": data.draw(st.integers(1, -(-m // 8) // default.grid_rows or 1)),
        "passes_n": data.draw(st.integers(1, -(-n // 8) // default.grid_cols or 1)),
        "piece": data.draw(st.integers(1, k)),
        "stages": data.draw(st.integers(1, 4)),
        "accumulators": data.draw(st.integers(1, 2)),
        "strip": data.draw(st.integers(1, 20)),
    }
    tiling["pieces"] = 1
    if resident & {"a", "b"}:
        most = min(default.grid_rows, default.grid_cols, -(-k // tiling["piece"]))
        tiling["pieces"] = data.draw(st.integers(1, most))
    fits = (
        replace(default, **tiling).sram_bytes(resident=frozenset(resident), formats=Formats()) <= chip.node.sram_bytes
    )
    if not fits:
        with pytest.raises(InputError, match="of SRAM a node"):
            matmul.build(chip, m=m, n=n, k=k, resident=resident, **tiling)
        return
    program = matmul.build(chip, m=m, n=n, k=k, resident=resident, **tiling)
    a, b = hard_values((m, k), 5), hard_values((k, n), 6)
    assert matmul.verify(program, a, b).wrong == 0
    program.check(1)


@settings(max_examples=15)
@given(SIZE, SIZE, SIZE)
def test_small_integers_are_exact_in_int64(m: int, n: int, k: int) -> None:
    rng = np.random.default_rng(m * 10007 + n * 101 + k)
    a, b = rng.integers(-2, 3, (m, k)), rng.integers(-2, 3, (k, n))
    out = matmul.build("mini", m=m, n=n, k=k, out_dtype="fp32").run(a=a, b=b)["c"]
    assert (out.astype(np.int64) == a @ b).all()


@pytest.mark.parametrize(("version", "shape"), [("one_node", (70, 50, 90)), ("summa", (64, 128, 192))])
def test_the_lesson_versions_give_the_bits_of_the_default(version: str, shape: tuple[int, int, int]) -> None:
    m, n, k = shape
    a, b = hard_values((m, k), 1), hard_values((k, n), 2)
    program = matmul.build("mini", m=m, n=n, k=k, version=version)
    assert matmul.verify(program, a, b).wrong == 0
    assert (program.run(a=a, b=b)["c"] == matmul.build("mini", m=m, n=n, k=k).run(a=a, b=b)["c"]).all()
    program.check()


def test_each_version_of_the_lesson_is_faster_than_the_one_before() -> None:
    cycles = [matmul.build("mini", m=256, n=256, k=512, version=v).time().cycles for v in matmul.VERSIONS]
    assert cycles == sorted(cycles, reverse=True)
    assert len(set(cycles)) == 3


def test_special_values_follow_ieee_and_nan_is_canonical() -> None:
    a = np.array([[np.inf, 1], [np.nan, 1], [1e-40, 0], [-0.0, 0.0]], np.float32)
    b = np.array([[0.0, 1, -1], [np.inf, 2, 3]], np.float32)
    out = matmul.build("mini", m=4, n=3, k=2, out_dtype="fp32").run(a=a, b=b)["c"]
    assert (out.view(np.uint32)[np.isnan(out)] == 0x7FC00000).all()
    assert np.isnan(out[0, 0])
    assert np.isnan(out[1]).all()
    assert out[0, 1] == np.inf
    assert out.tobytes() == matmul.reference(a, b, out_dtype="fp32").tobytes()
    assert out[2, 1] != 0  # a subnormal product is kept


def test_arrays_of_any_layout_are_taken_and_left_alone() -> None:
    program = matmul.build("mini", m=24, n=16, k=20)
    a, b = hard_values((24, 20), 3).astype(np.float32), hard_values((20, 16), 4)
    want = program.run(a=a, b=b)["c"]
    wide = np.zeros((48, 40), np.float64)
    wide[::2, ::2] = a
    frozen = np.asfortranarray(b)
    frozen.flags.writeable = False
    assert (program.run({"a": wide[::2, ::2], "b": frozen})["c"] == want).all()
    assert (wide[::2, ::2] == a).all()


def test_a_sample_computes_the_same_bits_as_the_whole() -> None:
    program = matmul.build("mini", m=300, n=200, k=64)
    a, b = hard_values((300, 64), 7), hard_values((64, 200), 8)
    whole = program.run(a=a, b=b)["c"]
    sample = program.sample_outputs(3, seed=11)
    part = program.run(a=a, b=b, sample=sample)
    assert part.written is not None
    for (r0, r1), (c0, c1) in sample.regions["c"]:
        assert part.written["c"][r0:r1, c0:c1].all()
        assert (part["c"][r0:r1, c0:c1] == whole[r0:r1, c0:c1]).all()
    assert not part.written["c"].all()
    checked, total, wrong = matmul.verify(program, a, b, blocks=3, seed=11)
    assert 0 < checked < total == 300 * 200
    assert wrong == 0


def test_verify_sees_a_wrong_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    program = matmul.build("mini", m=16, n=16, k=16)
    a, b = hard_values((16, 16), 1), hard_values((16, 16), 2)
    true = matmul.reference

    def off_by_one_bit(x, y, **options):  # type: ignore[no-untyped-def]
        c = true(x, y, **options)
        c.view(np.uint16)[3, 5] ^= 1
        return c

    monkeypatch.setattr(matmul, "reference", off_by_one_bit)
    assert matmul.verify(program, a, b).wrong == 1


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"m": 0}, InputError, "m"),
        ({"k": -3}, InputError, "k"),
        ({"n": 2.5}, InputError, "n"),
        ({"m": 2**41}, InputError, "m"),
        ({"dtype": "bf61"}, InputError, "did you mean 'bf16'?"),
        ({"dtype": "int32"}, UnsupportedError, "matmul on mini does not take int32; use dtype='bf16' or"),
        ({"bias": 3}, InputError, "no operand with a bias"),
        ({"dtype": "cfp8-143", "bias": {"c": 3}}, InputError, "operand 'c' has no bias; give one for 'a' or 'b'"),
        ({"dtype": "cfp8-143", "bias": 64}, InputError, "0 to 63"),
        ({"resident": ("d",)}, InputError, "no operand 'd' to keep resident"),
        ({"version": "fast"}, InputError, "no version 'fast'"),
        ({"piece": 0}, InputError, "piece must be a whole number >= 1"),
        ({"stages": 99}, InputError, "stages=99 is too large here; use 1 to 8"),
        ({"tile": 3}, InputError, "no tiling parameter 'tile'"),
        ({"bk": 0}, InputError, "bk must be a whole number >= 1"),
        ({"bm": 1024, "bn": 1024, "m": 4096, "n": 4096}, CapacityError, "in tiles of bm=1024, bn=1024 needs"),
        ({"bm": 8, "m": 72}, InputError, "bm=8 would leave nodes without work in some passes; use 16 or more"),
        ({"version": "summa", "m": 63}, UnsupportedError, "needs m = 4 bm"),
        ({"version": "one_node", "resident": "a"}, UnsupportedError, "takes plain operands in memory"),
        (
            {"m": 4096, "n": 4096, "resident": ("a", "b", "c")},
            CapacityError,
            "does not fit mini: the smallest tiling with a, b, c resident needs",
        ),
    ],
)
def test_bad_requests_get_one_line(options: dict[str, object], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind) as caught:
        matmul.build("mini", **{"m": 64, "n": 64, "k": 64, **options})  # type: ignore[arg-type]
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)
