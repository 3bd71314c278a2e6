"""Named networks as ordered lists of problems: forward passes and training steps of published networks."""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accel.errors import InputError, nearest
from accel.networks.expansion import OPTIMIZER, expand, size
from accel.problem import Optimizer, Problem
from accel.problem.checks import check_int

__all__ = ["Layer", "names", "network", "parameters", "title", "weights"]

_DATA = Path(__file__).parent / "data"
PIECE = 1 << 28  # weights of one step of an optimizer: 5 GB with moments and results


@dataclass(frozen=True)
class Layer:
    """One problem of a network, which occurs `count` times in a step.

    name: the layer and what of it; source: where the shapes come from; phase: "forward", "backward" or "optimizer".
    """

    name: str
    problem: Problem
    count: int
    source: str
    phase: str


def names() -> tuple[str, ...]:
    """Return the names of the networks."""
    return tuple(sorted(path.stem for path in _DATA.glob("*.toml")))


@functools.cache
def _table(name: str) -> dict[str, Any]:
    known = names()
    if name not in known:
        raise InputError(f"unknown network {name!r}{nearest(name, known)}; use one of {', '.join(known)}")
    return tomllib.loads((_DATA / f"{name}.toml").read_text(encoding="utf-8"))


def title(name: str) -> str:
    """Return what a network is called in print; InputError for an unknown name."""
    return str(_table(name)["title"])


def parameters(name: str) -> dict[str, int]:
    """Return what may be said about a network beside its name, with the values it has unless said."""
    return dict(_table(name)["parameters"])


def network(name: str, *, training: bool = False, dtype: str = "bf16", **given: Any) -> tuple[Layer, ...]:
    """Return the problems of one step of a network in the order of its layers, layer by layer.

    given: `batch` and the other parameters of the network, see `parameters`. training: with the gradients (the first
    layer has no data gradient), and the optimizer's update of all parameters. Gradients come in the order in which
    they are computed, last layer first. dtype: of activations, weights and gradients. InputError for an unknown name
    or parameter, and for sizes that do not divide.
    """
    table = _table(name)
    known = parameters(name)
    for key, value in given.items():
        if key not in known:
            raise InputError(f"network {name} has no {key}{nearest(key, known)}; it has {', '.join(known)}")
        known[key] = check_int(f"network {name}", key, value)
    forward: list[Layer] = []
    backward: list[list[Layer]] = []
    trained: list[tuple[str, int, int]] = []
    for row in table["network"]["layers"]:
        count = size(row.get("count", 1), known)
        groups = {"group_count": size(row.get("groups", 1), known)}
        found = expand({**row, **groups}, known, training=training, dtype=dtype)
        made = [
            Layer(f"{row['name']} {work.what}".strip(), work.problem, count, table["source"], work.phase)
            for work in found.work
        ]
        forward += [layer for layer in made if layer.phase == "forward"]
        backward.append([layer for layer in made if layer.phase == "backward"])
        trained.append((row["name"], count, found.parameters))
    steps = forward + [layer for layers in reversed(backward) for layer in layers]
    if training:
        steps += _updates(table, trained, dtype)
    return tuple(steps)


def _updates(table: dict[str, Any], trained: list[tuple[str, int, int]], dtype: str) -> list[Layer]:
    """The optimizer's step over all parameters; that of LAMB, which takes norms of a layer, layer by layer."""
    method, source = table["optimizer"], table["source"]
    if method != "lamb":  # in pieces that fit any memory, since nothing but LAMB cares where a tensor ends
        full, rest = divmod(sum(count * parameters for _, count, parameters in trained), PIECE)
        trained = [(f"{PIECE} weights", full, PIECE), ("weights", 1, rest)]
    return [
        Layer(f"{name} {method}", Optimizer(parameters, method, dtype=dtype), count, source, OPTIMIZER)
        for name, count, parameters in trained
        if count and parameters
    ]


def weights(name: str, **given: Any) -> int:
    """Return the number of parameters that training updates; name and given as for `network`."""
    steps = network(name, training=True, **given)
    return sum(
        layer.count * layer.problem.operands["w"].shape[0] for layer in steps if isinstance(layer.problem, Optimizer)
    )
