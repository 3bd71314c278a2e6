"""The weight gradient of a convolution: teams of nodes share images, a tree adds images, teams exchange slices.

Every element of gw is one chain per image, or per `chain_frames` neighbouring output frames of a clip (frames, rows,
columns of outputs ascending; padding takes part as +0); chains of a clip are added by the balanced tree, and then clips
or images by the balanced tree over n, whatever the mesh. On the matrix unit a frame of a band (all frames of a chain in
it, where their rows follow each other in SRAM) is one product for each row of taps: M = (s, c), N = k, K = (z, p, q),
over windows of x that overlap in SRAM, so nothing is rearranged. Where a group has too few channels for it (and in
fp32) the vector unit takes the chain a pixel at a time.

Four threads: two that load bands of x and gy (each band is fetched once for all members that need it, by the next of
them in turn, and multicast; padding is written here too, while others multiply), one that multiplies, and one that adds
finished tiles, one a chain, like a binary counter, so that log2(chains) + log2(images) tiles and a few are enough. At
the end each team sums one slice of the tile over all teams and stores it. Where a frame is a chain and frames lie on
the chip, `conv_weight_places` is another way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from accel.errors import CapacityError, InputError, UnsupportedError
from accel.hardware import ChipSpec
from accel.kernels.parts.conv_weight_choice import choose
from accel.kernels.parts.conv_weight_deal import NAMES, deals
from accel.kernels.parts.conv_weight_inputs import Inputs, Segments
from accel.kernels.parts.conv_weight_outputs import Outputs
from accel.kernels.parts.conv_weight_places import frame_gradient
from accel.kernels.parts.conv_weight_share import Share, corner_of, share_of
from accel.kernels.parts.conv_weight_tiling import Tiling, pool_plan
from accel.kernels.parts.conv_windows import window
from accel.lang import K, TensorSpec, tensor
from accel.numerics import fmt
from accel.problem.convolution import Convolution
from accel.program import Program, kernel

if TYPE_CHECKING:
    from accel.lang import View

__all__ = ["program", "weight_gradient"]

Part = tuple[int, int, int]
"""What a band has of a chain: its first frame (counted in the band), frames and rows."""


def program(
    chip: ChipSpec, problem: Convolution, *, resident: frozenset[str] = frozenset(), vector: bool | None = None,
    **tiling: int,
) -> Program:  # fmt: skip
    """Return the program of a problem whose direction is "wgrad"; tiling: fields of `Tiling` to replace, or those of
    `conv_weight_deal.NAMES`.

    vector: whether the vector unit multiplies; by default whichever is faster. UnsupportedError for formats that no
    unit of the chip takes, or where nothing fits; InputError for bad tilings.
    """
    for name in sorted(resident - problem.operands.keys()):
        raise InputError(
            f"{problem.kind} wgrad has no operand {name!r} to keep resident; use {', '.join(problem.operands)}"
        )
    options, form = problem.to_dict(), problem.geometry
    dtype, matrix = options["dtype"], chip.node.matrix.step_cycles
    if dtype not in matrix and dtype != "fp32":
        raise UnsupportedError(
            f"{problem.kind} on {chip.name} has no weight gradient of {dtype}; "
            f"use dtype={' or '.join(map(repr, [*matrix, 'fp32']))}"
        )
    if dtype == "fp32":
        units = [True]
    elif vector is None:  # a group with a few channels leaves most of the matrix unit idle
        units = [False, True] if form.groups > 1 and fmt(dtype).kind != "int" else [False]
    else:
        units = [vector]
    tensors: dict[str, Any] = {name: tensor(o.shape, o.dtype) for name, o in problem.operands.items()}
    out_item, wanted = fmt(options["out_dtype"]).bytes, {name: tiling[name] for name in NAMES if name in tiling}
    deal, others = None, tiling.keys() - set(NAMES)
    if wanted and (others or vector):
        raise InputError(
            f"tiling parameter {', '.join(wanted)} asks for frames that stay where they lie, which takes no "
            f"{' or '.join(sorted(others)) or 'vector unit'}; leave one of them out"
        )
    if not others and not vector:
        deal = deals(chip, form, dtype, out_item, resident, bias=options["bias"], **wanted)
    if deal is not None and wanted:
        return frame_gradient.build(chip, resident=resident, flops=problem.flops, deal=deal[1], **tensors)
    best = None
    try:
        best = choose(
            chip, form, item=fmt(dtype).bytes, out_item=out_item, resident=resident, bias=options["bias"],
            vector=units, **tiling,
        )  # fmt: skip
    except CapacityError:
        if deal is None:
            raise
    if deal is not None and (best is None or deal[0] < best.cycles(chip)):
        return frame_gradient.build(chip, resident=resident, flops=problem.flops, deal=deal[1], **tensors)
    assert best is not None
    tensors = {"gb": None} | tensors
    return weight_gradient.build(chip, resident=resident, flops=problem.flops, tiling=best, **tensors)


@kernel
def weight_gradient(k: K, x: TensorSpec, gy: TensorSpec, gw: TensorSpec, gb: Any, *, tiling: Tiling) -> None:
    """gw (and gb, where it is a tensor) of x and gy; see the module text."""
    T, sums = tiling, "int32" if fmt(x.dtype).kind == "int" else "fp32"
    inputs, outputs = Inputs(k, x, gy, T), Outputs(k, gw, gb, T, sums)
    beside = Outputs(k, gw, None, T, sums, corner=True) if T.rest else None
    mine = share_of(k, T)
    if mine is None:
        return
    blocks = _place(k, T, mine, inputs, outputs, beside)
    segments = [(i, band) for i in range(mine.images) for band in T.bands]
    _, tiles, steps = pool_plan(mine.images, T.chains)

    @k.thread
    def load_x() -> None:
        inputs.x.fetch(k, segments)

    @k.thread
    def load_gy() -> None:
        for g in range(len(segments)):
            for side in inputs.sides[1:]:
                side.load(k, g, segments)

    @k.thread
    def compute() -> None:
        inputs.open(k, segments)
        for g in range(len(segments)):
            inputs.wait(k, g, segments)
            _multiply(k, T, inputs, blocks, g, segments, tiles)

    @k.thread
    def add_up() -> None:
        for i, merged in enumerate(steps):
            k.wait(outputs.full)
            for low, high in merged:
                for _, sums in blocks:
                    sums.merge(k, low, high)
                outputs.give_back(k, high, tiles[i + 1 :])
        for _, sums in blocks:
            sums.finish(k)


def _place(
    k: K, tiling: Tiling, mine: Share, inputs: Inputs, outputs: Outputs, beside: Outputs | None
) -> list[tuple[Share, Outputs]]:
    """Say which parts this node sees and makes: its own, and one of the corner if it has channels of that."""
    corner = corner_of(k, tiling, mine) if beside is not None else None
    inputs.place(k, mine, corner)
    blocks = [(mine, outputs)]
    if beside is not None and corner is not None and corner.count[4] > 0:
        blocks.append((corner, beside))
    for share, sums in blocks:
        sums.place(k, share)
    return blocks


def _multiply(
    k: K, tiling: Tiling, inputs: Inputs, blocks: list[tuple[Share, Outputs]], g: int, segments: Segments,
    tiles: list[int],
) -> None:  # fmt: skip
    """Multiply segment g, each chain of it into its own tile of the pool, and tell who adds them when one is whole."""
    (image, band), outputs = segments[g], blocks[0][1]
    (top, bottom), (frames, height, _) = band.rows, (axis.out for axis in tiling.axes)
    here, runs = inputs.views(k, g, segments), tiling.runs(band)
    for start, stop in runs:
        at = image * tiling.chains + start // tiling.chain
        fresh = start % tiling.chain == 0 and top == 0
        if fresh:
            outputs.take(k, tiles, at)
        part = start - band.frames[0], stop - start, bottom - top
        _multiply_run(k, tiling, inputs, blocks, part, here, tiles[at], fresh=fresh)
        if stop == band.frames[1]:
            inputs.release(k, g, segments)
        if bottom == height and (stop % tiling.chain == 0 or stop == frames):
            k.inc(outputs.full)


def _multiply_run(
    k: K, tiling: Tiling, inputs: Inputs, blocks: list[tuple[Share, Outputs]], part: Part, here: list[View], at: int, *,
    fresh: bool,
) -> None:  # fmt: skip
    """Multiply what a band has of a chain into tile `at` of the pool, on the unit of the tiling.

    here: slots of the inputs.
    """
    (mine, outputs), (first, count, rows) = blocks[0], part
    (x, gy, *rest), tile, bias = here, outputs.tile(at), outputs.bias(at)
    if tiling.vector:
        _by_pixel(k, tiling, mine, part, (x, gy), tile, bias, outputs.bias_part, fresh=fresh)
        return
    _by_band(k, tiling, mine, part, (x, gy), tile, fresh=fresh)
    for (corner, sums), beside in zip(blocks[1:], rest, strict=False):
        inner = x[..., _channels(k, tiling, corner)], beside
        _by_band(k, tiling, corner, part, inner, sums.tile(at), fresh=fresh)
    if bias is not None and inputs.ones is not None:
        low, wide = outputs.bias_part  # a product with ones has the chain of a plain sum
        for z in range(first, first + count):
            right = gy[z, :rows, :, low : low + wide]
            k.matmul(bias, inputs.ones[:rows], right, accumulate=not fresh or z > first)


def _channels(k: K, tiling: Tiling, corner: Share) -> slice:
    """Return where the channels of a corner lie among those that its node sees."""
    first = k.col % tiling.k_parts * tiling.corner[1]
    return slice(first, first + corner.count[4])


def _by_band(
    k: K, tiling: Tiling, mine: Share, part: Part, here: tuple[View, View], tile: View, *, fresh: bool
) -> None:  # fmt: skip
    """Multiply what a band has of a chain on the matrix unit: for each group and tap (t, r) the product of all its taps
    s and channels.
    """
    (ta, ha, wa), (x, gy), (first, frames, rows) = tiling.axes, here, part
    steps = [window(axis, 0, 1).stride for axis in tiling.axes]
    (_, t0, r0, s0, _, _), (groups, nt, nr, ns, nc, nk) = mine.start, mine.count
    reach, each = (wa.out - 1) * steps[2] + (ns - 1) * wa.dilation + 1, frames if tiling.merges else 1
    for at, (g, t, r) in enumerate((g, t, r) for g in range(groups) for t in range(nt) for r in range(nr)):
        sums = tile[at * ns : (at + 1) * ns]
        top, left = (r0 + r) * ha.dilation, s0 * wa.dilation
        for z in range(first, first + frames, each):
            near, more = z * steps[0] + (t0 + t) * ta.dilation, not fresh or z > first
            patch = x[
                near : near + (each - 1) * steps[0] + 1 : steps[0],
                top : top + (rows - 1) * steps[1] + 1 : steps[1],
                left : left + reach,
                g * nc : (g + 1) * nc,
            ].merge(0)
            right = gy[z : z + each, :rows, :, g * nk : (g + 1) * nk].merge(0)
            if ns > 1:
                windows = patch.window(1, ns, steps[2], wa.dilation)
                k.matmul(sums, windows, right, accumulate=more, trans_a=True)
            else:
                k.matmul(sums[0], patch[:, :: steps[2]], right, accumulate=more, trans_a=True)


def _by_pixel(
    k: K, tiling: Tiling, mine: Share, part: Part, here: tuple[View, View], tile: View, bias: View | None,
    slot: tuple[Any, int], *, fresh: bool,
) -> None:  # fmt: skip
    """Multiply what a band has of a chain on the vector unit: for each output pixel one fma over taps, groups and
    filters a channel.
    """
    axes, (x, gy), (first, frames, rows) = tiling.axes, here, part
    steps = [window(axis, 0, 1).stride for axis in axes]
    (_, t0, r0, s0, _, _), (groups, nt, nr, ns, nc, nk) = mine.start, mine.count
    order = (1, 2, 0, 3) if nk >= groups else (1, 2, 3, 0)  # the longer of groups and filters goes along the lanes
    if fresh:
        k.vec.fill(tile, 0.0)
        if bias is not None:
            k.vec.fill(bias, 0.0)
    sums = tile.split(0, nt * nr * ns)
    for z in range(first, first + frames):
        for p in k.loop(rows):
            for q in k.loop(axes[2].out):
                pixel = gy[z, p : p + 1, q : q + 1, : groups * nk].split(2, nk)
                right = pixel.transpose(*((0, 1, 2, 3) if nk >= groups else (0, 1, 3, 2)))
                top, left = p * steps[1] + r0 * axes[1].dilation, q * steps[2] + s0 * axes[2].dilation
                for t in range(nt):
                    patch = x[
                        z * steps[0] + (t0 + t) * axes[0].dilation,
                        top : top + (nr - 1) * axes[1].dilation + 1 : axes[1].dilation,
                        left : left + (ns - 1) * axes[2].dilation + 1 : axes[2].dilation,
                        : groups * nc,
                    ].split(2, nc)
                    for c in k.loop(nc):
                        own = sums[:, t * nr * ns : (t + 1) * nr * ns, c, :].split(1, ns).transpose(*order)
                        one = patch[:, :, :, c : c + 1]
                        one = one if nk >= groups else one.transpose(0, 1, 3, 2)
                        k.vec.fma(own, one, right, own)
                if bias is not None:
                    k.vec.add(bias, bias, gy[z, p, q, slot[0] : slot[0] + slot[1]])
