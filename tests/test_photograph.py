"""The photograph of the demonstration: its place in the page, the filters, and a small one through the backbone."""

from __future__ import annotations

import io

import numpy as np
import pytest

import accel
from accel.problem import Conv2d
from accel.report import page, photograph
from accel.report.photograph import Photograph
from accel.report.subject import Picture, Subject

pytest.importorskip("PIL", reason="matplotlib brings Pillow, which encodes pictures")


def test_the_photograph_is_one_frame_of_a_camera() -> None:
    pytest.importorskip("matplotlib", reason="the photograph is a sample image of matplotlib")
    loaded = photograph.load()
    assert loaded is not None
    assert loaded.pixels.shape == (960, 1280, 3)
    assert loaded.pixels.std() > 30  # something is on it


def test_filters_of_edges_answer_to_their_own_angle_and_to_nothing_flat() -> None:
    bank = photograph.filters(3, 3, 32, 0)
    assert bank.shape == (3, 3, 3, 32)
    np.testing.assert_allclose(np.abs(bank).sum(axis=(0, 1, 2)), 1)
    np.testing.assert_allclose(bank[..., :8].sum(axis=(0, 1, 2)), 0, atol=1e-12)  # derivatives see no constant
    x = np.arange(3) - 1.0
    assert bank[..., 0].sum(axis=(0, 2)) @ x > 0.3
    assert abs(bank[..., 4].sum(axis=(0, 2)) @ x) < 1e-12


def test_a_small_photograph_goes_through_and_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    layers = (
        ("one", Conv2d(1, 24, 32, 3, 32, 3, 3, stride=2, pad=1, activation="relu"), "first"),
        ("two", Conv2d(1, 12, 16, 32, 8, 3, 3, stride=2, pad=1, activation="relu"), "second"),
    )
    monkeypatch.setattr(photograph, "backbone", lambda: layers)
    y, x, c = np.mgrid[:24, :32, :3]
    pixels = (40 + 5 * y + 2 * x + 20 * c).astype(np.uint8)
    subjects = list(photograph.shown(accel.chip("mini"), Photograph(pixels, "a slope"), ()))
    assert [s.verified for s in subjects] == [(12 * 16 * 32, 12 * 16 * 32, 0), (6 * 8 * 8, 6 * 8 * 8, 0)]
    assert [s.hazards for s in subjects] == [0, 0]
    first, maps = subjects[0].pictures
    assert np.abs(np.asarray(Image.open(io.BytesIO(first.data)), int) - pixels).mean() < 5  # a JPEG of it
    assert Image.open(io.BytesIO(maps.data)).size == (4 * (16 + 4), 2 * (12 + 4))
    text = page.render(subjects, title="t", script=None)
    assert text.count('src="data:image/jpeg;base64,') == 3
    assert 'alt="8 channels of the output as grey images"' in text


def test_pictures_stay_in_a_page_that_has_no_room_for_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    program = accel.kernels.matmul.build("mini", m=8, n=8, k=8)
    shown = Picture(b"x" * 30_000, "image/jpeg", "noise", "nothing to see")
    subjects = [Subject(label=f"{i}", program=program, timing=program.time(), pictures=(shown,)) for i in range(5)]
    whole = len(page.render(subjects, title="t", script=None).encode())
    monkeypatch.setattr(page, "LARGEST_PAGE", whole - 20_000)
    text = page.render(subjects, title="t", script=None)
    assert len(text.encode()) <= whole - 20_000
    assert text.count("data:image/jpeg") == 5
    assert "figures are left out" in text


def test_a_mosaic_takes_the_channels_that_vary() -> None:
    features = np.zeros((4, 5, 6), np.float32)
    features[..., 2] = np.arange(20).reshape(4, 5)
    shown = photograph.mosaic(features, tiles=1)
    assert shown.shape == (8, 9)
    assert shown[2:6, 2:7].min() == 0
    assert shown[2:6, 2:7].max() == 255
