"""A small video network with an attention block, trained by library kernels alone, against torch in float64.

conv3d - batch norm - relu - max pool - layer norm - attention on two heads, with its residual - mean over tokens -
linear - cross-entropy; then the norm of all gradients, clipping, loss scaling and AdamW, for several steps.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from small_network import run

torch = pytest.importorskip("torch", reason="torch trains the same network in float64")
functional = torch.nn.functional

N, T, H, W, C, F, CLASSES = 2, 4, 6, 6, 3, 8, 5
HEADS, D = 2, 16
E, TOKENS = HEADS * D, T * 4
SHAPES = {
    "w1": (3, 3, 3, C, F), "gamma": (F,), "beta": (F,), "lgamma": (F,), "lbeta": (F,),
    "wq": (F, E), "wk": (F, E), "wv": (F, E), "wo": (E, F), "w3": (F, CLASSES), "b3": (CLASSES,),
}  # fmt: skip
SCALE = 256.0  # of the loss: gradients pass through fp16
RATE, DECAY, EPSILON, BETAS, LONGEST = 0.02, 0.01, 1e-3, (0.9, 0.99), 0.5
STEPS, TRIALS = 3, 6
UNIT, HALF_UNIT = 2.0**-24, 2.0**-11  # of fp32, and of fp16, in which attention is
OWN: dict[str, Any] = {"dtype": "fp32", "out_dtype": "fp32"}
BACK: dict[str, Any] = {"direction": "bwd", **OWN}
Tensors = dict[str, np.ndarray]


def start(seed: int) -> tuple[Tensors, np.ndarray, np.ndarray]:
    """Return parameters, clips and labels."""
    rng = np.random.default_rng(seed)
    parameters = {name: (rng.normal(size=shape) * 0.4).astype(np.float32) for name, shape in SHAPES.items()}
    for name in ("gamma", "lgamma"):
        parameters[name] = np.float32(1) + np.float32(0.5) * parameters[name]
    return parameters, rng.normal(size=(N, T, H, W, C)).astype(np.float32), rng.integers(0, CLASSES, N).astype(np.int32)


def product(a: np.ndarray, b: np.ndarray, *, trans_a: bool = False, trans_b: bool = False, **more: Any) -> np.ndarray:
    """a @ b."""
    m, k = a.shape[::-1] if trans_a else a.shape
    flags = {"trans_a": trans_a, "trans_b": trans_b, "add_bias": "bias" in more, "residual": "residual" in more}
    n = b.shape[0] if trans_b else b.shape[1]
    return np.asarray(run("matmul", m, n, k, inputs={"a": a, "b": b, **more}, **flags, **OWN)["c"])


def heads(x: np.ndarray) -> np.ndarray:
    """(tokens of all clips, E) to (N, HEADS, TOKENS, D) in fp16."""
    form: dict[str, Any] = {"source": "nhwc", "target": "nwhc", "dtype": "fp32"}
    apart = run("transpose", N, TOKENS, HEADS, D, inputs={"x": x.reshape(N, TOKENS, HEADS, D)}, **form)["y"]
    return np.asarray(
        run("cast", apart.size, inputs={"x": apart.ravel()}, dtype="fp32", out_dtype="fp16")["y"]
    ).reshape(apart.shape)


def joined(x: np.ndarray) -> np.ndarray:
    """(N, HEADS, TOKENS, D) in fp32 to (tokens of all clips, E)."""
    form: dict[str, Any] = {"source": "nhwc", "target": "nwhc", "dtype": "fp32", "direction": "bwd"}
    return np.asarray(run("transpose", N, TOKENS, HEADS, D, inputs={"gy": x}, **form)["gx"]).reshape(N * TOKENS, E)


def by_kernels(p: Tensors, x: np.ndarray, labels: np.ndarray) -> tuple[float, Tensors]:
    """Return the loss, and SCALE times the gradient of every parameter, by library kernels alone."""
    conv: dict[str, Any] = {"stride": (1, 2, 2), "pad": 1, **OWN}
    sizes = (N, T, H, W, C, F, 3, 3, 3)
    a = np.asarray(run("conv3d", *sizes, inputs={"x": x, "w": p["w1"]}, **conv)["y"]).reshape(N * T, 3, 3, F)
    running = {"running_mean": np.zeros(F, np.float32), "running_var": np.ones(F, np.float32)}
    norm = run("batchnorm", *a.shape, inputs={"x": a, "gamma": p["gamma"], "beta": p["beta"], **running}, **OWN)
    b = run("elementwise", a.size, inputs={"x": norm["y"].ravel()}, function="relu", **OWN)["y"].reshape(a.shape)
    t = run("pool", *a.shape, 2, 2, inputs={"x": b}, function="max", stride=1, **OWN)["y"].reshape(N * TOKENS, F)
    layer = run("layernorm", *t.shape, inputs={"x": t, "gamma": p["lgamma"], "beta": p["lbeta"]}, **OWN)
    u = np.asarray(layer["y"])
    q, k, v = (heads(product(u, p[name])) for name in ("wq", "wk", "wv"))
    form: dict[str, Any] = {"causal": True, "dtype": "fp16", "out_dtype": "fp32"}
    seen = run("attention", N, HEADS, TOKENS, TOKENS, D, inputs={"q": q, "k": k, "v": v}, **form)
    y = joined(seen["y"])
    o = product(y, p["wo"], residual=t)
    f = run("reduce", N, TOKENS, F, inputs={"x": o.reshape(N, TOKENS, F)}, function="mean", **OWN)["y"].reshape(N, F)
    g = product(f, p["w3"], bias=p["b3"])
    loss = run("cross_entropy", N, CLASSES, inputs={"x": g, "labels": labels}, dtype="fp32")

    found: dict[str, Any] = {}
    scaled = {"x": g, "labels": labels, "lse": loss["lse"], "scale": np.array([SCALE / N], np.float32)}
    gg = run("cross_entropy", N, CLASSES, inputs=scaled, direction="bwd", dtype="fp32")["gx"]
    found["w3"] = product(f, gg, trans_a=True)
    found["b3"] = run("bias_add", N, CLASSES, inputs={"gy": gg}, **BACK)["gbias"]
    gf = product(gg, p["w3"], trans_b=True)
    go = run("reduce", N, TOKENS, F, inputs={"gy": gf}, function="mean", **BACK)["gx"].reshape(N * TOKENS, F)
    found["wo"] = product(y, go, trans_a=True)
    saved = {"q": q, "k": k, "v": v, "y": heads(y), "gy": heads(product(go, p["wo"], trans_b=True)), "lse": seen["lse"]}
    back = run("attention", N, HEADS, TOKENS, TOKENS, D, inputs=saved, direction="bwd", **form)
    gu = None
    for name in ("wq", "wk", "wv"):
        part = joined(back[f"g{name[1]}"])
        found[name] = product(u, part, trans_a=True)
        gu = product(part, p[name], trans_b=True, **({} if gu is None else {"residual": gu}))
    statistics = {"gamma": p["lgamma"], "mean": layer["mean"], "rstd": layer["rstd"]}
    glayer = run("layernorm", *t.shape, inputs={"gy": gu, "x": t, **statistics}, **BACK)
    found["lgamma"], found["lbeta"] = glayer["ggamma"], glayer["gbeta"]
    both = {"a": glayer["gx"].ravel(), "b": go.ravel()}
    gt = run("elementwise", t.size, inputs=both, function="add", **OWN)["y"].reshape(N * T, 2, 2, F)
    gb = run("pool", *a.shape, 2, 2, inputs={"gy": gt, "x": b}, function="max", stride=1, **BACK)["gx"]
    gn = run("elementwise", gb.size, inputs={"gy": gb.ravel(), "x": norm["y"].ravel()}, function="relu", **BACK)["gx"]
    statistics = {"gamma": p["gamma"], "mean": norm["mean"], "rstd": norm["rstd"]}
    gnorm = run("batchnorm", *a.shape, inputs={"gy": gn.reshape(a.shape), "x": a, **statistics}, **BACK)
    found["gamma"], found["beta"] = gnorm["ggamma"], gnorm["gbeta"]
    ga = gnorm["gx"].reshape(N, T, 3, 3, F)
    found["w1"] = run("conv3d", *sizes, inputs={"x": x, "gy": ga}, direction="wgrad", **conv)["gw"]
    return float(loss["mean"][0]), {name: np.asarray(value, np.float32) for name, value in found.items()}


def updated(p: Tensors, moments: Tensors, gradients: Tensors, step: int) -> Tensors:
    """One step of AdamW with clipping; moments are changed in place. Also by library kernels alone."""
    flat = np.concatenate([gradients[name].ravel() for name in SHAPES])
    whole = {"g": flat, "scale": np.array([SCALE], np.float32), "streak": np.zeros(1, np.int32)}
    total = run("grad_norm", flat.size, inputs=whole, dtype="fp32", max_norm=LONGEST)
    numbers = {
        "lr": np.array([RATE], np.float32), "factor": total["factor"], "overflow": total["overflow"],
        "correction": np.array([1 - beta**step for beta in BETAS], np.float32),
    }  # fmt: skip
    method: dict[str, Any] = {"dtype": "fp32", "copy": "none", "weight_decay": DECAY, "epsilon": EPSILON}
    new = {}
    for name, value in p.items():
        own = {"w": value, "g": gradients[name], "m": moments[f"m {name}"], "v": moments[f"v {name}"]}
        inputs = {key: array.ravel() for key, array in own.items()} | numbers
        found = run("optimizer", value.size, inputs=inputs, beta1=BETAS[0], beta2=BETAS[1], **method)
        new[name] = np.asarray(found["new_w"]).reshape(value.shape)
        for key in "mv":
            moments[f"{key} {name}"] = np.asarray(found[f"new_{key}"])
    return new


class Moved(torch.autograd.Function):  # type: ignore[misc, name-defined]
    """A tensor, and its gradient on the way back, each element moved by a random part of `share` of the largest."""

    @staticmethod
    def forward(ctx: Any, x: Any, share: float) -> Any:
        ctx.share = share
        return x + share * x.abs().max() * (2 * torch.rand_like(x) - 1)

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        return gradient + ctx.share * gradient.abs().max() * (2 * torch.rand_like(gradient) - 1), None


def in_torch(p: Any, x: np.ndarray, labels: np.ndarray, moved: bool) -> Any:
    """Return the loss in float64; moved: after every layer as far as its kernels' roundings may move it.

    An element of a layer comes from at most as many roundings in a row as `steps` says, each of a unit of what it is
    added up to (Higham 2002, section 3.1). What is allowed is four times the most that such random errors do.
    """

    def layer(value: Any, steps: int, unit: float = UNIT) -> Any:
        return Moved.apply(value, steps * unit) if moved else value

    a = functional.conv3d(
        torch.tensor(x, dtype=torch.float64).permute(0, 4, 1, 2, 3), p["w1"].permute(4, 3, 0, 1, 2), stride=(1, 2, 2),
        padding=1,
    )  # fmt: skip
    a = layer(a, 27 * C).permute(0, 2, 1, 3, 4).reshape(N * T, F, 3, 3)
    b = torch.relu(layer(functional.batch_norm(a, None, None, p["gamma"], p["beta"], training=True, eps=1e-5), 40))
    t = functional.max_pool2d(b, 2, stride=1).permute(0, 2, 3, 1).reshape(N, TOKENS, F)
    u = layer(functional.layer_norm(t, (F,), p["lgamma"], p["lbeta"], eps=1e-5), 40)
    q, k, v = (
        layer((u @ p[name]).reshape(N, TOKENS, HEADS, D).transpose(1, 2), 1, HALF_UNIT) for name in ("wq", "wk", "wv")
    )
    y = layer(functional.scaled_dot_product_attention(q, k, v, is_causal=True), 2, HALF_UNIT)
    o = layer(y.transpose(1, 2).reshape(N, TOKENS, E) @ p["wo"] + t, E + 1)
    g = layer(layer(o.mean(1), TOKENS) @ p["w3"] + p["b3"], F + 1)
    return functional.cross_entropy(g, torch.tensor(labels, dtype=torch.int64))


def trained(p: Tensors, x: np.ndarray, labels: np.ndarray, moved: bool) -> tuple[list[float], Tensors, Tensors]:
    """Return losses, the gradients of the first step, and the weights after STEPS steps, in float64."""
    given = {name: torch.tensor(value, dtype=torch.float64, requires_grad=True) for name, value in p.items()}
    method = torch.optim.AdamW(given.values(), lr=RATE, betas=BETAS, eps=EPSILON, weight_decay=DECAY)
    losses, first = [], {}
    for step in range(STEPS):
        method.zero_grad()
        loss = in_torch(given, x, labels, moved)
        loss.backward()
        losses.append(float(loss.detach()))
        if not step:
            first = {name: value.grad.numpy().copy() for name, value in given.items()}
        torch.nn.utils.clip_grad_norm_(given.values(), LONGEST)
        method.step()
    return losses, first, {name: value.detach().numpy() for name, value in given.items()}


def test_gradients_and_steps_are_those_of_torch_in_float64() -> None:
    p, x, labels = start(3)
    losses, gradients, weights = trained(p, x, labels, moved=False)
    limits, spread = [dict.fromkeys(SHAPES, 0.0) for _ in "gw"], [0.0] * STEPS
    torch.manual_seed(0)
    for _ in range(TRIALS):
        others, *tensors = trained(p, x, labels, moved=True)
        spread = [max(most, abs(one - true)) for most, one, true in zip(spread, others, losses, strict=True)]
        for limit, true, found in zip(limits, (gradients, weights), tensors, strict=True):
            for name in SHAPES:
                limit[name] = max(limit[name], float(np.abs(found[name] - true[name]).max()))

    moments = {f"{key} {name}": np.zeros(value.size, np.float32) for key in "mv" for name, value in p.items()}
    own = p
    for step in range(1, STEPS + 1):
        loss, found = by_kernels(own, x, labels)
        error, most = abs(loss - losses[step - 1]), 4 * spread[step - 1]
        assert error <= most, f"loss of step {step}: off by {error:.3g}, allowed {most:.3g}"
        if step == 1:
            for name, limit in limits[0].items():
                error = np.abs(found[name].astype(np.float64) / SCALE - gradients[name]).max()
                assert error <= 4 * limit, f"gradient of {name}: off by {error:.3g}, allowed {4 * limit:.3g}"
                assert 4 * limit < 0.05 * np.abs(gradients[name]).max()  # the bound says something
        own = updated(own, moments, found, step)
    for name, limit in limits[1].items():
        error, way = np.abs(own[name] - weights[name]).max(), np.abs(weights[name] - p[name]).max()
        assert error <= 4 * limit, f"{name} after {STEPS} steps: off by {error:.3g}, allowed {4 * limit:.3g}"
        assert 4 * limit < 0.3 * way, name
    assert 4 * max(spread) < (losses[0] - losses[-1]) / 2


def test_a_step_whose_gradients_overflow_changes_nothing() -> None:
    p, _, _ = start(3)
    found = {name: np.ones_like(value) for name, value in p.items()}
    found["wq"].flat[5] = np.inf
    moments = {f"{key} {name}": np.full(value.size, 0.25, np.float32) for key in "mv" for name, value in p.items()}
    own = updated(p, moments, found, 1)
    assert all((own[name] == p[name]).all() for name in SHAPES)
    assert all((value == np.float32(0.25)).all() for value in moments.values())
