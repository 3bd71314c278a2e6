"""`accel check`: hazards of a program, with both source lines, and the same bits under adversarial schedules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from accel.cli.arguments import SEEDS, KernelOptions, kernel_options
from accel.cli.output import deliver, json_option, say

if TYPE_CHECKING:
    from accel.cli.target import Target
    from accel.errors import Finding

__all__ = ["check"]

WHOLE_MACS = 1 << 30  # above, the schedules compare a causal slice: every one of them is a run
SLICE_BLOCKS = 4


@click.command(short_help="Prove a kernel free of races and other hazards.")
@kernel_options
@click.option("--schedules", type=click.IntRange(0, 1000), default=4, show_default=True,
              help="Adversarial schedules to walk, and for library kernels to run and compare.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0, SEEDS - 1), default=0, show_default=True,
              help="Seed of inputs and schedules.")  # fmt: skip
@json_option
def check(schedules: int, seed: int, json_to: str | None, **options: Any) -> int:
    """Prove KERNEL free of races, deadlocks and other hazards, or list every one with both source lines.

    KERNEL is a library kernel (with --shape) or file.py:fn (with --arg and --param; the file is executed). Exit code 1
    with findings.
    """
    from accel.cli.target import resolve

    target = resolve(KernelOptions(**options))
    from accel.cli.progress import compiling

    with compiling("check", "machine"):
        findings = target.program.findings(schedules=schedules)
        unstable = _unstable(target, schedules, seed) if not findings and target.problem is not None else []
    from accel.check import as_data

    data = {
        "kernel": target.label,
        "chip": target.program.chip.name,
        "instructions": target.program.isa.instructions,
        "schedules": schedules,
        "clean": not findings and not unstable,
        "findings": [as_data(finding) for finding in findings],
        "different_bits": unstable,
    }
    deliver(json_to, lambda: data, lambda: _show(target, findings, schedules, unstable))
    return 0 if data["clean"] else 1


def _unstable(target: Target, schedules: int, seed: int) -> list[int]:
    """Return the schedules under which the bits of the outputs differ from the natural one's."""
    from accel.cli.inputs import inputs_of
    from accel.verification import differing

    program, problem = target.program, target.problem
    assert problem is not None
    sample = program.sample_outputs(SLICE_BLOCKS, seed) if problem.macs > WHOLE_MACS else None
    inputs = inputs_of(target, seed)
    natural = program.run(inputs, sample=sample)
    return [
        schedule
        for schedule in range(seed, seed + schedules)
        if differing(natural, program.run(inputs, sample=sample, schedule=schedule))
    ]


def _show(target: Target, findings: tuple[Finding, ...], schedules: int, unstable: list[int]) -> None:
    if not findings and not unstable:
        runs = " and run, bits equal under all" if schedules and target.problem is not None else ""
        walked = f"{schedules} more schedule{'' if schedules == 1 else 's'} walked{runs}"
        say(f"clean: no hazard in {target.program.isa.instructions:,} instructions of {target.label} on "
            f"{target.program.chip.name}; {walked}")  # fmt: skip
        return
    if unstable:
        say(f"{target.label}: DIFFERENT BITS under schedules {', '.join(map(str, unstable))}, and no hazard found; "
            "please report this")  # fmt: skip
        return
    from accel.check import hazard_report

    say(hazard_report(f"{target.label} on {target.program.chip.name}", findings))
