"""The study of video buffers: closed form against simulation on a small chip, deadlines, and the committed tables."""

from __future__ import annotations

import importlib.util
import sys
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import accel
from accel.hardware import FrameFormat

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "studies" / "video-buffers"
SMALL = {"h": 48, "w": 64, "c": 2, "kt": 3, "k": 8, "r": 5, "s": 3, "stride": 2, "pad": 1, "cameras": 2}


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def form() -> Any:
    return load("closed_form")


@pytest.fixture(scope="module")
def run(form: Any) -> Any:
    for name in ("figures", "page"):
        load(name)
    return load("run")


def test_a_small_study_moves_the_bytes_that_the_closed_form_says(form: Any, run: Any) -> None:
    chip, frame = accel.chip("mini"), FrameFormat(width=64, height=48, bits_per_pixel=12, cameras=2, fps=36)
    fields = {**SMALL, "stride": (2, 2), "pad": (1, 1)}
    curve = form.Curve("small", "s", "l", frame, tuple(fields.items()), (4096, 8192, 32768), edge=True)
    everything = run.points(chip, [curve])
    once = [point for point in everything if point.strips is not None and point.size == point.first]
    assert {point.strips.kept for point in once} >= {0, 3}
    timed = run.simulate(chip, once, None, 1)
    rows = [run.outcome(chip, Fraction(1, 1000), p, timed.get(p._replace(size=p.first))) for p in everything]
    for row in rows:
        assert row["memory_bytes_off"] == 0, row["sram_kib"]
        assert row["packed_set_bytes"] == 2 * 64 * 48 * 12 // 8
        assert row["held_set_bytes"] == 2 * 64 * 48 * 2 * 2
        assert row["refetched_bytes"] == 0 if row["kept"] == 3 else row["refetched_bytes"] > 0
    knee = form.knee_bytes(chip, curve)
    assert all(row["kept"] == 3 for row in rows if row["sram_kib"] * 1024 >= knee)
    assert not all(row["kept"] == 3 for row in rows)
    (line,) = run.knees(chip, [curve], rows)
    assert line["window_fits_kib"] == min(row["sram_kib"] for row in rows if row["kept"] == 3)
    assert line["traffic_ratio"] > 1.5


def test_the_knee_is_the_window_one_frame_more_and_what_works_on_it(form: Any) -> None:
    curve = form.Curve("c", "s", "l", None, tuple({**SMALL, "c": 1, "kt": 2}.items()), ())
    # 23 output rows of 2 cameras on 16 nodes: strips of 3; they read (3 - 1) x 2 + 5 rows of 64 + 2 pixels in 2 bytes,
    # rounded to 64 bytes for 3 frames; filters 2 x 5 x 3 x 8 in 2 bytes; two tiles of 3 x 22 pixels in 4 and 2 bytes.
    frames, filters, tiles = 3 * 9 * 66 * 2, 2 * 5 * 3 * 8 * 2, 2 * 3 * 22 * 8 * (4 + 2)
    want = -(-frames // 64) * 64 + -(-filters // 64) * 64 + tiles
    assert form.knee_bytes(accel.chip("mini"), curve) == -(-want // 4096) * 4096


@given(
    st.fractions(min_value=1, max_value=500, max_denominator=7),
    st.integers(40, 5000),
    st.sampled_from([1, 2.5, 10, 29.97, 36]),
    st.sampled_from([Fraction(1), Fraction(3, 100), Fraction(1, 2)]),
)
def test_missed_frames_in_closed_form_are_those_of_the_queue(
    form: Any, cycles: Fraction, clock: int, fps: float, share: Fraction
) -> None:
    assert form.missed(cycles, clock, fps, share) == form.missed_in_queue(cycles, clock, fps, share)


def test_a_layer_twice_as_slow_as_the_camera_misses_every_second_frame(form: Any) -> None:
    assert form.missed(Fraction(100), 1000, 10) == 0
    assert form.missed(Fraction(200), 1000, 10) == 49  # the last one of ten seconds waits, and is worked on
    assert form.missed(Fraction(20), 1000, 10, Fraction(1, 10)) == 49


def test_the_committed_tables_agree_with_each_other_and_with_the_closed_form(form: Any, run: Any) -> None:
    chip, _, curves = form.study()
    rows = run.figures.rows_of(FOLDER / "results.csv")
    assert {row["label"] for row in rows} == {curve.label for curve in curves}
    done = [row for row in rows if row["status"] == "ok"]
    assert done
    for row in done:
        assert row["memory_bytes_off"] == "0"
        assert int(row["predicted_cycles"]) <= 1.05 * float(row["cycles"]), row["label"]
        assert (int(row["refetched_bytes"]) == 0) == (row["kept"] == row["window"])
    knees = run.figures.rows_of(FOLDER / "knees.csv")
    assert [int(line["knee_predicted_kib"]) for line in knees] == [form.knee_bytes(chip, c) // 1024 for c in curves]
