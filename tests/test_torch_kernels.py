"""Kernels whose own tests do not ask torch: values in float64 and gradients by autograd, within derived bounds.

A chain or tree of d roundings errs by at most gamma_d times the sum of the sizes of its terms (Higham 2002, section
3.1); storing a result in a shorter format adds its unit roundoff times the result. What moves numbers has no error.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import accel
from accel.kernels.catalog import kernel_of
from accel.numerics import UNIT_ROUNDOFF, gamma, round_to
from accel.problem import (
    BiasAdd,
    Collective,
    Concat,
    Conv3d,
    Embedding,
    GroupedMatmul,
    Problem,
    Reduce,
    Slice,
    StreamingConv,
    Transpose,
)

MINI = accel.chip("mini")
torch = pytest.importorskip("torch", reason="torch is not installed: 11 kinds of kernels are not compared with it here")


def drawn(seed: int, *shape: int) -> np.ndarray:
    """Normal numbers that bf16 holds."""
    return np.asarray(round_to(np.random.default_rng(seed).normal(size=shape).astype(np.float32), "bf16"), np.float32)


def ran(problem: Problem, **inputs: np.ndarray) -> np.ndarray:
    """The first output of a problem on `mini`, as float64."""
    program = kernel_of(problem).program(MINI, problem, resident=frozenset())
    name = next(name for name, operand in problem.operands.items() if operand.role == "out")
    return np.asarray(program.run(inputs)[name]).astype(np.float64)


def leaf(x: np.ndarray, *, sizes: bool = False) -> Any:
    """x, or |x|, as a float64 tensor that takes a gradient."""
    return torch.tensor(np.abs(x) if sizes else x, dtype=torch.float64, requires_grad=True)


def assert_near(got: np.ndarray, want: Any, size: Any, steps: int, out: str = "fp32") -> None:
    """|got - want| is within gamma_steps of `size`, plus one rounding to the format of the result."""
    true, sizes = want.detach().numpy(), size.detach().numpy()
    assert got.shape == true.shape
    bound = gamma(steps) * sizes
    if out != "fp32":
        bound = bound + UNIT_ROUNDOFF[out] * (np.abs(true) + bound)
    error = np.abs(got - true)
    assert (error <= bound).all(), f"off by {error.max():.3g}, allowed {bound.max():.3g}"
    assert bound.max() < 0.02 * np.abs(true).max()  # the bound says something


@pytest.mark.parametrize("out", ["fp32", "bf16"])
def test_gradients_of_conv3d(out: str) -> None:
    shape, options = (2, 5, 7, 6, 8, 12, 3, 3, 2), {"stride": (2, 1, 1), "pad": 1, "dilation": (1, 2, 1)}
    x, w = drawn(0, 2, 5, 7, 6, 8), drawn(1, 3, 3, 2, 8, 12)
    made: dict[bool, tuple[Any, Any]] = {}
    gy = np.zeros(0)
    for sizes in (False, True):
        left, right = leaf(x, sizes=sizes), leaf(w, sizes=sizes)
        y = torch.nn.functional.conv3d(
            left.permute(0, 4, 1, 2, 3), right.permute(4, 3, 0, 1, 2), stride=(2, 1, 1), padding=1, dilation=(1, 2, 1)
        ).permute(0, 2, 3, 4, 1)
        gy = drawn(2, *y.shape)
        made[sizes] = torch.autograd.grad(y, (left, right), leaf(gy, sizes=sizes))
    gx = ran(Conv3d(*shape, **options, out_dtype=out, direction="dgrad"), gy=gy, w=w)
    assert_near(gx, made[False][0], made[True][0], 18 * 12, out)
    gw = ran(Conv3d(*shape, **options, out_dtype=out, direction="wgrad"), x=x, gy=gy)
    assert_near(gw, made[False][1], made[True][1], int(np.prod(gy.shape[:4])), out)


@pytest.mark.parametrize("activation", ["none", "relu"])
def test_convolution_of_a_stream_of_frames(activation: str) -> None:
    problem = StreamingConv(
        6, 11, 9, 8, 12, 3, 3, 3, stride=2, pad=1, out_dtype="fp32", bias=True, activation=activation
    )
    x, w, bias = drawn(0, 6, 11, 9, 8), drawn(1, 3, 3, 3, 8, 12), drawn(2, 12)
    want, size = (
        torch.nn.functional.conv3d(
            leaf(x, sizes=s).permute(3, 0, 1, 2)[None], leaf(w, sizes=s).permute(4, 3, 0, 1, 2), leaf(bias, sizes=s),
            stride=(1, 2, 2), padding=(0, 1, 1),
        )[0].permute(1, 2, 3, 0)
        for s in (False, True)
    )  # fmt: skip
    want = torch.relu(want) if activation == "relu" else want
    assert_near(ran(problem, x=x, w=w, bias=bias), want, size, 27 * 8 + 1)


@pytest.mark.parametrize("out", ["fp32", "bf16"])
def test_grouped_matmul_and_its_gradients(out: str) -> None:
    rows, n, k = (17, 0, 3, 40), 20, 30
    a, b, gc = drawn(0, sum(rows), k), drawn(1, len(rows), k, n), drawn(2, sum(rows), n)
    made = {}
    for sizes in (False, True):
        left, right = leaf(a, sizes=sizes), leaf(b, sizes=sizes)
        c = torch.cat([part @ right[g] for g, part in enumerate(left.split(rows))])
        made[sizes] = (c, *torch.autograd.grad(c, (left, right), leaf(gc, sizes=sizes)))
    ways = (("fwd", {"a": a, "b": b}, k), ("dgrad", {"gc": gc, "b": b}, n), ("wgrad", {"a": a, "gc": gc}, max(rows)))
    for at, (direction, inputs, steps) in enumerate(ways):
        got = ran(GroupedMatmul(n, k, rows, "bf16", out, direction), **inputs)
        assert_near(got, made[False][at], made[True][at], steps, out)


@pytest.mark.parametrize("function", ["sum", "mean"])
@pytest.mark.parametrize("shape", [(3, 2500, 1), (2, 99, 9)])
def test_sums_and_means_and_their_gradients(function: str, shape: tuple[int, int, int]) -> None:
    x, gy = drawn(0, *shape), drawn(1, shape[0], shape[2])
    y, size = (getattr(leaf(x, sizes=s), function)(1) for s in (False, True))
    # No order of adding `length` numbers has more than length - 1 roundings in a row; a mean has its division too.
    assert_near(ran(Reduce(*shape, function, out_dtype="fp32"), x=x), y, size, shape[1])
    of = leaf(x)
    (gx,) = torch.autograd.grad(getattr(of, function)(1), of, torch.tensor(gy, dtype=torch.float64))
    assert_near(ran(Reduce(*shape, function, out_dtype="fp32", direction="bwd"), gy=gy), gx, gx.abs(), 2)


@pytest.mark.parametrize("function", ["max", "min"])
def test_maxima_are_exact(function: str) -> None:
    x = drawn(0, 3, 99, 9)
    want = getattr(torch, f"a{function}")(torch.tensor(x), 1)
    assert (ran(Reduce(3, 99, 9, function), x=x) == want.numpy()).all()


def test_a_bias_and_its_gradient() -> None:
    x, bias, gy = drawn(0, 70, 33), drawn(1, 33), drawn(2, 70, 33)
    made = []
    for s in (False, True):
        given = leaf(bias, sizes=s)
        y = leaf(x, sizes=s) + given
        made.append((y, *torch.autograd.grad(y, given, leaf(gy, sizes=s))))
    assert_near(ran(BiasAdd(70, 33, out_dtype="fp32"), x=x, bias=bias), made[0][0], made[1][0], 1)
    assert_near(ran(BiasAdd(70, 33, out_dtype="bf16", direction="bwd"), gy=gy), made[0][1], made[1][1], 70, "bf16")


def test_embedding_and_its_gradient() -> None:
    ids = np.random.default_rng(0).integers(0, 40, 90).astype(np.int32)
    table, gy = drawn(1, 40, 33), drawn(2, 90, 33)
    made = []
    for s in (False, True):
        given = leaf(table, sizes=s)
        y = torch.nn.functional.embedding(torch.tensor(ids, dtype=torch.int64), given)
        made.append((y, *torch.autograd.grad(y, given, leaf(gy, sizes=s))))
    assert (ran(Embedding(90, 40, 33), ids=ids, table=table) == made[0][0].detach().numpy()).all()
    most = int(np.bincount(ids).max())
    for out in ("fp32", "bf16"):
        got = ran(Embedding(90, 40, 33, "bf16", out, "bwd"), ids=ids, gy=gy)
        assert_near(got, made[0][1], made[1][1], most, out)


def test_moved_numbers_and_their_gradients_are_exact() -> None:
    x = drawn(0, 3, 5, 6, 33)
    cases = (
        (Transpose(3, 5, 6, 33), Transpose(3, 5, 6, 33, direction="bwd"), lambda t: t.permute(0, 3, 1, 2)),
        (Slice(3, 5, 6, 33, "::2,1:-1,:,2::3"), Slice(3, 5, 6, 33, "::2,1:-1,:,2::3", direction="bwd"),
         lambda t: t[::2, 1:-1, :, 2::3]),
    )  # fmt: skip
    for forth, back, moved in cases:
        given = leaf(x)
        y = moved(given)
        gy = drawn(1, *y.shape)
        (gx,) = torch.autograd.grad(y, given, torch.tensor(gy, dtype=torch.float64))
        assert (ran(forth, x=x) == y.detach().numpy()).all()
        assert (ran(back, gy=gy) == gx.numpy()).all()


def test_concatenated_numbers_and_their_gradients_are_exact() -> None:
    parts = [drawn(i, 4, size, 7) for i, size in enumerate((3, 1, 20))]
    whole = torch.cat([torch.tensor(part) for part in parts], 1).numpy()
    inputs = {f"x{i}": part for i, part in enumerate(parts)}
    assert (ran(Concat(4, 7, (3, 1, 20)), **inputs) == whole).all()
    back = Concat(4, 7, (3, 1, 20), direction="bwd")
    gradients = kernel_of(back).program(MINI, back, resident=frozenset()).run(gy=whole)
    for i, part in enumerate(torch.tensor(whole).split((3, 1, 20), 1)):
        assert (np.asarray(gradients[f"gx{i}"]) == part.numpy()).all()


@pytest.mark.parametrize("algorithm", ["ring", "grid", "recursive"])
@pytest.mark.parametrize("op", ["all_reduce", "reduce_scatter"])
def test_sums_over_a_mesh(op: str, algorithm: str) -> None:
    problem = Collective(4, 4, 37, op, algorithm)
    x = drawn(0, *problem.operands["x"].shape)
    want, size = (leaf(x, sizes=s).sum(0) for s in (False, True))
    shape = (16, 37)
    want, size = (t.expand(shape) if op == "all_reduce" else t.reshape(shape) for t in (want, size))
    assert_near(ran(problem, x=x), want, size, 15)
