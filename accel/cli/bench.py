"""`accel bench`: a problem timed on a chip, next to GPUs, with the ledger of lost cycles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from accel.cli.arguments import KernelOptions, kernel_options, parse_names
from accel.cli.output import deliver, json_option
from accel.errors import InputError, UnsupportedError

if TYPE_CHECKING:
    from accel.timing import Sensitivity

__all__ = ["bench"]


@click.command(short_help="Time a problem on a chip, next to GPUs.")
@kernel_options
@click.option("--vs", metavar="GPU,GPU", help="GPU ids to compare with (accel gpus lists them).")
@click.option("--baseline", metavar="ROWS.csv", help="Measured GPU rows that come before the packaged ones.")
@click.option(
    "--fidelity", type=click.Choice(["packet", "bound"]), default="packet", show_default=True,
    help="packet: the cycle model; bound: a closed form that is never above it.",
)  # fmt: skip
@click.option("--explain", is_flag=True,
              help="Also show what 10 % more of each resource would change, and the lines that cost most.")  # fmt: skip
@click.option("--training", is_flag=True, help="Of a network: with gradients and the optimizer.")
@click.option("--batch", type=int, metavar="N", help="Of a network: its batch.")
@click.option("--workers", type=int, metavar="N", help="Of a network: processes that time its layers.")
@json_option
def bench(
    vs: str | None, baseline: str | None, fidelity: str, explain: bool, json_to: str | None, training: bool,
    batch: int | None, workers: int | None, **options: Any,
) -> int:  # fmt: skip
    """Time a library kernel's problem on a chip and compare it with GPU baselines.

    \b
    accel bench matmul --shape 4096x4096x4096 --chip d1 --vs a100-sxm-80gb,h100-sxm
    accel bench matmul --shape 1024x1024x1024 --chip d1 --explain
    accel bench network:resnet50 --training --batch 256
    """
    from accel.cli.network import PREFIX, bench_network
    from accel.cli.target import is_file, is_program, problem_of, tiling_of

    chosen = KernelOptions(**options)
    if chosen.kernel.startswith(PREFIX):
        if baseline or explain:
            raise InputError(
                f"{'--explain' if explain else '--baseline'} does not go with {chosen.kernel}; bench one of its layers"
            )
        return bench_network(
            chosen, vs=vs, fidelity=fidelity, training=training, batch=batch, workers=workers, json_to=json_to
        )
    for name, value in (("--training", training), ("--batch", batch is not None), ("--workers", workers is not None)):
        if value:
            raise InputError(f"{name} is about networks; use it with network:NAME, such as network:resnet50")
    if is_file(chosen.kernel) or is_program(chosen.kernel):
        raise UnsupportedError(
            f"bench compares problems of the library, and {chosen.kernel} names none; "
            "time it with accel run, look into it with accel report"
        )
    if explain and fidelity != "packet":
        raise InputError(f"--explain times the program again event by event; leave --fidelity {fidelity} out")
    from accel.baselines import gpu
    from accel.hardware import chip as find_chip

    spec = find_chip(chosen.chip)
    problem = problem_of(chosen)
    gpus = [gpu(name).name for name in parse_names(vs)]
    from accel.cli.progress import compiling
    from accel.comparison import bench as compare

    found: tuple[Sensitivity, ...] = ()
    with compiling("timing"):
        result = compare(
            problem, spec, gpus, resident=parse_names(chosen.resident), data=baseline, fidelity=fidelity,
            **tiling_of(chosen),
        )  # fmt: skip
        if explain:
            from accel.timing import sensitivities

            found = sensitivities(result.program.isa, result.program.chip)

    def data() -> dict[str, Any]:
        from accel.report.explanation import explanation_data

        own = {"explain": explanation_data(result.timing, found)} if explain else {}
        return {**result.to_dict(), **own}

    def show() -> None:
        from accel.report import tables

        tables.show(*tables.comparison(result))
        if explain:
            from accel.report.explanation import explanation

            tables.show(*explanation(result.timing, found))

    deliver(json_to, data, show)
    return 0
