"""`accel bench`: a problem timed on a chip, next to GPUs, with the ledger of lost cycles."""

from __future__ import annotations

from typing import Any

import click

from accel.cli.arguments import KernelOptions, kernel_options, parse_names
from accel.cli.output import deliver, json_option
from accel.errors import UnsupportedError

__all__ = ["bench"]


@click.command(short_help="Time a problem on a chip, next to GPUs.")
@kernel_options
@click.option("--vs", metavar="GPU,GPU", help="GPU ids to compare with (accel gpus lists them).")
@click.option("--baseline", metavar="ROWS.csv", help="Measured GPU rows that come before the packaged ones.")
@click.option(
    "--fidelity", type=click.Choice(["packet", "bound"]), default="packet", show_default=True,
    help="packet: the cycle model; bound: a closed form that is never above it.",
)  # fmt: skip
@json_option
def bench(vs: str | None, baseline: str | None, fidelity: str, json_to: str | None, **options: Any) -> int:
    """Time a library kernel's problem on a chip and compare it with GPU baselines.

    \b
    accel bench matmul --shape 4096x4096x4096 --chip d1 --vs a100-sxm-80gb,h100-sxm
    """
    from accel.cli.target import is_file, is_program, problem_of, tiling_of

    chosen = KernelOptions(**options)
    if is_file(chosen.kernel) or is_program(chosen.kernel):
        raise UnsupportedError(
            f"bench compares problems of the library, and {chosen.kernel} names none; time it with accel run"
        )
    from accel.baselines import gpu
    from accel.hardware import chip as find_chip

    spec = find_chip(chosen.chip)
    problem = problem_of(chosen)
    gpus = [gpu(name).name for name in parse_names(vs)]
    from accel.cli.progress import compiling
    from accel.comparison import bench as compare

    with compiling("timing"):
        result = compare(
            problem, spec, gpus, resident=parse_names(chosen.resident), data=baseline, fidelity=fidelity,
            **tiling_of(chosen),
        )  # fmt: skip

    def show() -> None:
        from accel.report import tables

        tables.show(*tables.comparison(result))

    deliver(json_to, result.to_dict, show)
    return 0
