"""Convolution over the newest frames of a camera: a ring of frames in SRAM, in which the newest replaces the oldest.

A video network in a car sees frames one by one, at camera rate; a temporal filter reads the last kt of them. Bits are
those of `conv3d` on the whole clip (one chain an output: frames, rows, taps, channels; then one rounding).

1. *Fetch what an output reads*: every frame comes from memory kt times, and the rows at the border of two nodes twice.
2. *Frames stay*: every node keeps its strip of the last kt frames and the one that arrives, in a ring: frame f lies in
   slot f modulo the slots, and addresses wrap in the machine, so the oldest frame is overwritten by naming the newest.
   No frame on chip is fetched again: memory sends every pixel once.
3. *Rows are exchanged, not fetched*: a node loads only its own strip; the halo above and below is pulled from the SRAM
   of the two neighbours as soon as they have the frame. The program does not grow with the length of the video: a
   hardware loop over frames, whose index names ring slots, semaphores and the place in the tensor.

Four threads a node: strips in, halos between neighbours, multiply, results out. A slot is free again when this node has
computed with it and the neighbours have pulled from it.

The bound: max(multiply-adds / matrix units of the mesh, bytes of all frames and results once / memory bandwidth).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np

from accel.errors import UnsupportedError
from accel.hardware import ChipSpec
from accel.hardware import chip as find_chip
from accel.kernels.library import LibraryKernel
from accel.kernels.parts import conv_reference
from accel.kernels.parts.streaming_strips import Strips, choose
from accel.lang import K, TensorRef, tensor
from accel.problem import StreamingConv
from accel.program import Program, kernel

if TYPE_CHECKING:
    from accel.lang import View

__all__ = ["KERNEL", "build", "oracle", "oracle_at"]


def oracle(problem: StreamingConv, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return y by the definition of `conv3d`: the frames as one clip."""
    return {"y": conv_reference.oracle(problem.conv3d, _clip(inputs))["y"][0]}


def oracle_at(problem: StreamingConv, inputs: Mapping[str, Any], output: str, index: Sequence[Any]) -> Any:
    """Return the elements `np.ix_(*index)` of y."""
    return conv_reference.oracle_at(problem.conv3d, _clip(inputs), output, [np.zeros(1, np.int64), *index])[0]


def _clip(inputs: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value[None] if name == "x" else value for name, value in inputs.items()}


@kernel
def streaming(k: K, x: TensorRef, w: TensorRef, y: TensorRef, *, strips: Strips, activation: str) -> None:
    """y = activation(conv(newest frames, w)), frame by frame."""
    _streaming(k, x, w, None, y, strips, activation)


@kernel
def streaming_bias(
    k: K, x: TensorRef, w: TensorRef, bias: TensorRef, y: TensorRef, *, strips: Strips, activation: str
) -> None:
    """y = activation(conv(newest frames, w) + bias), frame by frame."""
    _streaming(k, x, w, bias, y, strips, activation)


def _streaming(
    k: K, x: TensorRef, w: TensorRef, bias: TensorRef | None, y: TensorRef, S: Strips, activation: str
) -> None:
    stream = Stream(k, x, w, bias, y, S, activation)
    node = k.row * k.mesh[1] + k.col
    if k.row >= ceil(S.count / k.mesh[1]):
        return  # fewer strips than nodes: these have nothing to do
    if node >= S.count:  # in a row of the mesh with nodes that work: it receives the filters all the same
        stream.wait_constants()
        return
    stream.place(node)
    k.thread(stream.strips_in)
    k.thread(stream.halos_in)
    k.thread(stream.multiply)
    k.thread(stream.results_out)


class Stream:
    """The buffers of a node and its four threads; f counts frames, z outputs."""

    def __init__(
        self, k: K, x: TensorRef, w: TensorRef, bias: TensorRef | None, y: TensorRef, strips: Strips, activation: str
    ) -> None:
        S, P = strips, strips.problem
        self.k, self.x, self.y, self.strips, self.activation = k, x, y, S, activation
        self.frames = k.sram((S.slots, S.rows, S.columns, P.c), x.dtype, "frames")
        self.ring, self.filters = self.frames.ring(), k.sram((P.kt, P.r, P.s, P.c, P.k), w.dtype, "filters")
        self.acc = k.fifo((S.high, S.wide, P.k), "fp32", name="acc")
        self.out = None if y.dtype == "fp32" else k.fifo((S.high, S.wide, P.k), y.dtype, name="out")
        self.bias_row: View | None = None
        self.constants: list[tuple[View, View]] = [(self.filters, w)]
        if bias is not None:
            self.bias_row = k.sram((P.k,), "fp32", "bias_row")
            self.constants.append((self.bias_row, bias))
        names = ("arrived", "told", "halo", "ready", "free")
        self.arrived, self.told, self.halo, self.ready, self.free = (k.sem(S.slots, name) for name in names)
        self.cleared, self.known = k.sem(name="cleared"), k.sem(name="known")
        self.tiles = range(0, S.q, S.wide)
        self.outputs = P.frames - P.kt + 1
        self.pixels = slice(S.width.pad, S.width.pad + P.w)

    def place(self, node: Any) -> None:
        """Say which strip this node works on, and which rows go between it and its neighbours."""
        S, P = self.strips, self.strips.problem
        self.first, self.top, h = node * S.high, node * S.own, S.height
        self.node, self.high = node, S.high if self.first + S.high <= S.p else int(S.p - self.first)
        last = bool(node == S.count - 1)
        need = (S.p - 1) * h.stride - h.pad + (h.taps - 1) * h.dilation + 1  # past the last row that any output reads
        self.own = int(min(P.h, need) - self.top) if last else S.own
        self.halos: list[tuple[Any, slice, slice]] = []  # (neighbour, where its rows go here, where they lie there)
        self.readers: list[Any] = []  # neighbours that pull from here
        if node > 0:
            if S.above:
                self.halos.append((self._at(node - 1), slice(0, S.above), slice(S.own, S.own + S.above)))
            if S.below:
                self.readers.append(self._at(node - 1))
        if not last:
            left = P.h - self.top - S.own
            taken = S.below if left >= S.below else int(left)
            if taken > 0:
                end = h.pad + S.own
                self.halos.append((self._at(node + 1), slice(end, end + taken), slice(h.pad, h.pad + taken)))
            if S.above:
                self.readers.append(self._at(node + 1))

    def _at(self, node: Any) -> tuple[Any, Any]:
        return node // self.k.mesh[1], node % self.k.mesh[1]

    def wait_constants(self) -> None:
        """Wait for what is the same for all frames: filters and bias."""
        self.k.wait(self.known, len(self.constants))

    def strips_in(self) -> None:
        """Fetch this node's rows of every frame, once, into the slot of the oldest."""
        k, S = self.k, self.strips
        k.vec.fill(_flat(self.frames), 0.0)  # padding stays untouched from here on
        rows = k.rect(0, ceil(S.count / k.mesh[1]), 0, k.mesh[1])
        with k.when(self.node == 0):  # one node asks memory for the filters, for all
            for buffer, source in self.constants:
                k.copy(_flat(buffer), _flat(source), to=rows, done=self.known)
        k.inc(self.cleared)
        for f, again in _spans(k, S.problem.frames, S.slots):
            if again:
                k.wait(self.free[f % S.slots], 1 + len(self.readers))
            mine = slice(S.height.pad, S.height.pad + self.own)
            source = self.x[f, self.top : self.top + self.own]
            k.copy(self.ring[f][mine, self.pixels], source, done=self.arrived[f % S.slots])

    def halos_in(self) -> None:
        """Tell the neighbours when a frame is here, and pull the rows at the borders from theirs."""
        k, S = self.k, self.strips
        k.wait(self.cleared)
        for f, is_last in _spans(k, S.problem.frames, S.problem.frames - S.slots):
            s = f % S.slots
            k.wait(self.arrived[s])
            for reader in self.readers:
                k.inc(self.told[s], at=reader)
            if self.halos:
                k.wait(self.told[s], len(self.halos))
                for neighbour, here, there in self.halos:
                    source = self.ring[f][there, self.pixels]
                    k.pull(self.ring[f][here, self.pixels], source, of=neighbour, done=self.halo[s])
                k.wait(self.halo[s], len(self.halos))
                for neighbour, _, _ in self.halos:
                    if not is_last:
                        k.inc(self.free[s], at=neighbour)
            k.inc(self.ready[s])

    def multiply(self) -> None:
        """The chain of every output over the newest kt frames, tile by tile of pixels."""
        k, S, P = self.k, self.strips, self.strips.problem
        self.wait_constants()
        for f in range(P.kt - 1):
            k.wait(self.ready[f % S.slots])
        for z, is_last in _spans(k, self.outputs, max(0, P.frames - S.slots)):
            k.wait(self.ready[(z + (P.kt - 1)) % S.slots])
            for n, left in enumerate(self.tiles):
                with self.acc.put(z * len(self.tiles) + n) as sums:
                    self._tile(sums, z, left)
            if not is_last:
                k.inc(self.free[z % S.slots])

    def _tile(self, sums: View, z: Any, left: int) -> None:
        S, P, across = self.strips, self.strips.problem, min(self.strips.wide, self.strips.q - left)
        h, w = S.height, S.width
        for kt in range(P.kt):
            strip = self.ring[z + kt].window(0, h.taps, h.stride, h.dilation)[: self.high]
            pixels = strip.window(2, w.taps, w.stride, w.dilation)[:, :, left : left + across]
            for r, a, b in _rows(pixels, self.filters[kt], w.dilation == 1):
                self.k.matmul(sums[: self.high, :across], a, b, accumulate=(kt, r) != (0, 0))

    def results_out(self) -> None:
        """Bias, activation, rounding and the way to memory."""
        k, S = self.k, self.strips
        for z, _ in _spans(k, self.outputs, 0):
            for n, left in enumerate(self.tiles):
                across, number = min(S.wide, S.q - left), z * len(self.tiles) + n
                target = self.y[z, self.first : self.first + self.high, left : left + across]
                with self.acc.get(number) as whole:
                    sums = whole[: self.high, :across]
                    if self.bias_row is not None:
                        k.vec.add(sums, sums, self.bias_row)
                    if self.activation == "relu":
                        k.vec.relu(sums, sums)
                    if self.out is None:
                        k.copy(target, sums)
                        continue
                    with self.out.put(number) as rounded:
                        k.vec.cast(rounded[: self.high, :across], sums)
                with self.out.get(number) as rounded:
                    k.copy(target, rounded[: self.high, :across])


def _rows(pixels: View, filters: View, one_run: bool) -> Iterator[tuple[int, View, View]]:
    """Yield (filter row, operand, filters): one matmul for all rows where taps and channels are one run."""
    if one_run:
        yield 0, pixels.merge(3).transpose(0, 2, 1, 3), filters.merge(1)
        return
    for r in range(pixels.shape[1]):
        yield r, pixels[:, r], filters[r]


def _spans(k: K, total: int, first: int) -> Iterator[tuple[Any, bool]]:
    """Yield (index, index >= first) over range(total), as hardware loops."""
    first = max(0, min(first, total))
    for low, high, later in ((0, first, False), (first, total, True)):
        if high > low:
            for i in k.loop(high - low):
                yield i + low, later


def _flat(view: View) -> View:
    while view.ndim > 1:
        view = view.merge(0)
    return view


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
    resident: Iterable[str] = (),
    **tiling: int,
) -> Program:
    """Return the program that convolves `frames` frames h x w x c with k filters kt x r x s as they arrive.

    x (frames, h, w, c), w (kt, r, s, c, k), bias (k,) in fp32, y (frames - kt + 1, p, q, k). stride, pad, dilation: one
    int or (height, width). dtype: a float format of the chip's matrix unit; activation: "relu" or none. tiling: high,
    wide, slots (default: chosen in closed form). Raises InputError and UnsupportedError.
    """
    problem = StreamingConv(
        frames, h, w, c, k, kt, r, s, stride, pad, dilation, dtype, out_dtype, bias, activation or "none"
    )
    return _program(chip, problem, resident=resident, **tiling)


def _program(chip: ChipSpec | str, problem: StreamingConv, *, resident: Iterable[str] = (), **tiling: Any) -> Program:
    spec = find_chip(chip) if isinstance(chip, str) else chip
    taken = [f for f in ("bf16", "fp16") if f in spec.node.matrix.step_cycles]
    for name, value, choices in (
        ("dtype", problem.dtype, taken), ("out_dtype", problem.out_dtype, ["bf16", "fp16", "fp32"]),
    ):  # fmt: skip
        if value not in choices:
            raise UnsupportedError(
                f"streaming_conv on {spec.name} does not take {name}={value!r}; use {' or '.join(map(repr, choices))}, "
                "or conv3d for a whole clip"
            )
    if tuple(resident):
        raise UnsupportedError("streaming_conv takes frames from memory as they arrive; use resident=() or conv3d")
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
        StreamingConv(9, 13, 7, 5, 12, 2, 5, 3, stride=(2, 1), pad=(2, 0), bias=True, activation="relu"),
        StreamingConv(5, 9, 12, 4, 9, 3, 2, 3, dilation=(3, 2), pad=(1, 2), out_dtype="fp32"),
        StreamingConv(4, 17, 5, 8, 16, 4, 1, 1, stride=2),
    ),
)
