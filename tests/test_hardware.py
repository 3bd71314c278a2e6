"""ChipSpec: the catalog against the published machine, validation of every entry, replace, files, digest."""

from __future__ import annotations

import copy
import os
import subprocess
import sys

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel.errors import InputError, SpecError, UnsupportedError
from accel.hardware import ChipSpec, HostSpec, MeshSpec, NocSpec, Range, chip, full_load_power, names

D1, MINI = chip("d1"), chip("mini")


def leaves(data, path=""):
    """Dotted path and value of every plain value in parsed chip data; ports by index."""
    items = data.items() if isinstance(data, dict) else enumerate(data)
    for key, value in items:
        here = f"{path}.{key}" if path else str(key)
        if isinstance(value, dict) or (isinstance(value, list) and value and isinstance(value[0], dict)):
            yield from leaves(value, here)
        else:
            yield here, value


# ---------------------------------------------------------------- the catalog


def test_d1_is_the_published_die():
    assert (D1.mesh.site_rows, D1.mesh.site_cols, D1.nodes) == (18, 20, 354)
    assert (D1.mesh.rows, D1.mesh.cols, D1.mesh_nodes) == (18, 19, 342)
    assert D1.clock_hz == 2_000_000_000
    assert D1.node.sram_bytes == 1_310_720
    assert D1.node.threads == 4
    assert (D1.node.load_ports, D1.node.store_ports, D1.node.port_bytes, D1.node.accesses_per_cycle) == (2, 1, 64, 2)
    matrix = D1.node.matrix
    assert (matrix.m, matrix.n, matrix.k, matrix.accumulator_rows, matrix.accumulator_cols) == (8, 8, 4, 16, 16)
    assert D1.peak_flops_per_cycle("bf16") == 354 * 512 == 181_248
    assert D1.peak_flops("bf16") == pytest.approx(362e12, rel=2e-3)  # published, rounded
    for form in ("cfp8-143", "cfp8-152"):
        assert D1.peak_flops(form) == D1.peak_flops("bf16")
    assert D1.peak_flops_per_cycle("fp32") == 354 * 32
    assert D1.peak_flops("fp32") == pytest.approx(22.6e12, rel=3e-3)  # published, cut to three digits
    assert (D1.noc.link_bytes_per_cycle, D1.noc.hop_cycles, D1.node.mesh_bytes_per_cycle) == (64, 1, 64)


def test_d1_memory_is_one_interface_processor_on_the_west_edge():
    (port,) = D1.ports
    assert port.routers == tuple((row, 0) for row in range(18))
    assert (port.link_bytes_per_cycle, port.edge_bytes_per_cycle, port.interleave_bytes) == (64, 1000.0, 4096)
    assert D1.memory_bytes_per_s == 800e9
    assert D1.memory_bytes_per_cycle == 400.0
    assert D1.memory_capacity_bytes == 32_000_000_000


def test_d1_holes_lie_in_the_last_column_one_a_row():
    assert len(D1.mesh.holes) == 6
    assert {col for _, col in D1.mesh.holes} == {19}
    assert len({row for row, _ in D1.mesh.holes}) == 6


def test_every_figure_that_is_not_public_is_an_assumption_with_a_reason():
    for path in (
        "mesh.holes", "node.accesses_per_cycle", "node.matrix.accumulator_rows", "ports.west.latency_cycles",
        "ports.west.interleave_bytes", "node.copy_queue_depth", "node.copy_issue_cycles", "node.semaphores",
        "node.matrix.fill_cycles", "node.vector.fill_cycles", "noc.packet_bytes", "noc.buffer_packets",
        "noc.semaphore_cycles", "noc.barrier_cycles", "node.vector.divide_passes", "node.vector.sqrt_passes", "energy",
        "node.matrix.output_formats",
    ):  # fmt: skip
        assert len(D1.assumptions[path]) > 10, path


def test_mini_is_a_small_d1():
    assert (MINI.nodes, MINI.mesh_nodes, MINI.node.sram_bytes) == (16, 16, 256 * 1024)
    assert set(D1.node.matrix.step_cycles) < set(MINI.node.matrix.step_cycles)
    assert MINI.node.matrix.accumulator_rows == D1.node.matrix.accumulator_rows
    assert MINI.peak_flops_per_cycle("bf16") == 16 * 512
    assert MINI.memory_bytes_per_cycle == 64.0
    assert MINI.ports[0].routers == ((0, 0), (1, 0), (2, 0), (3, 0))


def test_full_load_d1_lands_in_the_stated_band_and_is_a_prior():
    load = full_load_power(D1)
    assert 250.0 <= load.total_w.nominal <= 400.0
    assert load.total_w.low < load.total_w.nominal < load.total_w.high
    assert load.total_w.nominal == pytest.approx(sum(load.watts.values()))
    assert sum(load.shares().values()) == pytest.approx(1.0)
    # By hand: 354 x 256 multiply-adds x 2 GHz x 0.59 pJ; 354 x 64 B x 2 GHz x 1.75 pJ; 800 GB/s x 43.75 pJ.
    assert load.watts["matrix"] == pytest.approx(106.936, abs=1e-3)
    assert load.watts["sram"] == pytest.approx(79.296, abs=1e-3)
    assert load.watts["memory"] == pytest.approx(35.0)
    assert load.label.startswith("prior")


def test_catalog_names_and_passing_a_chip_through():
    assert names() == ("mini", "d1")
    assert [chip(name).name for name in names()] == ["mini", "d1"]
    assert chip(D1) is D1


def test_unknown_chips_name_the_nearest():
    with pytest.raises(SpecError, match="unknown chip 'mnii'; did you mean 'mini'"):
        chip("mnii")
    with pytest.raises(SpecError, match=r"use mini, d1 or a path ending in \.toml"):
        chip("h100-sxm")
    with pytest.raises(SpecError, match="give a catalog name"):
        chip(3)


def test_peak_of_a_format_that_no_unit_takes():
    with pytest.raises(UnsupportedError, match="'int8'; use bf16, cfp8-143, cfp8-152, fp32"):
        D1.peak_flops("int8")
    with pytest.raises(InputError, match="did you mean 'bf16'"):
        D1.peak_flops("bf15")


# ---------------------------------------------------------------- validation

BAD = [
    ("node.sram_bytes", 0, "node.sram_bytes = 0"),
    ("node.sram_bytes", -1, "node.sram_bytes = -1"),
    ("node.sram_bytes", 10**18, "node.sram_bytes = 10"),
    ("node.sram_bytes", 10**30, "node.sram_bytes = 10"),
    ("node.sram_bytes", 1.5, "node.sram_bytes = 1.5 cannot be used; give an integer, got float"),
    ("node.sram_bytes", "1 MB", "give an integer, got str"),
    ("node.sram_bytes", True, "give an integer, got bool"),
    ("node.sram_bytes", None, "node.sram_bytes = None"),
    ("node.threads", 0, "node.threads = 0"),
    ("node", {"sram_bytes": 0}, "node.sram_bytes = 0"),
    ("node", 5, "node = 5"),
    ("node.matrix", {"accumulator_rows": 12}, "node.matrix.accumulator_rows: 12 is not a multiple"),
    ("node.matrix.step_cycles.fp7", 1, "node.matrix.step_cycles: unknown number format 'fp7'"),
    ("node.matrix.step_cycles.bf16", 0, "node.matrix.step_cycles"),
    ("node.matrix.output_formats", ["fp7"], "node.matrix.output_formats: unknown number format 'fp7'"),
    ("node.matrix.output_formats", ["fp32"], "fp32 is no float format of 16 bits; use bf16, fp16, shp16, uhp16"),
    ("node.matrix.output_formats", ["int8"], "int8 is no float format of 16 bits"),
    ("node.matrix.output_formats", ["bf16", "bf16"], "node.matrix.output_formats: names a format twice"),
    ("node.matrix.output_formats", "bf16", "node.matrix.output_formats"),
    ("node.vector.bytes_per_cycle", 66, "node.vector.bytes_per_cycle: 66"),
    ("mesh.site_rows", 10**6, "mesh.site_rows = 1000000"),
    ("mesh.rows", 19, "mesh.rows: 19 logical on 18 physical"),
    ("mesh.cols", 20, "sits on the disabled site"),
    ("mesh.holes", [[18, 0]], r"mesh.holes: \(18, 0\) lies outside"),
    ("mesh.holes", [[1, 19], [1, 19]], "twice"),
    ("mesh.holes", [[1, 2, 3]], "give array of length 2"),
    ("mesh.holes", [[-1, 19]], "mesh.holes"),
    ("mesh.column_map", [0] * 19, "mesh.column_map: needs 19 different indices below 20"),
    ("mesh.column_map", list(range(18)), "mesh.column_map"),
    ("mesh.row_map", [*range(17), 18], "mesh.row_map: needs 18 different indices below 18"),
    ("noc.packet_bytes", 100, "noc.packet_bytes: 100 is not a multiple of noc.link_bytes_per_cycle = 64"),
    ("noc.buffer_packets", 0, "noc.buffer_packets = 0"),
    ("noc.buffer_packets", 4097, "noc.buffer_packets = 4097"),
    ("ports", [], "ports is empty|ports: is empty"),
    ("ports.west.routers", [[0, 20]], r"ports.west.routers: \(0, 20\) lies outside"),
    ("ports.west.routers", [], "ports.west.routers: needs a router"),
    ("ports.west.capacity_bytes", 0, "^ports.west.capacity_bytes = 0"),
    ("ports.west.bytes_per_cycle", 0, "bytes_per_cycle = 0"),
    ("ports.west.bytes_per_cycle", float("inf"), "bytes_per_cycle = inf"),
    ("ports.west.efficiency", float("nan"), "^ports.west.efficiency = nan"),
    ("ports.west.efficiency", 1.01, "efficiency = 1.01"),
    ("ports.0.name", " ", "name: is empty"),
    ("energy.mac_pj", -1.0, "energy.mac_pj: range"),
    ("energy.mac_pj", {"low": 2.0}, "energy.mac_pj: range"),
    ("energy.mac_pj", "cheap", "energy.mac_pj = 'cheap'"),
    ("energy.mac_by_format", {"int9": 1.0}, "energy.mac_by_format: unknown number format 'int9'"),
    ("energy.mac_by_format.int8", -1.0, "energy.mac_by_format.int8: range"),
    ("energy.idle_w.high", float("nan"), "high = nan"),
    ("cost.die_mm2", 0.0, "cost.die_mm2 = 0"),
    ("host.launch_s", -1.0, "host.launch_s = -1"),
    ("clock_hz", 0, "clock_hz = 0"),
    ("clock_hz", 2e9, "clock_hz = 2000000000.0"),
    ("name", "", "name: is empty"),
    ("name", 3, "name = 3"),
    ("assumptions.node.sram_byte", "x", "node"),
]


@pytest.mark.parametrize(("path", "value", "match"), BAD, ids=[f"{path}={str(value)[:24]}" for path, value, _ in BAD])
def test_absurd_values_are_refused_in_one_line_with_their_path(path, value, match):
    with pytest.raises(SpecError, match=match) as error:
        D1.replace(**{path: value})
    assert "\n" not in str(error.value)
    assert type(error.value) is SpecError


def test_construction_validates_like_load_and_replace():
    with pytest.raises(SpecError, match=r"noc.packet_bytes = 'big'"):
        NocSpec(packet_bytes="big", buffer_packets=4, semaphore_cycles=1, barrier_cycles=1)
    with pytest.raises(SpecError, match=r"mesh.rows: 5 logical on 4"):
        MeshSpec(site_rows=4, site_cols=4, rows=5, cols=4)
    with pytest.raises(SpecError, match=r"host.launch_s = nan"):
        HostSpec(launch_s=float("nan"))
    with pytest.raises(SpecError, match="out of order"):
        Range(nominal=2.0, low=3.0, high=4.0)
    with pytest.raises(SpecError, match="node = 'x'"):
        msgspec.structs.replace(D1, node="x")


def test_every_plain_figure_of_a_chip_refuses_a_wrong_type_and_a_negative():
    tried = 0
    for path, value in leaves(D1.to_dict()):
        if path.startswith("assumptions") or isinstance(value, str | list):
            continue
        for bad in ("x", -1, None, float("nan")):
            with pytest.raises(SpecError):
                D1.replace(**{path: bad})
            tried += 1
    assert tried > 150


UNKNOWN = [
    ("node.sram_byte", "'node.sram_byte'; did you mean 'sram_bytes'"),
    ("sram_bytes", "unknown key 'sram_bytes'; did you mean 'node.sram_bytes'"),
    ("latency_cycles", "did you mean 'ports.west.latency_cycles'"),
    ("nod.sram_bytes", "'nod'; did you mean 'node'"),
    ("ports.wset.bytes_per_cycle", "'ports.wset'; did you mean 'west'"),
    ("ports.7.bytes_per_cycle", "'ports.7'; name an entry or give its index, 0 to 0"),
    ("ports.west.bandwidth", "unknown key 'ports.west.bandwidth'"),
    ("clock_hz.x", "'clock_hz' is a plain value and has no key 'x'"),
    ("energy.mac_pj.typical", "unknown key 'energy.mac_pj.typical'"),
    ("", "unknown key ''"),
    ("node..matrix", "unknown key 'node.'"),
]


@pytest.mark.parametrize(("path", "match"), UNKNOWN)
def test_unknown_paths_name_the_nearest(path, match):
    with pytest.raises(SpecError, match=match):
        D1.replace(**{path: 1})


def test_unknown_and_missing_keys_in_data_name_the_whole_path():
    for where, key, match in (
        (("node", "matrix"), "fil_cycles", "'node.matrix.fil_cycles'; did you mean 'fill_cycles'"),
        (("ports", 0), "rooters", r"'ports\[0\].rooters'; did you mean 'routers'"),
        ((), "colour", "unknown key 'colour'"),
    ):
        data = D1.to_dict()
        table = data
        for step in where:
            table = table[step]
        table[key] = 1
        with pytest.raises(SpecError, match=match):
            ChipSpec.from_dict(data)
    for where, key, match in (
        (("node", "matrix"), "fill_cycles", "missing key 'node.matrix.fill_cycles'"),
        (("ports", 0), "routers", r"missing key 'ports\[0\].routers'"),
        ((), "mesh", "missing key 'mesh'"),
    ):
        data = D1.to_dict()
        table = data
        for step in where:
            table = table[step]
        del table[key]
        with pytest.raises(SpecError, match=match):
            ChipSpec.from_dict(data)


# ---------------------------------------------------------------- replace, files, digest


def test_replace_changes_one_figure_and_nothing_else():
    changed = D1.replace(**{"node.sram_bytes": 2 << 20})
    before, after = dict(leaves(D1.to_dict())), dict(leaves(changed.to_dict()))
    assert {path for path in after if after[path] != before.get(path)} == {"node.sram_bytes"}
    assert changed.node.sram_bytes == 2 << 20
    assert D1.node.sram_bytes == 1_310_720


def test_replace_merges_tables_and_takes_records_and_numpy_integers():
    merged = D1.replace(node={"matrix": {"k": 8}, "threads": np.int64(2)})
    assert (merged.node.matrix.k, merged.node.matrix.m, merged.node.threads) == (8, 8, 2)
    assert D1.replace(noc=MINI.noc).noc == MINI.noc
    assert D1.replace(ports=MINI.ports).ports == MINI.ports
    assert D1.replace(**{"ports.west.bytes_per_cycle": 800}).memory_bytes_per_cycle == 800.0
    assert D1.replace(**{"energy.mac_pj": 1}).energy.mac_pj == Range(nominal=1.0, low=1.0, high=1.0)
    assert D1.replace(**{"node.matrix.step_cycles.fp16": 2}).peak_flops_per_cycle("fp16") == 181_248 / 2
    assert D1.replace() == D1


def test_a_replaced_figure_is_no_longer_an_assumption():
    assert "noc.barrier_cycles" in D1.assumptions
    assert "noc.barrier_cycles" not in D1.replace(**{"noc.barrier_cycles": 5}).assumptions
    assert not any(path.startswith("ports") for path in D1.replace(ports=MINI.ports).assumptions)
    kept = D1.replace(**{"noc.barrier_cycles": 5, "assumptions": {"noc.barrier_cycles": "measured"}})
    assert kept.assumptions["noc.barrier_cycles"] == "measured"


def test_memory_bandwidth_is_the_narrowest_of_memory_edge_and_links():
    wide = D1.replace(**{"ports.west.bytes_per_cycle": 5000})
    assert wide.memory_bytes_per_cycle == 1000.0  # the edge
    assert wide.replace(**{"ports.west.edge_bytes_per_cycle": 9000}).memory_bytes_per_cycle == 18 * 64  # the links
    assert D1.replace(**{"ports.west.efficiency": 0.5}).memory_bytes_per_cycle == 200.0


def test_logical_to_physical_maps():
    assert D1.physical(3, 4) == (3, 4)
    mapped = MINI.replace(mesh={"holes": [[0, 1]], "cols": 3, "rows": 2, "column_map": [3, 0, 2], "row_map": [3, 0]})
    assert [mapped.physical(0, c) for c in range(3)] == [(3, 3), (3, 0), (3, 2)]
    assert mapped.physical(1, 1) == (0, 0)
    assert (mapped.nodes, mapped.mesh_nodes) == (15, 6)
    for bad in ((2, 0), (0, 3), (-1, 0)):
        with pytest.raises(SpecError, match="not on the 2 x 3 logical mesh"):
            mapped.physical(*bad)


@pytest.mark.parametrize("name", names())
def test_toml_and_json_round_trip(name, tmp_path):
    spec = chip(name)
    assert ChipSpec.from_json(spec.to_json()) == spec
    path = tmp_path / "my.toml"
    path.write_text(spec.to_toml(), encoding="utf-8")
    assert ChipSpec.load(path) == spec
    assert chip(str(path)) == spec
    assert chip(path) == spec
    assert copy.deepcopy(spec) == spec


@given(st.integers(1024, 1 << 32), st.floats(1e-6, 1.0), st.text(min_size=1).filter(lambda s: s.strip()))
def test_any_legal_change_survives_the_files(sram, efficiency, name):
    spec = MINI.replace(**{"node.sram_bytes": sram, "ports.west.efficiency": efficiency, "name": name})
    assert ChipSpec.from_toml(spec.to_toml()) == spec
    assert ChipSpec.from_json(spec.to_json()) == spec


def test_files_with_faults_name_the_file_and_the_path(tmp_path):
    path = tmp_path / "bad.toml"
    for text, match in (
        (D1.to_toml().replace("sram_bytes", "sram_byts"), r"bad.toml: unknown key 'node.sram_byts'; did you mean"),
        (D1.to_toml().replace("threads = 4", ""), r"bad.toml: missing key 'node.threads'"),
        (D1.to_toml().replace("threads = 4", "threads = -4"), r"bad.toml: node.threads = -4"),
        ("name = ", r"bad.toml is not valid TOML"),
        ("", r"bad.toml: missing key 'name'"),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(SpecError, match=match) as error:
            chip(path)
        assert "\n" not in str(error.value)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SpecError, match="not UTF-8"):
        chip(path)
    with pytest.raises(SpecError, match=r"cannot read chip file .*: No such file"):
        chip(str(tmp_path / "none.toml"))
    with pytest.raises(SpecError, match="cannot read chip file"):
        ChipSpec.load(tmp_path)
    for text in ("{", "[]", "3", "null"):
        with pytest.raises(SpecError):
            ChipSpec.from_json(text)


def test_digest_follows_content_and_ignores_prose():
    assert D1.digest() != MINI.digest()
    assert D1.replace(description="other", assumptions={}).digest() == D1.digest()
    seen = {D1.digest()}
    for path, value in (
        ("node.sram_bytes", 2 << 20), ("noc.hop_cycles", 2), ("ports.west.latency_cycles", 1), ("clock_hz", 10**9),
        ("host.launch_s", 1.0), ("energy.idle_w.high", 1e6), ("cost.die_usd.high", 1e6), ("name", "other"),
    ):  # fmt: skip
        changed = D1.replace(**{path: value})
        assert changed != D1
        seen.add(changed.digest())
        assert changed.replace(**{path: dict(leaves(D1.to_dict()))[path.replace("west", "0")]}).digest() == D1.digest()
    assert len(seen) == 9
    assert hash(D1) == hash(ChipSpec.from_json(D1.to_json()))


def test_digest_is_the_same_in_another_process_with_another_hash_seed():
    code = "from accel.hardware import chip; print(chip('d1').digest())"
    out = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": "77"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert out.stdout.strip() == D1.digest()


def test_specs_are_immutable():
    with pytest.raises(AttributeError):
        D1.name = "x"
    with pytest.raises(AttributeError):
        D1.node.sram_bytes = 1
    data = D1.to_dict()
    data["node"]["matrix"]["step_cycles"]["bf16"] = 9
    assert D1.node.matrix.step_cycles["bf16"] == 1


def test_multiply_adds_have_a_price_in_every_format_of_the_unit():
    for spec in (MINI, D1):
        for name in spec.node.matrix.step_cycles:
            assert name == "bf16" or name in spec.energy.mac_by_format
        assert "energy.mac_by_format" in spec.assumptions
        assert ChipSpec.from_toml(spec.to_toml()).energy.mac_by_format == spec.energy.mac_by_format
    assert MINI.energy.mac("int8", "uint8").nominal == pytest.approx(0.1)
    assert MINI.energy.mac("int8", "bf16") == MINI.energy.mac_pj
    assert MINI.energy.mac("int32") == MINI.energy.mac_pj  # no price of its own
