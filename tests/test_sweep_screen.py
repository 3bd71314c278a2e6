"""Screening against building every point: bounds, causes and legality are as `Space.resolve` and `bound` have them."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accel.errors import AccelError, InputError
from accel.hardware import chip
from accel.problem import Matmul, kinds
from accel.sweep import Space, problem_columns
from accel.sweep import screen as screening
from accel.sweep.chips import paths_of, read
from accel.sweep.screen import CAUSES, screen
from accel.timing.rooflines import best_seconds

SIZES = st.sampled_from([1, 2, 3, 5, 8, 16, 33])
STEPS = st.one_of(st.integers(0, 3), st.lists(st.integers(0, 2), min_size=2, max_size=2))


def compare(space: Space, points: list[int] | None = None) -> tuple[int, int]:
    """Compare a screen with its points one by one; return how many are legal and how many are not."""
    found = screen(space)
    assert len(found) == len(space)
    legal = illegal = 0
    for index in range(len(space)) if points is None else points:
        at = (space.values(index), str(found.reason[index]))
        try:
            point = space.resolve(index)
            parts = [
                (count, problem, problem.bound(point.chip, point.resident)) for count, _, problem in point.problems
            ]
        except AccelError:
            illegal += 1
            assert not found.legal[index], at
            assert found.reason[index], at
            assert np.isnan(found.seconds[index]), at
            assert found.cause[index] == -1, at
            continue
        legal += 1
        assert found.legal[index], at
        assert found.reason[index] == ""
        expected = sum(count * bound.seconds for count, _, bound in parts)
        assert found.seconds[index] == pytest.approx(expected, rel=1e-12, abs=0.0), at
        by_cause = dict.fromkeys(CAUSES, 0.0)
        for count, _, bound in parts:
            by_cause[bound.cause] += count * bound.seconds
        shown = by_cause[CAUSES[found.cause[index]]]
        assert shown == pytest.approx(max(by_cause.values()), rel=1e-12, abs=0.0), at
        assert found.cycles[index] == pytest.approx(expected * point.chip.clock_hz, rel=1e-12, abs=0.0)
        if expected and all(problem.flops for _, problem, _ in parts):
            best = sum(n * problem.flops / point.chip.peak_flops(problem.engine_dtype) for n, problem, _ in parts)
            assert found.utilization[index] == pytest.approx(best / expected, rel=1e-12, abs=0.0), at
    return legal, illegal


# ------------------------------------------------------------------------------------------------------- chips


def values_around(value: Any, draw: Any) -> list[Any]:
    """Return values of a chip's field, some of which its rules refuse."""
    if isinstance(value, str):
        return [value, "another", ""]
    whole = isinstance(value, int)
    others = [value * 2, value // 2 if whole else value / 3, value + 1, 0 if whole else 0.0, -value - 1, 4]
    others = [other if whole else float(other) for other in others]
    return list(dict.fromkeys([value, *draw(st.lists(st.sampled_from(others), min_size=1, max_size=3))]))


@settings(max_examples=50, deadline=None)
@given(st.data(), st.sampled_from(["mini", "d1"]))
def test_any_fields_of_a_chip(data: st.DataObject, base: str) -> None:
    plain = chip(base).to_dict()
    paths = [path for path in paths_of(plain) if isinstance(read(plain, path), int | float | str)]
    paths = [path for path in paths if not path.startswith("assumptions.")]
    drawn = data.draw(st.lists(st.sampled_from(paths), min_size=1, max_size=4, unique=True))
    axes = {path: values_around(read(plain, path), data.draw) for path in drawn}
    dtype = data.draw(st.sampled_from(["bf16", "fp32", "cfp8-143", "int8"]))
    resident = data.draw(st.sampled_from([[], ["a"], ["a", "b", "c"]]))
    compare(
        Space.from_dict(
            {"problem": {"kind": "matmul", "m": 777, "n": 130, "k": 4096, "dtype": dtype}, "chip": {"base": base},
             "kernel": {"resident": resident}, "axes": axes}
        )
    )  # fmt: skip


def test_every_field_of_a_chip_alone() -> None:
    """Each path that a sweep may set, with values around its own: none is left out, none changes what it must not."""
    plain = chip("d1").to_dict()
    legal = illegal = 0
    for path in paths_of(plain):
        value = read(plain, path)
        if not isinstance(value, int | float | str) or path.startswith("assumptions."):
            continue
        around = [value, "x", ""] if isinstance(value, str) else [value, type(value)(value * 2), type(value)(-1)]
        around += [] if isinstance(value, str) else [type(value)(0)] if value else [type(value)(1)]
        space = Space.from_dict(
            {"problem": {"kind": "matmul", "m": 512, "n": 4096, "k": 700}, "axes": {path: list(dict.fromkeys(around))}}
        )
        counts = compare(space)
        legal, illegal = legal + counts[0], illegal + counts[1]
    assert legal > 100
    assert illegal > 50


def test_fields_that_are_lists() -> None:
    axes = {
        "mesh.holes": [[[0, 0]], [[0, 3], [1, 3]], [[2, 3], [9, 9]]],
        "ports.west.routers": [[[0, 0]], [[0, 0], [1, 0]], [[7, 0]], [[1, 1], [1, 1]]],
        "mesh.cols": [3, 4],
        "mesh.column_map": [[], [0, 1, 2], [3, 2, 1, 0]],
    }
    chosen = {"problem": {"kind": "matmul", "m": 512, "n": 4096, "k": 700}, "chip": {"base": "mini"}, "axes": axes}
    legal, illegal = compare(Space.from_dict(chosen))
    assert legal > 3
    assert illegal > 30


def test_several_bases_and_all_their_ports(tmp_path: Path) -> None:
    plain = chip("mini").to_dict()
    plain["ports"].append({**plain["ports"][0], "name": "east", "routers": [[0, 3], [1, 3]], "efficiency": 0.7})
    (tmp_path / "two.toml").write_text(chip("mini").from_dict(plain).to_toml())
    axes = {
        "chip.base": ["d1", "mini", "two.toml"],
        "ports.*.bytes_per_cycle": [30.5, 400.0, 0.0],
        "ports.*.edge_bytes_per_cycle": [77.0, 1000.0],
        "ports.*.link_bytes_per_cycle": [1, 64],
    }
    text = {"problem": {"kind": "matmul", "m": 5000, "n": 40, "k": 70}, "axes": axes}
    assert compare(Space.from_dict(text, folder=tmp_path)) == (24, 12)


def test_a_fixed_value_that_only_an_axis_puts_right() -> None:
    text = {
        "problem": {"kind": "all_to_all", "rows": 4, "cols": 4, "elements": 4096},
        "chip": {"base": "mini", "noc.link_bytes_per_cycle": 96, "mesh.rows": 5},
        "axes": {"noc.packet_bytes": [960, 1024], "mesh.site_rows": [4, 5], "node.matrix.m": [8, 5, 16]},
    }
    assert compare(Space.from_dict(text)) == (2, 10)


def test_sram_sized_for_the_video() -> None:
    text = {
        "problem": {"kind": "conv2d", "n": 1, "c": 3, "k": 32, "r": 3, "s": 3, "h": "= frame.height",
                    "w": "= frame.width", "pad": 1},
        "kernel": {"resident": ["x", "w"]},
        "frame": {"height": 960, "bits_per_pixel": 12, "fps": 36, "size_sram": True},
        "axes": {"frame.cameras": [1, 8, 4000], "frame.window": [1, 16, 4000], "frame.width": [128, 1280, 8192],
                 "mesh.rows": [9, 18]},
    }  # fmt: skip
    legal, illegal = compare(Space.from_dict(text))
    assert legal > 20
    assert illegal > 1


# ---------------------------------------------------------------------------------------------------- problems


@settings(max_examples=60, deadline=None)
@given(st.data(), st.booleans())
def test_closed_forms_of_convolutions(data: st.DataObject, formed: bool) -> None:
    draw = data.draw
    kind = draw(st.sampled_from(["conv2d", "conv3d", "streaming_conv"]))
    problem: dict[str, Any] = {"kind": kind, "c": draw(SIZES), "k": draw(SIZES)}
    axes: dict[str, list[Any]] = {}
    names = {"conv2d": ["n", "h", "w", "r", "s"], "conv3d": ["n", "t", "h", "w", "kt", "r", "s"]}
    for name in names.get(kind, ["frames", "h", "w", "kt", "r", "s"]):
        axes[f"problem.{name}"] = draw(st.lists(SIZES, min_size=1, max_size=2, unique=True))
    for name in ("stride", "pad", "dilation"):
        one = draw(st.lists(st.integers(0, 3), min_size=1, max_size=2, unique=True))
        several = [tuple(draw(st.integers(0, 2)) for _ in range(3 if kind == "conv3d" else 2))]
        axes[f"problem.{name}"] = draw(st.sampled_from([one, several]))
    axes["problem.bias"] = [False, True]
    if kind != "streaming_conv":
        axes["problem.direction"] = ["fwd", "dgrad", "wgrad"]
        axes["problem.groups"] = draw(st.sampled_from([[1], [1, 2], [3]]))
    resident = draw(st.sampled_from([[], ["w"], ["x"], ["y", "bias"]]))
    space = Space.from_dict({"problem": problem, "axes": axes, "kernel": {"resident": resident}})
    some = np.random.default_rng(0).permutation(len(space))[:60].tolist()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(problem_columns, "FEW", 0 if formed else 1 << 20)
        compare(space, some)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.booleans())
def test_closed_form_of_matmul(data: st.DataObject, formed: bool) -> None:
    sizes = st.lists(
        st.sampled_from([0, 1, 7, 64, 1000, 1 << 20, 1 << 39, 1 << 41]), min_size=1, max_size=3, unique=True
    )
    axes: dict[str, list[Any]] = {f"problem.{name}": data.draw(sizes) for name in ("m", "n", "k")}
    axes["problem.batch"] = data.draw(st.sampled_from([[0], [0, 1, 5]]))
    axes["problem.split_k"] = data.draw(st.sampled_from([[1], [1, 7, 8]]))
    for name in ("broadcast_b", "trans_a", "add_bias", "residual"):
        axes[f"problem.{name}"] = data.draw(st.sampled_from([[False], [True], [False, True]]))
    axes["problem.dtype"] = data.draw(st.sampled_from([["bf16"], ["fp32", "int8"], ["cfp8-143"]]))
    resident = data.draw(st.sampled_from([[], ["a"], ["b", "c"], ["residual"]]))
    space = Space.from_dict({"problem": {"kind": "matmul"}, "axes": axes, "kernel": {"resident": resident}})
    some = np.random.default_rng(0).permutation(len(space))[:60].tolist()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(problem_columns, "FEW", 0 if formed else 1 << 20)
        compare(space, some)


def test_a_form_and_its_objects_give_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    axes = {
        "problem.h": {"from": 1, "to": 60, "step": 1},
        "problem.w": {"from": 3, "to": 90, "step": 29},
        "problem.r": [1, 2, 3, 7],
        "problem.stride": [1, 2, 3],
        "problem.pad": [0, 1, 4],
        "node.sram_bytes": [1 << 14, 1 << 20],
    }
    problem = {"kind": "conv2d", "n": 4, "c": 48, "k": 96, "s": 3, "direction": "dgrad"}
    space = Space.from_dict({"problem": problem, "axes": axes, "kernel": {"resident": ["w"]}})
    monkeypatch.setattr(screening, "_held", [])
    monkeypatch.setattr(problem_columns, "FEW", 0)
    formed = screen(space)
    monkeypatch.setattr(screening, "_held", [])
    monkeypatch.setattr(problem_columns, "FEW", 1 << 20)
    built = screen(space)
    assert formed.legal.any()
    assert not formed.legal.all()
    for name in ("seconds", "cause", "legal", "cycles", "utilization"):
        np.testing.assert_array_equal(getattr(formed, name), getattr(built, name))


PROBLEMS: dict[str, dict[str, Any]] = {
    "attention": {"b": 1, "h": 2, "q": 64, "kv": 32, "d": 16},
    "softmax": {"rows": 300, "columns": 40},
    "all_reduce": {"rows": 4, "cols": 4, "elements": 9999},
    "all_to_all": {"rows": 4, "cols": 4, "elements": 500},
    "halo_exchange": {"rows": 4, "cols": 4, "h": 8, "w": 8, "c": 3},
    "conv_transpose": {"n": 1, "h": 7, "w": 7, "c": 4, "k": 8, "r": 3, "s": 3},
    "layernorm": {"rows": 30, "columns": 500},
    "embedding": {"tokens": 40, "vocab": 64, "width": 300},
}


@pytest.mark.parametrize("kind", sorted(PROBLEMS))
def test_kinds_without_a_form(kind: str) -> None:
    fields = dict(PROBLEMS[kind])
    name = next(iter(fields))
    size = fields.pop(name)
    axes = {
        f"problem.{name}": [size, size * 2, 0],
        "clock_hz": [10**9, 3 * 10**9, 5],
        "node.mesh_bytes_per_cycle": [1, 64],
        "noc.link_bytes_per_cycle": [2, 64],
    }
    legal, illegal = compare(
        Space.from_dict({"problem": {"kind": kind, **fields}, "axes": axes, "chip": {"base": "mini"}})
    )
    assert legal >= 8
    assert illegal >= 8


def test_several_kinds_in_one_space(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(problem_columns, "FEW", 0)
    axes = {
        "problem.kind": ["conv2d", "conv_transpose"],
        "problem.h": [4, 8],
        "problem.k": [4, 0],
        "problem.pad": [0, 9],
    }
    problem = {"n": 1, "w": 9, "c": 4, "r": 3, "s": 3}
    assert compare(Space.from_dict({"problem": problem, "axes": axes})) == (6, 10)


def test_layers_of_networks() -> None:
    text = {
        "problem": {"training": True, "batch": 2},
        "axes": {"problem.network": ["resnet50"], "problem.layers": [["conv2*"], ["*"]], "clock_hz": [10**9, 2 * 10**9],
                 "ports.*.bytes_per_cycle": [40.0, 4000.0]},
    }  # fmt: skip
    assert compare(Space.from_dict(text)) == (8, 0)


def test_constraints_and_what_they_say() -> None:
    text = {
        "problem": {"kind": "matmul", "n": 64, "k": 64},
        "axes": {"problem.m": [8, 16, 32], "kernel.strip": [8, 16]},
        "constraints": {"whole": "problem.m % kernel.strip == 0"},
    }
    space = Space.from_dict(text)
    assert compare(space) == (5, 1)
    (reason,) = {str(text) for text in screen(space).reason if text}
    assert reason == "whole: 'problem.m % kernel.strip == 0' does not hold"


ODD: list[tuple[dict[str, Any], tuple[int, int]]] = [
    # expressions whose result is a whole number here and a fraction there
    ({"problem": {"kind": "matmul", "n": 64, "k": "= problem.m // 3"},
      "chip": {"base": "mini", "node.sram_bytes": "= problem.m * 1000.5"}, "kernel": {"resident": ["a"]},
      "axes": {"problem.m": [1, 2, 3, 64, 500], "clock_hz": [10**9, 2 * 10**9]}}, (4, 6)),
    # an expression without a value
    ({"problem": {"kind": "matmul", "n": 64, "k": "= 7 / (problem.m - 3)"},
      "axes": {"problem.m": [1, 2, 3, 4, 10]}}, (2, 3)),
    # fp32 on the vector unit, and on a matrix unit that takes it
    ({"problem": {"kind": "matmul", "m": 64, "n": 64, "k": 64, "dtype": "fp32"},
      "chip": {"base": "mini", "node.vector.flops_per_lane": 3},
      "axes": {"node.vector.bytes_per_cycle": [3, 4, 64, 0], "node.matrix.step_cycles.fp32": [1, 4, 0]}}, (4, 8)),
    # a port that gets another name while the old one is used
    ({"problem": {"kind": "matmul", "m": 64, "n": 64, "k": 64}, "chip": {"base": "mini"},
      "axes": {"ports.west.name": ["west", "east"], "ports.west.bytes_per_cycle": [2.0, 3.0]}}, (2, 2)),
    # fields of one record that rules tie together
    ({"problem": {"kind": "matmul", "m": 64, "n": 64, "k": 64}, "chip": {"base": "mini"},
      "axes": {"name": ["a", " "], "node.matrix.accumulator_rows": [16, 12], "node.matrix.m": [8, 4, 3],
               "noc.packet_bytes": [1024, 100]}}, (4, 20)),
    # fractions where only whole numbers go
    ({"problem": {"kind": "matmul", "n": 64, "k": 64}, "axes": {"problem.m": [64.5, 2.0]}}, (0, 2)),
]  # fmt: skip


@pytest.mark.parametrize("few", [0, 4096])
@pytest.mark.parametrize(("text", "counts"), ODD)
def test_odd_spaces(text: dict[str, Any], counts: tuple[int, int], few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(problem_columns, "FEW", few)
    assert compare(Space.from_dict(text)) == counts


def test_parameters_of_kernels_do_not_tell_points_apart() -> None:
    text = {
        "problem": {"kind": "matmul", "m": 64, "n": 64, "k": 64},
        "axes": {"kernel.strip": [8, 16], "kernel.stages": [2, 3]},
    }
    assert len(set(screen(Space.from_dict(text)).seconds.tolist())) == 1


def test_residents_as_an_axis() -> None:
    text = {
        "problem": {"kind": "matmul", "m": 4096, "n": 64, "k": 64},
        "axes": {"kernel.resident": [["a"], ["a", "b"], ["bias"]], "node.sram_bytes": [1 << 15, 1 << 20],
                 "problem.add_bias": [True, False]},
    }  # fmt: skip
    assert compare(Space.from_dict(text)) == (10, 2)


def test_a_format_that_the_chip_has_no_unit_for() -> None:
    text = {"problem": {"kind": "matmul", "m": 8, "n": 8, "k": 8}, "axes": {"problem.dtype": ["bf16", "fp16"]}}
    found = screen(Space.from_dict(text))
    assert found.legal.tolist() == [True, False]
    with pytest.raises(AccelError) as refused:
        Matmul(8, 8, 8, dtype="fp16").bound(chip("d1"))
    assert found.reason[1] == str(refused.value)


# ------------------------------------------------------------------------------------------------ the call itself


def test_points_in_chunks_in_any_order_and_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    axes = {"problem.m": list(range(1, 60)), "node.sram_bytes": [1 << 10, 1 << 20], "problem.dtype": ["bf16", "fp32"]}
    space = Space.from_dict({"problem": {"kind": "matmul", "n": 7, "k": 9}, "axes": axes})
    whole = screen(space)
    some = np.random.default_rng(0).integers(0, len(space), 500)
    monkeypatch.setattr(screening, "CHUNK", 13)
    found = screen(space, some)
    assert found.indices.tolist() == some.tolist()
    np.testing.assert_array_equal(found.seconds, whole.seconds[some])
    np.testing.assert_array_equal(found.cause, whole.cause[some])
    assert len(screen(space, [])) == 0


@pytest.mark.parametrize("indices", [[-1], [4], [0.5], [[0, 1]], ["a"], [1 << 70], [True]])
def test_indices_that_are_none(indices: Any) -> None:
    space = Space.from_dict({"problem": {"kind": "matmul", "n": 7, "k": 9}, "axes": {"problem.m": [1, 2, 3, 4]}})
    with pytest.raises(InputError, match="screen"):
        screen(space, indices)


def test_a_space_that_is_too_large_for_arrays() -> None:
    axes = {
        f"node.{name}": {"from": 1, "to": 2000, "step": 1}
        for name in ("issue_cycles", "copy_issue_cycles", "load_ports")
    }
    space = Space.from_dict({"problem": {"kind": "matmul", "m": 7, "n": 7, "k": 9}, "axes": axes})
    with pytest.raises(InputError, match="Cannot screen 8,000,000,000 points at once"):
        screen(space)
    assert screen(space, [0, len(space) - 1]).legal.all()


def test_too_many_problems_without_a_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(problem_columns, "MOST", 5)
    text = {"problem": {"kind": "softmax", "columns": 8}, "axes": {"problem.rows": list(range(1, 9))}}
    with pytest.raises(InputError, match="fewer values on the axes of the problem"):
        screen(Space.from_dict(text))


def test_reasons_are_asked_for_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(problem_columns, "FEW", 0)
    monkeypatch.setattr(problem_columns, "TOLD", 2)
    text = {"problem": {"kind": "matmul", "n": 8, "k": 8}, "axes": {"problem.m": [-3, -2, -1, 0, 1]}}
    found = screen(Space.from_dict(text))
    assert found.legal.tolist() == [False] * 4 + [True]
    assert [("outside" in text, "make no problem" in text) for text in found.reason[:4]] == [(True, False)] * 2 + [
        (False, True)
    ] * 2


def test_the_compiled_call_and_its_plain_twin() -> None:
    draw = np.random.default_rng(5)
    points, rows = 200, 40
    chips = draw.uniform(1.0, 1e6, (9, points))
    chips[8, ::7] = 0.0
    demands = draw.uniform(0.0, 1e6, (rows, 12))
    demands[:, 4] = 1.0
    demands[:, 6] = draw.integers(0, 2, rows)
    demands[:, 10] = draw.integers(0, 2, rows)
    demands[::5, [0, 9]] = 0.0
    first = draw.integers(0, rows - 3, points)
    results = []
    for call in (best_seconds, best_seconds.plain):
        out = np.empty(points), np.empty(points), np.empty(points, np.int8)
        call(chips, first, first + 3, demands, *out)
        results.append(out)
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(set(results[0][2].tolist())) > 2


def test_every_kind_is_known_to_the_screen() -> None:
    """A kind has a closed form or is built; the list of forms names kinds that exist."""
    assert set(problem_columns.FORMS) <= set(kinds())
    assert list(itertools.islice(problem_columns.FORMS, 1)) == ["matmul"]
