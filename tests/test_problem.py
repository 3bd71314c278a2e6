"""Problems: closed forms against brute-force counts, bounds by hand, and refused input."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel.errors import InputError
from accel.hardware import chip
from accel.problem import Conv2d, Conv3d, Matmul, Problem, from_dict, kind

SMALL = st.integers(1, 5)


def _axis(size: int, taps: int, stride: int, pad: int, dilation: int) -> list[tuple[int, int, bool]]:
    """Every (output, tap) of one axis with whether it reads a real element, by walking the padded line."""
    line = [False] * pad + [True] * size + [False] * pad
    outputs = [start for start in range(0, len(line), stride) if start + dilation * (taps - 1) < len(line)]
    return [(start, tap, line[start + tap * dilation]) for start in outputs for tap in range(taps)]


def _distinct(axis: list[tuple[int, int, bool]], dilation: int, what: int) -> int:
    """Distinct input positions (what=0), outputs (1) or taps (2) that meet a real element."""
    keys = {0: lambda o, t: o + t * dilation, 1: lambda o, t: o, 2: lambda o, t: t}
    return len({keys[what](output, tap) for output, tap, real in axis if real})


@st.composite
def convolutions(draw: st.DrawFn) -> Conv2d:
    groups = draw(st.integers(1, 3))
    r, s, dilation = draw(SMALL), draw(SMALL), draw(st.integers(1, 3))
    pad = draw(st.integers(0, 4))
    h = draw(st.integers(max(1, dilation * (r - 1) + 1 - 2 * pad), 14))
    w = draw(st.integers(max(1, dilation * (s - 1) + 1 - 2 * pad), 14))
    return Conv2d(
        draw(SMALL), h, w, groups * draw(SMALL), groups * draw(SMALL), r, s, stride=draw(st.integers(1, 4)), pad=pad,
        dilation=dilation, groups=groups, direction=draw(st.sampled_from(["fwd", "dgrad", "wgrad"])),
    )  # fmt: skip


def test_matmul_closed_forms() -> None:
    problem = Matmul(64, 48, 32, out_dtype="fp32")
    assert problem.flops == 2 * 64 * 48 * 32
    assert problem.compulsory_bytes == 64 * 32 * 2 + 32 * 48 * 2 + 64 * 48 * 4
    assert problem.arithmetic_intensity == problem.flops / problem.compulsory_bytes
    assert problem.label == "matmul 64x48x32 bf16>fp32"


def test_transposes_change_storage_only() -> None:
    plain, turned = Matmul(6, 5, 4), Matmul(6, 5, 4, trans_a=True, trans_b=True)
    assert turned.operands["a"].shape == (4, 6)
    assert turned.operands["b"].shape == (5, 4)
    assert turned.operands["c"].shape == plain.operands["c"].shape == (6, 5)
    assert (turned.flops, turned.compulsory_bytes) == (plain.flops, plain.compulsory_bytes)


@given(convolutions())
def test_conv_counts_equal_a_walk_over_the_padded_image(conv: Conv2d) -> None:
    rows = _axis(conv.h, conv.r, conv.strides[0], conv.pads[0], conv.dilations[0])
    columns = _axis(conv.w, conv.s, conv.strides[1], conv.pads[1], conv.dilations[1])
    images = conv.n * conv.k * (conv.c // conv.groups)
    assert conv.macs == images * len(rows) * len(columns)
    inside = sum(1 for (_, _, a), (_, _, b) in itertools.product(rows, columns) if a and b)
    assert conv.touching_macs == images * inside
    assert (conv.p, conv.q) == (len(rows) // conv.r, len(columns) // conv.s)
    touched = {
        "x": conv.n * _distinct(rows, conv.dilations[0], 0) * _distinct(columns, conv.dilations[1], 0) * conv.c,
        "w": _distinct(rows, 0, 2) * _distinct(columns, 0, 2) * (conv.c // conv.groups) * conv.k,
        "gy": conv.n * _distinct(rows, 0, 1) * _distinct(columns, 0, 1) * conv.k,
    }
    for name, operand in conv.operands.items():
        expected = touched[name] if operand.role == "in" else math.prod(operand.shape)
        assert conv.compulsory_elements(name) == expected, name


@given(convolutions(), st.sampled_from([(1, 0), (0, 1), (2, 1)]), st.integers(1, 5), st.integers(1, 3))
def test_conv3d_counts_equal_a_walk_over_time_times_those_of_a_frame(
    conv: Conv2d, walk: tuple[int, int], t: int, kt: int
) -> None:
    (stride, pad), frame = walk if walk[0] else (1, walk[1]), conv.to_dict()
    kt = min(kt, t + 2 * pad)
    steps = {name: (own, *frame.pop(name)) for name, own in (("stride", stride), ("pad", pad), ("dilation", 1))}
    clip = Conv3d.from_dict({**frame, **steps, "kind": "conv3d", "t": t, "kt": kt})
    times = _axis(t, kt, stride, pad, 1)
    assert clip.macs == conv.macs * len(times)
    assert clip.touching_macs == conv.touching_macs * sum(real for _, _, real in times)
    assert (clip.z, clip.p, clip.q) == (len(times) // kt, conv.p, conv.q)
    assert clip.taps == kt * conv.taps
    what = {"x": 0, "gy": 1, "w": 2}
    for name, operand in clip.operands.items():
        flat = conv.operands[name].shape
        at = 0 if name in ("w", "gw") else 1
        extent = {"x": t, "gx": t, "w": kt, "gw": kt, "y": clip.z, "gy": clip.z}[name]
        assert operand.shape == (*flat[:at], extent, *flat[at:]), name
        factor = _distinct(times, 1, what[name]) if operand.role == "in" else extent
        assert clip.compulsory_elements(name) == conv.compulsory_elements(name) * factor, name
    assert from_dict(clip.to_dict()) == clip


@pytest.mark.parametrize("kind", [Conv2d, Conv3d])
def test_a_bias_is_an_input_of_forward_and_an_output_of_the_weight_gradient(kind: type[Problem]) -> None:
    sizes = {"n": 2, "t": 5, "h": 6, "w": 7, "c": 4, "k": 3, "kt": 2, "r": 3, "s": 1}
    data = {name: size for name, size in sizes.items() if name in kind.__struct_fields__}
    for direction, name, role in (("fwd", "bias", "in"), ("wgrad", "gb", "out")):
        problem = kind.from_dict({**data, "direction": direction, "bias": True, "out_dtype": "fp16"})
        assert problem.operands[name] == ((3,), "fp32", role)
        assert problem.flops == kind.from_dict({**data, "direction": direction}).flops
    for fields, text in (({"bias": True}, "bias=True"), ({"activation": "relu"}, "activation='relu'")):
        with pytest.raises(InputError, match=rf"{text} has no part in direction 'dgrad'; use"):
            kind.from_dict({**data, "direction": "dgrad", **fields})


@given(convolutions())
def test_conv_directions_share_flops_and_tensors(conv: Conv2d) -> None:
    forms = [Conv2d.from_dict({**conv.to_dict(), "direction": d}) for d in ("fwd", "dgrad", "wgrad")]
    assert len({form.flops for form in forms}) == 1
    shapes = [sorted(operand.shape for operand in form.operands.values()) for form in forms]
    assert shapes[0] == shapes[1] == shapes[2]
    assert [[name for name, o in form.operands.items() if o.role == "out"] for form in forms] == [["y"], ["gx"], ["gw"]]


@given(convolutions())
def test_dict_round_trip(conv: Conv2d) -> None:
    assert from_dict(conv.to_dict()) == conv
    matmul = Matmul(conv.h, conv.w, conv.c, trans_a=True)
    assert from_dict(matmul.to_dict()) == matmul


def test_parse() -> None:
    assert Matmul.parse("4096x128,7", dtype="fp32") == Matmul(4096, 128, 7, dtype="fp32")
    assert kind("elementwise").parse("8,56x2", direction="bwd") == kind("elementwise")(896, direction="bwd")
    parsed = Conv2d.parse("8,56,56,64,256,1,1", stride=2, direction="wgrad")
    assert parsed == Conv2d(8, 56, 56, 64, 256, 1, 1, stride=(2, 2), direction="wgrad")


def test_bound_on_d1_by_hand() -> None:
    d1 = chip("d1")
    bound = Matmul(4096, 4096, 4096).bound(d1)
    assert bound.cause == "compute"
    assert bound.seconds == pytest.approx(2 * 4096**3 / (354 * 512 * 2e9), rel=1e-12)
    assert bound.terms["memory"] == pytest.approx(3 * 4096**2 * 2 / 800e9, rel=1e-12)
    edge, node = 2 * 4096**2 * 2 / 2e12, (4 * 8 * (4096**3 / 354) ** 2) ** (1 / 3) / (64 * 2e9)
    assert bound.terms["cut"] == pytest.approx(max(edge, node), rel=1e-9)


def test_bound_without_memory_traffic_has_no_memory_term() -> None:
    bound = Matmul(64, 64, 64).bound(chip("d1"), resident=("a", "b", "c"))
    assert bound.terms["memory"] == 0.0
    assert bound.cause == "compute"


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 3000))
def test_resident_operands_never_raise_the_memory_term(m: int, n: int, k: int) -> None:
    problem, mini = Matmul(m, n, k), chip("mini")
    terms = [problem.bound(mini, resident=names).terms["memory"] for names in ((), ("a",), ("a", "b"), ("a", "b", "c"))]
    assert terms == sorted(terms, reverse=True)
    for name, seconds in zip(("a", "b", "c"), (a - b for a, b in itertools.pairwise(terms)), strict=True):
        rate = chip("mini").memory_bytes_per_s
        assert seconds == pytest.approx(problem.operands[name].bytes / rate, rel=1e-9, abs=1e-15)


@given(st.integers(1, 64), st.integers(1, 64), st.integers(1, 64), st.integers(1, 8), st.integers(1, 8))
def test_node_cut_is_below_what_a_block_mapping_moves(bm: int, bn: int, bk: int, rows: int, columns: int) -> None:
    """A real mapping (output blocks, whole k) on a small mesh moves at least the node cut through its busiest port."""
    mini = chip("mini")
    problem = Matmul(4 * bm * rows, 4 * bn * columns, bk)  # mini is 4 x 4
    moved_in = 2 * (bm * rows * bk + bk * bn * columns)
    moved_out = 2 * bm * rows * bn * columns
    cycles = max(moved_in, moved_out) / mini.node.mesh_bytes_per_cycle
    read, write = 2 * (problem.m * bk + bk * problem.n), 2 * problem.m * problem.n
    edge = max(read, write) / sum(
        min(p.edge_bytes_per_cycle, len(p.routers) * p.link_bytes_per_cycle) for p in mini.ports
    )
    assert problem.bound(mini).terms["cut"] * mini.clock_hz <= max(cycles, edge) * (1 + 1e-9)


@pytest.mark.parametrize("value", [0, -1, True, 1.5, "8", None, 2**40 + 1, 10**5000, math.nan, [4]], ids=range(10))
@pytest.mark.parametrize("name", ["m", "n", "k"])
def test_matmul_refuses_a_size_by_name(name: str, value: object) -> None:
    sizes = {"m": 4, "n": 4, "k": 4, name: value}
    with pytest.raises(InputError, match=rf"^matmul: {name}=.*; give a"):
        Matmul(**sizes)  # type: ignore[arg-type]


def test_matmul_refuses_a_tensor_too_large() -> None:
    with pytest.raises(InputError, match=r"output c of shape .* more than 2\^40"):
        Matmul(1 << 21, 1 << 21, 1)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"groups": 3}, "groups=3 does not divide"),
        ({"r": 9}, "does not fit"),
        ({"direction": "backward"}, "fwd, dgrad, wgrad"),
        ({"stride": 0}, "stride=0"),
        ({"pad": -1}, "pad=-1"),
        ({"pad": (1, 2, 3)}, "one number or two"),
        ({"dtype": "bf61"}, "bf16"),
        ({"r": 1 << 17, "pad": 1 << 18}, "r=131072 is outside"),
        ({"q": 3}, "unknown key 'q'"),
    ],
)
def test_conv_refuses(fields: dict[str, object], text: str) -> None:
    with pytest.raises(InputError) as caught:
        Conv2d.from_dict({"n": 1, "h": 8, "w": 8, "c": 4, "k": 4, "r": 3, "s": 3, **fields})
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"kt": 6}, "a 6x3x3 filter with dilation (1, 1, 1) does not fit 5x8x8 padded by (0, 0, 0)"),
        ({"stride": (1, 2)}, "stride has 2 entries; give one number or three (time, height, width)"),
        ({"activation": "rleu"}, "did you mean 'relu'"),
        ({"bias": 1}, "bias=1 is not a flag"),
    ],
)
def test_conv3d_refuses(fields: dict[str, object], text: str) -> None:
    sizes = {"n": 1, "t": 5, "h": 8, "w": 8, "c": 4, "k": 4, "kt": 1, "r": 3, "s": 3}
    with pytest.raises(InputError) as caught:
        Conv3d.from_dict({**sizes, **fields})
    assert text in str(caught.value)


@pytest.mark.parametrize("text", ["", "4x4", "4x4x4x4", "4xx4", "-4x4x4", "axbxc", "4.0x4x4", "٤x4x4", None])
def test_parse_refuses(text: object) -> None:
    with pytest.raises(InputError, match="is not m,n,k"):
        Matmul.parse(text)


@pytest.mark.parametrize("data", [None, [], {}, {"kind": "matmull"}, {"kind": ["matmul"]}, {"kind": "matmul", "m": 3}])
def test_from_dict_refuses(data: object) -> None:
    with pytest.raises(InputError):
        from_dict(data)


def test_unknown_resident_operand_names_the_nearest() -> None:
    with pytest.raises(InputError, match=r"resident operand 'A' .* did you mean 'a'"):
        Matmul(4, 4, 4).bound(chip("mini"), resident=("A",))


def test_problem_itself_is_no_problem() -> None:
    with pytest.raises(TypeError, match="Matmul or Conv2d"):
        _ = Problem().flops


@pytest.mark.parametrize("resident", [(), ("a",)])
def test_node_cut_is_the_cheapest_share_that_a_search_finds(resident: tuple[str, ...]) -> None:
    """A node that touches a, b, c elements does at most sqrt(a b c) multiply-adds: search all a, b for the least."""
    wide = {"edge_bytes_per_cycle": 1e9, "link_bytes_per_cycle": 1 << 16}
    mini = chip("mini").replace(**{f"ports.west.{name}": value for name, value in wide.items()})
    problem = Matmul(2048, 1536, 1792, out_dtype="fp32")
    share = problem.macs / mini.nodes
    a, b = np.meshgrid(*(share ** (2 / 3) * np.exp2(np.linspace(-2.5, 2.5, 1001)),) * 2)
    taken, given = 2 * a + 2 * b, 4 * share**2 / (a * b)
    # An SRAM full at the start and one full at the end cross no port; the busier direction has at least half.
    kept = (taken + given - 2 * mini.node.sram_bytes) / 2
    least = (kept if resident else np.maximum(taken, given)).min()
    assert least > 0
    cut = problem.bound(mini, resident).terms["cut"] * mini.clock_hz * mini.node.mesh_bytes_per_cycle
    assert cut <= least * (1 + 1e-9)
    assert cut == pytest.approx(least, rel=1e-3)


@pytest.mark.parametrize(("make", "text"), [
    (lambda: Conv2d(1, 8, 8, 3, 4, 3, 3, strid=2), "conv2d: unknown field 'strid'; did you mean 'stride'?"),
    (lambda: Matmul(m=1, n=2, k=3, dtpye="bf16"), "matmul: unknown field 'dtpye'; did you mean 'dtype'?"),
    (lambda: Conv2d(1, 8, 8), "conv2d: missing c, k, r, s; give every size"),
    (lambda: Matmul(1, 2, k=3, m=1), "matmul: m is given by position and by name; give it once"),
    (lambda: Matmul(*range(1, 30)), "matmul: 29 values for 15 fields; give m, n, k"),
])  # fmt: skip
def test_fields_that_do_not_exist_are_input_errors(make: Any, text: str) -> None:
    with pytest.raises(InputError) as caught:
        make()
    assert str(caught.value).startswith(text)
