"""One design point timed: plain data in, plain data out, so that any process of any executor can do it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from accel.errors import AccelError, DeadlockError, HazardError, InternalError

if TYPE_CHECKING:
    from accel.hardware import ChipSpec
    from accel.problem import Problem
    from accel.timing import Timing

__all__ = ["evaluate", "one_line"]

LONGEST_REASON = 500  # characters
_PARTS = ("mesh", "node", "noc", "ports", "energy", "cost", "host")


class _Part(NamedTuple):
    """One problem of a point, timed: it occurs so many `times`."""

    times: int
    timing: Timing
    sram_bytes: int
    bound_seconds: float
    bound_cause: str


def evaluate(job: Mapping[str, Any]) -> dict[str, Any]:
    """Return the outcome of a job (`Point.job`): `status`, `reason`, and where it is "ok" the figures of its row.

    Builds the library kernel of every problem for the chip and times it at the job's fidelity. What chip or kernel
    refuses is "illegal"; running out of memory is "memory"; anything else that goes wrong is "failed". Never raises.
    """
    begun = time.perf_counter()
    try:
        found = _figures(job)
    except MemoryError:
        found = {"status": "memory", "reason": "it needs more memory than there is, or than limits.memory_bytes"}
    except (DeadlockError, HazardError, InternalError) as error:
        found = {"status": "failed", "reason": one_line(error)}
    except AccelError as error:
        found = {"status": "illegal", "reason": one_line(error)}
    except Exception as error:  # noqa: BLE001 - one broken point must not end a sweep of thousands; its row says why
        found = {"status": "failed", "reason": f"{type(error).__name__}: {one_line(error)}"}
    found.setdefault("build_s", 0.0)
    found.setdefault("time_s", time.perf_counter() - begun)
    return found


def one_line(error: BaseException) -> str:
    """Return what an error says as one line of limited length, as rows keep it."""
    return " ".join(str(error).split())[:LONGEST_REASON]


_last: dict[str, tuple[Mapping[str, Any], ChipSpec]] = {}  # the chip of the point before


def _chip(data: Mapping[str, Any]) -> ChipSpec:
    """Return a chip from plain data; the parts that are those of the last one are taken from it, already checked."""
    from accel.hardware import ChipSpec

    before = _last.get("chip")
    if before is None:
        chip = ChipSpec.from_dict(data)
    elif before[0] == data:
        return before[1]
    else:
        same = {name: getattr(before[1], name) for name in _PARTS if before[0].get(name) == data.get(name)}
        chip = ChipSpec.from_dict({**data, **same})
    _last["chip"] = data, chip
    return chip


def _figures(job: Mapping[str, Any]) -> dict[str, Any]:
    from accel.comparison import build, chip_usd
    from accel.problem import from_dict

    chip, fidelity, resident = _chip(job["chip"]), str(job["fidelity"]), tuple(job["resident"])
    parts: list[_Part] = []
    known: dict[Problem, _Part] = {}
    build_s = time_s = 0.0
    for count, _name, data in job["problems"]:
        problem = from_dict(data)
        if problem not in known:
            begun = time.perf_counter()
            program = build(problem, chip, resident=resident, **job["kernel"])
            built = time.perf_counter()
            timing = program.time(fidelity)
            build_s, time_s = build_s + built - begun, time_s + time.perf_counter() - built
            bound = problem.bound(chip, resident)
            known[problem] = _Part(count, timing, program.isa.sram_bytes, bound.seconds, bound.cause)
        parts.append(known[problem]._replace(times=count))
    seconds = sum(part.times * part.timing.seconds for part in parts)
    energy_j = sum(part.times * part.timing.energy_j for part in parts)
    flops = sum(part.times * part.timing.flops for part in parts)
    return {
        "status": "ok", "reason": "",
        "cycles": sum(part.times * part.timing.cycles for part in parts),
        "seconds": seconds,
        "utilization": _by_cycles(parts, [part.timing.utilization for part in parts]),
        "tflops": flops / seconds / 1e12 if seconds else 0.0,
        "energy_j": energy_j,
        "usd": chip_usd(chip, seconds, energy_j),
        "bound_seconds": sum(part.times * part.bound_seconds for part in parts),
        "bound_cause": _most(parts),
        "flops": flops,
        "memory_bytes": _bytes(parts, "memory_read") + _bytes(parts, "memory_write"),
        "mesh_bytes": _bytes(parts, "mesh_byte_hops"),
        "sram_bytes_used": max(part.sram_bytes for part in parts),
        "chip_sram_bytes": chip.sram_total_bytes,
        "memory_bytes_per_s": chip.memory_bytes_per_s,
        "area_mm2": chip.cost.die_mm2,
        **{
            f"loss.{cause}": _by_cycles(parts, [part.timing.losses[cause] for part in parts])
            for cause in parts[0].timing.losses
        },
        "events": sum(part.times * part.timing.events for part in parts),
        "build_s": build_s, "time_s": time_s,
    }  # fmt: skip


def _most(parts: list[_Part]) -> str:
    """Return the cause of most of the bounds' seconds; of equals the earlier of compute, memory and cut."""
    seconds = dict.fromkeys(("compute", "memory", "cut"), 0.0)
    for part in parts:
        seconds[part.bound_cause] += part.times * part.bound_seconds
    return max(seconds, key=lambda cause: seconds[cause])


def _bytes(parts: list[_Part], name: str) -> int:
    return sum(part.times * part.timing.bytes[name] for part in parts)


def _by_cycles(parts: list[_Part], shares: list[float]) -> float:
    """Return the mean of shares of node-cycles, each weighted by the cycles that it is a share of."""
    if len(parts) == 1:
        return shares[0]
    total = sum(part.times * part.timing.cycles for part in parts)
    return sum(part.times * part.timing.cycles * share for part, share in zip(parts, shares, strict=True)) / (
        total or 1
    )
