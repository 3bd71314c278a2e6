"""Other builds of a library kernel that must give the same bits: with as little SRAM as it takes, operands resident."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from accel.errors import AccelError
from accel.testing.subjects import LibrarySubject
from accel.testing.trials import Trial, refused

if TYPE_CHECKING:
    from accel.hardware import ChipSpec

__all__ = ["library_variants"]

LEAST_SRAM = 1 << 10  # bytes of a node, below which no kernel is asked
STEPS = 3  # that narrow the least SRAM, each by half of what is left


def library_variants(trial: Trial) -> Iterator[tuple[str, ChipSpec, Any]]:
    """Yield (what is other, chip, case): little SRAM makes tilings with many passes; residency makes other copies.

    Last come the tilings that the kernel names itself.
    """
    chip = trial.chip
    if chip.node.sram_bytes >= 1 << 16:
        yield "a quarter of the SRAM", _with_sram(chip, chip.node.sram_bytes // 4), trial.case
    least = _least_sram(trial)
    if least < chip.node.sram_bytes:
        yield f"{least:,} bytes of SRAM", _with_sram(chip, least), trial.case
    names = tuple(trial.case.problem.operands)
    for held in (*((name,) for name in names), names) if len(names) > 1 else (names,):
        if frozenset(held) != trial.case.resident:
            yield f"{' and '.join(held)} resident", chip, replace(trial.case, resident=frozenset(held))
    assert isinstance(trial.subject, LibrarySubject)
    for tiling in trial.subject.kernel.tilings:
        yield ", ".join(f"{n}={v}" for n, v in tiling.items()), chip, replace(trial.case, tiling=tuple(tiling.items()))


def _with_sram(chip: ChipSpec, size: int) -> ChipSpec:
    return chip.replace(**{"node.sram_bytes": size})


def _least_sram(trial: Trial) -> int:
    """Return about the fewest bytes of SRAM a node with which the kernel takes the case."""
    enough = trial.chip.node.sram_bytes
    while enough > LEAST_SRAM and _builds(trial, enough // 2):
        enough //= 2
    few = enough // 2
    for _ in range(STEPS):
        middle = (few + enough) // 128 * 64
        if few < middle < enough:
            few, enough = (few, middle) if _builds(trial, middle) else (middle, enough)
    return enough


def _builds(trial: Trial, size: int) -> bool:
    try:
        trial.subject.build(_with_sram(trial.chip, size), trial.case)
    except AccelError as error:
        if refused(error):
            return False
        raise
    return True
