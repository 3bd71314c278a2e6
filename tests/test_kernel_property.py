"""kernel_property: right kernels pass, each seeded mistake is found, shrunk, and shown as Python that fails too."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import property_kernels as own
import pytest

import accel
from accel.errors import InputError
from accel.testing import PropertyError, draw_inputs, kernel_property, sum_of_products
from accel.testing import relations as r
from accel.testing import strategies as s

F = accel.tensor((3, 7), "fp32")
SQUARE = {"x": F, "y": F}
SUMS = {"x": accel.tensor((5, 40), "fp32"), "y": accel.tensor((5, 1), "fp32")}

test_scaled = kernel_property(
    own.scaled, own.times,
    [r.scale_pow2, r.negate, r.permute, r.batch_independent, r.block(x=0, y=0), r.block(x=1, y=1), r.pad(x=1, y=1),
     r.transpose, r.linear, r.one_hot, r.adjoint(own.scaled, of="x", gets="x", gives="y")],
    cases=[{**SQUARE, "factor": 3.0}, {"x": accel.tensor((4, 5)), "y": accel.tensor((4, 5)), "factor": -0.5, "bm": 3}],
    meshes=[(1, 1), (2, 3)], tilings=[{"bm": 1}, {"bm": 9}],
)  # fmt: skip
test_scaled_drawn = kernel_property(
    own.scaled, own.times, [r.permute], cases=s.cases(
        {"x": "m n fp32", "y": "m n fp32"}, most=20, factor=[0.5, 3.0], bm=lambda m: min(m, 4)), examples=8,
)  # fmt: skip
test_row_sums_as_a_model = kernel_property(
    own.row_sums, lambda x: x.sum(axis=1, keepdims=True), [r.scale_pow2, r.batch_independent, r.block(x=0, y=0)],
    cases=SUMS, bound=sum_of_products(lambda x: x.shape[1]),
)  # fmt: skip
test_row_sums_in_whole_numbers = kernel_property(
    own.row_sums, lambda x: x.sum(axis=1, keepdims=True),
    [r.permute(x=1), r.linear, r.one_hot, r.pad(x=1), r.adjoint(own.spread, of="x")], domain="int", cases=SUMS,
)  # fmt: skip
test_matmul = kernel_property(
    "matmul", None,
    [r.scale_pow2("a"), r.scale_pow2("b"), r.negate("b"), r.permute(a=0, c=0), r.permute(b=1, c=1), r.block(a=0, c=0),
     r.block(b=1, c=1), r.pad(a=1, b=0), r.pad(b=1, c=1), r.transpose(a="b", b="a"), r.identity, r.one_hot("a"),
     r.linear("a"), r.linear("b"), r.batch_independent(a=0, c=0)],
    cases=[{"m": 13, "n": 7, "k": 21}, {"m": 1, "n": 1, "k": 1, "out_dtype": "fp32"}],
)  # fmt: skip
test_a_function_that_builds = kernel_property(
    lambda chip, n: accel.kernels.matmul.build(chip, m=n, n=n, k=n, out_dtype="fp32"),
    lambda a, b: a @ b, ["identity", "one_hot"], "int", cases=[{"n": 6}, {"n": 1}],
)  # fmt: skip


def failure(*args: Any, **options: Any) -> PropertyError:
    with pytest.raises(PropertyError) as caught:
        kernel_property(*args, **options)()
    return caught.value


def fails_as_it_says(error: PropertyError, tmp_path: Path) -> str:
    """Run the reproduction from an empty folder; return the last line of its traceback."""
    done = subprocess.run([sys.executable, "-c", error.reproduction], cwd=tmp_path, capture_output=True, text=True,
                          check=False)  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stderr.strip().splitlines()[-1] if error.stage != "hazards" else done.stderr


def test_a_wrong_value_is_shrunk_to_the_column_that_is_wrong(tmp_path: Path) -> None:
    case = {"x": accel.tensor((24, 30), "fp32"), "y": accel.tensor((24, 30), "fp32")}
    error = failure(own.loses_a_column, lambda x: 2 * x, cases=case)
    assert error.stage == "reference"
    assert error.text.startswith("y[0, 5] is 1, the reference says 2; 1 of 6 elements differ")
    assert "x=accel.tensor((1, 6), 'fp32'), y=accel.tensor((1, 6), 'fp32')" in error.reproduction
    assert "np.array([[0, 0, 0, 0, 0, 1]], 'float32')" in error.reproduction
    assert fails_as_it_says(error, tmp_path).startswith("AssertionError")


def test_a_drawn_case_shrinks_too() -> None:
    drawn = s.cases({"x": "m n fp32", "y": "m n fp32"})
    error = failure(own.loses_a_column, lambda x: 2 * x, cases=drawn)
    assert "x=accel.tensor((1, 6), 'fp32')" in error.reproduction


def test_wrong_numbers_do_not_shrink_to_a_case_that_the_reference_was_not_written_for() -> None:
    case = {"x": accel.tensor((24, 30), "fp32"), "y": accel.tensor((24, 30), "fp32")}
    error = failure(own.loses_a_column, lambda x: 2 * x[: x.shape[0] // 2 * 2], cases=case)  # rows go in pairs
    assert error.text.startswith("y[1, 5] is 1, the reference says 2; 1 of 12 elements differ")
    assert "x=accel.tensor((2, 6), 'fp32')" in error.reproduction


def test_a_wrong_shape_is_a_failure_of_its_own() -> None:
    error = failure(own.scaled, lambda x, factor: (factor * x)[:, 1:], cases={"x": F, "y": F, "factor": 2})
    assert error.text.startswith("the reference has shape (1, 0) for y, the kernel (1, 1)")
    assert "bound=" not in error.text


def test_a_race_is_the_checkers_finding(tmp_path: Path) -> None:
    error = failure(own.hasty, cases=SQUARE)
    assert error.stage == "hazards"
    assert error.text.startswith("race: ")
    assert "accel.tensor((1, 1), 'fp32')" in error.reproduction
    assert "race: two accesses" in fails_as_it_says(error, tmp_path)


@pytest.mark.parametrize(
    ("kernel", "relation", "text"),
    [
        (own.shifted, r.scale_pow2, "2^3 times the output before x was scaled says"),
        (own.shifted, r.negate, "minus the output for x says"),
        (own.shifted, r.linear, "2 f(x) + -3 f(z) of the sum in x says"),
        (own.loses_a_column, r.permute(x=1, y=1), "the output before axis 1 of x was permuted says"),
        (own.loses_a_column, r.transpose, "the transposed output says"),
        (own.loses_a_column, r.block(x=1, y=1), "of the whole says"),
        (own.mixes_rows, r.batch_independent, "while the others were other numbers says"),
        (own.mixes_rows, r.permute, "the output before axis 0 of x was permuted says"),
        (own.mixes_rows, r.block(x=0, y=0), "of the whole says"),
        (own.mixes_rows, r.pad(x=0, y=0), "the output before 3 zeros were added says"),
        (own.mixes_rows, r.adjoint(own.mixes_rows, of="x", gets="x", gives="y"), "is not the adjoint in x"),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_a_relation_that_does_not_hold_is_found(kernel: Any, relation: Any, text: str, tmp_path: Path) -> None:
    tensor = accel.tensor((4, 9), "fp32")
    error = failure(kernel, relations=[relation], cases={"x": tensor, "y": tensor})
    assert error.stage == relation.name
    assert text in error.text
    assert "\n" not in error.text
    assert "PropertyError" in subprocess.run(
        [sys.executable, "-c", error.reproduction], cwd=tmp_path, capture_output=True, text=True, check=False
    ).stderr  # fmt: skip


def test_a_gradient_that_is_none_is_found() -> None:
    error = failure(own.row_sums, relations=[r.adjoint(own.spread_wrong, of="x")], cases=SUMS)
    assert "<y, gy> is" in error.text
    assert "spread_wrong is not the adjoint in x" in error.text


def test_a_kernel_that_depends_on_the_mesh_is_found() -> None:
    error = failure(own.mesh_dependent, cases=SQUARE, meshes=[(2, 2)])
    assert error.stage == "variants"
    assert "with mesh 2 x 2: y[0, 0] is" in error.text


def test_a_model_without_a_bound_says_what_to_give() -> None:
    third = {"x": F, "y": F, "factor": 1 / 3}
    error = failure(own.scaled, lambda x, factor: x.astype(np.float64) * factor, cases=third)
    assert "compared to the bit; a float64 model needs bound=" in error.text
    assert "float64" not in error.reproduction  # what it should be is written as the output would hold it


def test_a_bound_that_is_broken_is_found() -> None:
    error = failure(own.row_sums, lambda x: x[:, :-1].sum(axis=1, keepdims=True), cases=SUMS, bound=sum_of_products(40))
    assert "the bound is" in error.text


def test_the_kernels_own_inputs_are_used() -> None:
    seen = []

    def positive(rng, x):
        return {"x": np.abs(x) + 1}

    def reference(x):
        seen.append(x.min())
        return x * np.float32(2)

    kernel_property(own.scaled, reference, cases={**SQUARE, "factor": 2.0}, inputs=positive).property.stage("reference")
    assert min(seen) >= 1


def test_inputs_are_in_their_own_formats_and_repeatable() -> None:
    program = accel.kernels.matmul.build("mini", m=9, n=5, k=16)
    whole = draw_inputs(program, 3, "int")
    assert set(np.unique(whole["a"].astype(float))) == {-2, -1, 0, 1, 2}
    again = draw_inputs(program, 3, "int")
    assert all((whole[n] == again[n]).all() for n in whole)
    assert np.isnan(draw_inputs(program, 0, "special")["a"].astype(np.float32)).any()
    assert draw_inputs(program, 5, "one_hot")["b"].astype(float).sum() == 1
    with pytest.raises(InputError, match="of kind 'hot'; use ones"):
        draw_inputs(program, 0, "hot")


def test_strided_arrays_hold_the_same_numbers() -> None:
    from hypothesis import given, settings
    from hypothesis import strategies as st

    layouts = set()
    base = np.arange(24).reshape(2, 3, 4)

    @settings(max_examples=20, deadline=None)
    @given(st.just(base).flatmap(s.strided))
    def look(array: Any) -> None:
        assert (array == base).all()
        layouts.add(array.strides)

    look()
    assert len(layouts) > 5


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "Cannot test scaled without its shapes; write kernel_property(scaled, cases=dict(x=accel.tensor((8, 8))"),
        ({"cases": []}, "on no case"),
        ({"cases": [3]}, "is a dict of tensors and parameters by name, got 3"),
        ({"cases": SQUARE, "domain": "real"}, "domain must be 'float' or 'int', got 'real'"),
        ({"cases": SQUARE, "schedules": 0}, "schedules must be a whole number from 1 to 1000, got 0"),
        ({"cases": SQUARE, "relations": ["scale_pow3"]}, "no relation 'scale_pow3'; did you mean 'scale_pow2'?"),
        ({"cases": SQUARE, "relations": [3]}, "a relation is a function (trial, run) or one of scale_pow2"),
        ({"cases": SQUARE, "strategy": SQUARE}, "give one of them"),
    ],
)  # fmt: skip
def test_arguments_that_do_not_fit(options: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError) as caught:
        kernel_property(own.scaled, **options)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("relation", "text"),
    [
        (r.scale_pow2("z"), "no input 'z'; it has x"),
        (r.permute(x=0, z=0), "no tensor 'z'; it has x, y"),
        (r.permute(x=0, y=1), "have different sizes [3, 7]"),
        (r.permute(x=5), "x has 2 axes, got axis 5"),
        (r.adjoint, "adjoint needs the kernel of the gradient"),
        (r.adjoint(own.spread, of="x", gets="x"), "needs argument 'gy'"),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_relations_that_name_what_is_not_there(relation: Any, text: str) -> None:
    with pytest.raises(InputError) as caught:
        kernel_property(own.scaled, relations=[relation], cases={**SQUARE, "factor": 1.0})()
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"exponet": 2},
            "scale_pow2 has no option 'exponet'; did you mean 'exponent'?; it has operand, exponent, degree",
        ),
        (("x", 1, 1, 1), "scale_pow2 takes the options operand, exponent, degree; got ('x', 1, 1, 1)"),
    ],
)
def test_options_that_a_relation_has_not(options: Any, text: str) -> None:
    with pytest.raises(InputError) as caught:
        r.scale_pow2(**options) if isinstance(options, dict) else r.scale_pow2(*options)
    assert str(caught.value) == text


def test_a_relation_that_says_nothing_is_no_success() -> None:
    flat = accel.tensor((1, 4), "fp32")
    error = failure(own.shifted, relations=[r.batch_independent], cases={"x": flat, "y": flat})
    assert "says nothing about any case: axis 0 of x has one slice" in error.text


def test_things_that_are_no_kernel() -> None:
    with pytest.raises(InputError, match="because it is no kernel; give a function under"):
        kernel_property(3)
    with pytest.raises(InputError, match="unknown kernel 'matmull'; did you mean 'matmul'"):
        kernel_property("matmull")


def test_a_relation_of_ones_own() -> None:
    def absolute(trial, run):
        """|x| gives |y|."""
        same = (np.abs(run()["y"]) == run({"x": np.abs(trial.inputs["x"])})["y"]).all()
        return None if same else "the sign matters"

    kernel_property(own.scaled, relations=[absolute], cases={**SQUARE, "factor": 2.0})()
    error = failure(own.shifted, relations=[absolute], cases=SQUARE)
    assert error.stage == "absolute"
    assert error.text == "the sign matters"


def test_each_stage_is_a_test_with_the_plugin(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import accel\n"
        "import property_kernels as own\n"
        "from accel.testing import kernel_property\n"
        "F = accel.tensor((2, 7), 'fp32')\n"
        "test_right = kernel_property(own.scaled, own.times, cases=dict(x=F, y=F, factor=2.0))\n"
        "test_wrong = kernel_property(own.loses_a_column, lambda x: 2 * x, ['permute'], cases=dict(x=F, y=F))\n"
    )
    line = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:accel",
        "-p",
        "accel.testing.plugin",
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run([*line, str(tmp_path)], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert "FAILED test_it.py::test_wrong[reference]" in done.stdout, done.stdout
    assert "loses_a_column: reference: y[0, 5] is 1, the reference says 2" in done.stdout
    assert "11 passed" in done.stdout
    assert "2 failed" in done.stdout
    assert "property.py" not in done.stdout
