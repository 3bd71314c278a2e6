"""ONNX operators as library kernels: what the node tests of the ONNX standard are run through.

Each adapter takes the node's attributes and inputs and returns the outputs that the kernels give, with a bound: the
error that both sides may have made, from the number of roundings and the size of what was added. `UnsupportedError`
names an attribute that no kernel has.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from accel import problem
from accel.comparison import build
from accel.errors import AccelError

ULP = 2.0**-24  # unit roundoff of fp32
Result = list[tuple[np.ndarray, Any]]


class UnsupportedError(Exception):
    """The operator's attribute or type has no kernel; the text says which."""


def run(name: str, sizes: Sequence[int], inputs: dict[str, Any], **options: Any) -> Any:
    """Run a library kernel in fp32 on `mini` and return its outputs."""
    made = problem.kind(name)(**dict(zip(problem.kind(name).sizes(), map(int, sizes), strict=True)), **options)
    given = {key: np.ascontiguousarray(inputs[key]).reshape(made.operands[key].shape) for key in inputs}
    try:
        return build(made, "mini").run(given)
    except AccelError as error:
        raise AssertionError(f"{made.label}: {error}") from error


def bound(steps: float, size: Any) -> Any:
    """Return what `steps` roundings in fp32 on either side make of numbers of this size (Higham 2002, section 3.1)."""
    return 2 * steps * ULP / (1 - steps * ULP) * np.abs(size) + 2.0**-126


def single(x: Any) -> np.ndarray:
    """Return an input as fp32; UnsupportedError for other types."""
    x = np.asarray(x)
    if x.dtype != np.float32:
        raise UnsupportedError(f"type {x.dtype}")
    return x


def pads_of(attributes: dict[str, Any], sizes: Sequence[int], taps: Sequence[int], strides: Sequence[int],
            dilations: Sequence[int]) -> list[tuple[int, int]]:  # fmt: skip
    """Return (before, after) an axis, from `pads` or `auto_pad`."""
    auto = attributes.get("auto_pad", b"NOTSET").decode()
    rank = len(sizes)
    if auto in ("NOTSET", "VALID"):
        given = attributes.get("pads", [0] * (2 * rank)) if auto == "NOTSET" else [0] * (2 * rank)
        return [(given[i], given[i + rank]) for i in range(rank)]
    found = []
    for size, tap, stride, dilation in zip(sizes, taps, strides, dilations, strict=True):
        whole = max(0, (math.ceil(size / stride) - 1) * stride + dilation * (tap - 1) + 1 - size)
        low = whole // 2
        found.append((low, whole - low) if auto == "SAME_UPPER" else (whole - low, low))
    return found


def conv(attributes: dict[str, Any], x: Any, w: Any, b: Any = None) -> Result:
    """Conv in one, two and three dimensions: padding is written out, so it may differ from side to side."""
    x, w = single(x), single(w)
    rank = x.ndim - 2
    strides, dilations = (attributes.get(key, [1] * rank) for key in ("strides", "dilations"))
    pads = pads_of(attributes, x.shape[2:], w.shape[2:], strides, dilations)
    x = np.pad(x, [(0, 0), (0, 0), *pads])
    last, first = np.moveaxis(x, 1, -1), np.moveaxis(w, (0, 1), (-1, -2))
    if rank == 1:
        last, first, strides, dilations = last[:, None], first[None], [1, *strides], [1, *dilations]
    kind = "conv3d" if rank == 3 else "conv2d"
    options = {
        "stride": tuple(strides), "dilation": tuple(dilations), "groups": attributes.get("group", 1), "dtype": "fp32",
        "out_dtype": "fp32", "bias": b is not None,
    }  # fmt: skip
    sizes = [*last.shape, w.shape[0], *first.shape[:-2]]
    inputs = {"x": last, "w": first} | ({} if b is None else {"bias": b})
    y = run(kind, sizes, inputs, **options)["y"]
    size = run(kind, sizes, {key: np.abs(value) for key, value in inputs.items()}, **options)["y"]
    y, size = (np.moveaxis(t[:, 0] if rank == 1 else t, -1, 1) for t in (y, size))
    return [(y, bound(w[0].size + 2, size))]


def conv_transpose(attributes: dict[str, Any], x: Any, w: Any, b: Any = None) -> Result:
    """ConvTranspose in one and two dimensions: made whole, then cropped by the pads."""
    x, w = single(x), single(w)
    rank, groups = x.ndim - 2, attributes.get("group", 1)
    if rank == 3:
        raise UnsupportedError("three dimensions")
    strides, dilations = (attributes.get(key, [1] * rank) for key in ("strides", "dilations"))
    more = attributes.get("output_padding", [0] * rank)
    whole = [
        (n - 1) * s + d * (t - 1) + 1 for n, s, d, t in zip(x.shape[2:], strides, dilations, w.shape[2:], strict=True)
    ]
    wanted = attributes.get("output_shape")
    upper = attributes.get("auto_pad", b"").decode() != "SAME_LOWER"
    if wanted is None and attributes.get("auto_pad", b"NOTSET").decode().startswith("SAME"):
        wanted = [n * s for n, s in zip(x.shape[2:], strides, strict=True)]
    if wanted is not None:
        crops = [size + o - out for size, o, out in zip(whole, more, wanted, strict=True)]
        pads = [(0, c) if c < 0 else (c // 2, c - c // 2) if upper else (c - c // 2, c // 2) for c in crops]
    else:
        given = attributes.get("pads", [0] * (2 * rank))
        pads = [(given[i], given[i + rank]) for i in range(rank)]
    last = np.moveaxis(x, 1, -1)
    first = np.moveaxis(w, (0, 1), (-1, -2))  # (C, K/g, R, S) to (R, S, K/g, C)
    if rank == 1:
        last, first, strides, dilations = last[:, None], first[None], [1, *strides], [1, *dilations]
    options = {
        "stride": tuple(strides),
        "dilation": tuple(dilations),
        "groups": groups,
        "dtype": "fp32",
        "out_dtype": "fp32",
    }
    sizes = [*last.shape, w.shape[1] * groups, *first.shape[:-2]]
    y = run("conv_transpose", sizes, {"x": last, "w": first}, **options)["y"]
    size = run("conv_transpose", sizes, {"x": np.abs(last), "w": np.abs(first)}, **options)["y"]
    y, size = (np.moveaxis(t[:, 0] if rank == 1 else t, -1, 1) for t in (y, size))
    grown = [(0, max(0, o, -high)) for (_, high), o in zip(pads, more, strict=True)]
    y, size = (np.pad(t, [(0, 0), (0, 0), *grown]) for t in (y, size))  # what no input reaches is 0
    ends = tuple(slice(low, out + o - high) for (low, high), out, o in zip(pads, whole, more, strict=True))
    y, size = (t[(..., *ends)] for t in (y, size))
    if b is not None:
        y = y + np.asarray(b).reshape(1, -1, *[1] * rank)
    return [(y, bound(w[:, 0].size + 2, size))]


def matmul(attributes: dict[str, Any], a: Any, b: Any) -> Result:
    """MatMul with any number of batch dimensions."""
    a, b = single(a), single(b)
    left, right = a[None] if a.ndim == 1 else a, b[:, None] if b.ndim == 1 else b
    lead = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    (m, k), n = left.shape[-2:], right.shape[-1]
    one = np.broadcast_to(left, (*lead, m, k)).reshape(-1, m, k)
    two = np.broadcast_to(right, (*lead, k, n)).reshape(-1, k, n)
    batch = {"batch": len(one)} if lead else {}
    c = run("matmul", (m, n, k), {"a": one, "b": two}, dtype="fp32", out_dtype="fp32", **batch)["c"]
    c = c.reshape(*lead, m, n)
    size = (np.abs(one) @ np.abs(two)).reshape(c.shape)
    drop = tuple(axis for axis, x in ((-2, a), (-1, b)) if x.ndim == 1)
    return [(c.squeeze(drop), bound(k, size.squeeze(drop)))]


def gemm(attributes: dict[str, Any], a: Any, b: Any, c: Any = None) -> Result:
    """Gemm without scales; c is added as it is broadcast."""
    if attributes.get("alpha", 1.0) != 1.0 or attributes.get("beta", 1.0) != 1.0:
        raise UnsupportedError("alpha and beta other than 1")
    a, b = single(a), single(b)
    trans = {"trans_a": bool(attributes.get("transA", 0)), "trans_b": bool(attributes.get("transB", 0))}
    (m, k), n = a.T.shape if trans["trans_a"] else a.shape, b.shape[0] if trans["trans_b"] else b.shape[1]
    inputs = {"a": a, "b": b}
    if c is not None:
        inputs["residual"] = np.broadcast_to(single(c), (m, n))
    y = run("matmul", (m, n, k), inputs, dtype="fp32", out_dtype="fp32", residual=c is not None, **trans)["c"]
    size = np.abs(a.T if trans["trans_a"] else a) @ np.abs(b.T if trans["trans_b"] else b)
    return [(y, bound(k + 2, size + (0 if c is None else np.abs(c))))]


def unary(function: str, steps: float) -> Callable[..., Result]:
    """Return the adapter of a function of one number, whose value both sides have within `steps` units."""

    def adapter(attributes: dict[str, Any], x: Any) -> Result:
        x = single(x)
        y = run("elementwise", (x.size,), {"x": x}, function=function, dtype="fp32")["y"].reshape(x.shape)
        return [(y, bound(steps, np.abs(y) + np.abs(x)))]

    return adapter


def gelu(attributes: dict[str, Any], x: Any) -> Result:
    """Gelu by erf or by tanh."""
    tanh = attributes.get("approximate", b"none") == b"tanh"
    return unary("gelu_tanh" if tanh else "gelu", 16)(attributes, x)


def binary(function: str) -> Callable[..., Result]:
    """Return the adapter of Add or Mul; broadcasting is written out."""

    def adapter(attributes: dict[str, Any], a: Any, b: Any) -> Result:
        a, b = np.broadcast_arrays(single(a), single(b))
        y = run("elementwise", (a.size,), {"a": a.ravel(), "b": b.ravel()}, function=function, dtype="fp32")["y"]
        return [(y.reshape(a.shape), 0.0)]  # one rounding to nearest, defined by IEEE 754

    return adapter


def softmax(attributes: dict[str, Any], x: Any) -> Result:
    """Softmax along an axis."""
    x = np.moveaxis(single(x), attributes.get("axis", -1), -1)
    flat = x.reshape(-1, x.shape[-1])
    y = run("softmax", flat.shape, {"x": flat}, dtype="fp32")["y"].reshape(x.shape)
    # exp within 2 units and its argument rounded once: a relative error of |x - max| units; then sums and a quotient.
    steps = 2 * x.shape[-1] + 8 + float(np.ptp(x))
    return [(np.moveaxis(y, -1, attributes.get("axis", -1)), bound(steps, 1.0))]


def layer_norm(attributes: dict[str, Any], x: Any, gamma: Any, beta: Any = None) -> Result:
    """LayerNormalization over the last axes; also its mean and 1 / deviation."""
    x = single(x)
    axis = attributes.get("axis", -1) % x.ndim
    rows, columns = math.prod(x.shape[:axis]), math.prod(x.shape[axis:])
    shift = np.zeros(columns, np.float32) if beta is None else np.broadcast_to(beta, x.shape[axis:])
    inputs = {"x": x.reshape(rows, columns), "gamma": np.broadcast_to(gamma, x.shape[axis:]), "beta": shift}
    epsilon = attributes.get("epsilon", 1e-5)
    out = run("layernorm", (rows, columns), inputs, dtype="fp32", epsilon=epsilon)
    lead = (*x.shape[:axis], *[1] * (x.ndim - axis))
    size = np.abs(out["rstd"]).max() * np.abs(x).max() * np.abs(gamma).max() + np.abs(inputs["beta"]).max()
    steps = 4 * columns + 16
    return [
        (out["y"].reshape(x.shape), bound(steps, size)),
        (out["mean"].reshape(lead), bound(steps, np.abs(x).max())),
        (out["rstd"].reshape(lead), bound(steps, np.abs(out["rstd"]).max())),
    ]


def rms_norm(attributes: dict[str, Any], x: Any, gamma: Any) -> Result:
    """RMSNormalization over the last axes."""
    x = single(x)
    axis = attributes.get("axis", -1) % x.ndim
    rows, columns = math.prod(x.shape[:axis]), math.prod(x.shape[axis:])
    inputs = {"x": x.reshape(rows, columns), "gamma": np.broadcast_to(gamma, x.shape[axis:])}
    epsilon = attributes.get("epsilon", 1e-5)
    y = run("layernorm", (rows, columns), inputs, function="rms", dtype="fp32", epsilon=epsilon)["y"].reshape(x.shape)
    return [(y, bound(2 * columns + 16, y))]


def group_norm(attributes: dict[str, Any], x: Any, gamma: Any, beta: Any) -> Result:
    """GroupNormalization of images; scale and bias are one a channel (since version 21)."""
    x = single(x)
    last = np.moveaxis(x, 1, -1)
    groups, epsilon = attributes["num_groups"], attributes.get("epsilon", 1e-5)
    out = run("groupnorm", last.shape, {"x": last, "gamma": gamma, "beta": beta}, groups=groups, dtype="fp32",
              epsilon=epsilon)  # fmt: skip
    size = np.abs(out["rstd"]).max() * np.abs(x).max() * np.abs(gamma).max() + np.abs(beta).max()
    return [(np.moveaxis(out["y"], -1, 1), bound(4 * x[0].size / groups + 16, size))]


def batch_norm(attributes: dict[str, Any], x: Any, gamma: Any, beta: Any, mean: Any, variance: Any) -> Result:
    """BatchNormalization, from running statistics, or in training with the batch's and new running ones."""
    x = single(x)
    last, training = np.moveaxis(x, 1, -1), attributes.get("training_mode", 0)
    inputs = {"x": last, "gamma": gamma, "beta": beta, "running_mean": mean, "running_var": variance}
    epsilon, kept = attributes.get("epsilon", 1e-5), attributes.get("momentum", 0.9)
    if not training:
        y = run("batchnorm", last.shape, inputs, dtype="fp32", epsilon=epsilon, direction="inference")["y"]
        size = (np.abs(x).max() + np.abs(mean).max()) * (np.abs(gamma) / np.sqrt(variance)).max() + np.abs(beta).max()
        return [(np.moveaxis(y, -1, 1), bound(12, size))]
    # ONNX weighs the old statistics with its momentum, the kernel the new ones.
    out = run("batchnorm", last.shape, inputs, dtype="fp32", epsilon=epsilon, momentum=1 - kept)
    count = x.size // x.shape[1]
    size, steps = np.abs(x).max(), 4 * count + 16
    old = np.asarray(variance, np.float64) * kept
    biased = (out["new_var"] - old) * (count - 1) / count + old  # running variances are unbiased here, not in ONNX
    return [
        (
            np.moveaxis(out["y"], -1, 1),
            bound(steps, out["rstd"].max() * size * np.abs(gamma).max() + np.abs(beta).max()),
        ),
        (out["new_mean"], bound(steps, size + np.abs(mean).max())),
        (biased, bound(steps, size * size + np.abs(variance).max())),
    ]


def attention(attributes: dict[str, Any], q: Any, k: Any, v: Any, *more: Any) -> Result:
    """Attention of plain scores, run in fp16: the bound is that of operands and probabilities rounded to it."""
    known = {"is_causal", "kv_num_heads", "q_num_heads", "scale"}
    if any(x is not None for x in more) or set(attributes) - known:
        raise UnsupportedError(", ".join(sorted(set(attributes) - known)) or "masks and past keys")
    q, k, v = single(q), single(k), single(v)
    flat = q.ndim == 3
    if flat:
        heads = [attributes["q_num_heads"], *[attributes["kv_num_heads"]] * 2]
        q, k, v = (x.reshape(*x.shape[:2], n, -1).transpose(0, 2, 1, 3) for x, n in zip((q, k, v), heads, strict=True))
    if q.shape[-1] != v.shape[-1]:
        raise UnsupportedError("values of another head size")
    (b, h, rows, d), (_, kv_heads, keys, _) = q.shape, k.shape
    scale = attributes.get("scale", 1 / math.sqrt(d))
    out = run("attention", (b, h, rows, keys, d), {"q": q, "k": k, "v": v}, dtype="fp16", out_dtype="fp32",
              causal=bool(attributes.get("is_causal", 0)), scale=scale, kv_heads=kv_heads)  # fmt: skip
    unit = 2.0**-11
    score = scale * d * np.abs(q).max() * np.abs(k).max() * 3 * unit
    allowed = np.abs(v).max() * (np.expm1(2 * score) + 4 * unit)
    y = out["y"].transpose(0, 2, 1, 3).reshape(b, rows, -1) if flat else out["y"]
    return [(y, allowed)]


def reduction(function: str) -> Callable[..., Result]:
    """Return the adapter of a reduction over any axes."""

    def adapter(attributes: dict[str, Any], x: Any, axes: Any = None) -> Result:
        x = single(x)
        given = attributes.get("axes") if axes is None else np.asarray(axes).tolist()
        if not given and attributes.get("noop_with_empty_axes", 0):
            raise UnsupportedError("no axes: nothing to compute")
        if not x.size:
            raise UnsupportedError("tensor without elements")
        chosen = sorted(axis % x.ndim for axis in given) if given else list(range(x.ndim))
        kept = [axis for axis in range(x.ndim) if axis not in chosen]
        flat = x.transpose(kept + chosen).reshape(1, -1, math.prod(x.shape[axis] for axis in chosen))
        flat = flat.reshape(flat.shape[1], flat.shape[2], 1)
        y = run("reduce", flat.shape, {"x": flat}, function=function, dtype="fp32")["y"]
        shape = [1 if axis in chosen else n for axis, n in enumerate(x.shape)]
        y = y.reshape(shape if attributes.get("keepdims", 1) else [n for a, n in enumerate(x.shape) if a not in chosen])
        exact = function in ("max", "min")
        return [(y, 0.0 if exact else bound(flat.shape[1] + 1, np.abs(x).max() * flat.shape[1]))]

    return adapter


def cross_entropy(attributes: dict[str, Any], x: Any, labels: Any, weights: Any = None) -> Result:
    """SoftmaxCrossEntropyLoss without class weights; `log_prob` is not among the kernel's outputs."""
    if weights is not None:
        raise UnsupportedError("class weights")
    x = np.moveaxis(single(x), 1, -1)
    labels = np.asarray(labels)
    reduced = attributes.get("reduction", b"mean").decode()
    ignored = attributes.get("ignore_index", -100)
    flat = x.reshape(-1, x.shape[-1])
    out = run("cross_entropy", flat.shape, {"x": flat, "labels": labels.astype(np.int32).ravel()}, dtype="fp32",
              ignore_index=ignored)  # fmt: skip
    loss = out["loss"].reshape(labels.shape)
    steps = 2 * flat.shape[1] + 16
    each = bound(steps, np.abs(x).max() + np.log(flat.shape[1]))
    if reduced == "none":
        return [(loss, each)]
    if reduced == "sum":
        return [(loss.sum(dtype=np.float64).astype(np.float32), each * loss.size)]
    return [(out["mean"].reshape(()), each)]


ADAPTERS: dict[str, Callable[..., Result]] = {
    "Conv": conv, "ConvTranspose": conv_transpose, "MatMul": matmul, "Gemm": gemm, "Relu": unary("relu", 0),
    "Sigmoid": unary("sigmoid", 4), "Tanh": unary("tanh", 4), "Exp": unary("exp", 4), "Gelu": gelu,
    "Add": binary("add"), "Mul": binary("mul"), "Softmax": softmax, "LayerNormalization": layer_norm,
    "RMSNormalization": rms_norm, "GroupNormalization": group_norm, "ReduceSum": reduction("sum"),
    "BatchNormalization": batch_norm, "Attention": attention,
    "ReduceMean": reduction("mean"), "ReduceMax": reduction("max"), "ReduceMin": reduction("min"),
    "SoftmaxCrossEntropyLoss": cross_entropy,
}  # fmt: skip
