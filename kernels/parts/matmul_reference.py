"""The definition of matmul to the bit, in NumPy: chains, their tree, what follows, one rounding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np

from accel.isa.functions import apply
from accel.numerics import Codes, as_storage, cast, chain_matmul, fmt, from_storage

if TYPE_CHECKING:
    from accel.problem import Matmul
    from accel.program import Program

__all__ = ["meaning", "oracle", "oracle_at", "reference", "sums"]

NAN = np.uint32(0x7FC00000).view(np.float32)  # the one NaN that arithmetic writes


def reference(
    a: Any,
    b: Any,
    *,
    dtype: str = "bf16",
    out_dtype: str = "bf16",
    trans_a: bool = False,
    trans_b: bool = False,
    dtype_b: str = "",
    split_k: int = 1,
    meaning: Mapping[str, Mapping[str, Any]] | None = None,
) -> np.ndarray:
    """Return a @ b as the machine defines it, in NumPy alone: `sums`, then one cast to `out_dtype`.

    split_k chains are added up by `sums`. a (m, k) and b (k, n), or (k, m) with trans_a and (n, k) with trans_b, in
    any real dtype (rounded to `dtype`, b to `dtype_b`, first); c is (m, n). `meaning` holds bias and denormals by
    operand name ("a", "b", "c"), as `accel.numerics.encode` takes them.
    """
    known = {} if meaning is None else meaning
    left, right = _values(a, dtype, known.get("a", {})), _values(b, dtype_b or dtype, known.get("b", {}))
    c = sums(left.T if trans_a else left, right.T if trans_b else right, split_k)
    return _rounded(c, out_dtype, known.get("c", {}))


def sums(left: Any, right: Any, split_k: int = 1) -> np.ndarray:
    """Return the sums of a @ b before anything follows: one chain with k ascending, or `split_k` of them in a tree.

    Chain s has the k from s * ceil(k / split_k) on; those without any do not exist. Then neighbours are added, 2i and
    2i + 1, level by level, each sum rounded to fp32; a last odd one passes through.
    """
    length = ceil(left.shape[1] / split_k)
    chains = [chain_matmul(left[:, x : x + length], right[x : x + length]) for x in range(0, left.shape[1], length)]
    with np.errstate(all="ignore"):
        while len(chains) > 1:
            chains = [one + two for one, two in zip(chains[::2], chains[1::2], strict=False)] + chains[
                len(chains) // 2 * 2 :
            ]
    return chains[0]


def oracle(
    problem: Matmul, inputs: Mapping[str, Any], *, meaning: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """Return c of a whole problem: for each matrix of the batch `sums`, what follows them, one rounding."""
    c = problem.operands["c"]
    places = [np.arange(size) for size in c.shape]
    return {"c": oracle_at(problem, inputs, "c", places, meaning=meaning)}


def oracle_at(
    problem: Matmul,
    inputs: Mapping[str, Any],
    output: str,
    places: Sequence[Any],
    *,
    meaning: Mapping[str, Mapping[str, Any]] | None = None,
) -> Any:
    """Return the elements of c at the product set of `places`: only those rows of a and columns of b count.

    Where c is `scaled` it holds codes of the bias that c_bias says (its low six bits), read with the bias of `meaning`.
    """
    p, known = problem, {} if meaning is None else meaning
    *batch, rows, cols = places
    a, b = (x if isinstance(x, Codes) else np.asarray(x) for x in (inputs["a"], inputs["b"]))
    found = []
    for number in batch[0] if batch else [None]:
        one = a if number is None else a[number]
        two = b if number is None or p.broadcast_b else b[number]
        left = _values(one[:, rows] if p.trans_a else one[rows], p.dtype, known.get("a", {}))
        right = _values(two[cols] if p.trans_b else two[:, cols], p.dtype_b or p.dtype, known.get("b", {}))
        c = sums(left.T if p.trans_a else left, right.T if p.trans_b else right, p.split_k)
        found.append(_followed(p, c, inputs, (rows, cols) if number is None else (number, rows, cols)))
    own = dict(known.get("c", {}))
    whole = np.stack(found) if batch else found[0]
    if not p.scaled:
        return _rounded(whole, p.out_dtype, own)
    written = {**own, "bias": int(np.asarray(inputs["c_bias"]).ravel()[0]) & 63}
    return from_storage(cast(whole, p.out_dtype, **written), p.out_dtype, **own)


def _followed(problem: Matmul, c: Any, inputs: Mapping[str, Any], where: tuple[Any, ...]) -> Any:
    """Return sums with bias, activation and residual applied in this order, each step rounded to fp32."""
    rows, cols = where[-2:]
    with np.errstate(all="ignore"):
        if problem.add_bias:
            c = c + np.asarray(inputs["bias"], np.float32)[cols]
        if problem.activation != "none":
            c = activated(problem.activation, c)
        if problem.residual:
            term = inputs["residual"] if len(where) == 2 else inputs["residual"][where[0]]
            c = c + _values(term, problem.residual_dtype, {})[np.ix_(rows, cols)]
    return np.where(np.isnan(c), NAN, c) if c.dtype == np.float32 else c


def activated(name: str, c: np.ndarray) -> Any:
    """Return an activation of sums, each step rounded to fp32: the definitions of `elementwise`."""
    one, half = np.float32(1), np.float32(0.5)
    match name:
        case "relu":
            return np.where((c > 0) | np.isnan(c), c, np.float32(0))
        case "gelu":
            return (c * half) * (apply("erf", c * np.float32(0.5**0.5)) + one)
        case "gelu_tanh":
            inner = (c * c * np.float32(0.044715) + one) * c * np.float32((2 / np.pi) ** 0.5)
            return (c * half) * (apply("tanh", inner) + one)
        case "silu":
            return c * apply("sigmoid", c)
        case _:
            return apply(name, c)


def _values(array: Any, dtype: str, own: Mapping[str, Any]) -> np.ndarray:
    """Return the numbers that an array in `dtype` holds, as float32 or integers."""
    return from_storage(as_storage(array, dtype, **own), dtype, as_="float32", **own)


def _rounded(c: np.ndarray, out_dtype: str, own: Mapping[str, Any]) -> np.ndarray:
    """Return sums in the format of the result; those in their own format keep their bits."""
    if out_dtype == str(c.dtype).replace("float32", "fp32"):
        return c
    return from_storage(cast(c, out_dtype, **own), out_dtype, as_="ml_dtypes", **own)


def meaning(program: Program) -> dict[str, Any]:
    """Return the keyword arguments that make `reference` the oracle of a program built by `matmul.build`."""
    tensors = {t.name: t for t in program.isa.tensors}
    own = {n: {"bias": t.bias, "denormals": t.denormals} for n, t in tensors.items() if fmt(t.dtype).kind == "cfp"}
    trans = {f"trans_{x}": program.isa.facts.get(f"trans_{x}") == "True" for x in "ab"}
    formats = {"dtype": tensors["a"].dtype, "dtype_b": tensors["b"].dtype, "out_dtype": tensors["c"].dtype}
    return {**formats, "split_k": int(program.isa.facts.get("split_k", "1")), "meaning": own, **trans}
