"""Gradients of a small network, end to end: library kernels against float64, by hand and by torch; and it learns."""

from __future__ import annotations

import numpy as np
import pytest
from small_network import CLASSES, PARAMETERS, Tensors, by_kernels, in_float64, start

UNIT = 2.0**-24
TRIALS = 12


def allowed(p: Tensors, x: np.ndarray, labels: np.ndarray, unit: float) -> Tensors:
    """Return what roundings may change in each gradient: four times the most that random errors of full size do.

    A kernel's element is off by at most steps * unit * size (Higham 2002, section 3.1); here every one is moved by a
    random part of that, in twelve networks, and what comes out is compared with the exact gradient.
    """
    _, true = in_float64(p, x, labels)
    worst = {name: np.zeros(shape) for name, shape in PARAMETERS.items()}
    for seed in range(TRIALS):
        rng = np.random.default_rng(seed)

        def moved(value: np.ndarray, steps: int, size: object, rng: np.random.Generator = rng) -> np.ndarray:
            return value + rng.uniform(-1, 1, value.shape) * steps * unit * np.asarray(size)

        _, found = in_float64(p, x, labels, moved)
        worst = {name: np.maximum(worst[name], np.abs(found[name] - true[name]).max()) for name in worst}
    return {name: 4 * value for name, value in worst.items()}


def test_gradients_equal_those_in_float64() -> None:
    p, x, labels = start(0)
    loss, found = by_kernels(p, x, labels)
    wanted, true = in_float64(p, x, labels)
    assert abs(loss - wanted) < 1e-5
    limits = allowed(p, x, labels, UNIT)
    for name, limit in limits.items():
        error = np.abs(found[name] - true[name])
        assert (error <= limit).all(), f"{name}: off by {error.max():.3g}, allowed {limit.max():.3g}"
        assert limit.max() < 1e-2 * np.abs(true[name]).max()  # the bound says something


def test_the_gradient_by_hand_is_the_slope_of_the_loss() -> None:
    p, x, labels = start(1)
    _, gradients = in_float64(p, x, labels)
    rng = np.random.default_rng(0)
    for name, gradient in gradients.items():
        direction = rng.normal(size=gradient.shape)
        ends = [
            in_float64({**p, name: p[name].astype(np.float64) + step * direction}, x, labels)[0]
            for step in (-1e-6, 1e-6)
        ]
        slope = (ends[1] - ends[0]) / 2e-6
        assert slope == pytest.approx((gradient * direction).sum(), rel=1e-4, abs=1e-7), name


def test_gradients_equal_those_of_torch() -> None:
    torch = pytest.importorskip("torch", reason="torch gives the same gradients by automatic differentiation")
    p, x, labels = start(0)
    given = {name: torch.tensor(value, dtype=torch.float64, requires_grad=True) for name, value in p.items()}
    functional = torch.nn.functional

    def convolved(image: object, name: str) -> object:
        return functional.conv2d(image, given[name].permute(3, 2, 0, 1), padding=1)

    a = convolved(torch.tensor(x, dtype=torch.float64).permute(0, 3, 1, 2), "w1")
    b = torch.relu(functional.batch_norm(a, None, None, given["gamma"], given["beta"], training=True, eps=1e-5))
    f = torch.relu(convolved(functional.max_pool2d(b, 2), "w2")).mean((2, 3))
    loss = functional.cross_entropy(f @ given["w3"] + given["b3"], torch.tensor(labels, dtype=torch.int64))
    loss.backward()
    ours, found = by_kernels(p, x, labels)
    assert abs(ours - float(loss)) < 1e-5
    limits = allowed(p, x, labels, UNIT)
    for name, limit in limits.items():
        error = np.abs(found[name] - given[name].grad.numpy())
        assert (error <= limit).all(), f"{name}: off by {error.max():.3g}, allowed {limit.max():.3g}"


def test_it_learns() -> None:
    p, x, labels = start(2)
    losses = []
    for _ in range(8):
        loss, gradients = by_kernels(p, x, labels)
        losses.append(loss)
        p = {name: value - np.float32(0.2) * gradients[name].astype(np.float32) for name, value in p.items()}
    assert losses[0] > 0.5 * np.log(CLASSES)
    assert losses[-1] < 0.5 * losses[0], losses


def test_in_bf16_the_gradient_points_the_same_way() -> None:
    p, x, labels = start(0)
    _, found = by_kernels(p, x, labels, dtype="bf16")
    _, true = in_float64(p, x, labels)
    for name, gradient in true.items():
        cosine = (found[name] * gradient).sum() / np.linalg.norm(found[name]) / np.linalg.norm(gradient)
        assert cosine > 0.99, f"{name}: {cosine}"
