"""The shapes of the tile study, the tiling that each gets by default, and how the tilings beside it are drawn."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

from accel import problem
from accel.errors import AccelError
from accel.hardware import ChipSpec
from accel.kernels.parts import conv_data_choice, conv_tiling, conv_weight_choice, matmul_choice
from accel.kernels.parts.conv_data_gradient import cut_for
from accel.kernels.parts.conv_shape import simplified
from accel.kernels.parts.matmul_formats import Formats
from accel.numerics import fmt

SEED = 6
TILINGS = 28  # beside the default, of every shape
NEIGHBOURS = 14  # of them: one parameter changed
SLOWEST = 1.6  # estimated cycles of a tiling that is tried, over those of the default

MATMUL = ("passes_m", "passes_n", "piece", "pieces", "stages", "accumulators", "strip")
FORWARD = ("parts", "high", "wide", "bands", "taps", "deep", "slots", "stages", "accumulators", "staged")
DATA = ("share", "per_pass", "frames", "rows", "columns", "inner", "width", "filters", "windows", "sums", "outs")
WEIGHT = ("share", "c_parts", "t_parts", "r_parts", "s_parts", "k_parts", "frames", "rows", "stages")

_3X3 = {"r": 3, "s": 3, "pad": 1}
_CLIPS = {"kt": 1, "r": 3, "s": 3, "pad": [0, 1, 1]}


def _conv(n: int, size: int, c: int, k: int, direction: str, **more: Any) -> dict[str, Any]:
    return {"kind": "conv2d", "n": n, "h": size, "w": size, "c": c, "k": k, "direction": direction, **(more or _3X3)}


def _clip(n: int, t: int, size: int, c: int, k: int, direction: str, **more: Any) -> dict[str, Any]:
    return {**_conv(n, size, c, k, direction, **more), "kind": "conv3d", "t": t}


def _matmul(m: int, n: int, k: int) -> dict[str, Any]:
    return {"kind": "matmul", "m": m, "n": n, "k": k}


ONE = {"r": 1, "s": 1}
STEM = {"r": 7, "s": 7, "pad": 3, "stride": 2}
SHAPES: dict[str, tuple[dict[str, Any], bool]] = {
    "matmul-1024": (_matmul(1024, 1024, 1024), False),
    "matmul-2048": (_matmul(2048, 2048, 2048), False),
    "matmul-deepbench-1760x128": (_matmul(1760, 128, 1760), False),
    "matmul-deepbench-5124x700": (_matmul(5124, 700, 2048), False),
    "matmul-deepbench-35x8457": (_matmul(35, 8457, 2048), False),
    "matmul-token-16": (_matmul(16, 4096, 4096), False),
    "matmul-stem-k27": (_matmul(50176, 64, 27), False),
    "matmul-ragged": (_matmul(999, 777, 555), False),
    "matmul-conv5-512-2048": (_matmul(1568, 2048, 512), True),
    "matmul-mesh-1152x1216": (_matmul(1152, 1216, 1024), True),
    "matmul-conv2-64-64": (_matmul(12544, 64, 576), True),
    "fwd-56x56-64": (_conv(16, 56, 64, 64, "fwd"), True),
    "fwd-28x28-128": (_conv(16, 28, 128, 128, "fwd"), False),
    "fwd-14x14-256": (_conv(32, 14, 256, 256, "fwd"), True),
    "fwd-1x1-256-1024": (_conv(32, 14, 256, 1024, "fwd", **ONE), True),
    "fwd-stem-7x7": (_conv(4, 224, 3, 64, "fwd", **STEM), False),
    "fwd-ragged": (_conv(19, 17, 40, 72, "fwd"), False),
    "dgrad-56x56-64": (_conv(16, 56, 64, 64, "dgrad"), True),
    "dgrad-28x28-128": (_conv(16, 28, 128, 128, "dgrad"), False),
    "dgrad-14x14-256": (_conv(32, 14, 256, 256, "dgrad"), True),
    "dgrad-1x1-256-1024": (_conv(32, 14, 256, 1024, "dgrad", **ONE), True),
    "wgrad-56x56-64": (_conv(16, 56, 64, 64, "wgrad"), True),
    "wgrad-28x28-128": (_conv(16, 28, 128, 128, "wgrad"), False),
    "wgrad-14x14-256": (_conv(32, 14, 256, 256, "wgrad"), True),
    "wgrad-1x1-256-1024": (_conv(32, 14, 256, 1024, "wgrad", **ONE), True),
    "wgrad-stem-k27": (_conv(8, 64, 3, 32, "wgrad"), False),
    "conv3d-fwd-144-64": (_clip(2, 8, 56, 144, 64, "fwd", kt=3, r=1, s=1, pad=[1, 0, 0]), True),
    "conv3d-dgrad-256": (_clip(8, 4, 14, 256, 256, "dgrad", **_CLIPS), True),
    "conv3d-wgrad-256": (_clip(8, 4, 14, 256, 256, "wgrad", **_CLIPS), True),
}
"""By name: the problem, and whether its operands lie in SRAM."""

Tiling = dict[str, int]
Retile = Callable[[Mapping[str, int]], tuple[Tiling, float]]


def made(fields: Mapping[str, Any]) -> Any:
    """Return the problem of a table of fields."""
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
    return problem.kind(given.pop("kind"))(**given)


def tilings(work: Any, chip: ChipSpec, *, resident: bool) -> Retile:
    """Return what gives the tiling of `work` with some parameters replaced (none: the default), and its estimate.

    The result holds every parameter that the kernel takes. AccelError where the tiling is not legal.
    """
    held = frozenset(work.operands) if resident else frozenset()
    if work.kind == "matmul":
        formats = Formats.of(work)
        base = matmul_choice.choose(chip, work.m, work.n, work.k, resident=held, formats=formats)

        def matmul(given: Mapping[str, int]) -> tuple[Tiling, float]:
            new = matmul_choice.fill_in(base, chip, resident=held, formats=formats, **given)
            return _fields(new, MATMUL), new.cycles(chip, resident=held, formats=formats)

        return matmul
    dtype, out_dtype, geometry = work.dtype, work.out_dtype, work.geometry
    if work.direction == "fwd":
        forward = conv_tiling.choose(
            chip, simplified(geometry), resident=held, dtype=dtype, out_dtype=out_dtype, bias=False
        )

        def fwd(given: Mapping[str, int]) -> tuple[Tiling, float]:
            new = conv_tiling.fill_in(forward, chip, held, **given)
            return _fields(new, FORWARD), new.cycles(chip, held)

        return fwd
    if work.direction == "dgrad":
        data = cut_for(chip, geometry, Formats(dtype, out_dtype), held, {})

        def dgrad(given: Mapping[str, int]) -> tuple[Tiling, float]:
            new = conv_data_choice.fill_in(data, chip, **given)
            return _fields(new, DATA), new.cycles(chip)

        return dgrad
    sizes = {"item": fmt(dtype).bytes, "out_item": fmt(out_dtype).bytes}

    def wgrad(given: Mapping[str, int]) -> tuple[Tiling, float]:
        new = conv_weight_choice.choose(chip, geometry, resident=held, bias=False, vector=[False], **sizes, **given)
        return _fields(new, WEIGHT), new.cycles(chip)

    return wgrad


def _fields(tiling: Any, names: tuple[str, ...]) -> Tiling:
    return {name: int(getattr(tiling, name)) for name in names}


def drawn(name: str, retile: Retile) -> list[Tiling]:
    """Return the default and `TILINGS` others, none twice: neighbours of it, then random ones about it.

    Of a neighbour one parameter differs; of a random one each does with probability a half, and in a weight gradient,
    most of whose combinations are illegal, the kernel chooses the rest. Values lie between a quarter and four times
    that of the default, parts between 1 and 19. Illegal ones are dropped, and those whose estimate is `SLOWEST` times
    that of the default.
    """
    dice = random.Random(f"{SEED} {name}")
    start, least = retile({})
    found = [start]
    near = [(field, value) for field in start for value in _values(field, start[field]) if value != start[field]]
    dice.shuffle(near)
    tries = [{**start, field: value} for field, value in near]
    for limit, batch in (
        (NEIGHBOURS, tries),
        (TILINGS, (_any(start, dice, alone="k_parts" in start) for _ in range(40 * TILINGS))),
    ):
        for wanted in batch:
            if len(found) > limit:
                break
            try:
                tiling, cost = retile(wanted)
            except AccelError:
                continue
            if cost <= SLOWEST * least and tiling not in found:
                found.append(tiling)
    return found


def _any(start: Tiling, dice: random.Random, *, alone: bool) -> Tiling:
    new = {name: dice.choice(_values(name, value)) for name, value in start.items() if dice.random() < 0.5}
    return new if alone else {**start, **new}


def _values(name: str, value: int) -> list[int]:
    """Return the values to try for a parameter whose default is `value`: a quarter to four times it, and those next."""
    if name.endswith("_parts"):
        return list(range(1, 20))
    about = {value - 1, value + 1, value // 4, value // 2, value * 3 // 4 // 4 * 4, value * 5 // 4 // 4 * 4}
    about |= {value, value * 3 // 2, 2 * value, 3 * value, 4 * value}
    return sorted(x for x in about if x >= min(1, value))
