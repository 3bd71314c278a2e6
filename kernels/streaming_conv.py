"""Convolution over the newest frames of cameras: a ring of frames in SRAM, in which the newest replaces the oldest.

A video network in a car sees frames one by one, at camera rate; a temporal filter reads the last kt of them. Bits are
those of `conv3d` on the whole clip (one chain an output: frames, rows, taps, channels; then one rounding). The strips
of all cameras are dealt over the nodes, one strip a node.

1. *Fetch what an output reads*: every frame comes from memory kt times, and the rows at the border of two nodes twice.
2. *Frames stay*: every node keeps its strip of the last kt frames and the one that arrives, in a ring: frame f lies in
   slot f modulo the slots, and addresses wrap in the machine, so the oldest frame is overwritten by naming the newest.
   No frame on chip is fetched again: memory sends every pixel once.
3. *Rows are exchanged, not fetched*: a node loads only its own strip; the halo above and below is pulled from the SRAM
   of the two neighbours as soon as they have the frame. The program does not grow with the length of the video: a
   hardware loop over frames, whose index names ring slots, semaphores and the place in the tensor.
4. *What does not fit is fetched again*: where SRAM is too small for the window, its newest `kept` frames stay and the
   older ones come from memory again for every output, in blocks of rows and pixels with their halo (kept=0: all of
   them, and no frame stays). The chain begins with the oldest frame, so the refetched ones are multiplied first and
   no bit changes; memory traffic does: (kt - kept) frames more an output, and the halo of each block.

Four threads a node: frames in, halos between neighbours (none where no frame stays), multiply, results out. A slot is
free again when this node has computed with it and the neighbours have pulled from it. All nodes join before a frame
enters a used slot, and where frames are fetched again in every output after the first, since the frames of a set come
together: no node runs ahead into frames that no camera has sent. A strip comes in pieces between the results, for
memory serves the oldest request first. They join in up to twelve turns of an output: where memory is the limit, routers
serve near nodes first, which would end early and leave far ones to finish alone while memory idles (eight cameras
1280 x 960: 12 % of the cycles with windows of 4 frames, 15 % with 8).

`kept` is chosen in closed form (`parts/streaming_choice.py`); the bytes that it costs are `Strips.fetched_bytes`,
`refetched_bytes`, `halo_bytes` and `stored_bytes`, exact to the byte.

The bound: max(multiply-adds / matrix units of the mesh, bytes of all frames and results once / memory bandwidth).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from accel.errors import UnsupportedError
from accel.hardware import ChipSpec
from accel.hardware import chip as find_chip
from accel.kernels.library import LibraryKernel, builder
from accel.kernels.parts import conv_reference
from accel.kernels.parts.streaming_choice import choose
from accel.kernels.parts.streaming_node import run
from accel.kernels.parts.streaming_strips import Strips
from accel.lang import K, TensorRef, tensor
from accel.numerics import fmt
from accel.problem import StreamingConv
from accel.problem.checks import unless_given
from accel.program import Program, kernel

FRAMES = ("bf16", "fp16", "int8", "uint8")
"""Formats of frames and filters, where the matrix unit takes them."""

__all__ = ["KERNEL", "build", "oracle", "oracle_at", "plan"]


def oracle(problem: StreamingConv, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return y by the definition of `conv3d`: the frames of a camera as one clip."""
    whole = conv_reference.oracle(problem.conv3d, _clips(problem, inputs))["y"]
    return {"y": whole if problem.cameras > 1 else whole[0]}


def oracle_at(problem: StreamingConv, inputs: Mapping[str, Any], output: str, index: Sequence[Any]) -> Any:
    """Return the elements `np.ix_(*index)` of y."""
    if problem.cameras > 1:
        return conv_reference.oracle_at(problem.conv3d, inputs, output, index)
    clip = _clips(problem, inputs)
    return conv_reference.oracle_at(problem.conv3d, clip, output, [np.zeros(1, np.int64), *index])[0]


def _clips(problem: StreamingConv, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inputs with x as one clip a camera."""
    return {n: value[None] if n == "x" and problem.cameras == 1 else value for n, value in inputs.items()}


@kernel
def streaming(k: K, x: TensorRef, w: TensorRef, y: TensorRef, *, strips: Strips, activation: str) -> None:
    """y = activation(conv(newest frames, w)), frame by frame."""
    run(k, x, w, None, y, strips, activation)


@kernel
def streaming_bias(
    k: K, x: TensorRef, w: TensorRef, bias: TensorRef, y: TensorRef, *, strips: Strips, activation: str
) -> None:
    """y = activation(conv(newest frames, w) + bias), frame by frame."""
    run(k, x, w, bias, y, strips, activation)


def build(
    chip: ChipSpec | str,
    *,
    frames: int,
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
    dtype: str = "bf16",
    out_dtype: str = "bf16",
    bias: bool = False,
    activation: str | None = None,
    cameras: int = 1,
    resident: Iterable[str] = (),
    **tiling: int,
) -> Program:
    """Return the program that convolves `frames` frames h x w x c with k filters kt x r x s as they arrive.

    x (frames, h, w, c), w (kt, r, s, c, k), bias (k,) in fp32, y (frames - kt + 1, p, q, k); with several cameras x
    and y have one more dimension in front. stride, pad, dilation: one
    int or (height, width). dtype: a float format of the chip's matrix unit; activation: as of conv2d. tiling: high
    (output rows of a strip), tall and wide (of a tile), slots (frames in the ring), kept (newest frames of the window
    that stay on chip), span (pixels of a refetched block); default: chosen in closed form. Raises InputError and
    UnsupportedError.
    """
    problem = StreamingConv(
        frames, h, w, c, k, kt, r, s, stride, pad, dilation, dtype, out_dtype, bias, unless_given(activation, "none"),
        cameras,
    )  # fmt: skip
    return _program(chip, problem, resident=resident, **tiling)


def plan(chip: ChipSpec | str, problem: StreamingConv, **tiling: int) -> Strips:
    """Return how the program for `problem` on `chip` cuts frames over the nodes, without building it.

    It says which frames of the window stay on chip (`kept`), what a node needs (`sram_bytes()`), and the bytes that one
    frame set moves: `fetched_bytes` once, `refetched_bytes` again, `halo_bytes` between neighbours, `stored_bytes` of
    results. tiling: as of `build`. Raises InputError, CapacityError and UnsupportedError.
    """
    return choose(find_chip(chip), problem, **tiling)


@builder
def _program(
    spec: ChipSpec, problem: StreamingConv, *, resident: frozenset[str] = frozenset(), **tiling: Any
) -> Program:
    taken = [f for f in FRAMES if f in spec.node.matrix.step_cycles]
    results = ["int32", "int8", "uint8"] if fmt(problem.dtype).kind == "int" else ["bf16", "fp16", "fp32"]
    for name, value, choices in (("dtype", problem.dtype, taken), ("out_dtype", problem.out_dtype, results)):
        if value not in choices:
            raise UnsupportedError(
                f"streaming_conv on {spec.name} does not take {name}={value!r}; use {' or '.join(map(repr, choices))}, "
                "or conv3d for a whole clip"
            )
    if resident:
        names = ", ".join(sorted(resident))
        raise UnsupportedError(
            f"streaming_conv takes frames from memory as they arrive; leave resident={names} out, or use conv3d"
        )
    strips = choose(spec, problem, **tiling)
    tensors: dict[str, Any] = {name: tensor(o.shape, o.dtype) for name, o in problem.operands.items()}
    entry = streaming_bias if problem.bias else streaming
    return entry.build(spec, flops=problem.flops, strips=strips, activation=problem.activation, **tensors)


KERNEL = LibraryKernel(
    problem=StreamingConv,
    program=_program,
    oracle=oracle,
    oracle_at=oracle_at,
    examples=(
        StreamingConv(1, 1, 1, 1, 1, 1, 1, 1),
        StreamingConv(7, 12, 10, 3, 8, 3, 3, 3, pad=1),
        StreamingConv(9, 13, 7, 5, 12, 2, 5, 3, stride=(2, 1), pad=(2, 0), bias=True, activation="tanh"),
        StreamingConv(5, 9, 12, 4, 9, 3, 2, 3, dilation=(3, 2), pad=(1, 2), out_dtype="fp32"),
        StreamingConv(4, 17, 5, 8, 16, 4, 1, 1, stride=2),
        StreamingConv(6, 13, 9, 3, 8, 3, 3, 3, stride=2, pad=1, cameras=3, activation="relu"),
        StreamingConv(6, 16, 160, 64, 4, 4, 3, 1, pad=(1, 0)),  # more than SRAM holds: older frames are refetched
        StreamingConv(4, 9, 430, 32, 3, 2, 3, 2, pad=(2, 1), cameras=2),
        StreamingConv(5, 11, 9, 4, 6, 2, 3, 3, pad=1, dtype="uint8", out_dtype="int32"),
        StreamingConv(5, 8, 9, 3, 6, 3, 3, 2, stride=2, pad=1, dtype="int8", out_dtype="int8"),
        StreamingConv(6, 16, 160, 128, 4, 4, 3, 1, pad=(1, 0), dtype="int8", out_dtype="int32"),
    ),
)
