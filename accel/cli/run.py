"""`accel run`: build, execute on random numbers, verify bit for bit, and time the same program."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import click

from accel.cli.arguments import SEEDS, KernelOptions, kernel_options
from accel.cli.output import deliver, json_option, say
from accel.errors import InputError
from accel.report.quantities import number, percent, rate, seconds

if TYPE_CHECKING:
    from accel.cli.target import Target
    from accel.program import Outputs, Sample
    from accel.verification import Verdict

__all__ = ["run"]

WHOLE_MACS = 1 << 37  # up to here everything is executed: seconds on one core
SLICE_BLOCKS = 16

T = TypeVar("T")


@click.command(short_help="Execute a kernel to the bit, verify and time it.")
@kernel_options
@click.option("--ref", metavar="FILE.py:FN", help="NumPy oracle: gets the input arrays, returns the output(s).")
@click.option("--schedules", type=click.IntRange(0, 1000), default=0, show_default=True,
              help="Run also under so many adversarial schedules and compare the bits.")  # fmt: skip
@click.option("--blocks", type=click.IntRange(min=0), metavar="N",
              help="Execute only the causal slice of N output stores drawn at random; 0 executes everything. "
              "[default: 0, above 2^37 multiply-adds 16]")  # fmt: skip
@click.option("--hard", is_flag=True, help="Mix zeros, subnormals, extremes, infinities and NaN into the inputs.")
@click.option("--seed", type=click.IntRange(0, SEEDS - 1), default=0, show_default=True,
              help="Seed of inputs and schedules.")  # fmt: skip
@click.option("--engine", type=click.Choice(["jit", "plain"]), default="jit", show_default=True,
              help="plain: the same functions without compilation; slow, same bits.")  # fmt: skip
@click.option(
    "--fidelity",
    type=click.Choice(["packet", "bound"]),
    default="packet",
    show_default=True,
    help="Cycle model: event by event, or the closed-form lower bound.",
)
@json_option
def run(ref: str | None, schedules: int, blocks: int | None, hard: bool, seed: int, engine: str, fidelity: str,
        json_to: str | None, **options: Any) -> int:  # fmt: skip
    """Execute KERNEL bit-accurately on random inputs, verify the result and time the program.

    KERNEL is a library kernel (matmul, with --shape) or file.py:fn, a kernel of your own (with --arg for every tensor
    and --param for the rest; the file is executed).

    \b
    accel run matmul --shape 64x48x32 --chip mini
    accel run mine.py:relu --arg x=bf16[64,32] --arg y=bf16[64,32] --param bm=16 --ref mine.py:oracle
    """
    from accel.cli.target import load_function, resolve

    clock = _Clock()
    oracle = load_function(ref, "oracle") if ref is not None else None
    target = clock("build", lambda: resolve(KernelOptions(**options)))
    if blocks and oracle is not None:
        raise InputError("--ref compares whole outputs and --blocks computes parts; leave one of them out")
    from accel.cli.inputs import inputs_of
    from accel.cli.progress import compiling

    program, problem = target.program, target.problem
    if blocks is None:
        blocks = SLICE_BLOCKS if problem is not None and problem.macs > WHOLE_MACS and oracle is None else 0
    inputs = clock("inputs", lambda: inputs_of(target, seed, hard=hard))
    with compiling("machine", "timing", ahead=engine == "jit"):
        sample = clock("slice", lambda: program.sample_outputs(blocks, seed)) if blocks else None
        outputs = clock("bits", lambda: program.run(inputs, seed=seed, engine=engine, sample=sample))
        walk = range(seed, seed + schedules)
        again = partial(program.run, inputs, seed=seed, engine=engine, sample=sample)
        unstable = clock("schedules", lambda: _unstable(outputs, again, walk)) if schedules else []
        timing = clock("cycles", lambda: program.time(fidelity, engine=engine))
    verdict = clock("verify", lambda: _verdict(target, ref, oracle, inputs, outputs, sample, seed))
    facts = {
        "kernel": target.label, "problem": problem.to_dict() if problem is not None else None,
        "chip": program.chip.name, "nodes": program.isa.rows * program.isa.cols, "enabled_nodes": program.chip.nodes,
        "instructions": program.isa.instructions, "engine": engine, "seed": seed, "blocks": blocks,
        "cycles": timing.cycles, "seconds": timing.seconds, "tflops": timing.tflops, "utilization": timing.utilization,
        "energy_j": timing.energy_j,
        "verified": verdict._asdict() if verdict is not None else None,
        "schedules": {"run": schedules, "different": unstable},
        "simulated_s": clock.spent,
    }  # fmt: skip
    deliver(json_to, lambda: facts, lambda: _show(target, facts, verdict, unstable, schedules))
    return 1 if unstable or (verdict is not None and verdict.mismatches) else 0


class _Clock:
    """Seconds spent by name of phase."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}

    def __call__(self, phase: str, work: Callable[[], T]) -> T:
        begun = time.perf_counter()
        result = work()
        self.spent[phase] = time.perf_counter() - begun
        return result


def _unstable(natural: Outputs, again: Callable[..., Outputs], schedules: Iterable[int]) -> list[int]:
    """Return the schedules under which a run gives other bits than the natural one."""
    from accel.verification import differing

    return [schedule for schedule in schedules if differing(natural, again(schedule=schedule))]


def _verdict(target: Target, ref: str | None, oracle: Callable[..., Any] | None, inputs: dict[str, Any],
             outputs: Outputs, sample: Sample | None, seed: int) -> Verdict | None:  # fmt: skip
    from accel.verification import against, verify

    if ref is not None and oracle is not None:
        return against(ref, oracle, target.program, inputs, outputs)
    if target.problem is None:
        return None
    return verify(target.problem, target.program, inputs, outputs, sample=sample, seed=seed)


def _show(target: Target, facts: dict[str, Any], verdict: Verdict | None, unstable: list[int], schedules: int) -> None:
    chip = target.program.chip
    say(f"{target.label} on {facts['chip']}: {facts['nodes']} of {facts['enabled_nodes']} nodes, "
        f"{facts['instructions']:,} instructions")  # fmt: skip
    say(f"  cycles       {facts['cycles']:,} = {seconds(facts['seconds'])} at {number(chip.clock_hz / 1e9)} GHz")
    say(f"  utilization  {percent(facts['utilization'])} of all enabled nodes, {rate(facts['tflops'] * 1e12)}")
    say(f"  result       {verdict or 'not verified: give an oracle with --ref file.py:fn'}")
    if facts["blocks"]:
        say(f"  executed     the causal slice of {facts['blocks']} output stores drawn after the build (--blocks)")
    if schedules:
        state = f"DIFFERENT BITS under schedules {', '.join(map(str, unstable))}" if unstable else "same bits"
        say(f"  schedules    {schedules} adversarial: {state}")
    spent = ", ".join(f"{phase} {duration:.2f}" for phase, duration in facts["simulated_s"].items())
    say(f"  simulated in {sum(facts['simulated_s'].values()):.2f} s ({spent})")
