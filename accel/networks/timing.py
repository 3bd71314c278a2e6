"""A network timed layer by layer on a chip: every problem once, on several processes, what has no kernel by name."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from accel.baselines import Baseline, estimate, gpu
from accel.batch import worker_count
from accel.hardware import ChipSpec
from accel.hardware import chip as find_chip
from accel.kernels.catalog import CATALOG
from accel.networks.catalog import Layer
from accel.networks.processes import Figure, bound_of, figure_of, share
from accel.networks.results import Results
from accel.problem import Problem

__all__ = ["Figure", "NetworkTiming", "Row", "time_layers"]

Watch = Callable[[str, int, int], None]
MOST_WORKERS = 64


@dataclass(frozen=True)
class Row:
    """A layer with its figure, and the GPUs' figures for the same problem (seconds of one occurrence)."""

    layer: Layer
    figure: Figure
    baselines: tuple[Baseline, ...] = ()

    @property
    def seconds(self) -> float | None:
        """Seconds of all occurrences in a step, None where the layer could not be timed."""
        return None if self.figure.seconds is None else self.layer.count * self.figure.seconds


@dataclass(frozen=True)
class NetworkTiming:
    """All layers of a network on a chip. The sums leave out what could not be timed, and `missing` names it."""

    chip: str
    rows: tuple[Row, ...]
    peak_flops: float

    @property
    def missing(self) -> tuple[Row, ...]:
        """The layers that could not be timed."""
        return tuple(row for row in self.rows if row.seconds is None)

    @property
    def complete(self) -> bool:
        """Whether the sums hold every layer."""
        return not self.missing

    @property
    def seconds(self) -> float:
        """Seconds of a step, one layer after the other, without the missing ones."""
        return sum(row.seconds or 0.0 for row in self.rows)

    @property
    def bound_seconds(self) -> float:
        """The least seconds for the layers that were timed, each alone, operands in memory."""
        return sum(r.layer.count * (r.figure.bound_seconds or 0.0) for r in self.rows if r.seconds is not None)

    @property
    def flops(self) -> int:
        """Useful operations of the layers that were timed."""
        return sum(row.layer.count * row.layer.problem.flops for row in self.rows if row.seconds is not None)

    @property
    def utilization(self) -> float:
        """Useful operations over what the matrix units of the chip could do in that time."""
        return self.flops / (self.seconds * self.peak_flops) if self.seconds else 0.0

    def phases(self) -> dict[str, float]:
        """Seconds by phase, in order."""
        found: dict[str, float] = {}
        for row in self.rows:
            found[row.layer.phase] = found.get(row.layer.phase, 0.0) + (row.seconds or 0.0)
        return found

    def speedup(self) -> dict[str, float]:
        """Seconds of each GPU over seconds of the chip, for the layers that were timed."""
        held = [row for row in self.rows if row.seconds is not None]
        names = [row.name for row in held[0].baselines] if held and self.seconds else []
        return {
            name: sum(row.layer.count * row.baselines[i].seconds for row in held) / self.seconds
            for i, name in enumerate(names)
        }

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "chip": self.chip,
            "layers": [
                {
                    "name": row.layer.name, "phase": row.layer.phase, "count": row.layer.count,
                    "problem": row.layer.problem.to_dict(), **asdict(row.figure), "total_seconds": row.seconds,
                    "baselines": [{"name": b.name, "seconds": b.seconds, "source": b.source} for b in row.baselines],
                }
                for row in self.rows
            ],
            "sum": {
                "seconds": self.seconds, "phases": self.phases(), "bound_seconds": self.bound_seconds,
                "utilization": self.utilization, "complete": self.complete,
                "missing": [row.layer.name for row in self.missing],
            },
            "speedup": self.speedup(),
        }  # fmt: skip


def time_layers(
    layers: Iterable[Layer],
    chip: ChipSpec | str = "d1",
    *,
    vs: Sequence[str] = (),
    fidelity: str = "packet",
    workers: int | None = None,
    store: Path | None = None,
    watch: Watch | None = None,
) -> NetworkTiming:
    """Time every layer on `chip`, operands in memory; problems that occur several times are timed once.

    layers: as of `network`. vs: GPU ids to estimate every layer on. fidelity: as in `Program.time`. workers: processes,
    one for each processor unless given. store: the file that keeps figures between runs (default: in the cache
    folder). watch(label, done, all) is told of each problem when it is begun. InputError for an unknown chip or GPU and
    a wrong number of workers.
    """
    spec, held = find_chip(chip), tuple(layers)
    gpus = [gpu(name).name for name in vs]
    count = worker_count(workers, MOST_WORKERS)
    problems = list(dict.fromkeys(layer.problem for layer in held))
    results = Results(store)
    try:
        figures = _figures(problems, spec, fidelity, count, results, watch or (lambda _label, _done, _all: None))
    finally:
        results.close()
    baselines = {problem: tuple(estimate(problem, name) for name in gpus) for problem in problems}
    rows = tuple(Row(layer, figures[layer.problem], baselines[layer.problem]) for layer in held)
    dtype = next((layer.problem.engine_dtype for layer in held if layer.problem.macs), "bf16")
    return NetworkTiming(spec.name, rows, spec.peak_flops(dtype))


def _figures(
    problems: list[Problem], chip: ChipSpec, fidelity: str, workers: int, results: Results, watch: Watch
) -> dict[Problem, Figure]:
    """Return the figure of every problem: from the store, or from a process that builds and times it."""
    found: dict[Problem, Figure] = {}
    left: list[tuple[Problem, str]] = []
    known = {entry.kind for entry in CATALOG.values()}
    for problem in problems:
        if problem.kind not in known:
            reason = f"the library has no kernel for {problem.kind}"
            found[problem] = Figure("no kernel", reason=reason, **bound_of(problem, chip))
            continue
        key = results.key(problem, chip, fidelity)
        before = results.get(key)
        if before is None:
            left.append((problem, key))
        else:
            found[problem] = Figure(**before)
    lock = threading.Lock()
    queue = iter(left)
    fresh: list[tuple[str, dict[str, Any]]] = []

    def take() -> tuple[Problem, str] | None:
        with lock:
            work = next(queue, None)
            if work is not None:
                watch(work[0].label, len(found), len(problems))
            return work

    def give(work: tuple[Problem, str], figure: dict[str, Any]) -> None:
        with lock:
            found[work[0]] = Figure(**figure)
            fresh.append((work[1], figure))

    share(take, give, chip, fidelity, min(workers, len(left)), lambda: _keep(fresh, results, lock))
    for problem, key in left:  # what a process that died left undone
        if problem not in found:
            figure = figure_of(problem, chip, fidelity)
            results.put(key, figure)
            found[problem] = Figure(**figure)
    return found


def _keep(fresh: list[tuple[str, dict[str, Any]]], results: Results, lock: threading.Lock) -> None:
    """Commit what has come in; only the thread that opened the database touches it."""
    with lock:
        come = list(fresh)
        fresh.clear()
    for key, figure in come:
        results.put(key, figure)
