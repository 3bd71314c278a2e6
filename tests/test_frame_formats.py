"""Video formats: bytes, strips, halos, seconds on chip, and chips sized to a format."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel.errors import InputError, SpecError
from accel.hardware import FrameFormat, chip, sram_bytes_for

CAR = FrameFormat(width=1280, height=960, bits_per_pixel=12, cameras=8, fps=36)


def test_d1_holds_0_87_seconds_of_eight_cameras():
    assert CAR.frame_bytes == 1_843_200  # 1280 x 960 x 1.5
    assert CAR.bytes_per_second == 1_843_200 * 8 * 36
    assert chip("d1").sram_total_bytes == 354 * 1_310_720
    assert round(CAR.seconds_in(chip("d1").sram_total_bytes), 2) == 0.87
    assert CAR.frames_in(chip("d1").sram_total_bytes) == 251  # 463,994,880 / 1,843,200 = 251.7


def test_one_frame_does_not_fit_one_node():
    assert CAR.frame_bytes > chip("d1").node.sram_bytes
    assert CAR.frames_in(chip("d1").node.sram_bytes) == 0


def test_frame_bytes_are_the_length_of_the_packed_bits():
    for width, height, bits, channels in ((7, 3, 5, 1), (1, 1, 1, 1), (9, 2, 10, 3), (64, 48, 12, 4)):
        frame = FrameFormat(width=width, height=height, bits_per_pixel=bits, channels=channels, fps=1)
        packed = np.packbits(np.zeros(width * height * channels * bits, dtype=np.uint8))
        assert frame.frame_bytes == packed.size
        assert frame.line_bytes == np.packbits(np.zeros(width * channels * bits, dtype=np.uint8)).size


def test_strips_and_halos():
    assert CAR.strips(960) == 1
    assert CAR.strips(23) == len(range(0, 960, 23))
    assert CAR.halo_bytes(1) == 2 * 1920
    assert CAR.halo_bytes(0) == 0


def test_a_lidar_range_image_is_one_more_format():
    lidar = FrameFormat(width=2048, height=128, bits_per_pixel=16, channels=2, fps=10)
    assert lidar.frame_bytes == 2048 * 128 * 2 * 2
    assert lidar.frames_in(chip("d1").node.sram_bytes) == 1


def test_sized_for_the_car_by_hand():
    # 8 x 960 lines over 342 nodes = 23 lines of 1,920 B = 44,160 B; half stays free: 88,320 B = 21.56 macros of 4 KiB.
    sized = chip("d1").sized_for(CAR)
    assert sized.node.sram_bytes == 22 * 4096
    assert sized.mesh == chip("d1").mesh
    # Two frame sets, one halo line a side, nothing kept free: 2 x 25 x 1,920 = 96,000 B = 23.4 macros.
    assert chip("d1").sized_for(CAR, window=2, halo_radius=1, working_share=0.0).node.sram_bytes == 24 * 4096


@given(
    st.integers(1, 400), st.integers(1, 300), st.integers(1, 16), st.integers(1, 9), st.integers(1, 50),
    st.integers(1, 4), st.integers(0, 3), st.sampled_from([0.0, 0.25, 0.5, 0.9]),
)  # fmt: skip
def test_sized_sram_is_the_smallest_that_holds_the_strips(width, height, bits, cameras, nodes, window, radius, share):
    frame = FrameFormat(width=width, height=height, bits_per_pixel=bits, cameras=cameras, fps=30)
    size = sram_bytes_for(frame, nodes, window=window, halo_radius=radius, working_share=share)
    owners = np.bincount(np.arange(cameras * height) * nodes // (cameras * height), minlength=nodes)
    need = window * (int(owners.max()) + 2 * radius) * frame.line_bytes
    free = {0.0: (1, 1), 0.25: (3, 4), 0.5: (1, 2), 0.9: (1, 10)}[share]  # exact share left for video
    assert size % 4096 == 0
    assert size * free[0] >= need * free[1]
    assert (size - 4096) * free[0] < need * free[1]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("width", 0), ("height", -1), ("bits_per_pixel", 65), ("channels", 0), ("cameras", 10**9), ("fps", 0.0),
        ("fps", float("nan")), ("fps", float("inf")), ("fps", "36"), ("width", 12.5), ("width", True), ("width", None),
    ],
)  # fmt: skip
def test_absurd_formats_are_refused_by_field(field, value):
    fields = {"width": 8, "height": 8, "bits_per_pixel": 8, "fps": 1.0}
    with pytest.raises(SpecError, match=rf"^{field} = "):
        FrameFormat(**(fields | {field: value}))


def test_a_typo_in_a_format_file_names_the_field():
    with pytest.raises(SpecError, match="unknown key 'widht'; did you mean 'width'"):
        FrameFormat.from_dict({"widht": 8, "height": 8, "bits_per_pixel": 8, "fps": 1.0})
    with pytest.raises(SpecError, match="missing key 'fps'"):
        FrameFormat.from_dict({"width": 8, "height": 8, "bits_per_pixel": 8})


def test_bad_arguments_are_refused():
    for call in (
        lambda: CAR.strips(0),
        lambda: CAR.halo_bytes(-1),
        lambda: CAR.frames_in(-1),
        lambda: CAR.seconds_in(1.5),
        lambda: sram_bytes_for(CAR, 0),
        lambda: chip("d1").sized_for(CAR, window=0),
        lambda: chip("d1").sized_for(CAR, working_share=1.0),
        lambda: chip("d1").sized_for(CAR, working_share=float("nan")),
        lambda: chip("d1").sized_for(CAR, working_share="half"),
    ):
        with pytest.raises(InputError, match="; give"):
            call()
    with pytest.raises(SpecError, match="use a shorter window"):
        chip("mini").sized_for(CAR, window=100_000)
