"""The tables of a report: headline, GPUs, ledger, source lines, traffic and energy, chip, provenance."""

from __future__ import annotations

import datetime as dt
import platform
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from accel import __version__
from accel.comparison import USD_RULE
from accel.report.figure import CAUSES, Nodes
from accel.report.quantities import bytes_text, energy, number, percent, ratio, seconds, usd
from accel.report.sheet import Cell, Column, Sheet
from accel.report.subject import Subject, source_text

if TYPE_CHECKING:
    from accel.hardware import ChipSpec
    from accel.timing import LineTotals

__all__ = [
    "chip_facts", "extremes", "gpus", "headline", "ledger", "lines", "notes", "overview", "path", "provenance",
    "traffic",
]  # fmt: skip

LISTED_LINES = 12  # source lines that a page lists

SIGNS = {"measured": "\u25cf", "model": "\u25d0", "uncalibrated": "\u25cb"}  # full, half and empty circle
LARGE = ("cycles", "time", "rate", "utilization", "energy", "bits", "hazards")  # facts that a page sets in large type

# What a figure's origin means, wherever one is marked.
MARKS = {
    "measured": "a published run of exactly this shape and format",
    "model": "fitted on measured rows; the error is the median on rows that were not fitted",
    "uncalibrated": "the datasheet's roofline with another GPU's fitted shares of it; no error known",
}


def headline(subject: Subject, *, brief: bool = False) -> Sheet:
    """Return the figures that people quote first, as facts; brief: less those that a page sets in large type."""
    t, chip = subject.timing, subject.program.chip
    isa = subject.program.isa
    pairs: list[tuple[str, Cell]] = [
        ("cycles", f"{t.cycles:,} at {number(chip.clock_hz / 1e9)} GHz"),
        ("time", seconds(t.seconds)),
        ("rate", f"{number(t.tflops)} TFLOPS"),
        ("utilization", f"{percent(t.utilization)} of the peak of all {chip.nodes:,} enabled nodes"),
    ]
    if subject.comparison is not None:
        bound = subject.comparison.chip.bound_seconds
        pairs.append(("of bound", f"{percent(bound / t.seconds)}: no kernel can take less than {seconds(bound)}"))
    elif t.cycles:
        share = percent(t.bound_cycles / t.cycles)
        pairs.append(
            ("of bound", f"{share}: no schedule of these instructions takes less than {t.bound_cycles:,} cycles")
        )
    pairs.append(("energy", f"{energy(t.energy_j)} ({energy(t.energy_low_j)} to {energy(t.energy_high_j)})"))
    if subject.comparison is not None:
        pairs.append(("cost", f"{usd(subject.comparison.chip.usd)} to make and power"))
    pairs.append(("program", f"{isa.rows} x {isa.cols} nodes, {isa.roles} roles, {isa.instructions:,} instructions"))
    if subject.verified is not None:
        pairs.append(("bits", str(subject.verified)))
    if subject.hazards is not None:
        pairs.append(("hazards", f"{subject.hazards:,} found" if subject.hazards else "none found"))
    if subject.origin:
        pairs.append(("shape from", subject.origin))
    kept = [pair for pair in (*pairs, *subject.remarks) if not brief or pair[0] not in LARGE]
    return Sheet.of_pairs("headline", "In short", kept)


class Marked(float):
    """A factor over a baseline that says where the baseline comes from."""

    def __new__(cls, value: float, source: str) -> Self:
        """Make a number with its `source`: "measured", "model" or "uncalibrated"."""
        made = super().__new__(cls, value)
        made.source = source
        return made

    source: str


def _marked(factor: float) -> str:
    return f"{SIGNS[factor.source]} {ratio(factor)}" if isinstance(factor, Marked) else ratio(factor)


def overview(subjects: Sequence[Subject]) -> Sheet:
    """Return one row a subject, longest first; columns about bits and hazards where anything was verified."""
    columns = [
        Column("subject", "what", text=True), Column("chip", "chip", text=True), Column("cycles", "cycles"),
        Column("seconds", "time", seconds), Column("tflops", "TFLOPS", number),
        Column("utilization", "utilization", percent), Column("of_bound", "of bound", percent),
        Column("energy_j", "energy", energy),
    ]  # fmt: skip
    gpu_names = list(dict.fromkeys(row.name for s in subjects if s.comparison for row in s.comparison.baselines))
    columns += [Column(f"speedup_{name}", name, _marked) for name in gpu_names]
    checked = any(s.verified is not None or s.hazards is not None for s in subjects)
    if checked:
        columns += [Column("bits", "bits", text=True), Column("hazards", "hazards")]
    rows: list[tuple[Cell, ...]] = []
    for s in sorted(subjects, key=lambda s: -s.timing.seconds):
        t = s.timing
        bound = s.comparison.chip.bound_seconds if s.comparison else t.bound_cycles / s.program.chip.clock_hz
        row: list[Cell] = [s.label, s.program.chip.name, t.cycles, t.seconds, t.tflops, t.utilization,
                           bound / t.seconds if t.seconds else None, t.energy_j]  # fmt: skip
        by_name = {b.name: b.source for b in s.comparison.baselines} if s.comparison else {}
        for name in gpu_names:
            found = s.comparison is not None and name in by_name
            row.append(Marked(s.comparison.speedup[name], by_name[name]) if found and s.comparison else None)
        if checked:
            row += [None if s.verified is None else "wrong" if s.verified.wrong else "equal", s.hazards]
        rows.append(tuple(row))
    signs = ", ".join(f"{sign} {name}" for name, sign in SIGNS.items())
    beside = f" Under a GPU: its time over that of the chip, {signs}." if gpu_names else ""
    return Sheet("overview", "All of them", tuple(columns), tuple(rows), f"Longest first.{beside}")


def gpus(subject: Subject) -> Sheet | None:
    """Return the chip's row and those of the GPUs with how each figure was come by; None without GPUs."""
    if subject.comparison is None or not subject.comparison.baselines:
        return None
    compared = subject.comparison
    columns = (
        Column("machine", "machine", text=True), Column("dtype", "format", text=True),
        Column("seconds", "time", seconds), Column("speedup", "time / ours", ratio), Column("tflops", "TFLOPS", number),
        Column("utilization", "utilization", percent), Column("energy_j", "energy", energy), Column("usd", "cost", usd),
        Column("source", "source", text=True), Column("error_pct", "median error", lambda e: f"{e:.0f} %"),
    )  # fmt: skip
    own = compared.chip
    rows: list[tuple[Cell, ...]] = [
        (
            own.name,
            own.dtype,
            own.seconds,
            None,
            own.tflops,
            own.utilization,
            own.energy_j,
            own.usd,
            "cycle model",
            None,
        )
    ]
    rows += [(row.name, row.dtype, row.seconds, compared.speedup[row.name], row.tflops, row.utilization, row.energy_j,
              row.usd, row.source, row.error_pct) for row in compared.baselines]  # fmt: skip
    used = dict.fromkeys(row.source for row in compared.baselines)
    note = "; ".join(f"{name}: {meaning}" for name, meaning in MARKS.items() if name in used)
    return Sheet("gpus", "Next to GPUs", columns, tuple(rows), note[:1].upper() + note[1:] + ".")


def notes(subjects: Iterable[Subject]) -> Sheet | None:
    """Return what to know before comparing, each remark once with the subjects it is about; None if there is none."""
    about: dict[tuple[str, str], list[str]] = {}
    total = 0
    for subject in subjects:
        if subject.comparison is None:
            continue
        total += 1
        for row in subject.comparison.baselines:
            about.setdefault((f"{row.name}, {row.source}", row.note), []).append(subject.label)
    if not total:
        return None
    rows: list[tuple[Cell, ...]] = [("the chip", USD_RULE, "all")]
    for (who, note), labels in sorted(about.items()):
        rows.append((who, note, "all" if len(labels) == total else "; ".join(labels)))
    columns = (Column("row", "row", text=True), Column("note", "note", text=True), Column("about", "about", text=True))
    return Sheet("notes", "Before comparing", columns, tuple(rows))


def ledger(subject: Subject) -> Sheet:
    """Return every cause of the loss ledger with its share and node-cycles."""
    t = subject.timing
    columns = (
        Column("cause", "cause", lambda cause: CAUSES[cause].label, text=True), Column("share", "share", percent),
        Column("node_cycles", "node-cycles", lambda n: f"{n:,.0f}"),
    )  # fmt: skip
    rows = tuple((cause, t.losses[cause], n / t.parts_per_cycle) for cause, n in t.loss_parts.items())
    return Sheet("ledger", "Where the node-cycles went", columns, rows)


def lines(subject: Subject) -> Sheet:
    """Return the totals of every source line, most critical first: what it does, moves and waits for."""
    t = subject.timing
    stalled = sum(totals.stalled for totals in t.lines.values())
    kinds = sorted({kind for totals in t.lines.values() for kind in totals.stalls}, key=list(CAUSES).index)
    columns = (
        Column("line", "line", text=True), Column("source", "source", text=True),
        Column("critical_cycles", "critical cycles"), Column("share_of_critical_path", "of critical path", percent),
        Column("stalled_thread_cycles", "stalled thread-cycles"), Column("share_of_stalls", "of all stalls", percent),
        Column("stalled_by", "stalled by", text=True), Column("instructions", "instructions"),
        *(Column(f"{unit}_cycles", "", page=False) for unit in ("issue", "matrix", "vector", "sram_port")),
        *(Column(f"{what}_bytes", "", page=False) for what in ("memory_read", "memory_write", "mesh", "sram")),
        *(Column(f"stalled_{kind}_cycles", "", page=False) for kind in kinds),
    )  # fmt: skip
    rows: list[tuple[Cell, ...]] = []
    for line, x in t.lines.items():
        rows.append((
            str(line), source_text(line), x.path_cycles, x.path_share, x.stalled,
            x.stalled / stalled if stalled else 0.0, _reasons(x), x.instructions, x.issue_cycles, x.matrix_cycles,
            x.vector_cycles, x.sram_port_cycles, x.memory_read_bytes, x.memory_write_bytes, x.mesh_bytes, x.sram_bytes,
            *(x.stalls.get(kind, 0) for kind in kinds),
        ))  # fmt: skip
    note = (
        "Most critical first. A thread is stalled while it waits for a token, a unit, a barrier or a place in the copy "
        "queue; what waits beside the critical path costs nothing by itself."
    )
    return Sheet("lines", "Hottest source lines", columns, tuple(rows), note, listed=LISTED_LINES)


def _reasons(totals: LineTotals) -> str:
    """Return the reasons for which a line stood still that make a tenth of it or more, largest first."""
    shares = {kind: cycles / totals.stalled for kind, cycles in totals.stalls.items() if cycles}
    ordered = sorted((kind for kind in shares if shares[kind] >= 0.1), key=lambda kind: -shares[kind])
    return ", ".join(f"{CAUSES[kind].label} {shares[kind]:.0%}" for kind in ordered)


def path(subject: Subject) -> Sheet:
    """Return the segments of the critical path, first to last."""
    columns = (
        Column("start", "from cycle"), Column("end", "to cycle"), Column("cycles", "cycles"),
        Column("node_row", "node row", str), Column("node_col", "node col", str), Column("thread", "thread", text=True),
        Column("cause", "doing or waiting for", lambda cause: CAUSES[cause].label, text=True),
        Column("line", "line", text=True),
    )  # fmt: skip
    isa = subject.program.isa
    rows = []
    for s in subject.timing.critical_path:
        role = int(isa.role_of[s.node[0] * isa.cols + s.node[1]])
        rows.append((s.start, s.end, s.end - s.start, *s.node, isa.thread_names[role][s.thread], s.cause,
                     None if s.line is None else str(s.line)))  # fmt: skip
    rows.sort(key=lambda row: (row[1], row[0]))
    note = (
        "From the last event back to cycle 0 through whatever released each wait; the segments cover every cycle once."
    )
    return Sheet("critical_path", "Critical path", columns, tuple(rows), note, listed=2 * LISTED_LINES)


def extremes(figure: Nodes) -> Sheet:
    """Return the least, mean and most of every quantity of a node map, with the nodes where they are."""
    rows: list[tuple[Cell, ...]] = []
    for grid in figure.grids:
        low, high = (pick(range(len(grid.values)), key=lambda i: grid.values[i]) for pick in (min, max))
        mean = sum(grid.values) / len(grid.values)
        least, most = (f"({at // figure.cols}, {at % figure.cols})" for at in (low, high))
        rows.append((grid.label, grid.values[low] / figure.cycles, least, mean / figure.cycles,
                     grid.values[high] / figure.cycles, most))  # fmt: skip
    columns = (
        Column("quantity", "share of all cycles", text=True), Column("least", "least", percent),
        Column("at_least", "on"), Column("mean", "mean", percent), Column("most", "most", percent),
        Column("at_most", "on"),
    )  # fmt: skip
    return Sheet("extremes", "By node", columns, tuple(rows), "Every node is in nodes.csv.")


def traffic(subject: Subject) -> Sheet:
    """Return bytes by level and energy by consumer, with the shares of the nominal energy."""
    t = subject.timing
    labels = {
        "memory_read": "read from memory",
        "memory_write": "written to memory",
        "sram": "read and written in SRAM",
        "mesh_byte_hops": "byte-hops over the mesh",
    }
    rows: list[tuple[Cell, ...]] = [
        ("bytes", labels.get(name, name), float(n), bytes_text(n)) for name, n in t.bytes.items()
    ]
    rows += [("energy", name.replace("_", " "), t.energy_j * share, f"{energy(t.energy_j * share)}, {percent(share)}")
             for name, share in t.energy_shares.items()]  # fmt: skip
    columns = (
        Column("kind", "", text=True), Column("of", "of", text=True),
        Column("value", "bytes or joules", lambda v: f"{v:,.3g}"), Column("text", "in units"),
    )  # fmt: skip
    return Sheet("traffic", "Bytes and energy", columns, tuple(rows), "Energy comes from literature figures: a prior.")


def chip_facts(chip: ChipSpec) -> Sheet:
    """Return every field of a chip by dotted path, and which of them are assumptions."""
    rows: list[tuple[Cell, ...]] = []
    data = chip.to_dict()
    reasons = data.pop("assumptions")
    for where, value in _leaves(data):
        over = (p for p in reasons if where == p or where.startswith(f"{p}."))
        assumed = max(over, key=len, default=None)  # the reason of the field before that of its table
        rows.append((where, value, "" if assumed is None else reasons[assumed]))
    columns = (Column("field", "field", text=True), Column("value", "value", text=True),
               Column("assumption", "assumed, because", text=True))  # fmt: skip
    note = f"Peak {number(chip.peak_flops(next(iter(chip.node.matrix.step_cycles), 'fp32')) / 1e12)} TFLOPS"
    note += (
        f" in {next(iter(chip.node.matrix.step_cycles), 'fp32')}, memory {number(chip.memory_bytes_per_s / 1e9)} GB/s,"
    )
    note += f" SRAM {bytes_text(chip.sram_total_bytes)} in all. A field without a reason is public or follows from one."
    return Sheet("chip", f"The chip {chip.name}", columns, tuple(rows), note)


def _leaves(data: Any, prefix: str = "") -> Iterable[tuple[str, Cell]]:
    """Yield (dotted path, value) of plain chip data; lists of records by name, short lists as text."""
    for key, value in data.items():
        at = f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _leaves(value, f"{at}.")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for entry in value:
                yield from _leaves({k: v for k, v in entry.items() if k != "name"}, f"{at}.{entry['name']}.")
        elif isinstance(value, list):
            yield at, ", ".join(map(str, value)) or "none"
        else:
            yield at, value


def provenance(subjects: Sequence[Subject], facts: Iterable[tuple[str, str]] = ()) -> Sheet:
    """Return what is needed to get the same report again: versions, hashes of programs and chips, fidelity."""
    fidelities = ", ".join(dict.fromkeys(s.timing.fidelity for s in subjects))
    now = dt.datetime.now(dt.UTC)
    pairs: list[tuple[str, Cell]] = [
        ("accel", __version__),
        ("Python", f"{platform.python_version()} on {platform.machine()} {platform.system()}"),
        ("NumPy, Numba", f"{np.__version__}, {version('numba')}"),
        ("written", f"{now:%Y-%m-%d %H:%M} UTC"),
        ("cycles", f"fidelity {fidelities}; they depend on no data and on no seed"),
        *facts,
    ]
    chips = dict.fromkeys(s.program.chip for s in subjects)
    pairs += [(f"chip {chip.name}", f"sha256 {chip.digest()}") for chip in chips]
    pairs += [(f"program of {s.label}", f"sha256 {s.digest}") for s in subjects]
    return Sheet.of_pairs("provenance", "Made by", pairs)
