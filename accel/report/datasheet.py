"""The ISA manual with prices: what the worked example of every instruction costs on the chips of the catalog."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from accel.errors import UnsupportedError
from accel.hardware import ChipSpec, chip, names
from accel.isa.assembly import assemble
from accel.isa.examples import example
from accel.isa.manual import entry, manual, pages
from accel.isa.schema import Engine, Row
from accel.timing import simulate
from accel.timing.costs import row_cost

__all__ = ["datasheet", "datasheet_entry", "datasheet_pages", "example_cycles"]


@cache
def datasheet() -> str:
    """Return the whole manual, every section with its example's cycles on each catalog chip."""
    return manual(_prices)


@cache
def datasheet_pages() -> dict[str, str]:
    """Return the same as pages by file name below docs/."""
    return pages(_prices)


def datasheet_entry(name: str) -> str:
    """Return the section of one instruction with its prices; InputError for an unknown one."""
    return entry(name, _prices)


def example_cycles(row: Row, spec: ChipSpec) -> int:
    """Return the cycles of a row's worked example on an idle chip.

    Units: the longer of the unit's and the SRAM ports' cycles. Copies and barriers: the whole program, from issue to
    arrival. Other control: the issue cycles of the thread. UnsupportedError where the chip does not take it.
    """
    program = assemble(example(row), source=row.mnemonic)
    whole = row.engine is Engine.DMA or row.mnemonic == "barrier"
    if row.engine is Engine.CONTROL and not whole:
        return spec.node.issue_cycles
    if whole:
        return simulate(program, spec, engine="plain").cycles
    cost = row_cost(spec, program.views, program.code[0])
    assert cost is not None
    return max(cost.cycles, cost.port)


def _prices(row: Row) -> Iterator[tuple[str, str]]:
    for name in names():
        try:
            cycles = example_cycles(row, chip(name))
        except UnsupportedError:
            continue
        yield name, f"{cycles:,} cycle{'' if cycles == 1 else 's'}"
