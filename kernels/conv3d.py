"""Convolution of clips over time, height and width in its three training directions: what the third axis changes.

Little in the definition: there is one more tap index in front, so that a chain runs over filter frames, then rows, then
taps of a row, then channels (forward), and likewise in a data gradient. Weight and bias gradients have a chain for
every F neighbouring output frames of a clip, over z, p, q: F is the largest power of two with at most 1024 outputs, at
least 1 (`conv_windows.chain_frames`). The chains of a clip, the last of which may be short, are added by the balanced
tree of neighbours, then the clips by the same tree. `conv_reference.py` takes any number of axes, and so do the parts
of `conv2d`, whose lesson this continues. What is new:

1. *A row of a band has taps in time too.* The frame buffers hold, for every output row, the rows of all filter frames;
   where bands are one row high they lie one after the other, and one matmul covers the whole filter: K = (time and
   height tap, tap of the row and channel).
2. *Factored filters are what video networks use.* R(2+1)D (Tran et al., 2018) takes 1x3x3 then 3x1x1. The first is a
   2-D convolution of every frame. The second looks along time only: height and width are merged, so that its "rows" are
   whole frames, cut anywhere; its taps are frames, and no halo exists inside a frame. Blocks of pixels are dealt
   through time, block after block, so that a node has most of the frames it reads: with few channels a product is
   over sooner than its frames would come through the mesh.
3. *Time is the outermost axis*, so that a clip is a run of frames: a node that holds neighbouring rows of one frame
   reads the same rows of the frames before and after from the nodes that keep them.

4. *A chain of a weight gradient ends with its frames*, then chains, then clips are added as balanced trees. A chain of
   a 7x7 frame would be 49 steps beside 16 cycles of accumulators, so 16 such frames are one; 1024 steps make those
   cycles small. Large frames are chains of their own. With few channels there is little work but that of many frames,
   so these stay where they are and every node makes the whole gradient of its own (`parts/conv_weight_places.py`).

A stencil over frames that arrive one by one is another lesson: `streaming_conv`.

The bound: max(multiply-adds / matrix units of the mesh, compulsory bytes / memory bandwidth).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from accel.hardware import ChipSpec
from accel.kernels.library import LibraryKernel, builder
from accel.kernels.parts import conv_data_gradient, conv_forward, conv_weight_gradient
from accel.kernels.parts.conv_reference import oracle, oracle_at
from accel.problem import Conv3d
from accel.problem.checks import unless_given
from accel.program import Program

__all__ = ["KERNEL", "build", "oracle"]

PROGRAMS: dict[str, Callable[..., Program]] = {
    "fwd": conv_forward.build,
    "dgrad": conv_data_gradient.build,
    "wgrad": conv_weight_gradient.program,
}
"""What builds each direction: (chip, problem, *, resident, **tiling) -> Program."""


def build(
    chip: ChipSpec | str,
    *,
    n: int,
    t: int,
    h: int,
    w: int,
    c: int,
    k: int,
    kt: int,
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
    """Return the program of one direction of a convolution of n clips t x h x w x c with k filters kt x r x s.

    direction: "fwd" (x, w -> y), "dgrad" (gy, w -> gx) or "wgrad" (x, gy -> gw); x (n, t, h, w, c), w (kt, r, s,
    c / groups, k), gy and y (n, z, p, q, k). stride, pad, dilation: one int or (time, height, width). The rest as in
    `accel.kernels.conv2d.build`. Raises InputError and UnsupportedError.
    """
    problem = Conv3d(
        n, t, h, w, c, k, kt, r, s, stride, pad, dilation, groups, dtype, out_dtype, direction, bias,
        unless_given(activation, "none"),
    )  # fmt: skip
    given: dict[str, Any] = {"exponent_bias": exponent_bias, "denormals": denormals}
    options = {} if exponent_bias is None and denormals == "gap" else given
    return _program(chip, problem, resident=resident, **options, **tiling)


@builder
def _program(chip: ChipSpec, problem: Conv3d, *, resident: frozenset[str] = frozenset(), **tiling: Any) -> Program:
    return PROGRAMS[problem.direction](chip, problem, resident=resident, **tiling)


KERNEL = LibraryKernel(
    problem=Conv3d,
    program=_program,
    oracle=oracle,
    oracle_at=oracle_at,
    examples=(
        Conv3d(1, 1, 1, 1, 1, 1, 1, 1, 1),
        Conv3d(2, 4, 5, 7, 5, 6, 3, 3, 2, stride=(1, 2, 1), pad=(1, 0, 1), bias=True, activation="sigmoid"),
        Conv3d(2, 5, 6, 5, 8, 12, 3, 1, 1, stride=(2, 1, 1), pad=(1, 0, 0)),
        Conv3d(1, 3, 7, 6, 6, 9, 1, 3, 3, pad=(0, 1, 1), groups=3, out_dtype="fp32"),
        Conv3d(1, 4, 4, 5, 4, 4, 2, 2, 2, dilation=(2, 1, 2), dtype="fp32"),
        Conv3d(2, 3, 5, 4, 6, 10, 3, 3, 3, pad=1, direction="dgrad"),
        Conv3d(1, 5, 4, 6, 8, 6, 3, 1, 1, stride=(2, 1, 1), pad=(1, 0, 0), direction="dgrad"),
        Conv3d(2, 3, 5, 4, 6, 10, 3, 2, 3, pad=1, direction="wgrad"),
        Conv3d(3, 4, 4, 3, 8, 8, 3, 1, 1, pad=(1, 0, 0), bias=True, out_dtype="fp32", direction="wgrad"),
        Conv3d(2, 5, 23, 23, 3, 8, 3, 1, 1, pad=(1, 0, 0), out_dtype="fp32", direction="wgrad"),  # frames may stay
    ),
)
