"""The data gradient of convolutions: bits of its definition, integers, the adjoint, borders, torch, bad input."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accel.errors import AccelError, CapacityError, InputError, UnsupportedError
from accel.hardware import ChipSpec, chip
from accel.isa.table import opcode
from accel.kernels import conv2d
from accel.kernels.parts.conv_data_geometry import band, kinds, residues, schedule
from accel.kernels.parts.conv_data_gradient import build
from accel.kernels.parts.conv_reference import oracle
from accel.numerics import gamma
from accel.problem import Conv2d, Conv3d
from accel.problem.convolution import Axis, Convolution

MINI = chip("mini")
D: dict[str, Any] = {"direction": "dgrad"}
WHOLE = ("gy", "w", "gx")
ROWS: list[tuple[Convolution, dict[str, int]]] = [
    (Conv2d(1, 1, 1, 1, 1, 1, 1, **D), {}),
    (Conv2d(5, 9, 7, 24, 16, 3, 3, pad=1, **D), {}),
    (Conv2d(5, 9, 7, 24, 16, 3, 3, pad=1, **D), {"share": 2, "per_pass": 1, "rows": 4, "filters": 2, "windows": 1}),
    (Conv2d(3, 9, 11, 13, 11, 3, 3, pad=1, stride=2, **D), {"rows": 4, "columns": 6, "width": 2, "filters": 1}),
    (Conv2d(9, 4, 4, 13, 11, 3, 3, pad=1, **D), {"inner": 4, "sums": 1, "outs": 1}),
    (Conv2d(3, 9, 7, 13, 11, 1, 1, **D), {}),
    (Conv2d(3, 9, 7, 13, 11, 1, 1, stride=3, **D), {}),  # most positions have no tap
    (Conv2d(3, 9, 7, 13, 11, 5, 2, stride=(2, 3), pad=(3, 1), dilation=(2, 1), **D), {}),
    (Conv2d(2, 12, 12, 8, 8, 3, 3, pad=1, groups=8, **D), {}),  # the vector unit
    (Conv2d(2, 8, 8, 8, 16, 3, 3, pad=1, groups=4, **D), {"per_pass": 1}),
    (Conv2d(2, 12, 12, 32, 64, 3, 3, pad=1, groups=2, stride=2, **D), {}),  # the matrix unit
    (Conv2d(1, 3, 2, 256, 2048, 3, 1, pad=(1, 0), groups=2, **D), {}),  # a node takes parts of a group
    (Conv2d(1, 2, 2, 5, 20000, 1, 1, **D), {}),  # and channels one by one
    (Conv2d(2, 6, 6, 13, 11, 3, 3, pad=1, dtype="fp32", out_dtype="fp32", **D), {}),
    (Conv2d(1, 11, 11, 5, 3, 11, 11, pad=5, dtype="fp16", out_dtype="fp16", **D), {}),
    (Conv2d(2, 1, 5, 3, 4, 1, 3, stride=(2, 1), pad=1, dilation=(3, 1), **D), {}),  # no tap lands at all
    (Conv3d(2, 5, 6, 6, 13, 11, 3, 3, 3, pad=1, **D), {"frames": 2, "rows": 3}),
    (Conv3d(2, 5, 6, 6, 13, 11, 3, 1, 1, pad=(1, 0, 0), **D), {"inner": 12, "columns": 2}),
    (Conv3d(2, 5, 6, 6, 13, 11, 1, 3, 3, pad=(0, 1, 1), **D), {"inner": 2}),
    (Conv3d(1, 5, 6, 7, 4, 5, 3, 2, 3, stride=(2, 2, 1), pad=1, **D), {}),
]


def _inputs(problem: Convolution, seed: int, *, integers: bool = False) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    draw = (lambda s: rng.integers(-2, 3, s)) if integers else rng.standard_normal
    return {n: draw(o.shape).astype(np.float32) for n, o in problem.operands.items() if o.role == "in"}


def _bits(values: Any) -> np.ndarray:
    return np.asarray(values).astype(np.float32).view(np.uint32)


def _mesh(rows: int, cols: int) -> ChipSpec:
    return MINI.replace(**{"mesh.rows": rows, "mesh.cols": cols})


@pytest.mark.parametrize(("problem", "tiling"), ROWS, ids=lambda value: getattr(value, "label", ""))
@pytest.mark.parametrize("resident", [(), WHOLE], ids=["memory", "resident"])
def test_bits_are_those_of_the_definition(
    problem: Convolution, tiling: dict[str, int], resident: tuple[str, ...]
) -> None:
    if problem.geometry.k >= 2048:
        resident = resident[1:]  # gy of so many filters does not stay in 256 KiB, or only by whole groups
    program, inputs = build(MINI, problem, resident=resident, **tiling), _inputs(problem, 1)
    want = _bits(oracle(problem, inputs)["gx"])
    for order in ("natural", 5):
        assert (_bits(program.run(inputs, schedule=order)["gx"]) == want).all()
    program.check()


@st.composite
def convolutions(draw: st.DrawFn) -> Convolution:
    """Any legal convolution of a few thousand elements."""
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    clip = draw(st.booleans())
    axes = 2 + clip
    taps = [draw(st.sampled_from([1, 1, 2, 3, 3] if clip else [1, 2, 3, 3, 5])) for _ in range(axes)]
    steps = {name: [draw(st.integers(low, 3)) for _ in range(axes)] for name, low in
             (("stride", 1), ("pad", 0), ("dilation", 1))}  # fmt: skip
    sizes = [
        max(1, d * (t - 1) + 1 - 2 * p) + draw(st.integers(0, 6))
        for t, d, p in zip(taps, steps["dilation"], steps["pad"], strict=True)
    ]
    c, k = groups * draw(st.integers(1, 9)), groups * draw(st.integers(1, 9))
    dtype = draw(st.sampled_from(["bf16", "bf16", "fp16", "fp32"]))
    options: dict[str, Any] = {name: tuple(values) for name, values in steps.items()}
    make: Any = Conv3d if clip else Conv2d
    made: Convolution = make(
        draw(st.integers(1, 4)), *sizes, c, k, *taps, groups=groups, dtype=dtype,
        out_dtype=draw(st.sampled_from([dtype, "fp32"])), **options, **D,
    )  # fmt: skip
    return made


@settings(max_examples=40)
@given(
    convolutions(),
    st.sets(st.sampled_from(WHOLE)),
    st.sampled_from([(1, 1), (2, 3), (4, 4), (3, 1)]),
    st.fixed_dictionaries({}, optional={
        name: st.integers(1, 3) for name in ("share", "per_pass", "width", "filters", "windows", "sums", "outs")
    }),
    st.integers(0, 9),
)  # fmt: skip
def test_any_shape_any_mesh_any_tiling(
    problem: Convolution, resident: set[str], mesh: tuple[int, int], tiling: dict[str, int], seed: int
) -> None:
    tiling = {**tiling, "share": min(tiling.get("share", 1), mesh[0], problem.geometry.c // problem.geometry.groups)}
    if problem.geometry.groups == 1:
        tiling["share"] = min(tiling["share"], -(-problem.geometry.c // 16))
    else:
        tiling["share"] = min(tiling["share"], problem.geometry.groups)
    program, inputs = build(_mesh(*mesh), problem, resident=tuple(resident), **tiling), _inputs(problem, seed)
    assert (_bits(program.run(inputs, schedule=seed)["gx"]) == _bits(oracle(problem, inputs)["gx"])).all()
    program.check()


def _scattered(problem: Convolution, gy: np.ndarray, w: np.ndarray) -> np.ndarray:
    """gx in int64: every gradient scattered over what it read, without a thought of the kernel's own view."""
    form = problem.geometry
    padded = np.zeros((form.n, *(axis.size + 2 * axis.pad for axis in form.axes), form.c), np.int64)
    per_c, per_k = form.c // form.groups, form.k // form.groups
    for at in product(*(range(axis.out) for axis in form.axes)):
        for tap in product(*(range(axis.taps) for axis in form.axes)):
            place = tuple(o * a.stride + t * a.dilation for o, t, a in zip(at, tap, form.axes, strict=True))
            for g in range(form.groups):
                left = gy[(slice(None), *at, slice(g * per_k, (g + 1) * per_k))].astype(np.int64)
                right = w[(*tap, slice(None), slice(g * per_k, (g + 1) * per_k))].astype(np.int64)
                padded[(slice(None), *place, slice(g * per_c, (g + 1) * per_c))] += left @ right.T
    inside = tuple(slice(axis.pad, axis.pad + axis.size) for axis in form.axes)
    return padded[(slice(None), *inside)]


@settings(max_examples=15)
@given(convolutions(), st.booleans())
def test_integers_are_exact_and_the_adjoint_of_the_forward_pass(problem: Convolution, stay: bool) -> None:
    problem = type(problem).from_dict({**problem.to_dict(), "out_dtype": "fp32"})
    inputs = _inputs(problem, 3, integers=True)
    gx = build(MINI, problem, resident=WHOLE if stay else ()).run(inputs)["gx"]
    assert (gx.astype(np.int64) == _scattered(problem, inputs["gy"], inputs["w"])).all()
    forward = type(problem).from_dict({**problem.to_dict(), "direction": "fwd"})
    x = np.random.default_rng(4).integers(-2, 3, forward.operands["x"].shape).astype(np.float32)
    y = np.asarray(oracle(forward, {"x": x, "w": inputs["w"]})["y"], np.float64)
    assert (y * inputs["gy"]).sum() == (gx.astype(np.float64) * x).sum()


ROUNDED: list[tuple[Convolution, dict[str, int]]] = [
    (Conv2d(3, 9, 7, 13, 11, 1, 1, **D), {}),
    (Conv2d(3, 9, 7, 13, 11, 1, 1, stride=3, **D), {}),  # most positions have no tap
    (Conv2d(2, 9, 9, 8, 16, 3, 3, stride=3, **D), {"outs": 1}),  # nine classes of one tap each
    (Conv2d(2, 6, 6, 8, 8, 1, 3, pad=(0, 1), **D), {}),
    (Conv2d(1, 300, 8, 8, 8, 1, 1, **D), {"rows": 1, "columns": 8, "outs": 1}),  # a slot is used again and again
    (Conv2d(2, 4, 4, 32, 64, 1, 1, groups=2, **D), {}),
    (Conv3d(2, 5, 3, 7, 13, 11, 3, 1, 1, pad=(1, 0, 0), **D), {"inner": 4}),  # a row of pixels in two tiles
    (Conv3d(2, 5, 3, 7, 13, 11, 3, 1, 1, pad=(1, 0, 0), dtype="fp16", out_dtype="fp16", **D), {"columns": 2}),
]


@pytest.mark.parametrize(("problem", "tiling"), ROUNDED, ids=lambda value: getattr(value, "label", ""))
@pytest.mark.parametrize("resident", [(), WHOLE], ids=["memory", "resident"])
def test_a_chain_of_one_product_is_rounded_as_it_leaves(
    problem: Convolution, tiling: dict[str, int], resident: tuple[str, ...]
) -> None:
    """No sums in fp32 and no cast; a unit that writes fp32 only needs both, and makes the same bits."""
    inputs, plain = _inputs(problem, 8), MINI.replace(**{"node.matrix.output_formats": []})
    want = _bits(oracle(problem, inputs)["gx"])
    for spec, rounds in ((MINI, True), (plain, False)):
        program = build(spec, problem, resident=resident, **tiling)
        assert ("fp32" not in {b.dtype for b in program.isa.buffers}) is rounds
        assert (opcode("vec.cast") not in program.isa.code[:, 0]) is rounds
        for order in ("natural", 3):
            assert (_bits(program.run(inputs, schedule=order)["gx"]) == want).all()
        program.check()


@pytest.mark.parametrize(
    ("problem", "resident", "tiling"),
    [
        (Conv2d(1, 4, 4, 17, 8, 1, 1, **D), (), {"share": 2, "per_pass": 1}),
        (Conv2d(1, 4, 4, 17, 8, 1, 1, **D), ("gx",), {"share": 2, "per_pass": 1}),
        (Conv2d(1, 14, 14, 33, 64, 3, 3, pad=1, **D), (), {}),
        (Conv2d(1, 8, 4, 73, 128, 3, 3, pad=1, **D), ("gy", "gx"), {}),
    ],
)
def test_a_member_without_channels_in_its_last_pass_does_nothing_there(
    problem: Convolution, resident: tuple[str, ...], tiling: dict[str, int]
) -> None:
    program, inputs = build(MINI, problem, resident=resident, **tiling), _inputs(problem, 6)
    assert (_bits(program.run(inputs)["gx"]) == _bits(oracle(problem, inputs)["gx"])).all()
    program.check()


def test_sums_that_go_on_or_are_touched_stay_in_fp32() -> None:
    for problem, tiling in (
        (Conv2d(2, 6, 6, 8, 8, 3, 3, pad=1, **D), {}),  # three rows of taps
        (Conv2d(2, 6, 6, 8, 8, 1, 3, pad=(0, 1), **D), {"width": 2}),  # taps in two chunks
        (Conv2d(2, 6, 6, 8, 8, 1, 1, dtype="bf16", out_dtype="cfp8-143", **D), {}),
    ):
        program = build(MINI, problem, **tiling)
        assert "fp32" in {b.dtype for b in program.isa.buffers}
        program.check()


def test_a_tap_that_does_not_land_takes_no_part() -> None:
    problem = Conv2d(1, 4, 4, 8, 8, 3, 3, pad=1, out_dtype="fp32", **D)
    w = np.ones((3, 3, 8, 8), np.float32)
    w[0] = np.inf  # row 0 of the filter reads the output below: the last input row has none
    gx = build(MINI, problem).run(gy=np.ones((1, 4, 4, 8), np.float32), w=w)["gx"]
    assert np.isinf(gx[0, :3]).all()
    assert np.isfinite(gx[0, 3]).all()


def test_a_negative_zero_from_underflow_survives_where_padding_would_lose_it() -> None:
    tiny = np.float32(2.0**-100)
    problem = Conv2d(1, 1, 2, 1, 1, 1, 2, pad=(0, 1), out_dtype="fp32", **D)
    gy, w = np.zeros((1, 1, 3, 1), np.float32), np.full((1, 2, 1, 1), tiny, np.float32)
    gy[...] = -tiny
    gx = build(MINI, problem).run(gy=gy, w=w)["gx"]
    assert (gx == 0).all()
    assert np.signbit(gx).all()


def test_bands_of_an_axis_cover_it_and_differ_only_where_they_must() -> None:
    axis = Axis(size=56, taps=3, stride=1, pad=1, dilation=1)
    assert [(low, end) for low, end, _ in kinds(axis, 8)] == [(0, 1), (1, 6), (6, 7)]
    assert band(axis, 8, 0).window == (0, 9)
    assert band(axis, 8, 3).window == (-1, 9)
    assert [part.taps for part in residues(Axis(size=7, taps=3, stride=2, pad=1, dilation=1))] == [(1,), (0, 2)]


@settings(max_examples=60)
@given(
    st.integers(1, 12), st.integers(1, 6), st.integers(1, 3), st.integers(0, 4), st.integers(1, 3), st.integers(1, 5),
    st.integers(1, 3),
)  # fmt: skip
def test_products_meet_every_landing_tap_once_and_in_order(
    size: int, taps: int, stride: int, pad: int, dilation: int, extent: int, width: int
) -> None:
    """Over all bands of an axis the products are the pairs (position, tap) of the definition, taps ascending."""
    axis = Axis(size, taps, stride, pad, dilation)
    if axis.out < 1:
        axis = Axis(size + dilation * (taps - 1), taps, stride, pad, dilation)
    one, many = Axis(1, 1, 1, 0, 1), min(axis.size, extent * stride)
    met: dict[int, list[tuple[int, int]]] = {i: [] for i in range(axis.size)}
    for index in range(-(-axis.size // many)):
        here = band(axis, many, index)
        plan = schedule((one, one, axis), (band(one, 1, 0), band(one, 1, 0), here), width)
        turns = [p for turn in plan.turns for p in turn]
        classes = [n for n, part in enumerate(residues(axis)) for turn in _turns(axis, width, n)]
        for number, products in zip(classes, plan.turns, strict=True):
            part = residues(axis)[number]
            for p in products:
                for column, tap in product(range(p.low, p.high), range(p.taps)):
                    read = p.at + column - p.low + (p.taps - 1 - tap) * p.fall
                    output = read + here.window[0] + index * many // stride
                    met[index * many + part.first + stride * column].append((p.tap + tap * p.step, output))
        assert all(p.rows == 1 for p in turns)
    for position, pairs in met.items():
        landing = [(t, (position + axis.pad - t * axis.dilation) / axis.stride) for t in range(axis.taps)]
        assert pairs == [(t, o) for t, o in landing if o == int(o) and 0 <= o < axis.out]


def _turns(axis: Axis, width: int, number: int) -> list[int]:
    taps = residues(axis)[number].taps
    return [low for low in range(0, axis.taps, width) if any(low <= tap < low + width for tap in taps)]


def test_equal_bits_on_every_mesh() -> None:
    problem = Conv2d(3, 10, 9, 24, 16, 3, 3, pad=1, **D)
    inputs = _inputs(problem, 7)
    found = {
        _bits(build(_mesh(*mesh), problem, resident=resident).run(inputs)["gx"]).tobytes()
        for mesh in ((1, 1), (2, 3), (4, 4))
        for resident in ((), WHOLE)
    }
    assert len(found) == 1


def test_the_bound_leaves_out_taps_that_take_no_part() -> None:
    clip = Conv3d(64, 2, 7, 7, 64, 64, 3, 1, 1, pad=(1, 0, 0), **D)  # two frames meet 4 of 6 taps
    forward = Conv3d(64, 2, 7, 7, 64, 64, 3, 1, 1, pad=(1, 0, 0))
    assert clip.flops == forward.flops == forward.least_flops
    assert 6 * clip.least_flops == 4 * clip.flops
    ratio = clip.bound(MINI, WHOLE).seconds / forward.bound(MINI, ("x", "w", "y")).seconds
    assert ratio == pytest.approx(4 / 6)


@pytest.mark.parametrize("shape", [(2, 8, 8, 16, 24, 3, 3, 1, 1, 1, 1), (2, 9, 7, 12, 8, 3, 2, 2, 1, 2, 4)])
def test_torch_agrees_within_the_bound_of_the_sums(shape: tuple[int, ...]) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install torch")
    n, h, w, c, k, r, s, stride, pad, dilation, groups = shape
    problem = Conv2d(n, h, w, c, k, r, s, stride, pad, dilation, groups, out_dtype="fp32", **D)
    inputs = {name: np.asarray(torch.tensor(x).bfloat16().float()) for name, x in _inputs(problem, 2).items()}

    def theirs(gy: np.ndarray, filters: np.ndarray) -> np.ndarray:
        weight = torch.tensor(filters, dtype=torch.float64).permute(3, 2, 0, 1)
        grad = torch.tensor(gy, dtype=torch.float64).permute(0, 3, 1, 2)
        made = torch.nn.grad.conv2d_input((n, c, h, w), weight, grad, stride, pad, dilation, groups)
        return made.permute(0, 2, 3, 1).numpy()

    gx = build(MINI, problem).run(inputs)["gx"]
    limit = gamma(r * s * k // groups) * theirs(np.abs(inputs["gy"]), np.abs(inputs["w"]))
    assert (np.abs(gx - theirs(inputs["gy"], inputs["w"])) <= limit).all()


@pytest.mark.parametrize(
    ("fields", "tiling", "error", "text"),
    [
        ({"bias": True}, {}, InputError, "bias=True has no part in direction 'dgrad'"),
        ({"activation": "relu"}, {}, InputError, "activation='relu' has no part in direction 'dgrad'"),
        ({"groups": 3}, {}, InputError, "groups=3 does not divide c=8 and k=8"),
        ({"dtype": "int32"}, {}, UnsupportedError, "does not take int32"),
        ({}, {"depth": 2}, InputError, "no tiling parameter 'depth'"),
        ({}, {"rows": 0}, InputError, "rows=0 is not a positive int"),
        ({"stride": 2}, {"rows": 3}, InputError, "rows=3 is no multiple of the stride 2"),
        ({}, {"share": 9}, InputError, "share=9 is more than"),
        ({"h": 300, "w": 300, "k": 64}, {"rows": 300, "columns": 300}, InputError, "of SRAM a node"),
        ({"k": 1 << 18}, {}, CapacityError, "does not fit mini: 262144 filters a group"),
        ({}, {"resident": ("gz",)}, InputError, "gz"),
    ],
)
def test_bad_input_is_one_clear_error(
    fields: dict[str, Any], tiling: dict[str, Any], error: type[AccelError], text: str
) -> None:
    shape: dict[str, Any] = {"n": 1, "h": 8, "w": 8, "c": 8, "k": 8, "r": 3, "s": 3, **fields, **D}
    with pytest.raises(error, match=text.replace("(", r"\(")):
        conv2d.build(MINI, **shape, **tiling)
