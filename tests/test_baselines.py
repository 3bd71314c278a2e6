"""GPU baselines: catalog, choice of measured row or model, labels, and refused input."""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel import baselines
from accel.baselines.catalog import GPUS
from accel.baselines.fits import fits, is_scored
from accel.baselines.measured import CONV_COLUMNS, GEMM_COLUMNS, packaged_rows
from accel.baselines.model import Parameters, TiledWork, as_tiled_work, roofline_seconds, tiled_seconds
from accel.errors import InputError, UnsupportedError
from accel.problem import Conv2d, Matmul

IDS = ("v100-sxm2", "a100-sxm-40gb", "a100-sxm-80gb", "h100-sxm", "h200-sxm", "b200", "t4", "mi210")


def _csv(tmp_path: Path, columns: tuple[str, ...] = GEMM_COLUMNS, **cells: str) -> Path:
    row = dict.fromkeys(columns, "")
    row |= {"dataset": "mine", "device": "H100-SXM5-80GB", "precision": "bf16", "op": "gemm", "batch": "1", "m": "64",
            "n": "48", "k": "32", "trans_a": "N", "trans_b": "N", "time_us": "12.5", "source": "bench log"}  # fmt: skip
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerow(row | cells)
    path = tmp_path / "rows.csv"
    path.write_text(text.getvalue())
    return path


def test_catalog_has_the_published_ids_and_every_alias_resolves() -> None:
    assert baselines.names() == IDS
    for row in GPUS:
        assert {baselines.gpu(key).name for key in (row.name, row.title, *row.aliases)} == {row.name}


def test_every_catalog_row_names_its_sources() -> None:
    for row in GPUS:
        assert "*" in row.sources
        assert set(row.sources) <= {*row._fields, "*"}
        for field in ("usd", "usd_per_hour"):
            assert (getattr(row, field) is not None) == (field in row.sources), (row.name, field)


@pytest.mark.parametrize(("name", "hint"), [("h100", "h100-sxm"), ("a100-sxm-80", "a100-sxm-80gb"), ("T5", "t4")])
def test_unknown_gpu_names_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(InputError, match=f"did you mean '{hint}'"):
        baselines.estimate(Matmul(4, 4, 4), name)


def test_packaged_rows_are_few_cited_and_of_catalog_devices() -> None:
    rows = [*packaged_rows("matmul"), *packaged_rows("conv2d")]
    assert 0 < len(rows) <= 100
    assert all(row.source.startswith("github:") for row in rows)
    assert {baselines.gpu(row.device).name for row in rows} >= {"v100-sxm2", "t4", "a100-sxm-80gb", "mi210"}


def test_measured_row_wins_and_is_quoted() -> None:
    figure = baselines.estimate(Matmul(1760, 128, 1760, dtype="fp16", out_dtype="fp16"), "v100-sxm2")
    assert (figure.source, figure.dtype, figure.error_pct) == ("measured", "fp16", None)
    assert figure.seconds == pytest.approx(31e-6)  # DeepBench_NV_V100.xlsx, row 8
    assert "DeepBench_NV_V100.xlsx" in figure.note
    assert figure.tflops == pytest.approx(2 * 1760 * 128 * 1760 / 31e-6 / 1e12)
    assert figure.utilization == pytest.approx(figure.tflops / 125)
    assert figure.energy_j == pytest.approx(300 * 31e-6)


@pytest.mark.parametrize(
    "other",
    [
        Matmul(128, 1760, 1760, dtype="fp16", out_dtype="fp16"),
        Matmul(1760, 128, 1761, dtype="fp16", out_dtype="fp16"),
        Matmul(1760, 128, 1760, dtype="fp16", out_dtype="fp16", trans_b=True),
        Matmul(1760, 128, 1760, dtype="fp16", out_dtype="fp32"),
    ],
    ids=lambda p: p.label,
)
def test_a_row_of_another_problem_does_not_win(other: Matmul) -> None:
    assert baselines.estimate(other, "v100-sxm2").source == "model"


def test_every_packaged_row_is_found_by_its_own_problem() -> None:
    for row in [*packaged_rows("matmul"), *packaged_rows("conv2d")]:
        if row.dtype != "fp8":
            figure = baselines.estimate(row.problem, baselines.gpu(row.device).name)
            assert (figure.source, figure.dtype) == ("measured", row.dtype)


def test_bf16_on_a_gpu_without_bf16_is_fp16_and_says_so() -> None:
    figure = baselines.estimate(Matmul(4096, 4096, 4096), "v100-sxm2")
    assert figure.dtype == "fp16"
    assert figure.note.startswith("fp16 in place of bf16 (the GPU has no bf16 engine)")


def test_bf16_where_only_fp16_is_measured_is_fp16_and_says_so() -> None:
    figure = baselines.estimate(Matmul(1024, 12288, 12288), "a100-sxm-80gb")
    assert (figure.dtype, figure.source) == ("fp16", "measured")
    assert figure.seconds == pytest.approx(1199e-6)  # LLMCompass matmul_A100.csv
    assert "same datasheet rate" in figure.note


@pytest.mark.parametrize("name", ["h100-sxm", "h200-sxm", "b200", "a100-sxm-40gb"])
def test_gpus_without_a_sweep_are_uncalibrated_and_claim_no_error(name: str) -> None:
    figure = baselines.estimate(Matmul(4096, 4096, 4096), name)
    assert (figure.source, figure.error_pct, figure.dtype) == ("uncalibrated", None, "bf16")
    assert "borrowed" in figure.note


def test_prices_and_energy() -> None:
    problem = Matmul(8192, 8192, 8192)
    h100, b200 = baselines.estimate(problem, "h100-sxm"), baselines.estimate(problem, "b200")
    assert h100.usd == pytest.approx(h100.seconds * 2.95 / 3600)
    assert h100.energy_j == pytest.approx(700 * h100.seconds)
    assert b200.usd is None
    assert "no cloud price at hand" in b200.note
    assert "upper estimate" in h100.note


def test_a_format_the_gpu_does_not_take_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="v100-sxm2 has no engine for int32; it takes fp16"):
        baselines.estimate(Matmul(4, 4, 4, dtype="int32", out_dtype="int32"), "v100-sxm2")


@given(st.sampled_from(sorted(fits())), st.lists(st.integers(1, 20000), min_size=3, max_size=3), st.integers(0, 2))
def test_model_grows_with_every_size_and_stays_above_the_roofline(
    key: tuple[str, str, str], sizes: list[int], axis: int
) -> None:
    row, fit = baselines.gpu(key[0]), fits()[key]
    larger = [size + (17 * (i == axis)) for i, size in enumerate(sizes)]
    works = [as_tiled_work(Matmul(m, n, k, key[1], key[1]), key[1]) for m, n, k in (sizes, larger)]
    small, large = (tiled_seconds(work, row, key[1], fit.parameters) for work in works)
    assert roofline_seconds(works[0], row, key[1]) <= small <= large


@pytest.mark.parametrize("key", sorted(fits()))
def test_model_grows_step_by_step_where_cuts_of_k_begin_to_pay(key: tuple[str, str, str]) -> None:
    row, fit = baselines.gpu(key[0]), fits()[key].parameters
    for m, n in ((16, 16), (1760, 16)):
        works = [as_tiled_work(Matmul(m, n, k, key[1], key[1]), key[1]) for k in range(1, 300)]
        seconds = [tiled_seconds(work, row, key[1], fit) for work in works]
        assert seconds == sorted(seconds), (m, n)


@given(st.sampled_from(["fwd", "dgrad", "wgrad"]), st.integers(1, 64), st.integers(1, 512), st.sampled_from([1, 3, 5]))
def test_conv_work_covers_the_useful_flops(direction: str, n: int, c: int, r: int) -> None:
    conv = Conv2d(n, 28, 30, c, 2 * c, r, r, pad=r // 2, direction=direction, dtype="fp16", out_dtype="fp16")
    work = as_tiled_work(conv, "fp16")
    assert 2 * work.batch * work.m * work.n * work.k == conv.flops
    for name in ("v100-sxm2", "h100-sxm"):
        row = baselines.gpu(name)
        assert baselines.estimate(conv, name).seconds >= roofline_seconds(work, row, "fp16")


def test_rows_by_path_win_over_everything(tmp_path: Path) -> None:
    figure = baselines.estimate(Matmul(64, 48, 32), "h100-sxm", data=_csv(tmp_path))
    assert (figure.source, figure.dtype) == ("measured", "bf16")
    assert figure.seconds == pytest.approx(12.5e-6)
    conv = _csv(
        tmp_path, CONV_COLUMNS, device="T4", precision="fp16", op="conv_bwd_weight", in_ch="4", in_h="8", in_w="9",
        out_ch="6", kernel_h="3", kernel_w="3", pad_h="1", pad_w="1", stride_h="2", stride_w="2", out_h="4", out_w="5",
    )  # fmt: skip
    problem = Conv2d(1, 8, 9, 4, 6, 3, 3, stride=2, pad=1, dtype="fp16", out_dtype="fp16", direction="wgrad")
    assert baselines.estimate(problem, "t4", data=conv).seconds == pytest.approx(12.5e-6)
    forward = Conv2d.from_dict({**problem.to_dict(), "direction": "fwd"})
    assert baselines.estimate(forward, "t4", data=conv).source == "model"


def test_batched_rows_are_other_problems(tmp_path: Path) -> None:
    figure = baselines.estimate(Matmul(64, 48, 32), "h100-sxm", data=_csv(tmp_path, op="bmm", batch="8"))
    assert figure.source == "uncalibrated"


@pytest.mark.parametrize(
    ("column", "cell"),
    [("time_us", "fast"), ("time_us", "-1"), ("time_us", "nan"), ("time_us", "0"), ("m", "0"), ("k", "3.5"),
     ("precision", "bf61"), ("op", "softmax"), ("trans_a", "X"), ("batch", "")],
)  # fmt: skip
def test_bad_cell_is_refused_with_line_and_column(tmp_path: Path, column: str, cell: str) -> None:
    with pytest.raises(InputError, match=rf"rows.csv, line 2, column {column}: '{cell}'"):
        baselines.estimate(Matmul(64, 48, 32), "h100-sxm", data=_csv(tmp_path, GEMM_COLUMNS, **{column: cell}))


def test_bad_files_are_refused(tmp_path: Path) -> None:
    good = _csv(tmp_path).read_text()
    cases = {
        "": "line 1: column dataset is missing",
        good.replace("time_us", "time_ms", 1): "line 1: column time_us is missing",
        good.replace("dataset,", "dataset,colour,", 1): "line 1: column 'colour' is not known",
        good + "a,b\n": "line 3: 2 cells for 29 columns",
        good + '"open': "line 3",
    }
    for number, (text, expected) in enumerate(cases.items()):
        path = tmp_path / f"bad{number}.csv"
        path.write_text(text)
        with pytest.raises(InputError) as caught:
            baselines.estimate(Matmul(4, 4, 4), "t4", data=path)
        assert expected in str(caught.value)
        assert "\n" not in str(caught.value)
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "binary.csv", tmp_path / "absent.csv", tmp_path):
        with pytest.raises(InputError, match="give a"):
            baselines.estimate(Matmul(4, 4, 4), "t4", data=path)


def test_packaged_data_keep_the_reference_columns() -> None:
    for name, columns in (("gpu_gemm.csv", GEMM_COLUMNS), ("gpu_conv.csv", CONV_COLUMNS)):
        text = files("accel.baselines").joinpath("data", name).read_text(encoding="utf-8")
        assert tuple(next(csv.reader(io.StringIO(text)))) == columns


def test_no_gpu_alias_is_shared() -> None:
    for one, other in itertools.combinations(GPUS, 2):
        assert not {*map(str.lower, one.aliases)} & {*map(str.lower, other.aliases)}


def test_several_timings_of_one_problem_give_their_median(tmp_path: Path) -> None:
    path = _csv(tmp_path, source="first run")
    header, row = path.read_text(encoding="utf-8").splitlines()
    more = [row.replace("12.5", time).replace("first run", f"run at {time}") for time in ("50.0", "14.5")]
    path.write_text("\n".join([header, row, *more, row]) + "\n", encoding="utf-8")
    figure = baselines.estimate(Matmul(64, 48, 32), "h100-sxm", data=path)
    assert figure.seconds == pytest.approx(14.5e-6)  # of 12.5 (given twice, counted once), 14.5 and 50
    assert "median of 3 rows" in figure.note


def test_a_last_wave_with_one_block_costs_a_whole_wave() -> None:
    h100 = next(row for row in GPUS if row.name == "h100-sxm")
    ideal = Parameters(compute=1.0, memory=1.0, launch_s=0.0, sm_gbps=1e9, tile_s=0.0, ramp_s=0.0)
    block = 2 * 32**3 / (h100.peak_tflops["fp16"] * 1e12 / h100.sms)  # k = 32 is too short to be cut
    for blocks, waves in ((h100.sms, 1), (h100.sms + 1, 2), (2 * h100.sms, 2), (2 * h100.sms + 1, 3)):
        work = TiledWork(1, 32 * blocks, 32, 32, 2 * 32**3 * blocks, 0.0)
        assert tiled_seconds(work, h100, "fp16", ideal) == pytest.approx(waves * block)


def test_a_shape_is_held_out_by_the_parity_of_its_hash() -> None:
    held = []
    for n in range(1, 65):
        rows = [
            packaged_rows("matmul")[0]._replace(problem=Matmul(8 * n, 7, 9, dtype=dtype, trans_a=flag), batch=1)
            for dtype, flag in (("bf16", False), ("fp16", True))
        ]
        odd = int(hashlib.sha256(f"matmul {(1, 8 * n, 7, 9)}".encode()).hexdigest(), 16) % 2 == 1
        assert [is_scored(row) for row in rows] == [odd, odd]
        held.append(odd)
    assert 0 < sum(held) < len(held)


def test_a_family_name_offers_its_members() -> None:
    with pytest.raises(InputError, match=r"did you mean 'a100-sxm-40gb' or 'a100-sxm-80gb'\?"):
        baselines.gpu("a100")


def test_fp8_rows_are_for_results_of_16_bits():
    shape = (1024, 9216, 14336)
    assert baselines.estimate(Matmul(*shape, dtype="cfp8-143"), "h100-sxm").source == "measured"
    for out in ("cfp8-143", "fp32"):
        assert baselines.estimate(Matmul(*shape, dtype="cfp8-143", out_dtype=out), "h100-sxm").source != "measured"


def test_bytes_of_a_result_are_those_of_its_own_format():
    m, n, k = 64, 48, 32
    expected = {"bf16": 2, "fp32": 4, "int32": 4, "cfp8-152": 1}
    for out, size in expected.items():
        work = as_tiled_work(Matmul(m, n, k, dtype="cfp8-143", out_dtype=out), "fp8")
        assert work.bytes == m * k + k * n + size * m * n
    stand_in = as_tiled_work(Matmul(m, n, k, dtype="cfp8-143", out_dtype="cfp8-143"), "bf16")
    assert stand_in.bytes == 2 * (m * k + k * n + m * n), "a result in the input's format follows its stand-in"
