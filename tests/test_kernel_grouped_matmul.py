"""Grouped matmul and its gradients against the definition, whole numbers, and the same products one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import accel
from accel.cli.inputs import random_inputs
from accel.errors import InputError, UnsupportedError
from accel.kernels import grouped_matmul, matmul
from accel.problem import GroupedMatmul
from accel.verification import verify

SIZE = st.one_of(st.integers(1, 24), st.sampled_from([31, 40, 67]))
ROWS = st.lists(st.one_of(st.integers(0, 12), st.sampled_from([0, 16, 33, 70])), min_size=1, max_size=6).filter(any)
WAY = st.sampled_from(["fwd", "dgrad", "wgrad"])


@settings(max_examples=40)
@given(SIZE, SIZE, ROWS, st.sampled_from(["bf16", "fp16", "fp32", "cfp8-152"]), st.sampled_from(["", "fp32"]), WAY,
       st.sampled_from([(4, 4), (1, 1), (2, 3)]), st.integers(0, 99))  # fmt: skip
def test_any_groups_are_bit_equal_and_free_of_hazards(
    n: int, k: int, rows: list[int], dtype: str, out: str, way: str, mesh: tuple[int, int], seed: int
) -> None:
    problem = GroupedMatmul(n, k, tuple(rows), dtype, out, way)
    chip = accel.chip("mini").replace(**{"mesh.rows": mesh[0], "mesh.cols": mesh[1]})
    program = grouped_matmul.KERNEL.program(chip, problem)
    inputs = random_inputs(program, seed, hard=bool(seed % 2))
    outputs = program.run(inputs)
    verdict = verify(problem, program, inputs, outputs)
    assert verdict.checked > 0
    assert verdict.mismatches == 0, verdict
    again = program.run(inputs, schedule=seed)
    assert all(outputs[name].tobytes() == again[name].tobytes() for name in outputs)
    program.check(1)


@settings(max_examples=15)
@given(SIZE, SIZE, ROWS)
def test_gradients_are_adjoint_and_whole_numbers_exact(n: int, k: int, rows: list[int]) -> None:
    rng = np.random.default_rng(n + 100 * k)
    m, options = sum(rows), {"n": n, "k": k, "groups": tuple(rows), "out_dtype": "fp32"}
    a, b, gc = (rng.integers(-2, 3, shape) for shape in ((m, k), (len(rows), k, n), (m, n)))
    c = grouped_matmul.build("mini", **options).run(a=a, b=b)["c"]
    ga = grouped_matmul.build("mini", **options, direction="dgrad").run(gc=gc, b=b)["ga"]
    gb = grouped_matmul.build("mini", **options, direction="wgrad").run(a=a, gc=gc)["gb"]
    first = 0
    for g, height in enumerate(rows):
        assert (c[first : first + height] == a[first : first + height] @ b[g]).all()
        first += height
    assert (c * gc).sum(dtype=np.int64) == (a * ga).sum(dtype=np.int64) == (b * gb).sum(dtype=np.int64)


def test_a_group_is_a_matmul() -> None:
    rng = np.random.default_rng(5)
    a, b = rng.normal(size=(60, 30)), rng.normal(size=(3, 30, 20))
    c = grouped_matmul.build("mini", n=20, k=30, groups="17+3+40").run(a=a, b=b)["c"]
    alone = matmul.build("mini", m=40, n=20, k=30).run(a=a[20:], b=b[2])["c"]
    assert c[20:].tobytes() == alone.tobytes()


def test_a_group_without_rows_has_no_gradient() -> None:
    ones = np.ones((9, 8))
    got = grouped_matmul.build("mini", n=8, k=8, groups=(4, 0, 5), direction="wgrad").run(a=ones, gc=ones)["gb"]
    assert got[:, 0, 0].tolist() == [4, 0, 5]


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"groups": "0+0"}, InputError, "no group has a row"),
        ({"groups": "3;4"}, InputError, "groups='3;4' is not whole numbers with + between"),
        ({"groups": (3, -1)}, InputError, "groups[1]=-1 is outside 0"),
        ({"direction": "bwd"}, InputError, "direction='bwd' is not one of fwd, dgrad, wgrad"),
        ({"dtype": "int8"}, UnsupportedError, "grouped_matmul on mini does not take int8; use dtype='bf16' or"),
        ({"out_dtype": "int32"}, InputError, "sums of bf16 do not become int32"),
        ({"resident": "a"}, UnsupportedError, "leave resident=a out"),
    ],
)
def test_bad_requests_get_one_line(options: dict[str, Any], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind) as caught:
        grouped_matmul.build("mini", **{"n": 8, "k": 8, "groups": "8+8", **options})
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)
