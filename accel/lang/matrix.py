"""What `k.matmul` takes: which dimensions are M, N and K, checked once per combination of layouts."""

from __future__ import annotations

from accel.errors import TraceError, UnsupportedError
from accel.hardware import ChipSpec
from accel.isa.fitting import INTEGERS, NARROW
from accel.isa.layout import SPACE_SRAM
from accel.lang.views import Layout

__all__ = ["matmul_views", "rounded_sums"]

MIXED = ({"cfp8-143", "cfp8-152"}, {"int8", "uint8"})  # formats that one matmul may multiply with each other
Dims = list[tuple[int, int]]  # (extent, byte stride), at most two levels, outer first


def matmul_views(
    chip: ChipSpec, dst: Layout, a: Layout, b: Layout, trans_a: bool, trans_b: bool
) -> tuple[int, int, int]:
    """Return the descriptor ids of dst (m, n), a (m, k) and b (k, n), each dimension one or two levels.

    The levels follow from the ranks: dst has m + n, a has m + k, b has k + n of them; a missing one is an extent of 1.
    """
    for lay in (dst, a, b):
        if lay.space != SPACE_SRAM:
            raise TraceError(
                f"k.matmul works on SRAM, and {lay.name!r} is a tensor in memory; k.copy it to a k.sram buffer"
            )
    taken = list(chip.node.matrix.step_cycles) or ["a format it takes"]
    if a.dtype != b.dtype and not any({a.dtype, b.dtype} <= mixed for mixed in MIXED):
        raise TraceError(f"k.matmul of {a.name!r} in {a.dtype} and {b.name!r} in {b.dtype}; k.vec.cast one of them")
    for lay in (a, b):
        if lay.dtype not in chip.node.matrix.step_cycles:
            raise UnsupportedError(
                f"the matrix unit of {chip.name!r} does not take {lay.dtype} ({lay.name!r}); "
                f"k.vec.cast to {' or '.join(taken)}"
            )
    sums = "int32" if a.dtype in INTEGERS else "fp32"
    if sums == "fp32" and dst.dtype in NARROW:
        if dst.dtype not in chip.node.matrix.output_formats:
            raise UnsupportedError(
                f"the matrix unit of {chip.name!r} writes results in "
                f"{' or '.join([sums, *chip.node.matrix.output_formats])}, and {dst.name!r} is {dst.dtype}; "
                f"k.vec.cast from an {sums} buffer"
            )
    elif dst.dtype != sums:
        raise TraceError(
            f"k.matmul accumulates {a.dtype} in {sums}, and {dst.name!r} is {dst.dtype}; "
            f"k.vec.cast from an {sums} buffer"
        )
    ranks = len(dst.shape), len(a.shape), len(b.shape)
    twice = [ranks[1] + ranks[0] - ranks[2], ranks[1] + ranks[2] - ranks[0], ranks[2] + ranks[0] - ranks[1]]
    if any(n % 2 or not 0 <= n <= 4 for n in twice):
        raise TraceError(
            f"k.matmul cannot tell M, N and K from ranks: {dst} = {a} @ {b}; "
            "each of M, N, K takes up to two dimensions, the same number in both operands that have it"
        )
    m, k, n = (n // 2 for n in twice)
    d_m, d_n = _cut(dst, m)
    if trans_a:
        a_k, a_m = _cut(a, k)
    else:
        a_m, a_k = _cut(a, m)
    if trans_b:
        b_n, b_k = _cut(b, n)
    else:
        b_k, b_n = _cut(b, k)
    for what, first, second in (("M", d_m, a_m), ("N", d_n, b_n), ("K", a_k, b_k)):
        if [e for e, _ in first] != [e for e, _ in second]:
            raise TraceError(
                f"k.matmul shapes do not fit in {what}: {dst} = "
                f"{a}{' transposed' if trans_a else ''} @ {b}{' transposed' if trans_b else ''}; "
                f"{what} is {[e for e, _ in first]} in one and {[e for e, _ in second]} in the other"
            )
    return _pairs(dst, d_m, d_n), _pairs(a, a_m, a_k), _pairs(b, b_k, b_n)


def rounded_sums(acc: Layout) -> TraceError:
    """Return the error of a matmul that accumulates in 16 bits."""
    return TraceError(
        f"k.matmul cannot accumulate in {acc.name!r}: its sums leave rounded to {acc.dtype}; accumulate in an fp32 "
        "buffer and k.vec.cast it, or make the product one k.matmul without accumulate"
    )


def _cut(lay: Layout, first: int) -> tuple[Dims, Dims]:
    dims = list(zip(lay.shape, lay.strides, strict=True))
    return dims[:first], dims[first:]


def _pairs(lay: Layout, rows: Dims, columns: Dims) -> int:
    dims = [(1, 0)] * (2 - len(rows)) + rows + [(1, 0)] * (2 - len(columns)) + columns
    return lay.view_id(tuple(e for e, _ in dims), tuple(0 if e == 1 else s for e, s in dims))
