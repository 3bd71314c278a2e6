"""The space of a sweep: every point once, columns equal to values, points built as the library builds them."""

from __future__ import annotations

import itertools
import json
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import accel
from accel.errors import AccelError, SpecError
from accel.hardware import ChipSpec, FrameFormat
from accel.networks import network
from accel.problem import Matmul, StreamingConv
from accel.problem import from_dict as problem_from_dict
from accel.sweep import Space

MATMUL = '[problem]\nkind = "matmul"\nm = 64\nn = 48\nk = 32\n[chip]\nbase = "mini"\n'
MIXED = """
[problem]
kind = "matmul"
m = 64
n = 48
[kernel]
stages = 2
[axes]
"problem.k" = {from = 16, to = 64, step = 16}
problem.dtype = ["bf16", "fp32"]
"ports.*.bytes_per_cycle" = {from = 12.5, to = 50.0, factor = 2.0}
"problem.trans_a" = [false, true]
kernel.resident = [[], ["a"], ["a", "b"]]
chip.base = ["mini", "d1"]
"""


def axes_of(*lists: list[Any]) -> str:
    names = (
        "noc.hop_cycles",
        "noc.semaphore_cycles",
        "noc.barrier_cycles",
        "node.issue_cycles",
        "node.copy_issue_cycles",
    )
    return "[axes]\n" + "".join(
        f'"{name}" = {json.dumps(values)}\n' for name, values in zip(names, lists, strict=False)
    )


def plain(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    return [plain(one) for one in value] if isinstance(value, tuple | list) else value


def test_a_product_has_every_combination_once_in_the_order_of_the_file() -> None:
    space = Space.from_toml(MIXED)
    wanted = list(
        itertools.product(
            [16, 32, 48, 64],
            ["bf16", "fp32"],
            [12.5, 25.0, 50.0],
            [False, True],
            [[], ["a"], ["a", "b"]],
            ["mini", "d1"],
        )
    )
    assert [list(space.values(i).values()) for i in range(len(space))] == [list(one) for one in wanted]
    assert list(space.values(0)) == [axis.name for axis in space.axes]
    assert all(type(a) is type(b) for a, b in zip(space.values(7).values(), wanted[7], strict=True))


def test_columns_are_the_values_of_single_points() -> None:
    space = Space.from_toml(MIXED)
    indices = np.array([5, 0, 287, 100, 5])
    columns = space.columns(indices)
    for at, index in enumerate(indices):
        assert {name: plain(column[at]) for name, column in columns.items()} == space.values(int(index))
    assert columns["problem.k"].dtype == np.int64
    assert columns["ports.*.bytes_per_cycle"].dtype == np.float64
    assert columns["problem.trans_a"].dtype == np.bool_


def test_what_a_point_sets_is_what_it_is_built_from() -> None:
    space = Space.from_toml(MIXED)
    found = space.settings(np.arange(len(space)))
    for index in (0, 101, 287):
        point = space.resolve(index)
        at = {name: plain(column[0 if len(column) == 1 else index]) for name, column in found.items()}
        assert at["problem.m"] == point.problems[0][2].m == 64
        assert at["problem.k"] == point.problems[0][2].k
        assert at["ports.*.bytes_per_cycle"] == point.chip.ports[0].bytes_per_cycle
        assert tuple(at["kernel.resident"]) == point.resident
        assert point.kernel == {"stages": 2}


@given(st.lists(st.integers(1, 7), min_size=0, max_size=5), st.data())
@settings(deadline=None, max_examples=60)
def test_the_order_of_a_run_has_every_point_once_and_the_coarse_grid_first(
    sizes: list[int], data: st.DataObject
) -> None:
    space = Space.from_toml(MATMUL + axes_of(*(list(range(size)) for size in sizes)))
    order = space.order()
    assert sorted(order.tolist()) == list(range(len(space)))
    coarse = set(itertools.product(*({0, (size - 1) // 2, size - 1} for size in sizes)))
    first = {tuple(space.values(int(i)).values()) for i in order[: len(coarse)]}
    assert first == coarse
    index = data.draw(st.integers(0, len(space) - 1))
    strides = [int(np.prod(sizes[at + 1 :])) for at in range(len(sizes))]
    assert list(space.values(index).values()) == [index // s % n for s, n in zip(strides, sizes, strict=True)]


def test_an_order_refines_by_halves_and_takes_all_values_without_order_at_once() -> None:
    space = Space.from_toml(MATMUL + axes_of(list(range(9))) + 'problem.dtype = ["bf16", "fp32", "fp16", "int8"]\n')
    hops = [space.values(int(i))["noc.hop_cycles"] for i in space.order()]
    assert [set(hops[:12]), set(hops[12:20]), set(hops[20:])] == [{0, 4, 8}, {2, 6}, {1, 3, 5, 7}]
    assert [hops[:12].count(value) for value in (0, 4, 8)] == [4, 4, 4]


def test_axes_of_a_group_advance_together() -> None:
    text = MATMUL + axes_of([1, 2, 3], [4, 5], [6, 7, 6]) + '[zip]\nboth = ["noc.hop_cycles", "noc.barrier_cycles"]\n'
    space = Space.from_toml(text)
    found = [tuple(space.values(i).values()) for i in range(len(space))]
    assert found == [(a, b, c) for a, c in ((1, 6), (2, 7), (3, 6)) for b in (4, 5)]
    assert sorted(space.order().tolist()) == list(range(6))


RANGES = [
    ("{from = 2, to = 11, step = 3}", [2, 5, 8, 11]),
    ("{from = 2, to = 10, step = 3}", [2, 5, 8]),
    ("{from = 0.1, to = 0.5, step = 0.1}", [0.1, 0.2, 0.3, 0.4, 0.5]),
    ("{from = 3, to = 50, factor = 4}", [3, 12, 48]),
    ("{from = 1.0, to = 3.0, factor = 1.5}", [1.0, 1.5, 2.25]),
    ("{from = 64, to = 512, count = 4, scale = 'log'}", [64, 128, 256, 512]),
    ("{from = 1, to = 1000000, count = 7, scale = 'log'}", [10**i for i in range(7)]),
    ("{from = 0.001, to = 10.0, count = 5, scale = 'log'}", [0.001, 0.01, 0.1, 1.0, 10.0]),
    ("{from = 10, to = 40, count = 4}", [10, 20, 30, 40]),
    ("{from = 0.0, to = 1.0, count = 4}", [0.0, 1 / 3, 2 / 3, 1.0]),
    ("{from = 4096, to = 40960, count = 4, scale = 'log', multiple = 4096}", [4096, 8192, 20480, 40960]),
    ("[3, 1, 2.5]", [3.0, 1.0, 2.5]),
]


@pytest.mark.parametrize(("text", "values"), RANGES)
def test_ranges_are_exact_in_the_decimals_as_written(text: str, values: list[Any]) -> None:
    space = Space.from_toml(f"{MATMUL}[axes]\nnode.vector.divide_passes = {text}")
    assert list(space.axes[0].values) == values
    assert [type(one) for one in space.axes[0].values] == [type(one) for one in values]


def test_constraints_are_those_of_plain_python_and_tell_what_is_wrong() -> None:
    body = '[problem]\nkind = "matmul"\nm = "= problem.k * 2"\nn = "= 96 // (problem.k - 48)"\n[chip]\nbase = "mini"\n'
    text = body + (
        "[axes]\nproblem.k = [32, 48, 49, 64, 96]\nnode.sram_bytes = [16384, 65536]\n[constraints]\n"
        "fits = 'problem.k * problem.m <= node.sram_bytes / 8'\nwide = 'problem.n >= 2'\n"
    )
    space = Space.from_toml(text)
    legal, broken = space.legal(np.arange(10))
    for index in range(10):
        k, sram = space.values(index)["problem.k"], space.values(index)["node.sram_bytes"]
        wanted = -1
        if k == 48:
            wanted = 0 if k * k * 2 > sram / 8 else 1  # no n: the constraint that needs it has no value
        elif k * 2 * k > sram / 8:
            wanted = 0
        elif 96 // (k - 48) < 2:
            wanted = 1
        assert broken[index] == wanted
        assert legal[index] == (wanted < 0)
        if wanted < 0:
            assert space.resolve(index).problems[0][2] == Matmul(2 * k, 96 // (k - 48), k)
        else:
            with pytest.raises(AccelError) as caught:
                space.resolve(index)
            assert str(caught.value).startswith(("fits: ", "wide: ")[wanted])
    assert space.constraints[:2] == ("fits: problem.k * problem.m <= node.sram_bytes / 8", "wide: problem.n >= 2")
    with pytest.raises(
        AccelError, match=r"fits: .* does not hold with problem.k = 96, problem.m = 192, node.sram_bytes"
    ):
        space.resolve(8)
    with pytest.raises(
        AccelError, match=r"wide: .*\[problem\] n = '= 96 // \(problem.k - 48\)': column 10: a division by"
    ):
        space.resolve(3)


def test_whole_numbers_of_expressions_are_integers_and_others_are_told() -> None:
    text = '[problem]\nkind = "matmul"\nm = "= problem.k / 2"\nn = 8\n[axes]\nproblem.k = [64, 65]\n'
    space = Space.from_toml(text)
    assert space.resolve(0).problems[0][2] == Matmul(32, 8, 64)
    with pytest.raises(AccelError, match=r"m=32.5 is not an integer.*\(m is '= problem.k / 2'\)"):
        space.resolve(1)
    assert space.settings([0])["problem.m"].dtype == np.int64
    assert plain(tuple(space.settings([0, 1])["problem.m"])) == [32, 32.5]


@given(
    st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 24), st.integers(1, 4), st.integers(1, 8),
    st.integers(1, 60), st.integers(1, 16), st.integers(0, 5), st.sampled_from([0.0, 0.25, 0.5, 0.9]),
)  # fmt: skip
@settings(deadline=None, max_examples=40)
def test_frames_are_those_of_the_library(
    width: int, height: int, bits: int, channels: int, cameras: int, fps: int, window: int, halo: int, share: float
) -> None:
    frame = {
        "width": width,
        "height": height,
        "bits_per_pixel": bits,
        "channels": channels,
        "cameras": cameras,
        "fps": fps,
    }
    sizing = {"window": window, "halo_radius": halo, "working_share": share}
    space = Space.from_dict({
        "problem": {"kind": "matmul", "m": 1, "n": "= frame.height", "k": 1}, "chip": {"base": "mini"},
        "frame": {**frame, **sizing, "size_sram": True}, "axes": {"noc.hop_cycles": [1, 2]},
    })  # fmt: skip
    wanted = FrameFormat(**frame)
    for name in ("line_bytes", "frame_bytes", "frame_set_bytes", "bytes_per_second"):
        assert space.column(f"frame.{name}", [0, 1]).tolist() == [getattr(wanted, name)] * 2
    try:
        chip = accel.chip("mini").sized_for(wanted, **sizing)
    except AccelError:
        with pytest.raises(AccelError):
            space.resolve(0)
        return
    point = space.resolve(0)
    assert point.frame == wanted
    assert point.chip == chip.replace(**{"noc.hop_cycles": 1})
    assert space.column("node.sram_bytes", [1]).tolist() == [chip.node.sram_bytes]
    assert space.column("chip.sram_bytes", [1]).tolist() == [chip.sram_total_bytes]
    assert space.column("chip.nodes", [0]).tolist() == [chip.nodes]
    assert space.column("chip.mesh_nodes", [0]).tolist() == [chip.mesh_nodes]


def test_a_swept_frame_sizes_the_sram_of_every_point() -> None:
    space = Space.from_toml(
        MATMUL
        + "[frame]\nwidth = 1280\nheight = 960\nbits_per_pixel = 12\nfps = 36\nsize_sram = true\n"
        "[axes]\nframe.cameras = [1, 2, 4]\nframe.window = [1, 2, 3]\nchip.base = ['mini', 'd1']\n".replace(
            "chip.base = ['mini', 'd1']", ""
        )
    )
    column = space.column("node.sram_bytes", np.arange(9))
    for index in range(9):
        values = space.values(index)
        frame = FrameFormat(width=1280, height=960, bits_per_pixel=12, fps=36, cameras=values["frame.cameras"])
        chip = accel.chip("mini").sized_for(frame, window=values["frame.window"])
        assert space.resolve(index).chip.node.sram_bytes == chip.node.sram_bytes == column[index]


def test_layers_of_a_network_are_chosen_by_name() -> None:
    text = (
        "[problem]\nnetwork = 'resnet50'\nbatch = 4\nlayers = ['conv2 3*', 'STEM 7x7/2']\n[axes]\nproblem.training = "
    )
    for training in (False, True):
        work = Space.from_toml(f"{text}[{str(training).lower()}]").resolve(0).problems
        layers = network("resnet50", batch=4, training=training)
        wanted = [one for one in layers if one.name.startswith("conv2 3") or one.name == "stem 7x7/2"]
        assert work == tuple((one.count, one.name, one.problem) for one in wanted)
    one = Space.from_toml("[problem]\nnetwork = 'resnet50'\n[axes]\nproblem.layer = ['conv2 3x3', 'conv5*']\n")
    assert [name for _, name, _ in one.resolve(0).problems][:1] == ["conv2 3x3"]
    assert all(name.startswith("conv5") for _, name, _ in one.resolve(1).problems)
    whole = Space.from_toml("[problem]\nnetwork = 'resnet50'\n").resolve(0)
    assert len(whole.problems) == len(network("resnet50"))


def test_a_name_of_the_library_presets_fields_and_formats_follow() -> None:
    space = Space.from_toml("[problem]\nsize = 100\n[axes]\nproblem.kind = ['relu', 'gelu']\n")
    assert [space.resolve(i).problems[0][2].function for i in (0, 1)] == ["relu", "gelu"]
    conv = "[problem]\nkind = 'conv2d'\n" + "".join(f"{name} = 8\n" for name in "nhwckrs")
    conv += "[axes]\nproblem.dtype = ['fp32']\n"
    assert Space.from_toml(conv).resolve(0).problems[0][2].out_dtype == "fp32"
    assert Space.from_toml(conv).column("problem.out_dtype", [0]).tolist() == ["fp32"]


def test_paths_lead_to_the_chip_and_the_more_exact_one_holds() -> None:
    space = Space.from_toml(
        MATMUL + "noc.hop_cycles = 3\n'ports.*.latency_cycles' = 7\n'ports.west.latency_cycles' = '= problem.k + 1'\n"
        "[axes]\n'ports.*.bytes_per_cycle' = [10.0]\n'ports.west.bytes_per_cycle' = [20.0]\nnode.sram_bytes = [65536]\n"
    )
    chip = space.resolve(0).chip
    assert (chip.noc.hop_cycles, chip.ports[0].latency_cycles, chip.ports[0].bytes_per_cycle) == (3, 33, 20.0)
    assert chip.node.sram_bytes == 65536
    assert space.column("ports.west.bytes_per_cycle", [0]).tolist() == [20.0]
    assert space.column("ports.west.latency_cycles", [0]).tolist() == [33]
    assert space.column("noc.hop_cycles", [0]).tolist() == [3]
    assert space.column("noc.packet_bytes", [0]).tolist() == [accel.chip("mini").noc.packet_bytes]


def test_a_port_reads_what_all_ports_are_given() -> None:
    axis = MATMUL + "[axes]\n'ports.*.bytes_per_cycle' = [10.0, 20.0]\n"
    fixed = MATMUL + "'ports.*.bytes_per_cycle' = '= problem.k + 1'\n"
    assert Space.from_toml(axis).column("ports.west.bytes_per_cycle", [0, 1]).tolist() == [10.0, 20.0]
    assert Space.from_toml(fixed).column("ports.west.bytes_per_cycle", [0]).tolist() == [33]
    held = Space.from_toml(axis + "[constraints]\na = 'ports.west.bytes_per_cycle < 15'\n").legal([0, 1])[0]
    assert held.tolist() == [True, False]


def test_a_job_is_plain_data_and_a_key_covers_what_decides_the_figures() -> None:
    body = MATMUL + "[kernel]\nstages = 2\nresident = 'a'\n[axes]\nproblem.trans_b = [false, true]\n"
    point = Space.from_toml(body).resolve(0)
    job = point.job()
    assert json.loads(json.dumps(job)) == job
    assert ChipSpec.from_dict(job["chip"]) == point.chip
    assert problem_from_dict(job["problems"][0][2]) == point.problems[0][2] == Matmul(64, 48, 32)
    assert (job["kernel"], job["resident"], job["fidelity"]) == ({"stages": 2}, ["a"], "packet")
    same = "title = 'other'\nobjective = 'cycles'\n" + body.replace("stages = 2", "stages = '= 1 + 1'")
    assert Space.from_toml(same).resolve(0).key() == point.key()
    others = [
        Space.from_toml(body).resolve(1),
        Space.from_toml(body.replace("m = 64", "m = 65")).resolve(0),
        Space.from_toml(body.replace("stages = 2", "stages = 3")).resolve(0),
        Space.from_toml(body.replace("'a'", "'b'")).resolve(0),
        Space.from_toml(body.replace("'a'", "[]")).resolve(0),
        Space.from_toml(body.replace('"mini"', '"mini"\nnoc.hop_cycles = 2')).resolve(0),
        Space.from_toml("fidelity = 'bound'\n" + body).resolve(0),
    ]
    assert len({point.key(), *(one.key() for one in others)}) == 8


def test_a_digest_is_that_of_the_points() -> None:
    body = MATMUL + axes_of([1, 2, 3])
    digest = Space.from_toml(body).digest()
    same = (
        "# words\ntitle = 'x'\nscreen = 'bound'\nkeep = 3\n"
        + MATMUL
        + "[axes]\nnoc.hop_cycles = {from = 1, to = 3, step = 1}\n"
    )
    assert Space.from_toml(same + "[limits]\ntimeout_s = 3\n").digest() == digest
    assert Space.from_dict(__import__("tomllib").loads(body)).digest() == digest
    for other in (body.replace("2, 3", "3, 2"), body.replace("m = 64", "m = 65"), body + "[constraints]\na = '1 < 2'\n",
                  body.replace("mini", "d1"), "fidelity = 'bound'\n" + body):  # fmt: skip
        assert Space.from_toml(other).digest() != digest


def test_a_space_of_1e12_points_has_a_length_and_its_points_but_no_order() -> None:
    space = Space.from_toml(MATMUL + axes_of(*[list(range(1000))] * 4))
    assert len(space) == 10**12
    assert list(space.values(10**12 - 1).values()) == [999] * 4
    assert space.columns([123_456_789_012])["noc.barrier_cycles"].tolist() == [789]
    assert space.resolve(999_999_999_999).chip.noc.hop_cycles == 999
    with pytest.raises(SpecError, match=r"1,000,000,000,000 points cannot be put in order.*method = 'random'"):
        space.order()
    for index in (-1, 10**12):
        with pytest.raises(AccelError, match="not among them"):
            space.values(index)


def test_columns_of_many_points_take_little_memory() -> None:
    count = 300_000
    space = Space.from_toml(
        MIXED + '"node.sram_bytes" = {from = 65536, to = 67536, step = 1}\n'
        '[constraints]\nc = "problem.k * 2 < node.sram_bytes"'
    )
    space.legal(np.arange(10))
    tracemalloc.start()
    try:
        space.columns(np.arange(count))
        legal, _ = space.legal(np.arange(count))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert legal.all()
    assert peak < 250 * count  # bytes a point: a few columns of eight


def test_a_file_names_a_chip_beside_it(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(accel.chip("mini").replace(**{"noc.hop_cycles": 5}).to_toml())
    (tmp_path / "sweep.toml").write_text(MATMUL.replace("mini", "own.toml") + axes_of([1]).replace("hop", "semaphore"))
    space = Space.load(tmp_path / "sweep.toml")
    assert space.resolve(0).chip.noc.hop_cycles == 5
    assert space.text == (tmp_path / "sweep.toml").read_text()
    before = space.digest()
    (tmp_path / "own.toml").write_text(accel.chip("mini").to_toml())
    assert Space.load(tmp_path / "sweep.toml").digest() != before


def test_the_frame_of_the_order_is_swept_as_written() -> None:
    """The file that the documentation begins with, in small."""
    space = Space.from_toml("""
        title = "Buffers"
        screen = "bound"
        keep = 0.5
        [problem]
        kind = "streaming_conv"
        frames = 3
        h = "= frame.height // 32"
        w = "= frame.width // 32"
        c = 3
        k = 8
        kt = 2
        r = 3
        s = 3
        pad = 1
        [chip]
        base = "mini"
        [frame]
        bits_per_pixel = 12
        cameras = 8
        fps = 36
        [axes]
        "frame.width" = [1280, 2896]
        "frame.height" = [960, 1876]
        "node.sram_bytes" = {from = 65536, to = 262144, factor = 2}
        [zip]
        cameras = ["frame.width", "frame.height"]
        [constraints]
        lines = "frame.line_bytes * 12 <= node.sram_bytes"
        """)
    assert len(space) == 6
    assert (space.screen, space.keep, space.objective, space.fidelity) == ("bound", 0.5, "seconds", "packet")
    assert space.legal(np.arange(6))[0].tolist() == [True, True, True, True, True, True]
    assert space.resolve(0).problems[0][2] == StreamingConv(3, 30, 40, 3, 8, 2, 3, 3, pad=1)
    assert space.resolve(5).problems[0][2] == StreamingConv(3, 58, 90, 3, 8, 2, 3, 3, pad=1)


def test_nodes_are_counted_whichever_sites_are_disabled() -> None:
    space = Space.from_toml(MATMUL + "mesh.rows = 3\n[axes]\nmesh.holes = [[], [[3, 3]], [[3, 0], [3, 1]]]\n")
    assert space.column("chip.nodes", [0, 1, 2]).tolist() == [space.resolve(i).chip.nodes for i in (0, 1, 2)]


def test_a_dry_run_counts_what_each_constraint_rules_out() -> None:
    body = MATMUL.replace('"mini"', '"mini"\nmesh.rows = 2') + axes_of([1, 2, 3, 4, 5])
    space = Space.from_toml(body + "[constraints]\na = 'noc.hop_cycles > 1'\nb = 'noc.hop_cycles % 2 == 0'\n")
    ruled_out = Counter(space.constraints[number] for number in space.legal(np.arange(5))[1] if number >= 0)
    assert ruled_out == {"a: noc.hop_cycles > 1": 1, "b: noc.hop_cycles % 2 == 0": 2}


def test_an_axis_takes_the_place_of_a_fixed_value() -> None:
    text = MATMUL.replace('"mini"', '"mini"\nnoc.hop_cycles = 9\nnode.sram_bytes = 65536')
    space = Space.from_toml(text + '[axes]\nproblem.k = [8, 16]\nnoc.hop_cycles = [1]\nchip.base = ["d1", "mini"]\n')
    assert [space.resolve(i).problems[0][2].k for i in range(4)] == [8, 8, 16, 16]
    chips = [space.resolve(i).chip for i in (0, 1)]
    assert [(chip.name, chip.noc.hop_cycles, chip.node.sram_bytes) for chip in chips] == [
        ("d1", 1, 65536), ("mini", 1, 65536),
    ]  # fmt: skip
