"""`accel bench network:NAME`: every layer of a network on a chip, and the sum of a forward pass or a training step."""

from __future__ import annotations

from typing import Any

from accel.cli.arguments import KernelOptions, parse_names, parse_params
from accel.cli.output import deliver
from accel.errors import InputError

__all__ = ["PREFIX", "bench_network"]

PREFIX = "network:"


def bench_network(
    chosen: KernelOptions, *, vs: str | None, fidelity: str, training: bool, batch: int | None, workers: int | None,
    json_to: str | None,
) -> int:  # fmt: skip
    """Time the network that the options name, with progress on stderr; exit code 0 also where layers have no kernel."""
    given = [name for name, there in chosen.given().items() if there and name not in ("--dtype", "--param")]
    if given:
        raise InputError(
            f"{given[0]} does not go with {chosen.kernel}: its layers say their own; use --batch, --dtype or --param"
        )
    from accel import networks
    from accel.cli.progress import compiling, progress_line
    from accel.networks.timing import time_layers

    name = chosen.kernel.removeprefix(PREFIX)
    sizes: dict[str, Any] = parse_params(chosen.param)
    if batch is not None and "batch" in sizes:
        raise InputError("batch is given by --batch and by --param; give it once")
    sizes |= {} if batch is None else {"batch": batch}
    reserved = sorted({"training", "dtype", "name"} & set(sizes))
    if reserved:
        raise InputError(f"--param {reserved[0]} is no size of a network; use --{reserved[0]}")
    layers = networks.network(name, training=training, dtype=chosen.dtype or "bf16", **sizes)
    problems = len({layer.problem for layer in layers})
    with compiling("timing"), progress_line(problems) as steps:

        def watch(label: str, done: int, _all: int) -> None:
            steps.done = done
            steps.say(label)

        timing = time_layers(layers, chosen.chip, vs=parse_names(vs), fidelity=fidelity, workers=workers, watch=watch)
    named = f"{networks.title(name)}, {'training step' if training else 'forward pass'}"
    sizes = networks.parameters(name) | sizes

    def data() -> dict[str, Any]:
        return {
            "network": name, "training": training, "dtype": chosen.dtype or "bf16", "parameters": sizes,
            "source": layers[0].source, **timing.to_dict(),
        }  # fmt: skip

    def show() -> None:
        from accel.report import tables
        from accel.report.networks import network_tables

        said = ", ".join(f"{key} {value}" for key, value in sizes.items())
        tables.show(*network_tables(f"{named} ({said})", layers[0].source, timing))

    deliver(json_to, data, show)
    return 0
