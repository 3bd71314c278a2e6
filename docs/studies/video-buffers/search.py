"""Which sizes of SRAM are simulated: those of `curves.toml`, those that bound a knee, and between them by halves."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import closed_form as form

import accel
from accel.hardware import ChipSpec
from accel.kernels.parts.streaming_strips import Strips
from accel.sweep import Space
from accel.sweep.fronts import knee

FIELDS = ("frames", "h", "w", "c", "k", "kt", "r", "s", "stride", "pad", "cameras")


class Program(NamedTuple):
    """What is simulated: a curve, how its frames are cut, and a size of SRAM at which they are cut so."""

    curve: form.Curve
    strips: Strips
    size: int


class Found(NamedTuple):
    """What is known of the study: the sizes of every curve, and two rows (short video, long video) of every cut."""

    sizes: dict[form.Curve, set[int]]
    timed: dict[tuple[form.Curve, Strips], list[Any]]

    def cycles(self, curve: form.Curve, strips: Strips) -> Fraction:
        """Return the cycles of one frame set in the steady state."""
        short, long = form.steady(strips)
        rows = self.timed[curve, strips]
        return Fraction(rows[1]["cycles"] - rows[0]["cycles"], long - short)


def explore(chip: ChipSpec, curves: Iterable[form.Curve], store: Path | None, workers: int | None) -> Found:
    """Return every curve simulated, with its knee to 4 KiB; with a `store` a study that was stopped goes on."""
    found = Found({curve: set(first_sizes(chip, curve)) for curve in curves}, {})
    for number in range(64):
        programs = _programs(chip, found)
        if not programs:
            return found
        found.timed.update(simulate(chip, programs, store, workers, f"round {number + 1}"))
        for curve, sizes in found.sizes.items():
            between(chip, found, curve, sizes)
    raise SystemExit("the knees are not found after 64 rounds; look at the cycles of the last ones")


def first_sizes(chip: ChipSpec, curve: form.Curve) -> list[int]:
    """Return the sizes that are simulated in any case.

    Those of `curves.toml`, and of larger ones the last at which the window does not stay, the knee in closed form, and
    two from which on more SRAM changes nothing.
    """
    full, fits, guess = (one(chip, curve) for one in (form.full_bytes, form.fits_bytes, form.knee_bytes))
    least = min(curve.grid, default=0)
    sizes = {*curve.grid, fits - form.MACRO, fits, guess, full, full + form.MACRO}
    return sorted(size for size in sizes if size >= least and form.cut(chip, curve, size) is not None)


def between(chip: ChipSpec, found: Found, curve: form.Curve, sizes: set[int]) -> None:
    """Add sizes between the knee and the size before it, up to one whose cut has not been simulated yet."""
    while (gap := bracket(chip, found, curve)) is not None and gap.knee - gap.below > form.MACRO:
        middle = (gap.below + gap.knee) // 2 // form.MACRO * form.MACRO
        sizes.add(middle)
        if (curve, form.cut(chip, curve, middle)) not in found.timed:
            return


class Bracket(NamedTuple):
    """The largest size below a knee, the knee, and the last size that is within 3 % of the best from there on."""

    below: int
    knee: int
    last: int


def bracket(chip: ChipSpec, found: Found, curve: form.Curve) -> Bracket | None:
    """Return where the knee of a curve lies, None where it is flat."""
    sizes = sorted(found.sizes[curve])
    cuts = [form.cut(chip, curve, size) for size in sizes]
    return bend(sizes, [float(found.cycles(curve, strips)) for strips in cuts if strips])


def bend(sizes: list[int], cycles: list[float]) -> Bracket | None:
    """Return the knee as the sweeps' reports define it, None where the line is flat.

    Where even the largest size is not within 3 % of the best, the line ends for this purpose at the last size that is:
    it has no knee, but a size from which on it is as good for a while.
    """
    last = max(n for n, one in enumerate(cycles) if one <= (1 + form.WITHIN) * min(cycles))
    line, up = sizes[: last + 1], cycles[: last + 1]
    found = knee([*line, 2 * line[-1], 3 * line[-1]], [*up, up[-1], up[-1]], within=form.WITHIN)
    return None if found is None else Bracket(sizes[found.index - 1], sizes[found.index], sizes[last])


def _programs(chip: ChipSpec, found: Found) -> list[Program]:
    """Return what has to be simulated: sizes that are cut in the same way run the same program, and count once."""
    new: dict[tuple[form.Curve, Strips], Program] = {}
    for curve, sizes in found.sizes.items():
        for size in sorted(sizes):
            strips = form.cut(chip, curve, size)
            if strips is not None and (curve, strips) not in found.timed:
                new.setdefault((curve, strips), Program(curve, strips, size))
    return list(new.values())


def simulate(
    chip: ChipSpec, programs: list[Program], store: Path | None, workers: int | None, what: str
) -> dict[tuple[form.Curve, Strips], list[Any]]:
    """Return two rows of every program, short video first, from one sweep in which the dearest points come first."""
    runs = [(program, outputs) for program in programs for outputs in form.steady(program.strips)]
    order = Space.from_dict(_space(chip, runs)).order()
    placed = list(runs)
    for place, run in zip(order.tolist(), sorted(runs, key=_cost, reverse=True), strict=True):
        placed[place] = run
    rows = accel.sweep(_space(chip, placed), store=store, workers=workers, progress=teller(what)).rows
    found: dict[tuple[form.Curve, Strips], list[Any]] = {}
    for row in sorted(rows, key=lambda row: (placed[row["index"]][1], row["index"])):
        if row["status"] != "ok":
            raise SystemExit(f"point {row['index']}: {row['status']}: {row['reason']}")
        program = placed[row["index"]][0]
        found.setdefault((program.curve, program.strips), []).append(row)
    return found


def _space(chip: ChipSpec, runs: list[tuple[Program, int]]) -> dict[str, Any]:
    """Return one sweep over all runs as plain data, all axes advancing together."""
    axes: dict[str, list[Any]] = {}
    for program, outputs in runs:
        problem = program.curve.problem(outputs).to_dict()
        problem |= {name: problem[name][0] for name in ("stride", "pad")}  # of height; width has the same
        for name in FIELDS:
            axes.setdefault(f"problem.{name}", []).append(problem[name])
        axes.setdefault("node.sram_bytes", []).append(program.size)
    return {
        "title": "Buffers for video", "problem": {"kind": "streaming_conv"}, "chip": {"base": chip.name},
        "axes": axes, "zip": {"points": list(axes)},
    }  # fmt: skip


def _cost(run: tuple[Program, int]) -> int:
    """Return about how many events a simulation has: some for each tile, some for each packet of bytes."""
    strips, outputs = run[0].strips, run[1]
    tiles = strips.nodes * -(-strips.high // strips.tall) * -(-strips.q // strips.wide)
    moved = strips.fetched_bytes + strips.refetched_bytes + strips.stored_bytes + strips.halo_bytes
    return outputs * (32 * tiles + moved // 96) + strips.problem.kt * strips.fetched_bytes // 96


def teller(what: str) -> Callable[[Any], None]:
    """Return what prints progress, once for every point that is done."""
    last = -1

    def tell(progress: Any) -> None:
        nonlocal last
        if progress.done != last:
            last = progress.done
            print(f"{what}: {last} of {progress.total}", file=sys.stderr, flush=True)

    return tell
