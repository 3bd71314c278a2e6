"""`accel check`: hazards of a program with both source lines, the same bits in all orders, and a kernel's battery."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from accel.cli.arguments import SEEDS, KernelOptions, kernel_options
from accel.cli.output import deliver, json_option, say
from accel.errors import InputError

if TYPE_CHECKING:
    from accel.cli.battery import Answer
    from accel.cli.target import Target
    from accel.errors import Finding
    from accel.verification import Verdict

__all__ = ["check"]

WHOLE_MACS = 1 << 30  # above, the schedules compare a causal slice: every one of them is a run
SLICE_BLOCKS = 4


@click.command(short_help="Prove a kernel free of races and other hazards.")
@kernel_options
@click.option("--schedules", type=click.IntRange(0, 1000), default=4, show_default=True,
              help="Adversarial schedules to walk, and for library kernels to run and compare.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0, SEEDS - 1), default=0, show_default=True,
              help="Seed of inputs and schedules.")  # fmt: skip
@click.option("--battery/--no-battery", default=True, show_default=True,
              help="Ask also all else of the battery of tests, of a file.py:fn kernel.")  # fmt: skip
@click.option("--ref", metavar="FILE.py:FN", help="For the battery: NumPy oracle of the input arrays.")
@click.option("--domain", type=click.Choice(["float", "int"]), default="float", show_default=True,
              help="int: the oracle is compared in whole numbers only, which no order of a sum changes.")  # fmt: skip
@click.option("--bound", metavar="NUMBER|sum_of_products(N)|FILE.py:FN",
              help="For the battery: how far the outputs may be from an oracle in float64.")  # fmt: skip
@click.option("--relations", metavar="NAMES", help="For the battery: 'scale_pow2, permute(x=0, y=0)'.")
@json_option
def check(schedules: int, seed: int, battery: bool, ref: str | None, domain: str, bound: str | None,
          relations: str | None, json_to: str | None, **options: Any) -> int:  # fmt: skip
    """Prove KERNEL free of races, deadlocks and other hazards, or list every one with both source lines.

    KERNEL is a library kernel (with --shape), whose outputs are then verified too, or file.py:fn (with --arg and
    --param; the file is executed), which goes through the battery of tests. Exit code 1 with findings.

    \b
    accel check conv2d --shape 2,8,8,16,16,3,3 --pad 1 --chip mini
    accel check mine.py:relu --arg x=bf16[64,32] --arg y=bf16[64,32] --ref mine.py:oracle --relations permute
    """
    from accel.cli.target import load_function, resolve

    oracle = load_function(ref, "oracle") if ref is not None else None
    target = resolve(KernelOptions(**options))
    given = [
        name for name, value in (("--ref", ref), ("--bound", bound), ("--relations", relations)) if value is not None
    ]
    if given and (target.own is None or not battery):
        reason = "the battery is switched off" if target.own else f"{target.label} is no kernel of your own file"
        raise InputError(f"{given[0]} is for the battery, and {reason}; leave it out")
    from accel.cli.battery import answers_of, parse_bound, parse_relations
    from accel.cli.progress import compiling

    if bound is not None and (oracle is None or domain == "int"):
        reason = "--domain int compares every bit" if domain == "int" else "there is no oracle; give --ref too"
        raise InputError(f"--bound says how far from the oracle a result may be, and {reason}")
    chosen, allowed = parse_relations(relations), parse_bound(bound)
    with compiling("check", "machine"):
        findings = target.program.findings(schedules=schedules)
        unstable, verdict = (
            _runs(target, schedules, seed) if not findings and target.problem is not None else ([], None)
        )
        asked = battery and target.own is not None and not findings
        answers = list(answers_of(target, oracle, allowed, chosen, domain, schedules, seed)) if asked else []
    from accel.check import as_data

    wrong = unstable or (verdict is not None and verdict.mismatches) or any(a.state == "failed" for a in answers)
    data = {
        "kernel": target.label,
        "chip": target.program.chip.name,
        "instructions": target.program.isa.instructions,
        "schedules": schedules,
        "clean": not findings and not wrong,
        "findings": [as_data(finding) for finding in findings],
        "different_bits": unstable,
        "verified": verdict._asdict() if verdict is not None else None,
        "battery": [answer._asdict() for answer in answers],
    }
    deliver(json_to, lambda: data, lambda: _show(target, findings, schedules, unstable, verdict, answers, oracle))
    return 0 if data["clean"] else 1


def _runs(target: Target, schedules: int, seed: int) -> tuple[list[int], Verdict]:
    """Return the schedules under which the bits of outputs differ from the natural one's, and what its oracle says."""
    from accel.cli.inputs import inputs_of
    from accel.verification import differing, verify

    program, problem = target.program, target.problem
    assert problem is not None
    sample = program.sample_outputs(SLICE_BLOCKS, seed) if problem.macs > WHOLE_MACS else None
    inputs = inputs_of(target, seed)
    natural = program.run(inputs, sample=sample)
    verdict = verify(problem, program, inputs, natural, sample=sample, seed=seed)
    different = [
        schedule
        for schedule in range(seed, seed + schedules)
        if differing(natural, program.run(inputs, sample=sample, schedule=schedule))
    ]
    return different, verdict


def _show(target: Target, findings: tuple[Finding, ...], schedules: int, unstable: list[int],
          verdict: Verdict | None, answers: list[Answer], oracle: object) -> None:  # fmt: skip
    if not findings and not unstable:
        runs = " and run, bits equal under all" if schedules and target.problem is not None else ""
        walked = f"{schedules} more schedule{'' if schedules == 1 else 's'} walked{runs}"
        say(f"clean: no hazard in {target.program.isa.instructions:,} instructions of {target.label} on "
            f"{target.program.chip.name}; {walked}")  # fmt: skip
        if verdict is not None:
            say(str(verdict))
        if answers:
            from accel.cli.battery import show_answers

            show_answers(target.label, answers, oracle is not None)
        return
    if unstable:
        say(f"{target.label}: DIFFERENT BITS under schedules {', '.join(map(str, unstable))}, and no hazard found; "
            "please report this")  # fmt: skip
        return
    from accel.check import hazard_report

    say(hazard_report(f"{target.label} on {target.program.chip.name}", findings))
