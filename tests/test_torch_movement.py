"""Kernels next to torch that move or pick numbers: collectives, halos, casts, the largest magnitude, gradient norms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import accel
from accel.kernels.catalog import kernel_of
from accel.numerics import UNIT_ROUNDOFF, gamma, round_to
from accel.problem import Collective, HaloExchange, Problem
from accel.problem.optimizer import Amax, Cast, GradNorm

MINI = accel.chip("mini")
torch = pytest.importorskip("torch", reason="torch is not installed: 8 kinds of kernels are not compared with it here")


def drawn(seed: int, *shape: int) -> np.ndarray:
    """Normal numbers that bf16 holds."""
    return np.asarray(round_to(np.random.default_rng(seed).normal(size=shape).astype(np.float32), "bf16"), np.float32)


def ran(problem: Problem, **inputs: Any) -> dict[str, np.ndarray]:
    """The outputs of a problem on `mini`, as float64."""
    outputs = kernel_of(problem).program(MINI, problem).run(inputs)
    return {name: np.asarray(array).astype(np.float64) for name, array in outputs.items()}


@pytest.mark.parametrize("over", ["mesh", "rows", "cols"])
@pytest.mark.parametrize("op", ["all_gather", "all_to_all", "broadcast"])
def test_collectives_move_what_torch_moves(op: str, over: str) -> None:
    problem = Collective(3, 4, 5, op, over=over, root=1)
    x = drawn(0, *problem.operands["x"].shape)
    parts = torch.tensor(x)
    # node (r, c) is row r * 4 + c of x and y; members of a group side by side: groups, members, numbers
    whole = op == "broadcast"
    grouped = parts
    if not whole:
        grid, lines = parts.reshape(3, 4, -1), 1 if over == "mesh" else 3
        grouped = grid.transpose(0, 1) if over == "cols" else grid.reshape(lines, -1, grid.shape[-1])
    members = problem.size
    if whole:
        each = grouped[:, None].expand(-1, members, -1)
    elif op == "all_gather":
        each = torch.cat(grouped.unbind(1), -1)[:, None].expand(-1, members, -1)
    else:
        each = grouped.reshape(-1, members, members, 5).transpose(1, 2).reshape(-1, members, members * 5)
    nodes = each.transpose(0, 1) if over == "cols" else each
    assert (ran(problem, x=x)["y"] == nodes.reshape(12, -1).numpy()).all()


@pytest.mark.parametrize("wrap", [False, True])
def test_halos_are_those_of_a_padded_image(wrap: bool) -> None:
    problem = HaloExchange(2, 3, 4, 5, 3, halo=2, wrap=wrap)
    image = torch.tensor(drawn(1, 8, 15, 3))
    tiles = image.reshape(2, 4, 3, 5, 3).transpose(1, 2)
    planes = image.permute(2, 0, 1)[None].to(torch.float64)
    padded = torch.nn.functional.pad(planes, (2, 2, 2, 2), mode="circular" if wrap else "constant")[0].permute(1, 2, 0)
    want = padded.unfold(0, 8, 4).unfold(1, 9, 5).permute(0, 1, 3, 4, 2)  # (2, 3, 8, 9, 3)
    got = ran(problem, x=tiles.reshape(6, 4, 5, 3).numpy())["y"]
    assert (got == want.reshape(6, 8, 9, 3).numpy()).all()


@pytest.mark.parametrize(("dtype", "out"), [("fp32", "bf16"), ("fp32", "fp16"), ("bf16", "fp16"), ("fp16", "fp32"),
                                            ("bf16", "fp32"), ("fp16", "bf16")])  # fmt: skip
def test_casts_are_those_of_torch(dtype: str, out: str) -> None:
    names = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    rng = np.random.default_rng(2)
    numbers = rng.normal(size=3000) * np.exp2(rng.integers(-30, 18, 3000))
    numbers[:6] = 0.0, -0.0, np.inf, -np.inf, 65520.0, 2.0**-25
    given = torch.tensor(numbers, dtype=torch.float32).to(names[dtype])
    want = given.to(names[out]).to(torch.float64).numpy()
    got = ran(Cast(3000, dtype, out), x=given.to(torch.float32).numpy())["y"]
    assert (got == want).all()
    assert (np.signbit(got) == np.signbit(want)).all()


@pytest.mark.parametrize(("out", "bias", "high"), [("cfp8-143", 7, 8), ("cfp8-152", 15, 15)])
def test_casts_to_eight_bits_are_those_of_torch_where_both_are_normal(out: str, bias: int, high: int) -> None:
    """Below, formats differ by design (docs/numerics.md); above, torch saturates elsewhere."""
    rng = np.random.default_rng(3)
    numbers = (1 + rng.random(4000) * 0.7) * np.exp2(rng.integers(2 - bias, high, 4000)) * rng.choice([-1, 1], 4000)
    given = torch.tensor(numbers, dtype=torch.float32)
    eight = torch.float8_e4m3fn if out == "cfp8-143" else torch.float8_e5m2
    want = given.to(eight).to(torch.float64).numpy()
    got = ran(Cast(4000, "fp32", out), x=given.numpy(), y_bias=np.array([bias], np.uint8))["y"]
    assert (got == want).all()


@pytest.mark.parametrize("size", [1, 5000])
def test_the_largest_magnitude_is_that_of_torch(size: int) -> None:
    x, history = drawn(4, size), np.abs(drawn(5, 16))
    got = ran(Amax(size), x=x, history=history)
    largest = torch.tensor(x).abs().max()
    assert got["amax"][0] == largest.item()
    rolled = torch.cat([largest[None], torch.tensor(history)[:-1]])
    assert (got["new_history"] == rolled.numpy()).all()


@pytest.mark.parametrize("size", [1, 37, 5000])
@pytest.mark.parametrize("max_norm", [0.5, 1e6])
def test_gradients_are_clipped_as_torch_clips_them(size: int, max_norm: float) -> None:
    g, scale = drawn(6, size), 2.0**7
    got = ran(GradNorm(size, max_norm=max_norm), g=g, scale=np.array([scale], np.float32), streak=np.zeros(1, np.int32))
    leaf = torch.zeros(size, dtype=torch.float64, requires_grad=True)
    leaf.grad = torch.tensor(g, dtype=torch.float64) / scale
    norm = torch.nn.utils.clip_grad_norm_([leaf], max_norm).item()
    assert leaf.grad is not None
    clipped = leaf.grad.numpy()
    # squares, a chain and tree of at most log2(size) + 128 additions, a root, then five roundings of the factor
    allowed = float(gamma(size.bit_length() + 140)) + 8 * UNIT_ROUNDOFF["fp32"]
    assert abs(got["norm"][0] - norm) <= allowed * norm
    assert (np.abs(g.astype(np.float64) * got["factor"] - clipped) <= 2 * allowed * np.abs(clipped)).all()
    assert got["overflow"][0] == 0
    assert allowed < 1e-4
