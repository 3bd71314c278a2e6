"""accel.bench: one problem on a chip, timed from its program, next to GPU baselines that say where they come from."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from accel.baselines import Baseline, estimate, gpu
from accel.errors import InputError, nearest
from accel.hardware import ChipSpec
from accel.hardware import chip as find_chip
from accel.kernels.catalog import kernel_of
from accel.kernels.library import operand_names
from accel.numerics import fmt
from accel.problem import Problem
from accel.program import Program

if TYPE_CHECKING:
    from accel.timing import Timing

__all__ = ["USD_RULE", "ChipFigure", "Comparison", "bench", "build", "chip_usd"]

# Electricity and PUE: aiinframap.com (0.08 USD/kWh, 1.2 for an AI data centre). The years are an assumption: the
# usual book life of an accelerator, taken as fully used.
USD_PER_KWH = 0.08
PUE = 1.2
AMORTISED_YEARS = 4
_HOURS_PER_YEAR = 8766
USD_RULE = (
    f"usd of the chip = die and memory over {AMORTISED_YEARS} years of full use + energy x PUE {PUE} x "
    f"{USD_PER_KWH} USD/kWh: a floor without package, board, host and margin; usd of a GPU is cloud rent"
)


class ChipFigure(NamedTuple):
    """The chip's side of a comparison; `losses` are shares of all node-cycles by cause and sum to 1.

    `utilization` is useful flops over the peak of all enabled nodes; `usd` follows `USD_RULE`; `bound_seconds` is the
    least any kernel could take on this chip.
    """

    name: str
    dtype: str
    cycles: int
    seconds: float
    tflops: float
    utilization: float
    energy_j: float
    usd: float
    bound_seconds: float
    losses: dict[str, float]


@dataclass(frozen=True)
class Comparison:
    """A problem on a chip next to GPUs. `speedup` is baseline seconds over chip seconds, by GPU id."""

    problem: Problem
    chip: ChipFigure
    baselines: tuple[Baseline, ...]
    speedup: Mapping[str, float]
    program: Program
    timing: Timing

    @property
    def notes(self) -> dict[str, str]:
        """What to know before comparing, by row name: stand-in formats, provenance, prices and how usd is counted."""
        sums = "int32" if fmt(self.chip.dtype).kind == "int" else "fp32"
        own = f"{self.chip.dtype} with {sums} accumulation; {USD_RULE}"
        return {self.chip.name: own, **{row.name: row.note for row in self.baselines}}

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON: problem, chip, baselines, speedup."""
        baselines = [row.to_dict() for row in self.baselines]
        for row in baselines:
            del row["note"]
        return {
            "problem": self.problem.to_dict(),
            "chip": self.chip._asdict(),
            "baselines": baselines,
            "speedup": dict(self.speedup),
        }


def build(problem: Problem, chip: ChipSpec | str, *, resident: Iterable[str] = (), **tiling: Any) -> Program:
    """Return the library kernel's program of `problem` for `chip`; `tiling` as in the kernel's own build.

    UnsupportedError for a kind of problem without a kernel; InputError for a parameter that the kernel does not have.
    """
    held = operand_names(resident)
    program = kernel_of(problem).program
    known = inspect.signature(program).parameters.values()
    if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in known):
        names = [p.name for p in known if p.kind is inspect.Parameter.KEYWORD_ONLY and p.name != "resident"]
        for name in tiling:
            if name not in names:
                way = f"use {', '.join(names)}" if names else "it has none"
                raise InputError(f"{problem.kind} has no parameter {name!r}{nearest(name, names) or f'; {way}'}")
    return program(find_chip(chip), problem, resident=held, **tiling)


def chip_usd(chip: ChipSpec, seconds: float, energy_j: float) -> float:
    """Return what `seconds` and `energy_j` joules on `chip` cost in USD by `USD_RULE`, at nominal prices."""
    capital = chip.cost.die_usd.nominal + chip.cost.memory_usd.nominal
    hourly = capital / (AMORTISED_YEARS * _HOURS_PER_YEAR)
    return hourly * seconds / 3600 + energy_j / 3.6e6 * PUE * USD_PER_KWH


def bench(
    problem: Problem,
    chip: ChipSpec | str = "d1",
    vs: Iterable[str] = (),
    *,
    resident: Iterable[str] = (),
    data: str | os.PathLike[str] | None = None,
    fidelity: str = "packet",
    **tiling: Any,
) -> Comparison:
    """Time the library kernel of `problem` on `chip` and set it next to the GPUs of `vs` (ids or aliases).

    resident: operands that already lie in the chip's SRAM; data: a CSV with measured GPU rows, which come before the
    packaged ones; fidelity: as in `Program.time`; tiling: kernel parameters. A GPU without the problem's format stands
    in with its nearest one: see its `dtype` and `note`. InputError for bad arguments, UnsupportedError for a problem
    without a kernel or a format that the chip lacks.
    """
    spec = find_chip(chip)
    if not isinstance(problem, Problem):
        raise InputError(f"bench needs a problem, got {problem!r}; use accel.problem.Matmul(m, n, k)")
    held = (resident,) if isinstance(resident, str) else tuple(resident)
    ids = dict.fromkeys(gpu(name).name for name in ((vs,) if isinstance(vs, str) else tuple(vs)))
    baselines = tuple(estimate(problem, name, data) for name in ids)
    program = build(problem, spec, resident=held, **tiling)
    timing = program.time(fidelity)
    figure = ChipFigure(
        name=spec.name,
        dtype=problem.engine_dtype,
        cycles=timing.cycles,
        seconds=timing.seconds,
        tflops=timing.tflops,
        utilization=timing.utilization,
        energy_j=timing.energy_j,
        usd=chip_usd(spec, timing.seconds, timing.energy_j),
        bound_seconds=problem.bound(spec, held).seconds,
        losses=dict(timing.losses),
    )
    speedup = {row.name: row.seconds / timing.seconds for row in baselines}
    return Comparison(problem, figure, baselines, MappingProxyType(speedup), program, timing)
