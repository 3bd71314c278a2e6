"""Softmax, norms, reductions and losses as problems: operands, bytes, bounds, text and plain data."""

from __future__ import annotations

import json

import pytest

from accel.errors import InputError
from accel.hardware import chip
from accel.kernels.catalog import CATALOG, library_kernel
from accel.problem import (
    BatchNorm,
    CrossEntropy,
    ElementLoss,
    GroupNorm,
    LayerNorm,
    Problem,
    Reduce,
    Softmax,
    from_dict,
)

KINDS = ("softmax", "layernorm", "groupnorm", "batchnorm", "reduce", "cross_entropy", "element_loss")


@pytest.mark.parametrize(
    ("problem", "moved"),
    [
        (Softmax(3, 5), 2 * 15 * 2),
        (Softmax(3, 5, "fp32", "bf16", "bwd"), 2 * 15 * 4 + 15 * 2),
        (LayerNorm(3, 5), 2 * 15 * 2 + 2 * 5 * 4 + 2 * 3 * 4),
        (LayerNorm(3, 5, "rms"), 2 * 15 * 2 + 5 * 4 + 3 * 4),
        (LayerNorm(3, 5, direction="bwd"), 3 * 15 * 2 + 5 * 4 + 2 * 3 * 4 + 2 * 5 * 2),
        (GroupNorm(2, 3, 3, 6, groups=2), 2 * 108 * 2 + 2 * 6 * 4 + 2 * 4 * 4),
        (BatchNorm(2, 3, 3, 6), 2 * 108 * 2 + 8 * 6 * 4),
        (BatchNorm(2, 3, 3, 6, direction="inference"), 2 * 108 * 2 + 4 * 6 * 4),
        (BatchNorm(2, 3, 3, 6, direction="bwd", out_dtype="fp32"), 3 * 108 * 2 + 5 * 6 * 4),
        (Reduce(2, 5, 3, out_dtype="fp32"), 30 * 2 + 6 * 4),
        (CrossEntropy(3, 5), 15 * 2 + 3 * 4 + 3 * 4 + 4 + 3 * 4),
        (CrossEntropy(3, 5, direction="bwd"), 2 * 15 * 2 + 2 * 3 * 4 + 4),
        (ElementLoss(7), 2 * 7 * 2 + 4),
        (ElementLoss(7, direction="bwd"), 3 * 7 * 2 + 4),
    ],
    ids=lambda value: value.label.replace(" ", "-") if isinstance(value, Problem) else "",
)
def test_bytes_counted_by_hand_set_the_bound(problem: Problem, moved: int) -> None:
    d1 = chip("d1")
    assert problem.compulsory_bytes == moved
    assert (problem.macs, problem.flops) == (0, 0)
    bound = problem.bound(d1)
    assert bound.cause == "memory"
    assert bound.seconds == pytest.approx(moved / 400 / d1.clock_hz)
    inputs = [name for name, operand in problem.operands.items() if operand.role == "in"]
    assert list(problem.operands)[: len(inputs)] == inputs


@pytest.mark.parametrize("name", [n for n, entry in CATALOG.items() if entry.kind in KINDS])
def test_examples_survive_json_and_text(name: str) -> None:
    for problem in library_kernel(name).examples:
        assert from_dict(json.loads(json.dumps(problem.to_dict()))) == problem
        sizes = {size: getattr(problem, size) for size in type(problem).sizes()}
        options = {k: v for k, v in problem.to_dict().items() if k not in sizes and k != "kind"}
        assert type(problem).parse(",".join(map(str, sizes.values())), **options) == problem


def test_int64_sizes_are_refused_before_anything_is_built() -> None:
    for problem in (Softmax, LayerNorm):
        with pytest.raises(InputError, match="more than 2\\^40"):
            problem(1 << 30, 1 << 11)
    with pytest.raises(InputError, match="x of shape"):
        BatchNorm(1 << 20, 1 << 10, 1 << 10, 2)
