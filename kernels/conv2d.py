"""Convolution of images in its three training directions, as a lesson: implicit GEMM, and nothing is materialised.

Letters: n images of h x w pixels and c channels; k filters of r x s taps; p x q outputs. x (n, h, w, c), w (r, s,
c / groups, k), y (n, p, q, k), gradients g<name> alike.

What the machine defines (`conv_reference.py` repeats it in NumPy): every output is one chain of fp32 fused
multiply-adds from +0. Forward: filter rows r, then taps s, then channels c of the group; padding takes part as +0.
Data gradient: r, s, then filters k of the group, over the taps that land on an output gradient; others do not take
part. Weight gradient: the output positions p, q of one image, then the images of the batch by a balanced tree of
neighbours (`conv3d` says what frames are). Then the bias (fp32), the activation, and one rounding. Chip, mesh and
tiling never change a bit.

Forward, version by version:

1. *im2col and matmul*: copy every pixel once a tap, then multiply: nine times the memory traffic for a 3x3 filter.
2. *Shifted views*: the rows that a band of outputs reads lie in SRAM, with their halo and with zeros for padding. A tap
   is the same rows seen from another start, and the strides of the view do the rest: M = (output row, output pixel)
   with the convolution's stride in it, K = (filter row, tap and channel) with the dilation, N = filters. The "im2col
   matrix" is a four-dimensional view in which elements occur several times; it is never written anywhere.
   `shifted_views` below is this version, image after image on one node, a matmul a tap.
3. *One matmul for the whole filter*: where taps and channels of a row are one run (no dilation, no groups), K covers
   all rows of the filter, so the 16 exposed cycles in which a 16x16 accumulator block moves are spent once an output.
   Where such a product is the whole chain and nothing is added to it, the matrix unit writes y itself, rounded as it
   leaves: 8 cycles, no accumulators in SRAM, no cast.
4. *Over the mesh*: bands of output rows are dealt to the nodes, whole images or parts of one as it comes. A row that
   two nodes read is exchanged between them, whether x is resident (`conv_frames.py`) or every node first fetches its
   own rows from memory, once, a few tiles ahead, and tells its neighbours (`conv_stage.py`); memory is nearer to some
   nodes than to others, so a row of the mesh keeps the pace of its far end. Filters are multicast to all nodes once and
   kept, or pass in chunks while the accumulators stay put (`conv_filters.py`). Small outputs deal the filters over
   `parts` of the mesh too, so that few pixels keep all nodes busy.
5. *What the matrix unit is bad at* - depthwise and thin groups, fp32 - runs on the vector unit as the same chain, with
   channels along the lanes.

The data gradient has no padding to read: a tile of accumulators is cut into stretches where the same taps land, and a
stretch is one matmul with K = (taps of a row, filters), the taps against the pixels by a negative stride. With a stride
above 1 the positions of one residue class read the same taps, and are a dense tile of their own (`conv_data_*.py`).
Where a chain is one such product, as in 1x1, nothing has to stay: the unit rounds the sums as they leave, half as many
bytes, and there is nothing to cast.

Weight gradient (`conv_weight_gradient.py`): K = (p, q) of one image, M = taps and channels, N = filters: a product an
image, and images are added like a binary counter. Filters alone do not feed 342 nodes: rows of the mesh deal taps and
channels, columns deal filters, and where a layer has few of both, teams of nodes take images apart. Every band of an
image is fetched once and multicast to the team. What limits small images is the accumulator: 49 products in a row, then
16 cycles to move the block.

Axes without taps are merged, so that a 1x1 convolution is a matmul over one long row of pixels. The tiling is a closed
form (`conv_tiling.py`). Versions 3 to 5 are in `parts/`, best read in this order: `conv_shape`, `conv_tiling`,
`conv_frames`, `conv_stage`, `conv_filters`, `conv_forward`, then the gradients.

The bound: max(multiply-adds / matrix units of the mesh, compulsory bytes / memory bandwidth).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from accel.hardware import ChipSpec
from accel.kernels.library import LibraryKernel, builder
from accel.kernels.parts import conv_data_gradient, conv_forward, conv_weight_gradient
from accel.kernels.parts.conv_reference import oracle, oracle_at
from accel.lang import K
from accel.problem import Conv2d
from accel.problem.checks import unless_given
from accel.program import Program, kernel

if TYPE_CHECKING:
    from accel.lang import View

__all__ = ["KERNEL", "build", "oracle", "reference", "shifted_views"]

PROGRAMS: dict[str, Callable[..., Program]] = {
    "fwd": conv_forward.build,
    "dgrad": conv_data_gradient.build,
    "wgrad": conv_weight_gradient.program,
}
"""What builds each direction: (chip, problem, *, resident, **tiling) -> Program."""


def reference(
    x: Any, w: Any, stride: tuple[int, int] = (1, 1), pad: tuple[int, int] = (0, 0), dilation: tuple[int, int] = (1, 1)
) -> Any:
    """Return the sums of forward in fp32, (n, p, q, k), of 16-bit x (n, h, w, c) and w (r, s, c, k): the definition.

    A step is exact in float64 before its one rounding. Groups, gradients and other formats are in `conv_reference.py`.
    """
    at = np.pad(np.asarray(x, np.float64), [(0, 0), (pad[0], pad[0]), (pad[1], pad[1]), (0, 0)])
    taps = np.asarray(w, np.float64)
    p, q = ((at.shape[1 + i] - dilation[i] * (taps.shape[i] - 1) - 1) // stride[i] + 1 for i in (0, 1))
    sums = np.zeros((at.shape[0], p, q, taps.shape[3]), np.float32)
    for r, s, c in np.ndindex(taps.shape[:3]):
        row, column = r * dilation[0], s * dilation[1]
        rows = at[:, row : row + (p - 1) * stride[0] + 1 : stride[0]]
        met = rows[:, :, column : column + (q - 1) * stride[1] + 1 : stride[1], c, None]
        sums = (sums + met * taps[r, s, c]).astype(np.float32)
    return sums


@kernel
def shifted_views(
    k: K, x: View, w: View, y: View, *, stride: tuple[int, int] = (1, 1), pad: tuple[int, int] = (0, 0),
    dilation: tuple[int, int] = (1, 1),
) -> None:  # fmt: skip
    """Version 2 on node (0, 0), without groups: a frame with its border in SRAM, and one matmul a tap."""
    (n, height, width, c), (_, p, q, filters) = x.shape, y.shape
    frame = k.sram((height + 2 * pad[0], width + 2 * pad[1], c), x.dtype, "frame")
    W, acc = k.sram(w.shape, w.dtype, "W"), k.sram((p, q, filters), "fp32", "acc")
    out, loaded, stored = k.sram((p, q, filters), y.dtype, "out"), k.sem(name="loaded"), k.sem(name="stored")
    if k.row + k.col:
        return
    k.vec.fill(frame, 0.0)  # the border stays +0: images are written inside it
    k.copy(W, w, done=loaded)
    k.wait(loaded)
    for image in k.loop(n):
        k.copy(frame[pad[0] : pad[0] + height, pad[1] : pad[1] + width], x[image], done=loaded)
        k.wait(loaded)
        for r in range(w.shape[0]):
            row = r * dilation[0]
            rows = frame[row : row + (p - 1) * stride[0] + 1 : stride[0]]
            for s in range(w.shape[1]):
                column = s * dilation[1]
                tap = rows[:, column : column + (q - 1) * stride[1] + 1 : stride[1]]  # (p, q, c): nothing is copied
                k.matmul(acc, tap, W[r, s], accumulate=r + s > 0)
        k.vec.cast(out, acc)
        k.copy(y[image], out, sent=stored)
        k.wait(stored)


def build(
    chip: ChipSpec | str,
    *,
    n: int,
    h: int,
    w: int,
    c: int,
    k: int,
    r: int,
    s: int,
    stride: int | tuple[int, ...] = 1,
    pad: int | tuple[int, ...] = 0,
    dilation: int | tuple[int, ...] = 1,
    groups: int = 1,
    dtype: str = "bf16",
    out_dtype: str = "bf16",
    direction: str = "fwd",
    bias: bool = False,
    activation: str | None = None,
    resident: Iterable[str] = (),
    exponent_bias: int | Mapping[str, int] | None = None,
    denormals: str = "gap",
    **tiling: int,
) -> Program:
    """Return the program of one direction of a convolution of n images h x w x c with k filters r x s, for `chip`.

    direction: "fwd" (x, w -> y), "dgrad" (gy, w -> gx) or "wgrad" (x, gy -> gw); x (n, h, w, c), w (r, s, c / groups,
    k), gy and y (n, p, q, k). stride, pad, dilation: one int or (height, width). dtype: of the inputs, a format of the
    chip's matrix unit (sums of integers are int32 modulo 2^32), or fp32, which the vector unit multiplies; out_dtype:
    of the result. bias: forward adds bias (k,) in fp32, wgrad returns its gradient gb too. activation: relu, gelu,
    gelu_tanh, silu, sigmoid or tanh, forward, in fp32 before the one rounding.
    resident: operands that lie in SRAM, in shards. exponent_bias, denormals (forward): of operands in cfp8-143,
    cfp8-152, shp16 and uhp16, one bias for all or a dict by name ("x", "w", "y"). tiling: fields of the direction's
    tiling (default: chosen in closed form). Raises InputError and UnsupportedError.
    """
    problem = Conv2d(
        n, h, w, c, k, r, s, stride, pad, dilation, groups, dtype, out_dtype, direction, bias,
        unless_given(activation, "none"),
    )  # fmt: skip
    given: dict[str, Any] = {"exponent_bias": exponent_bias, "denormals": denormals}
    options = {} if exponent_bias is None and denormals == "gap" else given
    return _program(chip, problem, resident=resident, **options, **tiling)


@builder
def _program(chip: ChipSpec, problem: Conv2d, *, resident: frozenset[str] = frozenset(), **tiling: Any) -> Program:
    return PROGRAMS[problem.direction](chip, problem, resident=resident, **tiling)


KERNEL = LibraryKernel(
    problem=Conv2d,
    program=_program,
    oracle=oracle,
    oracle_at=oracle_at,
    examples=(
        Conv2d(1, 1, 1, 1, 1, 1, 1),
        Conv2d(2, 9, 7, 5, 6, 3, 2, stride=(2, 1), pad=(1, 0), bias=True, activation="relu"),
        Conv2d(3, 8, 11, 4, 8, 3, 3, pad=2, dilation=(1, 2), groups=2, out_dtype="fp32"),
        Conv2d(2, 6, 6, 9, 9, 3, 3, pad=1, groups=9),
        Conv2d(1, 13, 5, 3, 17, 7, 5, stride=2, pad=3, dtype="fp32", out_dtype="fp32"),
        Conv2d(2, 5, 5, 16, 24, 1, 1),
        Conv2d(2, 9, 8, 5, 6, 3, 3, stride=2, pad=1),
        Conv2d(1, 9, 8, 16, 24, 3, 3, pad=2, dilation=2),
        Conv2d(1, 7, 6, 32, 32, 3, 3, pad=1, groups=2),
        Conv2d(2, 6, 7, 8, 11, 3, 3, pad=1, bias=True, activation="gelu", out_dtype="fp32"),
        Conv2d(1, 5, 9, 4, 4, 3, 3, pad=1, groups=4, activation="silu", dtype="fp32", out_dtype="fp32"),
        Conv2d(1, 7, 9, 6, 20, 1, 1, stride=2, out_dtype="fp32"),
        Conv2d(2, 8, 6, 8, 9, 3, 3, pad=1, dtype="cfp8-143", out_dtype="cfp8-152"),
        Conv2d(5, 9, 7, 13, 11, 3, 3, pad=1, direction="dgrad"),
        Conv2d(2, 9, 7, 6, 10, 5, 2, stride=(2, 3), pad=(3, 1), dilation=(1, 2), groups=2, direction="dgrad"),
        Conv2d(1, 12, 6, 9, 9, 3, 3, pad=1, stride=2, groups=9, out_dtype="fp32", direction="dgrad"),
        Conv2d(2, 5, 6, 17, 3, 1, 1, stride=2, dtype="fp32", direction="dgrad"),
        Conv2d(1, 4, 3, 16, 9, 1, 1, direction="dgrad"),  # gy resident: the last node of a team keeps fewer filters
        Conv2d(5, 7, 9, 16, 24, 3, 3, stride=2, pad=1, bias=True, out_dtype="fp32", direction="wgrad"),
        Conv2d(3, 6, 5, 12, 40, 3, 2, pad=(1, 0), dilation=(2, 1), direction="wgrad"),
        Conv2d(2, 5, 5, 6, 6, 3, 3, pad=1, groups=6, bias=True, direction="wgrad"),
        # taps dealt to nodes along a dilated filter row, on the matrix and on the vector unit
        Conv2d(1, 4, 4, 8, 4, 2, 2, stride=2, pad=(2, 1), dilation=(1, 3), direction="wgrad"),
        Conv2d(1, 7, 7, 1, 2, 5, 3, stride=2, pad=(3, 1), dilation=(1, 2), dtype="fp32", direction="wgrad"),
    ),
    tilings=({"taps": 2},),  # several rows of filters in a piece where rows do not join
)
