"""Which tiling a weight gradient gets by default: every way to deal it over the mesh, priced in closed form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from math import ceil

from accel.errors import CapacityError, InputError
from accel.hardware import ChipSpec
from accel.kernels.parts.conv_weight_tiling import GROUP, Tiling
from accel.kernels.parts.conv_windows import frame_axes
from accel.problem.convolution import Geometry

__all__ = ["choose"]

DEALT = ("c_parts", "t_parts", "r_parts", "s_parts", "k_parts")  # parts of gw along rows and columns of a team

MOST_STAGES = 4
MOST_BANDS = 5  # sizes of a band that are priced, and on while they cost less: a small first segment comes sooner
HIDDEN_CYCLES = 3000  # of work in flight: a few times what fetching a segment takes beside its transfer
NEAR_SEGMENTS = 16  # a slot, where all lies on the chip: fewer do not make up for how late the first one comes


def choose(
    chip: ChipSpec,
    form: Geometry,
    *,
    item: int,
    out_item: int,
    resident: frozenset[str],
    bias: bool,
    vector: Sequence[bool],
    **tiling: int,
) -> Tiling:
    """Return the tiling with the fewest estimated cycles that fits a node; ties go to the first in order.

    vector: which units may do it. item, out_item: bytes of an element of x and gy, and of gw. tiling: fields that are
    given (share, frames, rows, stages and those of `DEALT`); InputError for others, or outside their range.

    CapacityError where none fits, naming the smallest and what a node has.
    """
    base = Tiling(
        form, item, out_item, share=1, across=1, group_parts=1, c_parts=1, t_parts=1, r_parts=1, s_parts=1, k_parts=1,
        frames=1, rows=1, vector=vector[0], bias=bias, resident=resident,
    )  # fmt: skip
    given = _checked(form, tiling)
    if "stages" in given:
        base = replace(base, stages=given["stages"])
    best: tuple[float, Tiling] | None = None
    least: tuple[int, Tiling] | None = None
    for shape in (shape for unit in vector for shape in _shapes(replace(base, vector=unit), chip, given)):
        if any(getattr(shape, name) != given.get(name, getattr(shape, name)) for name in DEALT):
            continue
        fits, before = 0, float("inf")
        for candidate in _banded(shape, given):
            size = candidate.sram_bytes
            if least is None or size < least[0]:
                least = (size, candidate)
            if size > chip.node.sram_bytes:
                continue
            cost = candidate.cycles(chip)
            if best is None or cost < best[0]:
                best = (cost, candidate)
            fits += 1
            if fits >= MOST_BANDS and cost >= before:
                break  # ever smaller bands only add to what is moved
            before = min(before, cost)
    if least is None:
        wanted = ", ".join(f"{name}={value}" for name, value in given.items())
        raise InputError(
            f"{chip.name} has no room for the teams of tiling parameters {wanted}, or some nodes would have no work; "
            "use a larger share, or fewer parts"
        )
    if best is None:
        kept = f" with {', '.join(sorted(resident))} resident" if resident else ""
        raise CapacityError(
            f"the smallest tiling{kept} needs {least[0]:,} B of SRAM a node; "
            + ("keep fewer operands resident, or spread them over more nodes" if kept else "cut the problem")
        )
    # More in flight hides more of the way of short segments; of long ones it only delays the first.
    found = best[1]
    cycles = found.compute_cycles(chip) / len(found.bands)
    near = {"x", "gy"} <= resident
    most = given.get("stages", min(MOST_STAGES, found.segments // NEAR_SEGMENTS if near else found.segments))
    while found.stages < most and found.stages * cycles < HIDDEN_CYCLES:
        deeper = replace(found, stages=found.stages + 1)
        if deeper.sram_bytes > chip.node.sram_bytes:
            break
        found = deeper
    return found


def _shapes(base: Tiling, chip: ChipSpec, given: Mapping[str, int]) -> Iterator[Tiling]:
    """Yield every way to deal groups, channels, taps, filters and images over the mesh."""
    rows, cols, form = chip.mesh.rows, chip.mesh.cols, base.form
    t, r, s = (axis.taps for axis in base.axes)
    for group_parts in _parts(form.groups, rows, 1):
        whole = group_parts == form.groups  # a part of a group's channels is one run only where it is one group
        for c_parts, t_parts, r_parts, s_parts in product(
            _parts(base.c, rows, GROUP) if whole else [1], _parts(t, rows, 1), _parts(r, rows, 1),
            sorted({1, s}) if s <= rows else [1],
        ):  # fmt: skip
            high = group_parts * c_parts * t_parts * r_parts * s_parts
            if high > rows:
                continue
            yield from _uneven(base, chip, (c_parts, t_parts, r_parts, s_parts), given)
            for k_parts in _parts(base.k, cols, GROUP) if whole else [1]:
                most = (rows // high) * (cols // k_parts)
                share = given.get("share", 1)
                if "share" in given and ceil(form.n / share) > most:
                    continue
                while ceil(form.n / share) > most:
                    share *= 2
                while True:
                    yield replace(
                        base, share=share, across=cols // k_parts, group_parts=group_parts, c_parts=c_parts,
                        t_parts=t_parts, r_parts=r_parts, s_parts=s_parts, k_parts=k_parts,
                    )  # fmt: skip
                    if "share" in given or share >= form.n or share >= 4 * ceil(form.n / most):
                        break
                    share *= 2


def _uneven(base: Tiling, chip: ChipSpec, parts: tuple[int, ...], given: Mapping[str, int]) -> Iterator[Tiling]:
    """Yield one team over all columns of the mesh, if filters do not divide by them: the rest is dealt by channels."""
    form, cols = base.form, chip.mesh.cols
    each = base.k // GROUP // cols * GROUP
    share = 1 << (form.n - 1).bit_length()
    if form.groups > 1 or base.bias or base.vector or not each or base.k == each * cols:
        return
    if given.get("share", share) != share:
        return
    c_parts, t_parts, r_parts, s_parts = parts
    yield replace(
        base, share=share, across=1, c_parts=c_parts, t_parts=t_parts, r_parts=r_parts, s_parts=s_parts, k_parts=cols,
        rest=base.k - each * cols,
    )  # fmt: skip


def _parts(size: int, most: int, granule: int) -> list[int]:
    """Return the part counts worth trying: for every size of a part, the fewest parts that reach it, none empty."""
    units = ceil(size / granule)
    return sorted({ceil(units / ceil(units / p)) for p in range(1, min(units, most) + 1)})


def _banded(shape: Tiling, given: Mapping[str, int]) -> Iterator[Tiling]:
    """Yield bands from whole images down to a row; those of fewer rows than a frame has are of one frame."""
    t, h, _ = shape.axes
    if "frames" in given or "rows" in given:
        rows = given.get("rows", h.out)
        yield replace(shape, frames=given.get("frames", 1) if rows == h.out else 1, rows=rows)
        return
    for parts in _parts(t.out, t.out, 1)[:24]:
        yield replace(shape, frames=ceil(t.out / parts), rows=h.out)
    for parts in _parts(h.out, h.out, 1)[1:]:
        yield replace(shape, frames=1, rows=ceil(h.out / parts))


def _checked(form: Geometry, given: Mapping[str, int]) -> dict[str, int]:
    """Return tiling parameters by name; InputError names one that does not exist or its range."""
    t, h, w = frame_axes(form)
    most = {"c": form.c // form.groups, "t": t.taps, "r": h.taps, "s": w.taps, "k": form.k // form.groups}
    limits = {"share": 1 << (form.n - 1).bit_length(), "frames": t.out, "rows": h.out, "stages": MOST_STAGES}
    limits |= {f"{axis}_parts": parts for axis, parts in most.items()}
    for name, value in given.items():
        if name not in limits:
            raise InputError(f"a weight gradient has no tiling parameter {name!r}; use one of {', '.join(limits)}")
        if type(value) is not int or not 1 <= value <= limits[name]:
            raise InputError(f"tiling parameter {name} must be a whole number from 1 to {limits[name]}, got {value!r}")
    share = given.get("share", 1)
    if share & (share - 1):
        raise InputError(f"tiling parameter share={share} is no power of two; use {share & ~(share & (share - 1))}")
    return dict(given)
