"""Pareto fronts against comparing every pair, and knees against their definition."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accel.errors import InputError
from accel.sweep.fronts import Knee, knee, pareto

NUMBERS = st.one_of(st.integers(-3, 3), st.sampled_from([0.5, -0.0, math.inf, -math.inf, math.nan]), st.none())


def every_pair(points: list[tuple[Any, ...]], sign: list[int]) -> list[int]:
    """Return the front by its definition, over all pairs."""

    def there(point: tuple[Any, ...]) -> bool:
        return all(v is not None and not math.isnan(v) for v in point)

    def beats(a: tuple[Any, ...], b: tuple[Any, ...]) -> bool:
        pairs = [(s * x, s * y) for s, x, y in zip(sign, a, b, strict=True)]
        return all(x <= y for x, y in pairs) and any(x < y for x, y in pairs)

    held = [i for i, point in enumerate(points) if there(point)]
    return [i for i in held if not any(beats(points[j], points[i]) for j in held)]


@settings(max_examples=300, deadline=None)
@given(st.data(), st.integers(1, 5))
def test_front_is_what_every_pair_says(data: st.DataObject, objectives: int) -> None:
    points = data.draw(st.lists(st.tuples(*[NUMBERS] * objectives), min_size=1, max_size=40))
    split = data.draw(st.integers(0, objectives))
    names = [f"o{i}" for i in range(objectives)]
    expected = every_pair(points, [1] * split + [-1] * (objectives - split))
    rows = [dict(zip(names, point, strict=True)) for point in points]
    columns = {name: [point[i] for point in points] for i, name in enumerate(names)}
    for given_data in (rows, columns):
        assert pareto(given_data, minimise=names[:split], maximise=names[split:]).tolist() == expected


@pytest.mark.parametrize("objectives", [2, 3, 4, 6])
@pytest.mark.parametrize("levels", [2, 7, 100_000])
def test_front_of_many_points_is_what_every_pair_says(objectives: int, levels: int) -> None:
    """Large enough that every way to split is taken: many ties, few ties, none."""
    points = np.random.default_rng(objectives * levels).integers(0, levels, (1200, objectives))
    below = np.all(points[:, None] <= points[None], axis=2) & np.any(points[:, None] < points[None], axis=2)
    expected = np.flatnonzero(~below.any(axis=0))
    names = [f"o{i}" for i in range(objectives)]
    found = pareto(dict(zip(names, points.T, strict=True)), minimise=names)
    assert found.tolist() == expected.tolist()
    # On a simplex no point beats another.
    simplex = points - points.sum(axis=1, keepdims=True) / objectives
    flat = dict(zip(names, np.round(simplex * objectives).T, strict=True))
    assert len(pareto(flat, minimise=names)) == len(points)


@pytest.mark.parametrize(("objectives", "count"), [(2, 100_000), (3, 100_000), (4, 20_000)])
def test_many_points_need_no_comparison_of_all_pairs(objectives: int, count: int) -> None:
    """All on the front, the worst case; comparing every pair would take up to 10^10 steps."""
    draw = np.random.default_rng(1).random((count, objectives))
    draw[:, -1] = -draw[:, :-1].sum(axis=1)
    names = [f"o{i}" for i in range(objectives)]
    found = pareto(dict(zip(names, draw.T, strict=True)), minimise=names)
    assert found.tolist() == list(range(count))


def test_integers_that_a_float_cannot_tell_apart() -> None:
    assert pareto({"bytes": [2**53 + 1, 2**53]}, minimise="bytes").tolist() == [1]
    assert pareto({"bytes": [2**2000 + 1, None, 2**2000]}, minimise="bytes").tolist() == [2]


def test_a_key_that_only_some_rows_have() -> None:
    rows = [{"s": 1.0}, {"s": 0.5, "usd": 3}, {"usd": 1, "s": 0.7}, {}]
    assert pareto(rows, minimise=("s", "usd")).tolist() == [1, 2]


def test_no_points() -> None:
    assert pareto([], minimise="s").tolist() == []
    assert pareto({"s": []}, minimise="s").tolist() == []
    assert pareto({"s": [math.nan]}, minimise="s").tolist() == []


@pytest.mark.parametrize(
    ("data", "named", "text"),
    [
        ([{"seconds": 1}], {}, "no objective"),
        ([{"seconds": 1}], {"minimise": "second"}, "did you mean 'seconds'"),
        ({"seconds": [1]}, {"maximise": ("second",)}, "did you mean 'seconds'"),
        ({"s": [1]}, {"minimise": "s", "maximise": "s"}, "twice"),
        ({"s": [1], "u": [1, 2]}, {"minimise": ("s", "u")}, "unequal lengths: s has 1, u has 2"),
        ({"s": ["fast"]}, {"minimise": "s"}, "'fast' is no number"),
        ({"s": [True, False]}, {"minimise": "s"}, "no number"),
        ([{"s": 1.0}, {"s": "x"}], {"minimise": "s"}, "no number"),
        ({"s": [[1], [2]]}, {"minimise": "s"}, "2 dimensions"),
        ({"s": [[1], [2, 3]]}, {"minimise": "s"}, "no row of numbers"),
        ([1, 2], {"minimise": "s"}, "list of dicts"),
        ({"s": [1]}, {"minimise": (3,)}, "no name of a column"),
        ({"s": [1 + 2j]}, {"minimise": "s"}, "no number"),
    ],
)
def test_front_refuses(data: Any, named: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        pareto(data, **named)


def test_knee_of_a_line_that_levels_off() -> None:
    x = [1, 2, 3, 4, 5]
    assert knee(x, [10.0, 5.0, 2.05, 2.0, 2.01]) == Knee(2, 3.0, 2.05)
    assert knee(x, [0.1, 0.5, 0.96, 0.98, 1.0], maximise=True) == Knee(3, 4.0, 0.98)
    assert knee(x, [0.1, 0.5, 0.96, 0.98, 1.0], maximise=True, within=0.05) == Knee(2, 3.0, 0.96)


def test_knee_comes_after_the_last_point_that_is_off() -> None:
    assert knee([1, 2, 3, 4, 5], [10, 2, 9, 2, 2]) == Knee(3, 4.0, 2.0)


def test_knee_takes_points_in_any_order_and_the_best_of_each_x() -> None:
    assert knee([4, 1, 3, 3, 2, 4], [2, 10, 9, 2, 5, 8]) == Knee(3, 3.0, 2.0)
    assert knee([1, 2, math.nan, 3, 4], [9, 5, 1, 2, 2]) == Knee(3, 3.0, 2.0)
    assert knee([1, 2, 2.5, 3, 4], [9, 5, math.nan, 2, 2]) == Knee(3, 3.0, 2.0)


@pytest.mark.parametrize(
    ("x", "y"),
    [
        ([], []),
        ([1, 2], [5, 5]),  # no line
        ([1, 2, 3], [5, 5, 5]),  # flat
        ([1, 2, 3, 4], [8, 4, 2, 1]),  # still falling
        ([1, 2, 3], [3, 2, -math.inf]),  # an endless best
        ([1, 1, 1, 1], [4, 3, 2, 1]),  # one x
    ],
)
def test_no_knee(x: list[float], y: list[float]) -> None:
    assert knee(x, y) is None


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 8), st.integers(-20, 20)), max_size=20), st.sampled_from([0.0, 0.03, 0.5]))
def test_knee_is_what_the_definition_says(points: list[tuple[int, int]], within: float) -> None:
    best_at: dict[int, int] = {}
    for x, y in points:
        best_at[x] = min(y, best_at.get(x, y))
    best = min(best_at.values(), default=0)
    good = {x: abs(y - best) <= within * abs(best) for x, y in best_at.items()}
    from_here = [x for x in sorted(good) if all(good[other] for other in good if other >= x)]
    there = len(good) >= 3 and 1 < len(from_here) < len(good)
    found = knee([x for x, _ in points], [y for _, y in points], within=within)
    assert (found is None) == (not there)
    if found is not None:
        assert (found.x, found.y) == (from_here[0], best_at[from_here[0]])
        assert points[found.index] == (found.x, found.y)


@pytest.mark.parametrize(
    ("x", "y", "more", "text"),
    [
        ([1, 2], [1], {}, "give a y for every x"),
        (["a", "b"], [1, 2], {}, "no number"),
        ([1, 2], [1, 2], {"within": 1.0}, "share"),
        ([1, 2], [1, 2], {"within": math.nan}, "share"),
        ([1, 2], [1, 2], {"within": True}, "share"),
    ],
)
def test_knee_refuses(x: Any, y: Any, more: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        knee(x, y, **more)
