"""What the estimate of forward convolutions counts, against what their programs move."""

from __future__ import annotations

from typing import Any

import pytest

import accel
from accel import problem
from accel.comparison import build
from accel.kernels.parts.conv_estimate import fetched_pixels, least_cycles
from accel.kernels.parts.conv_shape import simplified
from accel.kernels.parts.conv_tiling import Tiling, choose, fill_in

CASES: list[tuple[dict[str, Any], dict[str, int]]] = [
    ({"n": 2, "h": 17, "w": 19, "c": 8, "k": 16, "r": 3, "s": 3, "pad": 1}, {"high": 4, "wide": 5}),
    ({"n": 1, "h": 23, "w": 21, "c": 3, "k": 8, "r": 7, "s": 7, "pad": 3, "stride": 2}, {"high": 1, "wide": 3}),
    ({"n": 3, "h": 12, "w": 14, "c": 4, "k": 8, "r": 3, "s": 3, "pad": 2, "dilation": 2}, {"high": 1, "wide": 14}),
    ({"n": 2, "h": 9, "w": 30, "c": 8, "k": 8, "r": 1, "s": 1}, {"high": 1, "wide": 16}),
]


def _tiling(fields: dict[str, Any], given: dict[str, int]) -> tuple[Any, Tiling]:
    chip, work = accel.chip("mini"), problem.kind("conv2d")(**fields)
    options = {"resident": frozenset[str](), "dtype": "bf16", "out_dtype": "bf16", "bias": False}
    base = choose(chip, simplified(work.geometry), **options)  # type: ignore[arg-type]
    return work, fill_in(base, chip, frozenset(), **given, parts=1, staged=0)


@pytest.mark.parametrize(("fields", "given"), CASES)
def test_fetched_pixels_are_those_the_program_reads(fields: dict[str, Any], given: dict[str, int]) -> None:
    """Of everything the program reads from memory, what is not filters is the pixels that were counted."""
    work, tiling = _tiling(fields, given)
    program = build(work, accel.chip("mini"), **given, parts=1, staged=0)
    counted = 2 * work.c * fetched_pixels(tiling)
    filters = 2 * tiling.shape.depth * work.k * (1 if tiling.kept else tiling.tiles)
    assert program.time().bytes["memory_read"] == counted + filters


@pytest.mark.parametrize(("fields", "given"), CASES)
def test_the_bound_of_a_cut_is_below_all_its_tilings(fields: dict[str, Any], given: dict[str, int]) -> None:
    """The search leaves out cuts by this bound: none may be worth more than it says."""
    chip = accel.chip("mini")
    _, tiling = _tiling(fields, given)
    bound = least_cycles(tiling, chip, frozenset())
    tried = 0
    for more in (
        {},
        {"slots": 1},
        {"accumulators": 1},
        {"taps": 1},
        {"taps": 1, "stages": 1},
        {"deep": 2, "stages": 2},
    ):
        if more.get("deep", 0) <= tiling.shape.group_c:
            tried += 1
            assert fill_in(tiling, chip, frozenset(), **more).cycles(chip, frozenset()) >= bound
    assert tried >= 5
