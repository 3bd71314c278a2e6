"""Which cut of a data gradient a chip runs by default: candidates in closed form, and cuts with given numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import ceil
from typing import Any

from accel.errors import CapacityError, InputError
from accel.hardware import ChipSpec
from accel.kernels.parts.conv_data_tiling import MOST_SEQUENCES, Cut, Form
from accel.kernels.parts.matmul_formats import Formats

__all__ = ["choose", "fill_in"]

MOST_TILES = 1024  # a node takes its tiles one after the other in an unrolled program
MOST_EVEN = 6  # tiles of a group that `inner` is cut for, so that groups have equally many
MOST_CHUNKS = 80  # slots of the filter, each with two semaphores of the 256 a node has


def _spread(size: int, grain: int = 1, most: int = 0) -> list[int]:
    """Return extents, multiples of `grain`, that cut `size` into fewer and fewer parts; at most `most` if given."""
    found: list[int] = []
    parts = 1
    while True:
        extent = min(size, grain * ceil(ceil(size / grain) / parts))
        if not found or extent < found[-1]:
            found.append(extent)
        if extent <= grain:
            break
        parts = parts + 1 if parts < 16 else ceil(parts * 1.3)
    return [x for x in found if not most or x <= most] or found[-1:]


def _even(form: Form, groups: int) -> list[int]:
    """Return extents of `inner` that deal whole windows of time to so many groups of nodes, a few tiles to each."""
    parts = [groups * tiles // form.outer for tiles in range(1, MOST_EVEN + 1)]
    return [ceil(form.inner / n) for n in parts if 0 < n <= form.inner]


def _extents(form: Form, groups: int, few: bool) -> Iterator[tuple[int, int, int, int]]:
    """Yield (frames, rows, columns, inner) of tiles that are worth a look; groups: of nodes that share positions."""
    frames, rows, columns = form.axes
    if form.case == "planes":
        for inner in reversed(range(1, min(form.inner, 16) + 1)):
            yield 1, rows.size, columns.size, inner
        for extent in _spread(rows.size, rows.stride)[1:]:
            yield 1, extent, columns.size, 1
        for extent in _spread(columns.size, columns.stride)[1:]:
            yield 1, min(rows.size, rows.stride), extent, 1
            for tall in (4, 8):
                for inner in (1, 2, 4, 8):
                    if inner <= form.inner and (tall > 4 or inner > 1):
                        yield 1, min(rows.size, tall * rows.stride), extent, inner
    elif form.case == "time":
        for inner in sorted({*_spread(form.inner), *_even(form, groups)}, reverse=True):
            for extent in _spread(columns.size, columns.stride)[: 4 if few else None]:
                yield 1, 1, extent, inner
    else:
        for extent in _spread(frames.size, frames.stride):
            for tall in _spread(rows.size, rows.stride)[: 6 if few else None]:
                yield extent, tall, columns.size, 1
        for wide in _spread(columns.size, columns.stride)[1:]:
            yield min(frames.size, frames.stride), min(rows.size, rows.stride), wide, 1


def choose(chip: ChipSpec, form: Form, formats: Formats, resident: frozenset[str]) -> Cut:
    """Return the default cut: of those that fit SRAM, the one with the least estimated cycles.

    CapacityError where not even one position and one unit of channels fit.
    """
    narrow = [replace(form, thin=True)] if form.groups == 1 else []
    if form.groups > 1 and "gy" not in resident:  # gradients stay on the chip by whole groups
        narrow = [replace(form, parts=n) for n in range(2, form.group_channels + 1) if form.group_channels % n == 0]
    for few, wanted in ((True, form), (False, form), *((False, one) for one in narrow)):
        found = [
            (cut.cycles(chip), at, cut) for at, cut in enumerate(_candidates(chip, wanted, formats, resident, few))
        ]
        for _, _, cut in sorted(found, key=lambda item: item[:2]):
            if cut.per * cut.passes <= MOST_TILES * (1 if few else 64) and cut.sequences() <= MOST_SEQUENCES:
                return cut
    raise CapacityError(
        f"{form.k // form.groups} filters a group and {form.axes[2].taps} columns of taps"
        f"{' and the resident operands' if resident else ''} do not fit SRAM; "
        + ("keep fewer operands resident, or spread them over more nodes" if resident else "cut the problem")
    )


def _candidates(chip: ChipSpec, form: Form, formats: Formats, resident: frozenset[str], few: bool) -> Iterator[Cut]:
    """Yield cuts that fit SRAM: for every share of the channels and extent of a tile, the most slots that fit."""
    mesh_rows, mesh_cols = chip.mesh.rows, chip.mesh.cols
    stays = ("gy" in resident, "w" in resident, "gx" in resident)
    shares = dict.fromkeys(ceil(form.units / ceil(form.units / n)) for n in range(1, mesh_rows + 1))
    taps = form.axes[2].taps
    for share in shares:
        units = ceil(form.units / share)
        passes = (1, 2, 3, 4, 6, 8, 12, 16, 32, 64, units) if form.parts == 1 else (units,)
        for per_pass in dict.fromkeys(ceil(units / n) for n in passes):
            fits = 0
            groups = mesh_rows // share * mesh_cols
            for frames, rows, columns, inner in _extents(form, groups, few):
                for width in dict.fromkeys((taps, ceil(taps / 2), 1)):
                    cut = Cut(
                        form, formats, share, mesh_rows // share, mesh_cols, units, per_pass, frames, rows, columns,
                        inner, width, 1, 1, 1, 1, *stays,
                    )  # fmt: skip
                    best = _slots(cut, chip)
                    if best is not None:
                        fits += 1
                        yield best
                        break
            if fits and few and per_pass < units:
                break  # fewer channels a pass only read gy more often


def _slots(cut: Cut, chip: ChipSpec) -> Cut | None:
    """Return `cut` with as many slots as SRAM has room for; None where one of each does not fit."""
    room = chip.node.sram_bytes
    if cut.sram_bytes() > room:
        return None
    wanted = [min(2, cut.per * cut.passes)] * 3
    for windows, sums, outs in (wanted, (wanted[0], wanted[1], 1), (wanted[0], 1, 1), (1, 1, 1)):
        # with room for a second filter, that of the next pass comes while this one multiplies
        for filters in (cut.chunks * min(2, cut.passes), cut.chunks, 3, 2, 1):
            if filters > MOST_CHUNKS or filters > cut.chunks * min(2, cut.passes):
                continue
            new = replace(cut, filters=filters, windows=windows, sums=sums, outs=outs)
            if new.sram_bytes() <= room:
                return new
    return None


def fill_in(cut: Cut, chip: ChipSpec, **fields: int) -> Cut:
    """Return `cut` with some of its numbers replaced; InputError for what is no such number or does not fit."""
    names = ("share", "per_pass", "frames", "rows", "columns", "inner", "width", "filters", "windows", "sums", "outs")
    form = cut.form
    new = cut
    for name, value in fields.items():
        if name not in names:
            raise InputError(f"conv2d dgrad has no tiling parameter {name!r}; it has {', '.join(names)}")
        given: object = value
        if isinstance(given, bool) or not isinstance(given, int) or given < 1:
            raise InputError(f"conv2d dgrad tiling parameter {name}={value!r} is not a positive int; use 1 or more")
        one: dict[str, Any] = {name: given}
        new = replace(new, **one)
    if new.share > min(chip.mesh.rows, form.units):
        raise InputError(
            f"conv2d dgrad tiling parameter share={new.share} is more than the {chip.mesh.rows} rows of the mesh or "
            f"the {form.units} units of channels; use fewer"
        )
    units = ceil(form.units / new.share)
    per_pass = min(new.per_pass, units) if form.parts == 1 else 1  # a pass stays inside one group
    new = replace(new, share=ceil(form.units / units), units=units, per_pass=per_pass)
    new = replace(new, bands=chip.mesh.rows // new.share)
    limits = dict(zip(("frames", "rows", "columns"), form.axes, strict=True))
    for name, axis in limits.items():
        extent = min(getattr(new, name), axis.size)
        if extent < axis.size and extent % axis.stride:
            raise InputError(
                f"conv2d dgrad tiling parameter {name}={extent} is no multiple of the stride {axis.stride}; use one"
            )
        cut_axis: dict[str, Any] = {name: extent}
        new = replace(new, **cut_axis)
    inner = min(new.inner, form.inner)
    new = replace(new, inner=inner, width=min(new.width, form.axes[2].taps))
    new = replace(new, filters=min(new.filters, new.chunks * min(2, new.passes), MOST_CHUNKS))
    if new.sequences() > MOST_SEQUENCES:
        raise InputError("conv2d dgrad tiling makes too many kinds of work for nodes; use tiles that cut images evenly")
    if new.sram_bytes() > chip.node.sram_bytes:
        raise InputError(
            f"conv2d dgrad tiling needs {new.sram_bytes()} B of SRAM a node, {chip.name} has {chip.node.sram_bytes}; "
            "use smaller tiles or fewer slots"
        )
    return new
