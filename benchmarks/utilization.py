"""The utilization table of the kernel library on d1: every target, what was reached, and what limits it.

    python benchmarks/utilization.py [--only conv2d,attention] [--page docs/utilization.md]

Operands are resident where inputs and outputs fit in 400 MB and the kernel takes them so. Otherwise the goal is the
smaller of the target and 95 % of what the closed-form `bound` fidelity of the same program allows; the table prints
which. Utilization is over all 354 nodes; of elementwise kernels and norms it is compulsory bytes over bandwidth.
--page: a page with a section for each family, whose tables get the rows that were measured; its text stays.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import accel
from accel import problem
from accel.comparison import build

RESIDENT_BYTES = 400_000_000
CHIP = "d1"


class Case(NamedTuple):
    """One row: the family, a name, the problem, and the share of peak or of bandwidth to reach."""

    family: str
    name: str
    problem: Any
    target: float
    of_bandwidth: bool = False
    takes_resident: bool = True


def kind(name: str, *sizes: int, **options: Any) -> Any:
    """Return a problem by the name of its kind."""
    cls = problem.kind(name)
    return cls(**dict(zip(cls.sizes(), sizes, strict=True)), **options)


def cases() -> Iterator[Case]:
    """Yield the rows: ResNet-50 at batch 256, R(2+1)D-18 and SlowFast clips, GPT-3 and BERT attention, norms."""
    threes = [(56, 64, 64, 1), (28, 128, 128, 1), (14, 256, 256, 1), (7, 512, 512, 1),
              (56, 128, 128, 2), (28, 256, 256, 2), (14, 512, 512, 2)]  # fmt: skip
    for direction, target in (("fwd", 0.75), ("dgrad", 0.65), ("wgrad", 0.65)):
        for size, c, k, stride in threes:
            conv = kind("conv2d", 256, size, size, c, k, 3, 3, stride=stride, pad=1, direction=direction)
            yield Case(f"conv2d {direction}", f"3x3/{stride} {size}x{size} {c}-{k}", conv, target)
    for size, c, k in ((56, 64, 64), (56, 64, 256), (56, 256, 64), (28, 128, 512), (14, 256, 1024), (7, 2048, 512)):
        for direction in ("fwd", "dgrad", "wgrad"):
            conv = kind("conv2d", 256, size, size, c, k, 1, 1, direction=direction)
            yield Case(f"conv2d 1x1 {direction}", f"1x1 {size}x{size} {c}-{k}", conv, 0.60)
    clips = [
        ("R(2+1)D-18 1x3x3 16x56x56 64-144", (8, 16, 56, 56, 64, 144, 1, 3, 3), (0, 1, 1)),
        ("R(2+1)D-18 3x1x1 16x56x56 144-64", (8, 16, 56, 56, 144, 64, 3, 1, 1), (1, 0, 0)),
        ("R(2+1)D-18 1x3x3 8x28x28 128-288", (8, 8, 28, 28, 128, 288, 1, 3, 3), (0, 1, 1)),
        ("SlowFast slow 1x3x3 4x14x14 256-256", (8, 4, 14, 14, 256, 256, 1, 3, 3), (0, 1, 1)),
        ("SlowFast slow 1x3x3 4x14x14 256-256, 32 clips", (32, 4, 14, 14, 256, 256, 1, 3, 3), (0, 1, 1)),
        ("SlowFast fast 3x1x1 32x56x56 32-8", (8, 32, 56, 56, 32, 8, 3, 1, 1), (1, 0, 0)),
        ("SlowFast fast 3x1x1 32x56x56 32-8, 32 clips", (32, 32, 56, 56, 32, 8, 3, 1, 1), (1, 0, 0)),
        ("3x3x3 8x28x28 128-128", (8, 8, 28, 28, 128, 128, 3, 3, 3), (1, 1, 1)),
    ]
    for direction in ("fwd", "dgrad", "wgrad"):
        for name, sizes, pad in clips:
            yield Case(f"conv3d {direction}", name, kind("conv3d", *sizes, pad=pad, direction=direction), 0.65)
    heads: list[tuple[str, tuple[int, ...], bool, float, float]] = [
        ("GPT-3 96 heads of 128, 2048 causal", (1, 96, 2048, 2048, 128), True, 0.60, 0.50),
        ("head 64, 32 x 16 heads, 512", (32, 16, 512, 512, 64), False, 0.45, 0.0),
        ("head 64, 16 heads, 4096", (4, 16, 4096, 4096, 64), False, 0.45, 0.0),
    ]
    for name, sizes, causal, forward, backward in heads:
        yield Case(
            "attention fwd", name, kind("attention", *sizes, causal=causal), forward, takes_resident=False
        )  # its operands are in memory only
        if backward:
            made = kind("attention", *sizes, causal=causal, direction="bwd")
            yield Case("attention bwd", name, made, backward, takes_resident=False)
    yield from _bandwidth()


def _bandwidth() -> Iterator[Case]:
    from accel.kernels.catalog import CATALOG

    tokens, width = 2048, 12288
    rows = [("relu", (1 << 26,)), ("gelu", (1 << 26,)), ("add", (1 << 26,)), ("softmax", (tokens, width)),
            ("layernorm", (tokens, width)), ("rmsnorm", (tokens, width)), ("batchnorm", (256, 56, 56, 64)),
            ("groupnorm", (64, 56, 56, 256))]  # fmt: skip
    for name, sizes in rows:
        if name not in CATALOG:
            continue
        entry = CATALOG[name]
        cls = problem.kind(entry.kind)
        for direction in ("fwd", "bwd"):
            made = cls.parse(",".join(map(str, sizes)), **entry.preset, direction=direction)
            yield Case(f"{name} {direction}", "x".join(map(str, sizes)), made, 0.80, of_bandwidth=True)


def measured(case: Case) -> tuple[str, ...]:
    """Return the cells of a row: what it is, resident or not, cycles, reached, goal and why, the largest loss."""
    chip, work = accel.chip(CHIP), case.problem
    fits = sum(operand.bytes for operand in work.operands.values()) <= RESIDENT_BYTES and case.takes_resident
    resident = tuple(work.operands) if fits and not case.of_bandwidth else ()
    began = time.perf_counter()
    program = build(work, chip, resident=resident)
    timing = program.time()
    if case.of_bandwidth:
        port = sum(p.bytes_per_cycle * p.efficiency for p in chip.ports)
        reached, goal, why = work.compulsory_bytes / port / timing.cycles, case.target, "target, of bandwidth"
    else:
        reached, goal, why = timing.utilization, case.target, "target"
        allowed = 0.95 * program.time("bound").utilization
        if not resident and allowed < goal:
            goal, why = allowed, "95 % of the bound"
    losses = {cause: share for cause, share in timing.losses.items() if cause not in ("useful", "unused_nodes")}
    worst = sorted(losses, key=lambda cause: -losses[cause])[:2]
    return (
        case.family, case.name, "resident" if resident else "memory", f"{timing.cycles:,}", f"{100 * reached:.1f} %",
        f"{100 * goal:.1f} % ({why})", "yes" if reached >= goal else "NO",
        ", ".join(f"{cause} {100 * losses[cause]:.0f} %" for cause in worst), f"{time.perf_counter() - began:.0f} s",
    )  # fmt: skip


def _row(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cells) + " |"


def updated(page: str, families: dict[str, list[tuple[str, ...]]]) -> str:
    """Return the page with the rows of `families` in its tables, and how many of all rows meet their goal."""
    for family, rows in families.items():
        table = "\n".join(_row(cells[1:-1]) for cells in rows)
        page, found = re.subn(rf"(## {re.escape(family)}\n\n\|.*\n\|.*\n)(?:\|.*\n)*", rf"\g<1>{table}\n", page)
        if not found:
            raise SystemExit(f"the page has no section '## {family}' with a table; add one")
    verdicts = re.findall(r"\| (yes|NO) \|", page)
    counted = f"{verdicts.count('yes')} of {len(verdicts)} rows meet their goal."
    return re.sub(r"\d+ of \d+ rows meet their goal\.", counted, page)


def main() -> int:
    """Print the table as it grows; exit code 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", default="", help="families that begin with one of these, commas between")
    parser.add_argument("--page", type=Path, help="put the rows into the tables of this page")
    options = parser.parse_args()
    wanted = tuple(options.only.split(",")) if options.only else ("",)
    head = ("family", "shape", "operands", "cycles", "reached", "goal", "met", "largest losses", "host")
    print("| " + " | ".join(head) + " |", "|" + "---|" * len(head), sep="\n")
    families: dict[str, list[tuple[str, ...]]] = {}
    missed = 0
    for case in cases():
        if not case.family.startswith(wanted):
            continue
        try:
            cells = measured(case)
        except accel.AccelError as error:
            cells = (case.family, case.name, "", "", "", "", "NO", str(error), "")
        missed += cells[6] != "yes"
        families.setdefault(case.family, []).append(cells)
        print(_row(cells), flush=True)
    if options.page:
        options.page.write_text(updated(options.page.read_text(encoding="utf-8"), families), encoding="utf-8")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
