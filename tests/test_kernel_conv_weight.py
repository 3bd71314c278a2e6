"""Weight and bias gradients of convolutions: bits against the definition, integers, the adjoint, torch, bad input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accel.errors import AccelError, CapacityError, InputError, UnsupportedError
from accel.hardware import ChipSpec, chip
from accel.kernels.parts.conv_reference import oracle
from accel.kernels.parts.conv_weight_choice import choose
from accel.kernels.parts.conv_weight_gradient import program
from accel.kernels.parts.conv_weight_tiling import Tiling, pool_plan
from accel.kernels.parts.conv_windows import frame_axes, homes, overlaps, window
from accel.numerics import gamma
from accel.problem import Conv2d, Conv3d
from accel.problem.convolution import Convolution

MINI = chip("mini")
W: dict[str, Any] = {"direction": "wgrad"}
WHOLE = frozenset({"x", "gy", "gw", "gb"})
ROWS: list[tuple[Convolution, dict[str, int]]] = [
    (Conv2d(5, 7, 9, 16, 24, 3, 3, stride=2, pad=1, bias=True, out_dtype="fp32", **W), {}),
    (Conv2d(3, 11, 13, 5, 7, 3, 5, stride=(2, 3), pad=(2, 1), dilation=(2, 1), bias=True, **W), {}),
    (Conv2d(3, 20, 20, 16, 16, 3, 3, pad=1, **W), {"rows": 3}),
    (Conv2d(8, 8, 8, 16, 32, 1, 1, stride=2, pad=1, **W), {}),
    (Conv2d(1, 1, 1, 1, 1, 1, 1, bias=True, **W), {}),
    (Conv2d(2, 2, 3, 4, 4, 3, 3, pad=3, dilation=3, **W), {}),  # taps that only ever meet padding
    (Conv2d(3, 1, 1, 2, 4, 1, 1, stride=2, pad=1, **W), {}),  # x meets no tap
    (Conv2d(4, 9, 9, 12, 24, 3, 3, pad=1, groups=3, bias=True, **W), {}),
    (Conv2d(4, 9, 9, 12, 12, 3, 3, pad=1, groups=12, bias=True, **W), {}),
    (Conv2d(3, 6, 7, 6, 12, 3, 2, pad=1, groups=3, dtype="fp32", out_dtype="fp32", bias=True, **W), {}),
    (Conv2d(2, 5, 5, 3, 20, 3, 3, dtype="fp32", bias=True, **W), {}),
    (Conv2d(3, 6, 6, 9, 11, 11, 11, pad=5, dtype="fp16", out_dtype="fp16", **W), {}),
    (Conv2d(5, 8, 8, 24, 100, 3, 3, pad=1, **W), {}),  # filters that four columns cannot share evenly: a corner
    (Conv2d(3, 8, 8, 64, 40, 3, 3, pad=1, **W), {"rows": 5}),
    (Conv3d(2, 3, 4, 5, 40, 72, 2, 3, 3, pad=1, **W), {}),
    (Conv3d(3, 4, 6, 6, 8, 16, 3, 1, 1, pad=(1, 0, 0), bias=True, **W), {"frames": 2}),
    (Conv3d(3, 5, 6, 7, 8, 16, 3, 3, 3, stride=(2, 1, 2), pad=1, **W), {}),
    (Conv3d(2, 5, 6, 7, 8, 16, 3, 3, 3, pad=1, **W), {"frames": 1, "rows": 2}),
    # Slots in which bands of other sizes, with padding elsewhere, follow each other.
    (Conv2d(5, 7, 6, 8, 8, 5, 5, pad=2, **W), {"share": 8, "rows": 3}),
    (Conv2d(5, 9, 6, 8, 8, 7, 5, pad=3, **W), {"share": 8, "rows": 2}),
    (Conv2d(5, 11, 6, 8, 8, 7, 5, pad=(6, 2), stride=2, **W), {"share": 8, "rows": 3}),
    (Conv3d(3, 3, 5, 4, 8, 8, 3, 3, 3, pad=1, **W), {"share": 4, "frames": 1, "rows": 2}),
    (Conv3d(3, 3, 7, 4, 8, 8, 3, 5, 3, pad=(1, 2, 1), **W), {"share": 4, "frames": 1, "rows": 3}),
    (Conv3d(3, 5, 5, 4, 8, 8, 5, 3, 3, pad=(2, 1, 1), **W), {"share": 4, "frames": 2}),
]


def _inputs(problem: Convolution, seed: int, *, integers: bool = False) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    draw = (lambda s: rng.integers(-4, 5, s)) if integers else rng.standard_normal
    return {n: draw(o.shape).astype(np.float32) for n, o in problem.operands.items() if o.role == "in"}


def _bits(values: Any) -> np.ndarray:
    return np.asarray(values).astype(np.float32).view(np.uint32)


def _same(got: Any, want: dict[str, Any]) -> None:
    for name, values in want.items():
        assert got[name].shape == values.shape
        assert np.array_equal(_bits(got[name]), _bits(values)), name


def _mesh(rows: int, cols: int) -> ChipSpec:
    return MINI.replace(**{"mesh.rows": rows, "mesh.cols": cols})


@pytest.mark.parametrize(("problem", "tiling"), ROWS, ids=lambda value: value.label if hasattr(value, "label") else "")
@pytest.mark.parametrize("resident", [frozenset(), WHOLE], ids=["memory", "resident"])
def test_bits_are_those_of_the_definition(
    problem: Convolution, tiling: dict[str, int], resident: frozenset[str]
) -> None:
    built = program(MINI, problem, resident=resident & problem.operands.keys(), **tiling)
    inputs = _inputs(problem, 1)
    want = oracle(problem, inputs)
    for schedule in ("natural", 5):
        _same(built.run(inputs, schedule=schedule), want)
    built.check()


def test_filters_that_columns_cannot_share_evenly_are_dealt_by_channels() -> None:
    corners = [problem for problem, _ in ROWS if _tiling(problem).rest]
    assert len(corners) >= 3


def _tiling(problem: Convolution) -> Tiling:
    sizes = {"item": 2, "out_item": 2, "resident": frozenset[str](), "bias": problem.to_dict()["bias"]}
    return choose(MINI, problem.geometry, vector=[False], **sizes)  # type: ignore[arg-type]


@st.composite
def convolutions(draw: st.DrawFn) -> Convolution:
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    clip = draw(st.booleans())
    taps = [draw(st.integers(1, 3 if clip else 5)) for _ in range(2 + clip)]
    dilation = [draw(st.integers(1, 2)) for _ in taps]
    pad = [draw(st.integers(0, 2)) for _ in taps]
    least = [max(1, d * (t - 1) + 1 - 2 * p) for t, d, p in zip(taps, dilation, pad, strict=True)]
    sizes = [draw(st.integers(n, n + 5)) for n in least]
    most = 13 if groups > 1 or clip else 50
    channels = [groups * draw(st.integers(1, most)) for _ in range(2)]
    dtype = draw(st.sampled_from(["bf16", "bf16", "fp16", "fp32"]))
    return (Conv3d if clip else Conv2d)(
        draw(st.integers(1, 9)), *sizes, *channels, *taps, stride=tuple(draw(st.integers(1, 3)) for _ in taps),
        pad=tuple(pad), dilation=tuple(dilation), groups=groups, dtype=dtype, bias=draw(st.booleans()),
        out_dtype=draw(st.sampled_from([dtype, "fp32"])), direction="wgrad",
    )  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(
    problem=convolutions(), resident=st.sets(st.sampled_from(sorted(WHOLE))), rows=st.integers(1, 4),
    cols=st.integers(1, 4), seed=st.integers(0, 99), vector=st.booleans(), data=st.data(),
)  # fmt: skip
def test_any_shape_on_any_mesh_in_any_bands(
    problem: Convolution, resident: set[str], rows: int, cols: int, seed: int, vector: bool, data: st.DataObject
) -> None:
    t, h, _ = frame_axes(problem.geometry)
    bands = {"frames": data.draw(st.integers(1, t.out)), "rows": data.draw(st.integers(1, h.out))}
    bands = {} if data.draw(st.booleans()) else bands
    built = program(
        _mesh(rows, cols),
        problem,
        resident=frozenset(problem.operands.keys() & resident),
        vector=vector or None,
        **bands,
    )
    inputs = _inputs(problem, seed)
    _same(built.run(inputs, schedule=seed), oracle(problem, inputs))
    built.check()


def _forward(problem: Convolution, x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """The convolution of integers in int64: one einsum over windows."""
    form = problem.geometry
    axes = tuple(range(1, 1 + len(form.axes)))
    padded = np.pad(x, [(0, 0), *((a.pad, a.pad) for a in form.axes), (0, 0)])
    reach = tuple(a.dilation * (a.taps - 1) + 1 for a in form.axes)
    windows = np.lib.stride_tricks.sliding_window_view(padded, reach, axes)
    windows = windows[(slice(None), *(slice(None, None, a.stride) for a in form.axes))]
    windows = windows[(..., *(slice(None, None, a.dilation) for a in form.axes))]  # n, outputs, c, taps
    windows = windows.reshape(*form.y[:-1], form.groups, form.c // form.groups, -1)
    kernel = w.reshape(-1, form.c // form.groups, form.groups, form.k // form.groups)
    y: np.ndarray = np.einsum("...gct,tcgk->...gk", windows, kernel).reshape(form.y)
    return y


@pytest.mark.parametrize("index", range(len(ROWS)))
def test_integers_are_exact_and_the_gradient_is_the_adjoint_of_forward(index: int) -> None:
    """<gy, conv(x, e)> = <gw, e> for every weight of a random integer filter, and for single ones, in int64."""
    problem = type(ROWS[index][0]).from_dict({**ROWS[index][0].to_dict(), "out_dtype": "fp32"})
    inputs = _inputs(problem, 2, integers=True)
    got = program(MINI, problem).run(inputs)
    gw, rng = np.asarray(got["gw"]).astype(np.int64), np.random.default_rng(3)
    x, gy = (inputs[name].astype(np.int64) for name in ("x", "gy"))
    assert np.array_equal(gw, np.asarray(got["gw"]))
    weights = [rng.integers(-5, 6, gw.shape)]
    for place in rng.integers(0, gw.size, 6):
        weights.append(np.zeros(gw.shape, np.int64))
        weights[-1].flat[place] = 1
    for w in weights:
        assert (gy * _forward(problem, x, w)).sum() == (gw * w).sum()
    if "gb" in got:
        assert np.array_equal(got["gb"], gy.reshape(-1, gy.shape[-1]).sum(0))


def test_bits_do_not_depend_on_mesh_tiling_or_residence() -> None:
    problem = Conv2d(7, 10, 9, 24, 40, 3, 3, pad=1, bias=True, out_dtype="fp32", **W)
    inputs = _inputs(problem, 4)
    inputs["x"][0, 3, 3] = np.inf
    inputs["gy"][2, 5] = [-0.0, 1e-40, -3e38, np.nan] * 10
    want = oracle(problem, inputs)
    for rows, cols, tiling in ((1, 1, {}), (2, 3, {"rows": 4}), (4, 4, {"share": 2}), (4, 1, {"share": 4})):
        for resident in (frozenset[str](), frozenset({"x"}), WHOLE):
            _same(program(_mesh(rows, cols), problem, resident=resident, **tiling).run(inputs, schedule=1), want)


def test_gradients_are_those_of_torch_within_the_bound_of_a_chain() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: the comparison with autograd did not run")
    problem = Conv2d(6, 14, 13, 12, 20, 3, 5, stride=(2, 1), pad=(1, 2), dilation=(1, 2), groups=2, bias=True,
                     dtype="bf16", out_dtype="fp32", **W)  # fmt: skip
    rounded = {n: torch.tensor(v).bfloat16().double() for n, v in _inputs(problem, 5).items()}
    got = program(MINI, problem).run({n: v.float().numpy() for n, v in rounded.items()})

    def gradients(x: Any, gy: Any) -> dict[str, np.ndarray]:
        w = torch.zeros((20, 6, 3, 5), dtype=torch.float64, requires_grad=True)
        b = torch.zeros(20, dtype=torch.float64, requires_grad=True)
        y = torch.nn.functional.conv2d(
            x.permute(0, 3, 1, 2), w, b, stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=2
        )
        y.backward(gy.permute(0, 3, 1, 2))
        return {"gw": w.grad.permute(2, 3, 1, 0).numpy(), "gb": b.grad.numpy()}

    want, size = gradients(**rounded), gradients(**{n: v.abs() for n, v in rounded.items()})
    for name in ("gw", "gb"):
        assert (np.abs(got[name] - want[name]) <= gamma(6 * problem.p * problem.q, 2.0**-24) * size[name]).all()


def _tree(terms: list[Any]) -> Any:
    while len(terms) > 1:
        terms = [tuple(terms[i : i + 2]) if i + 1 < len(terms) else terms[i] for i in range(0, len(terms), 2)]
    return terms[0]


@given(st.integers(1, 60), st.integers(1, 40))
def test_the_plan_of_the_tree_adds_neighbours_level_by_level(images: int, chains: int) -> None:
    made, tiles, steps = pool_plan(images, chains)
    held: dict[int, Any] = {}
    for i, merged in enumerate(steps):
        for ahead in (i, i + 1):  # the next chain is made while this one's tiles are added
            if ahead < images * chains and not (ahead == i and i > 0):
                assert tiles[ahead] not in held
                held[tiles[ahead]] = ahead
        for left, right in merged:
            held[left] = (held[left], held.pop(right))
    clips = [_tree(list(range(first, first + chains))) for first in range(0, images * chains, chains)]
    assert held == {0: _tree(clips)}
    assert made <= (images - 1).bit_length() + (chains - 1).bit_length() + 2


@given(convolutions(), st.integers(1, 6), st.integers(1, 4))
def test_windows_and_homes_cover_what_is_read(problem: Convolution, rows: int, parts: int) -> None:
    axis = problem.geometry.axes[0]
    kept = homes(axis, parts)
    for start in range(0, axis.out, rows):
        stop = min(axis.out, start + rows)
        span = window(axis, start, stop)
        for output in range(start, stop):
            for tap in range(axis.taps):
                slot = (output - start) * span.stride + tap * axis.dilation
                element = output * axis.stride - axis.pad + tap * axis.dilation
                assert 0 <= slot < span.extent
                assert (span.low <= slot < span.high) == (0 <= element < axis.size)
                if span.low <= slot < span.high:
                    assert span.element(slot) == element
                    places = [kept.part(i)[m.start + slot - s.start] for i in range(parts)
                              for s, m in [overlaps(span, kept.part(i)) or (slice(0), slice(0))]
                              if s.start is not None and s.start <= slot < s.stop]  # fmt: skip
                    assert places == [element]


@pytest.mark.parametrize(
    ("tiling", "error", "text"),
    [
        ({"share": 3}, InputError, "share=3 is no power of two"),
        ({"share": 16}, InputError, "share must be a whole number from 1 to 8, got 16"),
        ({"bm": 3}, InputError, "no tiling parameter 'bm'; use one of"),
        ({"rows": 0}, InputError, "rows must be a whole number from 1 to 8"),
        ({"rows": True}, InputError, "rows must be a whole number"),
    ],
)
def test_bad_tilings(tiling: dict[str, int], error: type[AccelError], text: str) -> None:
    with pytest.raises(error, match=text):
        program(MINI, Conv2d(8, 8, 8, 16, 16, 3, 3, pad=1, **W), **tiling)


def test_what_a_chip_cannot_do() -> None:
    with pytest.raises(InputError, match=r"no room for the teams of tiling parameters share=1, .* a larger share"):
        program(MINI, Conv2d(32, 8, 8, 16, 16, 3, 3, pad=1, **W), share=1)
    with pytest.raises(InputError, match="conv2d wgrad has no operand 'y' to keep resident; use x, gy, gw"):
        program(MINI, Conv2d(2, 8, 8, 16, 16, 3, 3, **W), resident=frozenset({"y"}))
    with pytest.raises(UnsupportedError, match=r"d1 has no weight gradient of fp16; use dtype='bf16' or"):
        program(chip("d1"), Conv2d(2, 8, 8, 16, 16, 3, 3, dtype="fp16", out_dtype="fp16", **W))
    with pytest.raises(UnsupportedError, match=r"mini has no weight gradient of int32; use"):
        program(MINI, Conv2d(2, 8, 8, 16, 16, 3, 3, dtype="int32", out_dtype="int32", **W))
    with pytest.raises(CapacityError, match=r"the smallest tiling with x resident needs [\d,]+ B of SRAM a node"):
        program(MINI, Conv2d(64, 64, 64, 512, 512, 3, 3, pad=1, **W), resident=frozenset({"x"}))
