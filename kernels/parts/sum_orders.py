"""The order of every sum in the library's norms, losses and reductions: the definition in NumPy, and the folds on chip.

*Along a row* (the last axis): pieces of `PIECE` elements, each in the order of `vec.reduce_sum` (element i joins chain
i % 16, ascending; the 16 chains fold as a tree of neighbours); then the pieces fold as a balanced tree.
*Down a column* (over rows, pixels, a batch): blocks of `BLOCK` rows, each one chain in ascending order from the first
row; then the blocks fold as a balanced tree.
*Balanced tree*: level by level, terms 2i and 2i + 1 are added, the lower on the left; a last odd one passes through.

Both are functions of the tensor's shape alone: whoever adds, on whatever mesh, in whatever tiles, adds in this order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from accel.lang import K

if TYPE_CHECKING:
    from accel.lang import View

    Join = Callable[[View, View, View], None]

__all__ = ["BLOCK", "PIECE", "chain_blocks", "fold_columns", "fold_rows", "sum_columns", "sum_rows", "tree"]

PIECE = 2048
"""Elements of a row that one `vec.reduce_sum` adds: 8 KB in fp32."""
BLOCK = 8
"""Rows that one chain adds: a short chain keeps rounding errors small and work plentiful for a large mesh."""
CHAINS = 16  # of `vec.reduce_sum`


def sum_rows(x: Any) -> np.ndarray:
    """Return the sums along the last axis of an fp32 array (..., n) in the order of this module: shape (...)."""
    values = np.asarray(x, np.float32)
    pieces = [_reduce(values[..., at : at + PIECE]) for at in range(0, values.shape[-1], PIECE)]
    return tree(np.stack(pieces))


def sum_columns(x: Any) -> np.ndarray:
    """Return the sums down the first axis of an fp32 array (n, ...) in the order of this module: shape (...)."""
    values = np.asarray(x, np.float32)
    blocks = []
    for at in range(0, values.shape[0], BLOCK):
        chain = values[at]
        for row in values[at + 1 : at + BLOCK]:
            chain = chain + row
        blocks.append(chain)
    return tree(np.stack(blocks))


def _reduce(x: np.ndarray) -> np.ndarray:
    """`vec.reduce_sum`: chains start at +0, and one without elements stays there."""
    chains = np.zeros((CHAINS, *x.shape[:-1]), np.float32)
    for at in range(0, x.shape[-1], CHAINS):
        part = np.moveaxis(x[..., at : at + CHAINS], -1, 0)
        chains[: len(part)] = chains[: len(part)] + part
    return tree(chains)


def tree(terms: np.ndarray) -> np.ndarray:
    """Fold the first axis as a balanced tree of neighbours."""
    while len(terms) > 1:
        pairs = terms[0 : len(terms) // 2 * 2 : 2] + terms[1::2]
        terms = np.concatenate([pairs, terms[-1:]]) if len(terms) % 2 else pairs
    return np.asarray(terms[0])


def fold_rows(k: K, terms: View, join: Join | None = None) -> View:
    """Fold the columns of `terms` (rows, n) in place as a balanced tree; returns the sums as a view (rows, 1)."""
    count, step = terms.shape[1], 1
    while step < count:
        pairs = (-(-count // step)) // 2
        left, right = (
            terms[:, at : at + 2 * step * (pairs - 1) + 1 : 2 * step] for at in (0, step)
        )  # what stays odd waits at its place for a later level
        (join or k.vec.add)(left, left, right)
        step *= 2
    return terms[:, 0:1]


def fold_columns(k: K, terms: View, join: Join | None = None) -> View:
    """Fold the rows of `terms` (n, columns) in place as a balanced tree; returns the sums as a view (1, columns)."""
    count, step = terms.shape[0], 1
    while step < count:
        pairs = (-(-count // step)) // 2
        left, right = (terms[at : at + 2 * step * (pairs - 1) + 1 : 2 * step] for at in (0, step))
        (join or k.vec.add)(left, left, right)
        step *= 2
    return terms[0:1]


def chain_blocks(k: K, sums: View, x: View, join: Join | None = None) -> View:
    """Add the rows of `x` (rows, columns) in chains of `BLOCK` into `sums` (blocks, columns); returns the filled part.

    Row i of every block is added by one instruction; a ragged last block has chains of its own.
    """
    rows, full, add = x.shape[0], x.shape[0] // BLOCK, join or k.vec.add
    if full:
        blocks = x[: full * BLOCK].split(0, BLOCK)
        k.vec.copy(sums[:full], blocks[:, 0])
        for i in range(1, BLOCK):
            add(sums[:full], sums[:full], blocks[:, i])
    if rows % BLOCK:
        last = sums[full : full + 1]
        k.vec.copy(last, x[full * BLOCK : full * BLOCK + 1])
        for i in range(full * BLOCK + 1, rows):
            add(last, last, x[i : i + 1])
    return sums[: -(-rows // BLOCK)]
