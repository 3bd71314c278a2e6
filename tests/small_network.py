"""A small vision network, forward and backward: once from library kernels, once in float64, layer by layer alike.

conv 3x3 - batch norm - relu - max pool 2x2 - conv 3x3 - relu - mean over the image - linear - cross-entropy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from accel import problem
from accel.comparison import build

N, H, W, C, F, G, CLASSES = 4, 8, 8, 3, 8, 16, 5
PARAMETERS = {"w1": (3, 3, C, F), "gamma": (F,), "beta": (F,), "w2": (3, 3, F, G), "w3": (G, CLASSES), "b3": (CLASSES,)}
Tensors = dict[str, np.ndarray]


def start(seed: int) -> tuple[Tensors, np.ndarray, np.ndarray]:
    """Return parameters, images and labels; labels can be learned: each class lights up a place of its own."""
    rng = np.random.default_rng(seed)
    parameters = {name: rng.normal(size=shape) * 0.3 for name, shape in PARAMETERS.items()}
    parameters["gamma"] = 1 + 0.1 * rng.normal(size=F)
    labels = rng.integers(0, CLASSES, N)
    images = rng.normal(size=(N, H, W, C)) * 0.5
    for image, label in zip(images, labels, strict=True):
        image[label : label + 3, label : label + 3] += 2.0
    single = {name: value.astype(np.float32) for name, value in parameters.items()}
    return single, images.astype(np.float32), labels.astype(np.int32)


def run(kind: str, *sizes: int, inputs: dict[str, Any], **options: Any) -> Any:
    """Run one library kernel on `mini`."""
    cls = problem.kind(kind)
    made = cls(**dict(zip(cls.sizes(), sizes, strict=True)), **options)
    return build(made, "mini").run({name: np.ascontiguousarray(value) for name, value in inputs.items()})


def by_kernels(p: Tensors, x: np.ndarray, labels: np.ndarray, dtype: str = "fp32") -> tuple[float, Tensors]:
    """Return the loss and the gradient of every parameter, by library kernels alone."""
    own: dict[str, Any] = {"dtype": dtype, "out_dtype": dtype}
    first: Any = {"pad": 1, **own}
    h, w = H // 2, W // 2
    a = run("conv2d", N, H, W, C, F, 3, 3, inputs={"x": x, "w": p["w1"]}, **first)["y"]
    zeros = np.zeros(F, np.float32)
    statistics = {"running_mean": zeros, "running_var": zeros + 1}
    norm = run("batchnorm", N, H, W, F, inputs={"x": a, "gamma": p["gamma"], "beta": p["beta"], **statistics}, **own)
    b = run("elementwise", norm["y"].size, inputs={"x": norm["y"].ravel()}, function="relu", **own)["y"]
    b = b.reshape(N, H, W, F)
    c = run("pool", N, H, W, F, 2, 2, inputs={"x": b}, function="max", **own)["y"]
    d = run("conv2d", N, h, w, F, G, 3, 3, inputs={"x": c, "w": p["w2"]}, **first)["y"]
    e = run("elementwise", d.size, inputs={"x": d.ravel()}, function="relu", **own)["y"].reshape(d.shape)
    f = run("pool", N, h, w, G, h, w, inputs={"x": e}, function="avg", **own)["y"].reshape(N, G)
    g = run("matmul", N, CLASSES, G, inputs={"a": f, "b": p["w3"], "bias": p["b3"]}, add_bias=True, **own)["c"]
    loss = run("cross_entropy", N, CLASSES, inputs={"x": g, "labels": labels}, dtype=dtype)

    back: Any = {"direction": "bwd", **own}
    scale = np.array([1 / N], np.float32)
    gg = run("cross_entropy", N, CLASSES, inputs={"x": g, "labels": labels, "lse": loss["lse"], "scale": scale},
             direction="bwd", dtype=dtype)["gx"]  # fmt: skip
    gw3 = run("matmul", G, CLASSES, N, inputs={"a": f, "b": gg}, trans_a=True, **own)["c"]
    gb3 = run("bias_add", N, CLASSES, inputs={"gy": gg}, **back)["gbias"]
    gf = run("matmul", N, G, CLASSES, inputs={"a": gg, "b": p["w3"]}, trans_b=True, **own)["c"]
    ge = run("pool", N, h, w, G, h, w, inputs={"gy": gf.reshape(N, 1, 1, G)}, function="avg", **back)["gx"]
    gd = run("elementwise", ge.size, inputs={"gy": ge.ravel(), "x": d.ravel()}, function="relu", **back)["gx"]
    gd = gd.reshape(d.shape)
    second: Any = {"pad": 1, **own}
    gw2 = run("conv2d", N, h, w, F, G, 3, 3, inputs={"x": c, "gy": gd}, direction="wgrad", **second)["gw"]
    gc = run("conv2d", N, h, w, F, G, 3, 3, inputs={"gy": gd, "w": p["w2"]}, direction="dgrad", **second)["gx"]
    gb = run("pool", N, H, W, F, 2, 2, inputs={"gy": gc, "x": b}, function="max", **back)["gx"]
    gn = run("elementwise", gb.size, inputs={"gy": gb.ravel(), "x": norm["y"].ravel()}, function="relu", **back)["gx"]
    inputs = {"gy": gn.reshape(N, H, W, F), "x": a, "gamma": p["gamma"], "mean": norm["mean"], "rstd": norm["rstd"]}
    gnorm = run("batchnorm", N, H, W, F, inputs=inputs, **back)
    gw1 = run("conv2d", N, H, W, C, F, 3, 3, inputs={"x": x, "gy": gnorm["gx"]}, direction="wgrad", **second)["gw"]
    found = {"w1": gw1, "gamma": gnorm["ggamma"], "beta": gnorm["gbeta"], "w2": gw2, "w3": gw3, "b3": gb3}
    return float(loss["mean"][0]), {name: np.asarray(value, np.float64) for name, value in found.items()}


def exact(value: np.ndarray, steps: int, size: Any) -> np.ndarray:
    """Return the value as it is: what `in_float64` does to every tensor that it stores, unless told otherwise."""
    return value


def _convolve(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Return the 3x3 convolution with padding 1."""
    padded = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
    h, w_ = x.shape[1:3]
    return sum(padded[:, r : r + h, s : s + w_] @ w[r, s] for r in range(3) for s in range(3))


def _filter_gradient(x: np.ndarray, gy: np.ndarray) -> np.ndarray:
    padded = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
    h, w = gy.shape[1:3]
    taps = [[np.einsum("nhwc,nhwk->ck", padded[:, r : r + h, s : s + w], gy) for s in range(3)] for r in range(3)]
    return np.array(taps)


def in_float64(p: Tensors, x: np.ndarray, labels: np.ndarray,
               store: Callable[..., np.ndarray] = exact) -> tuple[float, Tensors]:  # fmt: skip
    """Return the loss and all gradients in float64, derived by hand.

    store(value, steps, size) stands between the layers: a tensor, the fp32 roundings of each element that a kernel
    makes, and the size of what they are relative to.
    """
    p = {name: value.astype(np.float64) for name, value in p.items()}
    x = x.astype(np.float64)
    count, rows = N * H * W, np.arange(N)

    def convolved(x: np.ndarray, w: np.ndarray) -> np.ndarray:
        return store(_convolve(x, w), 9 * x.shape[-1], _convolve(np.abs(x), np.abs(w)))

    def filters(x: np.ndarray, gy: np.ndarray) -> np.ndarray:
        return store(_filter_gradient(x, gy), count, _filter_gradient(np.abs(x), np.abs(gy)))

    a = convolved(x, p["w1"])
    mean = store(a.mean((0, 1, 2)), 24, np.abs(a).max())
    variance = ((a - mean) ** 2).mean((0, 1, 2))
    rstd = store(1 / np.sqrt(variance + 1e-5), 32, 1 / np.sqrt(variance))
    hat = (a - mean) * rstd
    n = store(hat * p["gamma"] + p["beta"], 6, np.abs(hat * p["gamma"]) + np.abs(p["beta"]) + np.abs(mean * rstd))
    b = np.maximum(n, 0)
    tiles = b.reshape(N, H // 2, 2, W // 2, 2, F).transpose(0, 1, 3, 2, 4, 5).reshape(N, H // 2, W // 2, 4, F)
    winner = tiles.argmax(axis=3)
    c = tiles.max(axis=3)
    d = convolved(c, p["w2"])
    e = np.maximum(d, 0)
    f = store(e.mean((1, 2)), 18, np.abs(e).max())
    g = store(f @ p["w3"] + p["b3"], G + 1, np.abs(f) @ np.abs(p["w3"]) + np.abs(p["b3"]))
    high = g.max(axis=1, keepdims=True)
    lse = high[:, 0] + np.log(np.exp(g - high).sum(axis=1))
    loss = (lse - g[rows, labels]).mean()

    gg = np.exp(g - lse[:, None])
    gg[rows, labels] -= 1
    gg = store(gg / N, 40, 1 / N)
    found = {"w3": store(f.T @ gg, N, np.abs(f).T @ np.abs(gg)), "b3": store(gg.sum(0), N, np.abs(gg).sum(0))}
    gf = store(gg @ p["w3"].T, CLASSES, np.abs(gg) @ np.abs(p["w3"]).T)
    gd = np.broadcast_to(gf[:, None, None] / (e.shape[1] * e.shape[2]), e.shape) * (d > 0)
    found["w2"] = filters(c, gd)
    turned = p["w2"][::-1, ::-1].transpose(0, 1, 3, 2)
    gc = convolved(gd, turned)
    spread = np.zeros_like(tiles)
    np.put_along_axis(spread, winner[:, :, :, None], gc[:, :, :, None], axis=3)
    gb = spread.reshape(N, H // 2, W // 2, 2, 2, F).transpose(0, 1, 3, 2, 4, 5).reshape(N, H, W, F)
    gn = gb * (n > 0)
    found["beta"] = store(gn.sum((0, 1, 2)), 24, np.abs(gn).sum((0, 1, 2)))
    found["gamma"] = store((gn * hat).sum((0, 1, 2)), 32, np.abs(gn * hat).sum((0, 1, 2)))
    inner = gn - found["beta"] / count - hat * found["gamma"] / count
    ga = store(p["gamma"] * rstd * inner, 16, p["gamma"] * rstd * (np.abs(gn) + np.abs(hat) + 1))
    found["w1"] = filters(x, ga)
    return float(loss), found
