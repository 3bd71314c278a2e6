"""The definition of the collectives to the bit, in NumPy: who ends with what, and the order of every sum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from accel.numerics import as_storage, cast, from_storage

if TYPE_CHECKING:
    from accel.problem import Collective, HaloExchange

__all__ = ["halo_oracle", "oracle"]


def oracle(problem: Collective, inputs: Mapping[str, Any], **known: Any) -> dict[str, Any]:
    """Return y; the order of sums is that of the algorithm, every partial sum rounded to the problem's format.

    A sum is taken in `size` parts of ceil(n / size) numbers (reduce_scatter: the parts that are scattered).

    ring: part j starts with member j + 1 of the ring and goes round, each adding its own; member j adds last. The ring
    of a mesh goes row by row, every second row backwards.
    grid: part j belongs to column c = j % cols and row r = j // cols; first every row adds as a ring that starts
    behind column c, then these sums are added as a ring that starts behind row r.
    recursive: members 2i and 2i + 1 are added, level by level; a last odd one passes through.
    """
    own = known.get("meaning", {})
    x = from_storage(as_storage(inputs["x"], problem.dtype, **own.get("x", {})), problem.dtype, as_="ml_dtypes",
                     **own.get("x", {}))  # fmt: skip
    y = np.zeros(problem.operands["y"].shape, x.dtype)
    for number in range(problem.groups):
        members = _members(problem, number)
        got = _group(problem, x[number] if problem.op == "broadcast" else x[members])
        if problem.op == "reduce":
            y[number] = got
        else:
            y[members] = got
    return {"y": y}


def _members(problem: Collective, number: int) -> list[int]:
    """Return the nodes of a group in the order of their numbers."""
    cols = problem.cols
    if problem.over == "rows":
        return [number * cols + x for x in range(cols)]
    if problem.over == "cols":
        return [x * cols + number for x in range(problem.rows)]
    return list(range(problem.nodes))


def _group(problem: Collective, x: np.ndarray) -> Any:
    """Return what the members of a group end with, from what they have."""
    size, n = problem.size, problem.elements
    if problem.op == "broadcast":
        return x
    if problem.op == "all_gather":
        return x.reshape(1, -1)
    if problem.op == "all_to_all":
        return x.reshape(size, size, n).transpose(1, 0, 2).reshape(size, size * n)
    if problem.op == "barrier":
        return np.roll(x, -1, axis=0)
    part = n if problem.op == "reduce_scatter" else -(-n // size)
    total = [_sum(problem, x[:, j * part : (j + 1) * part], j) for j in range(size)]
    return np.stack(total) if problem.op == "reduce_scatter" else np.concatenate(total)


def _sum(problem: Collective, parts: np.ndarray, owner: int) -> np.ndarray:
    """Add part `owner` of all members."""
    size, cols = problem.size, problem.cols
    if problem.algorithm == "recursive":
        level = list(parts)
        while len(level) > 1:
            paired = [_plus(one, two, problem.dtype) for one, two in zip(level[::2], level[1::2], strict=False)]
            level = paired + level[len(paired) * 2 :]
        first: np.ndarray = level[0]
        return first
    if problem.algorithm == "grid":
        rows = [_around(list(row), owner % cols, problem.dtype) for row in parts.reshape(problem.rows, cols, -1)]
        return _around(rows, owner // cols, problem.dtype)
    ring = list(range(size))
    if problem.over == "mesh":
        ring = [row * cols + (col if row % 2 == 0 else cols - 1 - col)
                for row in range(problem.rows) for col in range(cols)]  # fmt: skip
    return _around([parts[member] for member in ring], ring.index(owner), problem.dtype)


def _around(terms: list[np.ndarray], owner: int, dtype: str) -> np.ndarray:
    """Add terms in a ring: the one after `owner` first, then on and round, `owner` last."""
    total = terms[(owner + 1) % len(terms)]
    for step in range(2, len(terms) + 1):
        total = _plus(total, terms[(owner + step) % len(terms)], dtype)
    return total


def _plus(one: np.ndarray, two: np.ndarray, dtype: str) -> np.ndarray:
    """Return one + two as the vector unit gives it: in fp32, or int32 modulo 2^32, rounded once to `dtype`."""
    if dtype == "int32" or one.size == 0:
        whole: np.ndarray = one + two
        return whole
    with np.errstate(all="ignore"):
        exact = one.astype(np.float32) + two.astype(np.float32)
    exact = np.where(np.isnan(exact), np.uint32(0x7FC00000).view(np.float32), exact)
    exact = exact.astype(np.float32)
    rounded: np.ndarray = exact if dtype == "fp32" else from_storage(cast(exact, dtype), dtype, as_="ml_dtypes")
    return rounded


def halo_oracle(problem: HaloExchange, inputs: Mapping[str, Any], **known: Any) -> dict[str, Any]:
    """Return y: tiles cut out of the whole image, padded with zeros or wrapped."""
    p, own = problem, known.get("meaning", {})
    codes = as_storage(inputs["x"], p.dtype, **own.get("x", {}))
    tiles = codes.reshape(p.rows, p.cols, p.h, p.w, p.c)
    image = tiles.transpose(0, 2, 1, 3, 4).reshape(p.rows * p.h, p.cols * p.w, p.c)
    edge = ((p.halo, p.halo), (p.halo, p.halo), (0, 0))
    image = np.pad(image, edge, mode="wrap") if p.wrap else np.pad(image, edge)
    y = np.stack([
        image[r * p.h : (r + 1) * p.h + 2 * p.halo, c * p.w : (c + 1) * p.w + 2 * p.halo]
        for r in range(p.rows) for c in range(p.cols)
    ])  # fmt: skip
    return {"y": from_storage(y, p.dtype, as_="ml_dtypes", **own.get("y", {}))}
