"""Attention as the machine defines it, to the bit, in plain NumPy: rows and blocks of keys, no tiles, no nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from accel.isa import transcendentals as t
from accel.numerics import chain_matmul, round_to
from accel.problem.attention import CAUSAL_GROUP, Attention

__all__ = ["exp", "forward_at", "forward_reference", "fused", "log"]

Array = npt.NDArray[Any]


def fused(x: Any, y: Any, z: Any) -> Array:
    """Return x * y + z in fp32 with one rounding, elementwise: rounded to odd in float64, as `chain_matmul` is."""
    with np.errstate(all="ignore"):
        product = np.asarray(x, np.float64) * np.asarray(y, np.float64)
        add = np.asarray(z, np.float64)
        total = np.asarray(product + add)
        part = total - product
        lost = (product - (total - part)) + (add - part)
        even = (total.view(np.int64) & 1) == 0
        beside = np.nextafter(total, np.where(lost > 0, np.inf, -np.inf))
        result: Array = np.where(np.isfinite(total) & (lost != 0) & even, beside, total).astype(np.float32)
    return result


def exp(x: Array) -> Array:
    """Return `vec.exp` of fp32 numbers: the steps of its definition, each rounded once, on whole arrays."""
    with np.errstate(all="ignore"):
        held = np.where(x < t.EXP_LOW, t.EXP_LOW, np.where(x > t.EXP_HIGH, t.EXP_HIGH, x)).astype(np.float32)
        n = fused(held, t.LOG2E, t.TO_INTEGER) - t.TO_INTEGER
        r = fused(n, -t.LN2_LOW, fused(n, -t.LN2_HIGH, held))
        p = fused(t.E6, r, t.E5)
        for c in (t.E4, t.E3, t.E2, t.ONE, t.ONE):
            p = fused(p, r, c)
        power = np.where(np.isfinite(n), n, 0).astype(np.int64)
        result: Array = np.ldexp(p.astype(np.float64), power).astype(np.float32)
    return result


def log(x: Array) -> Array:
    """Return `vec.log` of positive finite fp32 numbers, NaN of NaN: likewise."""
    with np.errstate(all="ignore"):
        m, power = np.frexp(x.astype(np.float64))  # m in [1/2, 1)
        low = m < 0.75
        m, power = np.where(low, 2 * m, m), power - low
        f, n = m.astype(np.float32) - t.ONE, power.astype(np.float32)
        p = fused(t.L10, f, t.L9)
        for c in (t.L8, t.L7, t.L6, t.L5, t.L4, t.L3, t.L2):
            p = fused(p, f, c)
        result = fused(n, t.LN2_HIGH, fused(f * f, p, n * t.LN2_LOW) + f)
        return np.where(np.isfinite(x), result, x).astype(np.float32)


def forward_reference(problem: Attention, inputs: Mapping[str, Any]) -> dict[str, Array]:
    """Return y (b, h, q, d) and lse (b, h, q) of the inputs q, k and v: fp32 numbers, y's rounded to its format."""
    places = [np.arange(n) for n in (problem.b, problem.h, problem.q, problem.d)]
    y, lse = forward_at(problem, inputs, places)
    return {"y": y, "lse": lse}


def forward_at(problem: Attention, inputs: Mapping[str, Any], places: Sequence[Array]) -> tuple[Array, Array]:
    """Return y and lse at the product set of images, heads, queries and (of y) columns in `places`."""
    P, (images, heads, queries, columns) = problem, places
    y = np.empty([len(x) for x in places], np.float32)
    lse = np.empty(y.shape[:3], np.float32)
    together = queries // CAUSAL_GROUP if P.causal else np.zeros_like(queries)  # rows that see the same keys
    for x, image in enumerate(images):
        for z, head in enumerate(heads):
            q = np.asarray(inputs["q"][image, head], np.float32)
            k, v = (np.asarray(inputs[name][image, head // P.shared], np.float32) for name in "kv")
            values = np.concatenate([v[:, columns], np.ones((P.kv, 1), np.float32)], axis=1)
            for group in np.unique(together):
                rows = together == group
                y[x, z, rows], lse[x, z, rows] = _rows(P, q[queries[rows]], k, values, queries[rows])
    return round_to(y, P.out_dtype) if y.size else y, lse


def _rows(P: Attention, q: Array, keys: Array, values: Array, rows: Array) -> tuple[Array, Array]:
    """Return y and lse of the queries with numbers `rows`, which see the same groups of keys; values end with a 1."""
    c, extent = np.float32(P.factor), P.kv
    if P.causal:
        extent = min(P.kv, CAUSAL_GROUP * (int(rows[0]) // CAUSAL_GROUP + 1))
    most, sums = np.empty((0, 1)), np.empty((0, 0))
    with np.errstate(all="ignore"):
        for first in range(0, extent, P.block):
            key = np.arange(first, min(extent, first + P.block))
            scores = chain_matmul(q, keys[key].T)
            if P.causal:
                scores = np.where(key <= rows[:, None], scores, np.float32(-np.inf))
            new = scores.max(axis=1, keepdims=True)  # NaN wins, as it does in the machine
            if first:
                new = np.maximum(most, new)
            p = round_to(exp((scores - new) * c), P.dtype)
            if first:
                sums = sums * exp((most - new) * c)
            most, sums = new, chain_matmul(p, values[key], sums if first else None)
        weight = sums[:, -1:]
        return sums[:, :-1] * (np.float32(1) / weight), fused(most, c, log(weight))[:, 0]


def backward_reference(problem: Attention, inputs: Mapping[str, Any]) -> dict[str, Array]:
    """Return gq, gk and gv, rounded to their format, of the inputs q, k, v, y, gy and lse."""
    found = {}
    for name in ("gq", "gk", "gv"):
        shape = problem.operands[name].shape
        found[name] = backward_at(problem, inputs, name, [np.arange(n) for n in shape])
    return found


def backward_at(problem: Attention, inputs: Mapping[str, Any], output: str, places: Sequence[Array]) -> Array:
    """Return an output at the product set of images, heads, rows and columns in `places`."""
    P, (images, heads, rows, columns) = problem, places
    result = np.zeros([len(x) for x in places], np.float32)
    own = rows // CAUSAL_GROUP if P.causal else np.zeros_like(rows)
    for x, image in enumerate(images):
        for z, head in enumerate(heads):
            shared = [head] if output == "gq" else range(head * P.shared, (head + 1) * P.shared)
            for group in np.unique(own):
                here = own == group
                sums = None  # one chain over the heads that share the keys, one after the other
                for each in shared:
                    sums = _gradient(P, inputs, output, (image, each), rows[here], columns, sums)
                if sums is not None:
                    result[x, z, here] = sums
    if output != "gv":
        result = result * np.float32(P.factor)
    return round_to(result, P.out_dtype)


def _gradient(
    P: Attention, inputs: Mapping[str, Any], output: str, at: tuple[int, int], rows: Array, columns: Array, sums: Any
) -> Any:
    """Return `sums` continued by what one head of q adds to `output` at rows of one group (of queries, or of keys)."""
    image, head = at
    q, y, gy = (np.asarray(inputs[name][image, head], np.float32) for name in ("q", "y", "gy"))
    k, v = (np.asarray(inputs[name][image, head // P.shared], np.float32) for name in "kv")
    lse = np.asarray(inputs["lse"][image, head], np.float32)
    query, key = np.arange(P.q), np.arange(P.kv)
    if output == "gq":
        query = rows
        if P.causal:
            key = key[: CAUSAL_GROUP * (int(rows[0]) // CAUSAL_GROUP + 1)]
    else:
        key = rows
        if P.causal:
            query = query[CAUSAL_GROUP * (int(rows[0]) // CAUSAL_GROUP) :]
    if not query.size:
        return sums
    with np.errstate(all="ignore"):
        scores = chain_matmul(q[query], k[key].T)
        if P.causal:
            scores = np.where(key <= query[:, None], scores, np.float32(-np.inf))
        p = exp(fused(scores, np.float32(P.factor), -lse[query][:, None]))
        if output == "gv":
            return chain_matmul(round_to(p, P.dtype).T, gy[query][:, columns], sums)
        mean = reduced(gy[query] * y[query])
        products = round_to(p * (chain_matmul(gy[query], v[key].T) - mean), P.dtype)
        if output == "gq":
            return chain_matmul(products, k[key][:, columns])
        return chain_matmul(products.T, q[query][:, columns], sums)


def reduced(x: Array) -> Array:
    """Return `vec.reduce_sum` over the last dimension, kept: element i joins chain i % 16; neighbours fold, a tree."""
    chains = np.zeros((*x.shape[:-1], 16), np.float32)
    for i in range(x.shape[-1]):
        chains[..., i % 16] += x[..., i]
    while chains.shape[-1] > 1:
        chains = chains[..., ::2] + chains[..., 1::2]
    return chains
