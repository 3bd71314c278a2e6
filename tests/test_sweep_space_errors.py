"""What a sweep's TOML may not say: each mistake is one error: file, section, key, way out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accel.errors import AccelError, InputError, SpecError
from accel.sweep import Space

KIND = '[problem]\nkind = "matmul"\nm = 64\nn = 48\nk = 32\n'
BASE = KIND + '[chip]\nbase = "mini"\n'
AXES = BASE + "[axes]\n"
FRAME = BASE + "[frame]\nwidth = 1280\nheight = 960\nbits_per_pixel = 12\nfps = 36\n"
NETWORK = "[problem]\nnetwork = 'resnet50'\n"

WRONG = [
    # sections and keys
    ("= 3", "is not valid TOML"),
    ("x = 1e", "is not valid TOML"),
    ("[constraint]\na = '1 < 2'\n" + KIND, "unknown key 'constraint'; did you mean 'constraints'"),
    ("fidelty = 'packet'\n" + KIND, "unknown key 'fidelty'; did you mean 'fidelity'"),
    ("axes = 3\n" + KIND, "axes = 3 is no section"),
    ("title = 3\n" + KIND, "title = 3; give text"),
    ("fidelity = 'cycle'\n" + KIND, "fidelity = 'cycle' is not one of packet, bound"),
    ("objective = 'second'\n" + KIND, "objective = 'second' is no figure of a point; did you mean 'seconds'"),
    ("screen = 'packet'\nkeep = 3\n" + KIND, "screen = 'packet'; use 'bound'"),
    ("screen = 'bound'\n" + KIND, "keep = None; give how many"),
    ("screen = 'bound'\nkeep = 1.5\n" + KIND, "keep = 1.5"),
    ("screen = 'bound'\nkeep = 0\n" + KIND, "keep = 0"),
    ("screen = 'bound'\nkeep = true\n" + KIND, "keep = True"),
    ("screen = 'bound'\nkeep = nan\n" + KIND, "keep = nan"),
    ("keep = 3\n" + KIND, "keep goes with a screen"),
    ("fidelity = 'bound'\nscreen = 'bound'\nkeep = 3\n" + KIND, "leave screen and keep out"),
    (KIND + "[limits]\ntimeout = 3\n", "[limits] has no key 'timeout'; did you mean 'timeout_s'"),
    (KIND + "[limits]\ntimeout_s = 0\n", "[limits] timeout_s = 0; give seconds above 0"),
    (KIND + "[limits]\ntimeout_s = nan\n", "[limits] timeout_s = nan"),
    (KIND + "[limits]\nmemory_bytes = 1.5\n", "[limits] memory_bytes = 1.5; give an integer"),
    # samples
    (AXES + "noc.hop_cycles = [1]\n[sample]\nmethod = 'latin'\n", "method = 'latin' is not one of"),
    (AXES + "noc.hop_cycles = [1]\n[sample]\ncount = 3\n", "a product has all combinations"),
    (AXES + "noc.hop_cycles = [1]\n[sample]\nmethod = 'random'\n", "[sample] count = None; random takes an integer"),
    (AXES + "noc.hop_cycles = [1]\n[sample]\nmethod = 'random'\ncount = 2\n", "count = 2, and there are 1 comb"),
    (AXES + "noc.hop_cycles = [1]\n[sample]\nmethod = 'random'\ncount = 1\nseed = -1\n", "[sample] seed = -1"),
    (AXES + "noc.hop_cycles = [1]\n[sample]\nmethod = 'random'\ncount = 1\nsed = 1\n",
     "no key 'sed'; did you mean 'seed'"),
    # problems
    ("[chip]\nbase = 'mini'\n", "[problem] names no problem"),
    (NETWORK + "kind = 'matmul'\n", "[problem] names both a kind and a network"),
    (KIND.replace("matmul", "matmull"),
     "[problem] kind: 'matmull' is no problem of the library; did you mean 'matmul'"),
    (KIND.replace('"matmul"', "3"), "[problem] kind: give names as plain text"),
    (KIND.replace("k = 32\n", ""), "[problem] matmul needs k; give each"),
    (KIND + "kk = 3\n", "[problem] kk: matmul has no 'kk'; did you mean 'k'"),
    (KIND + "layers = ['a']\n", "[problem] layers: matmul has no 'layers'"),
    ("[problem]\nkind = 'relu'\nsize = 3\nfunction = 'gelu'\n", "[problem] function: relu has function = 'relu'"),
    ("[problem]\nnetwork = 'resnet5'\n", "[problem] network: unknown network 'resnet5'; did you mean 'resnet50'"),
    (NETWORK + "bach = 3\n", "[problem] bach: resnet50 has no 'bach'; did you mean 'batch'"),
    (NETWORK + "layers = ['konv2*']\n", "[problem] layers: resnet50 has no layer 'konv2*'"),
    (NETWORK + "layers = []\n", "[problem] layers: give names or patterns"),
    (NETWORK + "layers = 3\n", "[problem] layers: give names or patterns"),
    (NETWORK + "layers = ['conv2*']\n[axes]\nproblem.layer = ['conv3*']\n", "not both"),
    # axes
    (AXES + "node.sram_byte = [1]\n",
     "[axes] node.sram_byte: unknown name 'node.sram_byte'; did you mean 'node.sram_bytes'"),
    (AXES + "sram_bytes = [1]\n", "did you mean 'node.sram_bytes'"),
    (AXES + "'ports.*.bytes' = [1]\n", "[axes] ports.*.bytes: unknown name"),
    (AXES + "ports.west.byte_per_cycle = [1]\n", "did you mean 'ports.west.bytes_per_cycle'"),
    (AXES + "kernal.stages = [1]\n", "did you mean 'kernel.stages'"),
    (AXES + "prblem.k = [1]\n", "did you mean 'problem.k'"),
    (AXES + "kernel.stagez = [1]\n",
     "[axes] kernel.stagez: the kernel of matmul has no parameter 'stagez'; did you mean 'stages'"),
    (AXES + "chip.name = ['a']\n", "[axes] chip.name: unknown name 'chip.name'; use chip.base"),
    (AXES + "noc.hop_cycles = []\n", "[axes] noc.hop_cycles is an empty list"),
    (AXES + "noc.hop_cycles = [1, 2, 1]\n", "[axes] noc.hop_cycles has the value 1 twice"),
    (AXES + "noc.hop_cycles = [1, 1]\nnode.issue_cycles = [2, 2]\n[zip]\na = ['noc.hop_cycles', 'node.issue_cycles']\n",
     "[axes] noc.hop_cycles and node.issue_cycles has the value [1, 2] twice"),
    (AXES + "noc.hop_cycles = [1, 1.0]\n", "[axes] noc.hop_cycles has the value 1.0 twice"),
    (AXES + "noc.hop_cycles = [1, 'a']\n", "[axes] noc.hop_cycles mixes numbers and text"),
    (AXES + "noc.hop_cycles = [1, true]\n", "[axes] noc.hop_cycles mixes flags and numbers"),
    (AXES + "noc.hop_cycles = [nan]\n", "[axes] noc.hop_cycles has the value nan; give finite numbers"),
    (AXES + "noc.hop_cycles = [inf]\n", "[axes] noc.hop_cycles has the value inf"),
    (AXES + "noc.hop_cycles = [4611686018427387904]\n", "give integers below 2^62"),
    (AXES + "noc.hop_cycles = 3\n", "[axes] noc.hop_cycles = 3 is no axis"),
    (AXES + "noc.hop_cycles = 'a'\n", "[axes] noc.hop_cycles = 'a' is no axis"),
    (AXES + "noc.hop_cycles = [1979-05-27]\n", "[axes] noc.hop_cycles has the value datetime"),
    (AXES + "noc.hop_cycles = ['= 3']\n", "an expression; an axis has plain values"),
    (AXES + "noc.hop_cycles = {}\n", "is no axis"),
    (AXES + "noc.hop_cycles = {from = 1, to = 3}\n", "is no range; give from, to and one of"),
    (AXES + "noc.hop_cycles = {from = 1, to = 3, step = 1, count = 2}\n", "is no range"),
    (AXES + "noc.hop_cycles = {from = 1, to = 3, setp = 1}\n", "no key 'setp'; did you mean 'step'"),
    (AXES + "noc.hop_cycles = {from = 3, to = 1, step = 1}\n", "goes from 3 to 1; give a `to` above"),
    (AXES + "noc.hop_cycles = {from = 1, to = 3, step = 0}\n", "step above 0"),
    (AXES + "noc.hop_cycles = {from = 1, to = 3, step = inf}\n", "give finite numbers"),
    (AXES + "noc.hop_cycles = {from = 1, to = 3, step = 'a'}\n", "step = 'a'; give a number"),
    (AXES + "noc.hop_cycles = {from = 1, to = 3, factor = 1}\n", "factor above 1"),
    (AXES + "noc.hop_cycles = {from = 0, to = 3, factor = 2}\n", "give a `from` above 0"),
    (AXES + "noc.hop_cycles = {from = 1.0, to = 1e300, factor = 1.0001}\n", "more than 4,096 values"),
    (AXES + "noc.hop_cycles = {from = 0, to = 4000000000, step = 1}\n", "has 4,000,000,001 values; give at most"),
    (AXES + "noc.hop_cycles = {from = 1, to = 3, count = 1}\n", "count = 1; give an integer from 2"),
    (AXES + "noc.hop_cycles = {from = 1, to = 4, count = 3}\n", "between integers; give multiple = 1"),
    (AXES + "noc.hop_cycles = {from = 1, to = 4, count = 3, multiple = 0}\n", "multiple = 0; give an integer"),
    (AXES + "noc.hop_cycles = {from = 1, to = 4, count = 4, scale = 'ln'}\n", "use 'linear' or 'log'"),
    (AXES + "noc.hop_cycles = {from = 1, to = 4, step = 1, scale = 'log'}\n", "leave it out beside step"),
    (AXES + "noc.hop_cycles = {from = 1, to = 9, count = 9, multiple = 4}\n", "has the value 4 twice"),
    (AXES + "".join(f"'noc.hop_cycles{i}' = [1]\n" for i in range(65)), "65 axes; use at most 64"),
    # groups
    (AXES + "noc.hop_cycles = [1, 2]\nnode.issue_cycles = [1]\n[zip]\na = ['noc.hop_cycles', 'node.issue_cycles']\n",
     "[zip] a: noc.hop_cycles has 2, node.issue_cycles has 1 values"),
    (AXES + "noc.hop_cycles = [1]\n[zip]\na = ['noc.hop_cycles', 'noc.hop_cycle']\n",
     "no axis; did you mean 'noc.hop_cycles'"),
    (AXES + "noc.hop_cycles = [1]\n[zip]\na = ['noc.hop_cycles', 'noc.hop_cycles']\n", "in a group already"),
    (AXES + "noc.hop_cycles = [1]\n[zip]\na = ['noc.hop_cycles']\n", "list two axes or more"),
    (AXES + "noc.hop_cycles = [1]\n[zip]\na = 3\n", "[zip] a = 3 is no group"),
    # chips
    (KIND + "[chip]\nbase = 'mimi'\n", "[chip] base: unknown chip 'mimi'; did you mean 'mini'"),
    (KIND + "[chip]\nbase = 'nowhere.toml'\n", "[chip] base: cannot read chip file"),
    (KIND + "[chip]\nbase = 3\n", "[chip] base: give names of chips"),
    (BASE + "node.srambytes = 3\n",
     "[chip] node.srambytes: unknown name 'node.srambytes'; did you mean 'node.sram_bytes'"),
    (BASE + "node.sram_bytes = 3\n", "[chip] node.sram_bytes = 3 cannot be used; give an integer >= 1024"),
    (BASE + "node.sram_bytes = nan\n", "[chip] node.sram_bytes = nan; give a finite number"),
    (BASE + "'node.sram_bytes' = 65536\nnode.sram_bytes = 65536\n", "[chip] node.sram_bytes is given twice"),
    (BASE + "node.sram_bytes = 1979-05-27\n", "[chip] node.sram_bytes = datetime"),
    # kernels
    (BASE + "[kernel]\nresident = ['x']\n",
     "[kernel] resident: matmul 64x48x32 bf16 has no operand 'x'; it has a, b, c"),
    (AXES + "kernel.resident = [['a'], ['aa']]\n", "has no operand 'aa'; did you mean 'a'"),
    (BASE + "[kernel]\nbkk = 3\n", "[kernel] bkk: the kernel of matmul has no parameter 'bkk'; did you mean 'bk'"),
    # frames
    (BASE + "[frame]\nwidth = 1280\nheight = 960\n", "[frame] needs bits_per_pixel, fps"),
    (FRAME + "widht = 3\n", "[frame] widht: a frame has no 'widht'; did you mean 'width'"),
    (FRAME + "size_sram = 3\n", "[frame] size_sram = 3; give true or false"),
    (FRAME + "size_sram = true\n[axes]\nnode.sram_bytes = [65536]\n", "size_sram sets it already"),
    (FRAME + "[axes]\nframe.size_sram = [true]\n", "frame.size_sram cannot vary"),
    (BASE + "[frame]\nsize_sram = true\n", "[frame] needs width"),
    (AXES + "frame.cameras = [1]\n", "[frame] needs width"),
    # expressions
    (BASE + "[constraints]\na = '1 + 2'\n",
     "[constraints] a = '1 + 2': column 1: the result is an integer; it must be true"),
    (BASE + "[constraints]\na = 3\n", "[constraints] a = 3 is no expression"),
    (BASE + "[constraints]\na = 'problem.q < 2'\n", "[constraints] a: unknown name 'problem.q'"),
    (BASE + "[constraints]\na = 'node.sram < 2'\n", "unknown name 'node.sram'; did you mean 'node.sram_bytes'"),
    (BASE + "[constraints]\na = 'hop_cycles < 2'\n", "did you mean 'noc.hop_cycles'"),
    (BASE + "[constraints]\na = 'kernel.bk < 2'\n", "kernel.bk is not set by this sweep"),
    (BASE + "[constraints]\na = 'frame.width < 2'\n", "frame.width needs a [frame]"),
    (BASE + "[constraints]\na = 'frame.line_bytes < 2'\n", "frame.line_bytes needs a [frame]"),
    (BASE + "[constraints]\na = 'mesh.holes < 2'\n", "cannot be compared"),
    (BASE + "[constraints]\na = 'problem.dtype < 2'\n", "column 17: text and an integer cannot be compared"),
    (BASE + "[constraints]\na = 'problem.dtype.upper() < 2'\n", "problem.dtype.upper cannot be called"),
    (BASE + "[constraints]\na = 'problem.__class__ < 2'\n", "unknown name 'problem.__class__'"),
    (BASE + "[constraints]\n" + "".join(f"a{i} = '1 < 2'\n" for i in range(257)), "257 entries; use at most 256"),
    (AXES + "energy.mac_pj = [0.5]\n[constraints]\na = 'energy.mac_pj.nominal < 2'\n", "is set as a whole"),
    (AXES + "'ports.0.bytes_per_cycle' = [1]\n", "did you mean 'ports.west.bytes_per_cycle'"),
    (KIND.replace("m = 64", "m = '= problem.n'").replace("n = 48", "n = '= 2 * problem.m'"),
     "[problem] m: problem.m -> problem.n -> problem.m is a circle"),
    (KIND.replace("m = 64", "m = '= problem.m'"), "problem.m -> problem.m is a circle"),
    (FRAME + "cameras = '= frame.frame_set_bytes'\n", "is a circle"),
    (BASE + "node.sram_bytes = '= chip.sram_bytes'\n", "is a circle"),
    (KIND.replace("m = 64", "m = '= 9 ** 9 ** 9'"), "[problem] m = '= 9 ** 9 ** 9': column 3: an integer of 2^62"),
    (KIND.replace("m = 64", "m = '= \"a\" + 1'"), "column 3: text stands where a number is needed"),
    (KIND.replace("m = 64", "m = '=" + "1" * 5000 + "'"), "5,001 characters"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "told"), WRONG, ids=[told[:50] for _, told in WRONG])
def test_a_mistake_is_one_error_that_names_its_place(text: str, told: str) -> None:
    with pytest.raises(SpecError) as caught:
        Space.from_toml(text, source="s.toml")
    message = str(caught.value)
    assert message.startswith("s.toml")
    assert told in message, message
    assert "\n" not in message
    assert len(message) < 900


ILLEGAL = [
    (AXES + "noc.packet_bytes = [100]\n", "noc.packet_bytes: 100 is not a multiple of noc.link_bytes_per_cycle = 64"),
    (AXES + "node.sram_bytes = [3]\n", "node.sram_bytes = 3 cannot be used; give an integer >= 1024"),
    (AXES + "node.sram_bytes = ['3']\n", "node.sram_bytes = '3' cannot be used"),
    (AXES + "problem.out_dtype = ['bf17']\n", "bf17"),
    (AXES + "problem.trans_a = [1]\n", "trans_a=1 is not a flag"),
    (FRAME + "[axes]\nframe.cameras = [0]\n", "frame.cameras = 0 cannot be used"),
    (FRAME + "size_sram = true\n[axes]\nframe.working_share = [1.0]\n", "working_share = 1"),
    (FRAME + "size_sram = true\n[axes]\nframe.window = [1000000]\n", "frame sets"),
    (NETWORK + "[axes]\nproblem.batch = [0]\n", "batch=0"),
    (NETWORK + "[axes]\nproblem.training = [3]\n", "training=3 is not a flag"),
    (BASE.replace("m = 64", "m = '= 64 // (problem.k - 32)'"), "column 10: a division by zero"),
]


@pytest.mark.parametrize(("text", "told"), ILLEGAL, ids=[told[:50] for _, told in ILLEGAL])
def test_a_point_that_cannot_be_built_says_why(text: str, told: str) -> None:
    space = Space.from_toml(text, source="s.toml")
    with pytest.raises(AccelError) as caught:
        space.resolve(0)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
    space.legal([0])  # what only building shows is not seen here; the rest is


def test_files_that_are_no_sweep(tmp_path: Path) -> None:
    for content in (b"\xff\xfe", b"\x00", b"[" * 100_000, b"a = " + b"[" * 5000, b"a = " + b"9" * 5000):
        path = tmp_path / "s.toml"
        path.write_bytes(content)
        with pytest.raises(SpecError, match=r"s\.toml"):
            Space.load(path)
    for missing in (tmp_path / "nowhere.toml", tmp_path, "a\0b"):
        with pytest.raises(SpecError, match="cannot read sweep file"):
            Space.load(missing)


def nested(depth: int) -> dict[str, Any]:
    found: dict[str, Any] = {"a": 1}
    for _ in range(depth):
        found = {"a": found}
    return found


@pytest.mark.parametrize("data", [{"a": None}, {"axes": {"a": {1}}}, {1: 2}, {"axes": nested(5000)}, {"a": object()}])
def test_data_that_is_no_toml(data: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match="sweep"):
        Space.from_dict(data)


@pytest.mark.parametrize("section", ["axes", "chip", "problem", "kernel", "frame"])
def test_deep_tables_are_refused(section: str) -> None:
    text = BASE.replace("[problem]", "[problem]\nx = 1") if section == "problem" else BASE
    text += f"[{section}.{'.'.join('a' * 60)}]\nb = 1\n"
    with pytest.raises(SpecError, match=r"s\.toml: \["):
        Space.from_toml(text, source="s.toml")


def test_more_combinations_than_numbers() -> None:
    names = ("noc.hop_cycles", "noc.semaphore_cycles", "noc.barrier_cycles", "node.issue_cycles")
    text = AXES + "".join(f'"{name}" = {{from = 1, to = 1000000, step = 1}}\n' for name in names)
    with pytest.raises(SpecError, match=r"\[sample\]: there are 2\^79 combinations; take a latin_hypercube"):
        Space.from_toml(text)
    with pytest.raises(SpecError, match=r"random numbers 2\^79 combinations"):
        Space.from_toml(text + "[sample]\nmethod = 'random'\ncount = 100\n")
    space = Space.from_toml(text + "[sample]\nmethod = 'latin_hypercube'\ncount = 100\n")
    for column in space.columns(np.arange(100)).values():
        assert sorted(((column - 1) // 10_000).tolist()) == list(range(100))


@pytest.mark.parametrize("indices", [[10], [-1], ["a"], [None], [1 << 70]])
def test_points_that_are_not_there(indices: list[Any]) -> None:
    space = Space.from_toml(AXES + "noc.hop_cycles = [1, 2, 3]\n")
    for ask in (space.columns, space.legal, space.settings):
        with pytest.raises(InputError, match="points"):
            ask(indices)


def test_a_column_of_an_unknown_name() -> None:
    with pytest.raises(SpecError, match=r"unknown name 'noc\.hops'"):
        Space.from_toml(AXES + "noc.hop_cycles = [1, 2, 3]\n").column("noc.hops", [0])


LINES = st.sampled_from([
    "[axes]", "[problem]", "[chip]", "[zip]", "[constraints]", "[sample]", "[frame]", "kind = 'matmul'",
    "m = 3", "n = 3", "k = '= problem.m'", "base = 'mini'", "noc.hop_cycles = [1, 2]", "noc = 3",
    "a = ['noc.hop_cycles', 'problem.n']", "problem.n = [1, 2]", "c = 'problem.n < 2'", "method = 'random'",
    "count = 1", "width = 8", "from = 3", "x.y.z = {}", "kernel.stages = [1]", "frame.cameras = [1]",
    "network = 'resnet50'", "layers = ['*']", "size_sram = true",
])  # fmt: skip


@given(st.lists(LINES, max_size=14, unique=True))
@settings(deadline=None, max_examples=150)
def test_any_lines_are_a_space_or_one_clear_error(lines: list[str]) -> None:
    try:
        space = Space.from_toml("\n".join(lines), source="s.toml")
    except SpecError as error:
        told = str(error)
    else:
        told = "s.toml"
        space.legal(np.arange(min(len(space), 4)))
    assert told.startswith("s.toml")
    assert "\n" not in told
