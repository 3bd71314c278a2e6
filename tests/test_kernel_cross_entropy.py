"""Cross-entropy: bits of the definition on any shape, mesh and tiling; labels that are none; torch in float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kernel_runs import agree, built, on_mesh, random_inputs

import accel
from accel.errors import InputError, UnsupportedError
from accel.isa.transcendentals import ULP
from accel.kernels import cross_entropy
from accel.problem import CrossEntropy

U = 2.0**-24
ROWS = st.one_of(st.integers(1, 40), st.sampled_from([1, 8, 9, 129, 257]))
CLASSES = st.one_of(st.integers(1, 70), st.sampled_from([1, 16, 17, 2047, 2048, 2049, 4100]))
FORMATS = st.sampled_from(["bf16", "fp16", "fp32"])
DIRECTIONS = st.sampled_from(["fwd", "bwd"])
SMOOTHING = st.sampled_from([0.0, 0.1, 1.0])


@pytest.mark.parametrize("problem", cross_entropy.KERNEL.examples, ids=lambda p: p.label.replace(" ", "-"))
def test_examples_have_the_bits_of_the_definition_under_every_schedule(problem: CrossEntropy) -> None:
    agree(problem, schedules=3)


@settings(max_examples=20)
@given(ROWS, CLASSES, FORMATS, DIRECTIONS, SMOOTHING, st.integers(-1, 3), st.integers(0, 2**32 - 1))
@example(257, 2049, "bf16", "fwd", 0.1, 0, 0)
def test_any_shape(
    rows: int, classes: int, dtype: str, direction: str, smoothing: float, ignore_index: int, seed: int
) -> None:
    agree(CrossEntropy(rows, classes, dtype, direction, smoothing, ignore_index), seed=seed, schedules=1)


@settings(max_examples=12)
@given(st.integers(1, 4), st.integers(1, 4), ROWS, st.integers(1, 300), DIRECTIONS, st.data())
def test_no_mesh_and_no_tiling_changes_bits(
    mesh_rows: int, mesh_cols: int, rows: int, classes: int, direction: str, data: st.DataObject
) -> None:
    tiling = {
        "block": data.draw(st.sampled_from([1, 2, 4, 8, 16])),
        "held": data.draw(st.integers(0, 1)),
        "depth": data.draw(st.integers(1, 3)),
    }
    agree(CrossEntropy(rows, classes, direction=direction), on_mesh(mesh_rows, mesh_cols), schedules=1, **tiling)


def test_a_vocabulary_in_fp32_is_read_again() -> None:
    problem, small = CrossEntropy(3, 50_257, "fp32"), on_mesh(2, 2, **{"node.sram_bytes": 128 * 1024})
    agree(problem, small)
    assert built(problem, small).time().bytes["memory_read"] >= 2 * 3 * 50_257 * 4


def test_a_label_that_is_no_class_shows_and_an_ignored_one_does_not_count() -> None:
    x = np.random.default_rng(0).normal(size=(6, 10)).astype(np.float32)
    good = np.array([0, 9, 3, 4, 5, 6], np.int32)
    problem = CrossEntropy(6, 10, "fp32", ignore_index=-1)
    clean = agree(problem, inputs={"x": x, "labels": good})
    ignored = agree(problem, inputs={"x": x, "labels": np.where(np.arange(6) % 2, good, -1)})
    assert (ignored["loss"][::2] == 0).all()
    assert (ignored["loss"][1::2] == clean["loss"][1::2]).all()
    assert abs(ignored["mean"][0] - clean["loss"][1::2].mean(dtype=np.float64)) < 1e-6
    wrong = agree(problem, inputs={"x": x, "labels": np.array([0, 10, -2, 4, 2**31 - 1, -(2**31)], np.int32)})
    assert np.isnan(wrong["loss"]).tolist() == [False, True, True, False, True, True]
    assert np.isnan(wrong["mean"]).all()
    assert np.isnan(agree(problem, inputs={"x": x, "labels": np.full(6, -1)})["mean"]).all()  # none counts: 0 / 0
    back = {"x": x, "labels": np.array([0, -1, 10, 9, 5, -7], np.int32), "lse": clean["lse"], "scale": np.float32([2])}
    gx = agree(CrossEntropy(6, 10, "fp32", "bwd", ignore_index=-1), inputs=back)["gx"]
    assert (gx[1] == 0).all()
    assert np.isnan(gx).all(axis=1).tolist() == [False, False, True, False, False, True]


def test_rows_are_independent() -> None:
    problem = CrossEntropy(23, 77, "fp32", smoothing=0.1)
    inputs = random_inputs(problem, 3)
    whole = agree(problem, inputs=inputs)
    order = np.random.default_rng(1).permutation(23)
    turned = agree(problem, inputs={name: values[order] for name, values in inputs.items()})
    assert (turned["loss"] == whole["loss"][order]).all()
    assert (turned["lse"] == whole["lse"][order]).all()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("classes", [1, 10, 3000])
def test_losses_and_gradients_are_those_of_torch(classes: int, smoothing: float) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: cross-entropy is not compared with autograd")
    problem = CrossEntropy(19, classes, "fp32", smoothing=smoothing)
    inputs = random_inputs(problem, classes + 1)
    x = torch.tensor(inputs["x"], dtype=torch.float64, requires_grad=True)
    labels = torch.tensor(inputs["labels"], dtype=torch.long)
    each = torch.nn.functional.cross_entropy(x, labels, reduction="none", label_smoothing=smoothing)
    mean = torch.nn.functional.cross_entropy(x, labels, label_smoothing=smoothing)
    mean.backward()
    out = agree(problem, inputs=inputs)
    # lse errs by the sum's relative error (each exponential's, and its depth), by log's ulps and a rounding; the
    # loss by that and by roundings of numbers no larger than |lse| + max |x|.
    x64 = inputs["x"].astype(np.float64)
    away = x64.max(1) - x64.min(1)
    size = 2 * np.abs(x64).max(1) + np.log(classes) + 1
    d_lse = (away + 2 * ULP["exp"] + 128 + 4 + 2 + 1) * U + (2 * ULP["log"] + 2) * U * size
    bound = d_lse + (6 + 128 + 4 + 2) * U * size
    assert (np.abs(out["loss"] - each.detach().numpy()) <= bound).all()
    counted = inputs["labels"] != -100
    assert abs(out["mean"][0] - mean.item()) <= bound.max() + (8 + 5 + 2) * U * size.max()
    scale = np.float32([1 / counted.sum()])
    back = {"x": inputs["x"], "labels": inputs["labels"], "lse": out["lse"], "scale": scale}
    gx = agree(CrossEntropy(19, classes, "fp32", "bwd", smoothing), inputs=back)["gx"]
    p = np.exp(x64 - np.log(np.exp(x64).sum(1, keepdims=True)))
    wide = p * (d_lse + U * (away + size) + 4 * ULP["exp"] * U)[:, None] + 4 * U * (p + 1)
    assert (np.abs(gx - x.grad.numpy()) <= scale[0] * wide * 1.01).all()


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        ({"classes": 0}, InputError, "classes=0 is outside"),
        ({"smoothing": 1.5}, InputError, "smoothing=1.5 is outside 0..1"),
        ({"ignore_index": 0.5}, InputError, "ignore_index=0.5 is not an integer"),
        ({"dtype": "int32"}, InputError, "use 'bf16', 'fp16' or 'fp32'"),
        ({"direction": "wgrad"}, InputError, "is not one of fwd, bwd"),
        ({"resident": ("x",)}, UnsupportedError, "leave resident=x out"),
        ({"block": 3}, InputError, "use a power of two"),
    ],
)
def test_bad_input_is_one_clear_error(call: dict[str, object], error: type[Exception], words: str) -> None:
    with pytest.raises(error) as caught:
        cross_entropy.build(accel.chip("mini"), **{"rows": 8, "classes": 8} | call)  # type: ignore[arg-type]
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
