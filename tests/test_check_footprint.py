"""Footprints and shadow bits against sets of bytes; pools that grow in the middle of a run."""

from __future__ import annotations

import itertools
import random
from typing import Any

import numpy as np
import pytest
from programs import copy_program, summa_program
from test_check import MINI, without

from accel.check import footprint, inspect, inspection, pools
from accel.check import layout as words
from accel.check.arena import first_state
from accel.check.prepare import canonical, tables_of
from accel.errors import UnsupportedError

# --- footprints against sets of bytes --------------------------------------------------------------------------------


def boxes(count: int, unit: int = 1) -> list[tuple[list[int], list[int], int, int]]:
    """Random (shape, strides, element bytes, first byte), all multiples of `unit`."""
    rng = random.Random(5)
    found = []
    for _ in range(count):
        shape = [rng.choice([1, 1, 2, 3, 5]) for _ in range(4)]
        stride = [rng.choice([0, 1, 2, 3, 4, 6, 8, 12, 20, -2, -6]) for _ in range(4)]
        size, at = rng.choice([1, 2, 4]), rng.randrange(100, 140)
        found.append((shape, [s * unit for s in stride], size * unit, at * unit))
    return found


def bytes_of(box: tuple[list[int], list[int], int, int]) -> set[int]:
    shape, stride, size, at = box
    starts = (
        at + sum(i * s for i, s in zip(index, stride, strict=True)) for index in itertools.product(*map(range, shape))
    )
    return {start + b for start in starts for b in range(size)}


def arena_of(some: list[tuple[list[int], list[int], int, int]]) -> tuple[Any, list[tuple[int, int]]]:
    """Footprint rows in an arena; (address of the row, lowest byte) of each box."""
    rows = np.zeros((len(some), words.F_WORDS), np.int64)
    shapes: dict[Any, int] = {}
    places = []
    for i, (f, (shape, stride, size, at)) in enumerate(zip(rows, some, strict=True)):
        offset, run, dims = canonical(shape, stride, size)
        f[words.F_RUN], f[words.F_DIMS], f[words.F_SPAN] = run, len(dims), run + sum(s * (n - 1) for s, n in dims)
        f[words.F_COUNT : words.F_COUNT + 4] = 1
        for d, (s, n) in enumerate(dims, 4 - len(dims)):
            f[words.F_STRIDE + d], f[words.F_COUNT + d] = s, n
        f[words.F_SHAPE] = shapes.setdefault((run, *dims), len(shapes))
        f[words.F_LOW], f[words.F_HIGH] = 0, 1 << 20
        places.append((i * words.F_WORDS, at + offset))
    return rows.reshape(-1), places


def windowed(m: Any, places: list[tuple[int, int]], sets: list[set[int]], seed: int, unit: int = 1) -> list[set[int]]:
    """Give some footprints a window; return what is left of their bytes."""
    rng, left = random.Random(seed), []
    for (f, _), whole in zip(places, sets, strict=True):
        low, high = min(whole) // unit, (max(whole) + unit) // unit
        if rng.random() < 0.6:
            low, high = sorted(rng.sample(range(low - 1, high + 2), 2))
        m[f + words.F_LOW], m[f + words.F_HIGH] = low * unit, high * unit
        m[f + words.F_SHAPE] += 1000 * f  # a window is part of a shape
        left.append({b for b in whole if low * unit <= b < high * unit})
    return left


@pytest.mark.parametrize("windows", [False, True])
def test_footprints_equal_sets_of_bytes(windows: bool) -> None:
    some = boxes(150)
    m, places = arena_of(some)
    sets = [bytes_of(box) for box in some]
    overlap, contains = footprint.overlap.plain, footprint.contains.plain
    shared = 0
    assert [at for _, at in places] == [min(s) for s in sets]
    if windows:
        sets = windowed(m, places, sets, 3)
    for (f, at), left in zip(places, sets, strict=True):
        for (g, there), right in zip(places, sets, strict=True):
            assert overlap(m, f, at, g, there) == bool(left & right)
            shared += bool(left & right)
            if contains(m, f, at, g, there):
                assert left >= right
    assert 0 < shared < len(some) ** 2


@pytest.mark.parametrize("windows", [False, True])
@pytest.mark.parametrize("grain", [0, 1, 2])
def test_shadow_bits_equal_sets_of_bytes(grain: int, windows: bool) -> None:
    some = boxes(60, 1 << grain)
    m, places = arena_of(some)
    bits, seen, zero = np.zeros(40, np.uint32), set[int](), 8
    sets = [bytes_of(box) for box in some]
    if windows:
        sets = windowed(m, places, sets, 4, 1 << grain)
    for (f, at), mine in zip(places, sets, strict=True):
        assert footprint.all_set.plain(m, bits, 3, grain, f, at, zero) == (mine <= seen)
        fresh = footprint.mark.plain(m, bits, 3, grain, f, at, zero)
        assert fresh == len(mine - seen) >> grain
        seen |= mine
    assert bits[:3].sum() == 0
    assert sum(int(x).bit_count() for x in bits) == len(seen) >> grain > 100


# --- pools -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", range(words.GROW_LOG, words.GROW_HITS + 1))
def test_a_run_goes_on_after_growing(which: int, monkeypatch: pytest.MonkeyPatch) -> None:
    program = without(summa_program(2, 2, 4, 4, 4, 4), 6)
    expected = inspect(program, MINI, schedules=2)
    assert expected
    grown = []

    def start(*args: Any) -> Any:
        state = first_state(*args)
        for _ in range(3):
            state = pools.grown(state, which, "test")
            grown.append(which)
        return state

    monkeypatch.setattr(inspection, "first_state", start)
    assert inspect(program, MINI, schedules=2) == expected
    assert len(grown) == 3 * (1 + inspection.FURTHER)  # a program with findings is walked in further orders


def test_the_limit_on_growth_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    state = first_state(tables_of(copy_program(), 16), 0, 0)
    monkeypatch.setattr(pools, "BYTES_LIMIT", 1000)
    with pytest.raises(UnsupportedError, match="smaller mesh"):
        pools.grown(state, words.GROW_LOG, "p")
