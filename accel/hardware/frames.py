"""Video formats, and the SRAM of a node that is sized to one."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Annotated

import msgspec

from accel.errors import InputError
from accel.hardware.schema import Positive, Spec

__all__ = ["SRAM_STEP_BYTES", "FrameFormat", "sram_bytes_for"]

SRAM_STEP_BYTES = 4096  # SRAM comes in 4 KiB macros: the granularity of every derived size

Pixels = Annotated[int, msgspec.Meta(ge=1, le=1 << 20)]
Few = Annotated[int, msgspec.Meta(ge=1, le=4096)]


class FrameFormat(Spec, frozen=True, kw_only=True):
    """What the sensors send: `cameras` streams of width x height frames. A lidar's range image is one more format.

    Lines are packed; a line and a frame end on a byte. SpecError names a field that is out of range.
    """

    width: Pixels  #: pixels of a line
    height: Pixels  #: lines
    bits_per_pixel: Annotated[int, msgspec.Meta(ge=1, le=64)]  #: of one channel
    channels: Few = 1
    cameras: Few = 1
    fps: Positive  #: frames a second of each camera

    @property
    def line_bytes(self) -> int:
        """Bytes of one line of one camera."""
        return _ceil_div(self.width * self.channels * self.bits_per_pixel, 8)

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame of one camera: ceil(width x height x channels x bits / 8)."""
        return _ceil_div(self.width * self.height * self.channels * self.bits_per_pixel, 8)

    @property
    def frame_set_bytes(self) -> int:
        """Bytes of one frame of every camera."""
        return self.frame_bytes * self.cameras

    @property
    def bytes_per_second(self) -> float:
        """Bytes a second of all cameras."""
        return self.frame_set_bytes * self.fps

    def strips(self, rows: int) -> int:
        """Return how many strips of `rows` lines cover one frame; the last may be shorter. InputError below 1."""
        return _ceil_div(self.height, _at_least(rows, 1, "rows of a strip"))

    def halo_bytes(self, radius: int) -> int:
        """Return the bytes that an inner strip reads from its two neighbours for a filter of this radius in lines."""
        return 2 * _at_least(radius, 0, "halo radius") * self.line_bytes

    def frames_in(self, sram_bytes: int) -> int:
        """Return how many whole frames of one camera fit in `sram_bytes`; 0 means that not one does."""
        return _at_least(sram_bytes, 0, "sram_bytes") // self.frame_bytes

    def seconds_in(self, sram_bytes: int) -> float:
        """Return how many seconds of all cameras `sram_bytes` holds."""
        return _at_least(sram_bytes, 0, "sram_bytes") / self.bytes_per_second


def sram_bytes_for(
    frame: FrameFormat, nodes: int, *, window: int = 1, halo_radius: int = 0, working_share: float = 0.5
) -> int:
    """Return the smallest SRAM of a node, a multiple of 4 KiB, whose frame buffer holds the video on `nodes` nodes.

    The lines of all cameras are dealt out evenly over the nodes, `window` frame sets deep, and each node keeps
    `halo_radius` lines of either neighbour beside its own; `working_share` (0 <= share < 1) of the SRAM stays free for
    weights, accumulators and output:

        lines = ceil(cameras x height / nodes) + 2 x halo_radius
        sram  = ceil(window x lines x line_bytes / (1 - working_share) / 4096) x 4096

    InputError for nodes, window, radius or share out of range.
    """
    _at_least(nodes, 1, "nodes")
    _at_least(window, 1, "window in frame sets")
    _at_least(halo_radius, 0, "halo radius")
    share: object = working_share
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0.0 <= share < 1.0:
        raise InputError(f"working_share = {share!r} cannot be used; give a number from 0 to below 1")
    lines = _ceil_div(frame.cameras * frame.height, nodes) + 2 * halo_radius
    # The share as written (0.9 is nine tenths): a size that just fits must not round up to the next step.
    need = Fraction(window * lines * frame.line_bytes) / (1 - Fraction(str(share)))
    return math.ceil(need / SRAM_STEP_BYTES) * SRAM_STEP_BYTES


def _ceil_div(value: int, by: int) -> int:
    return -(-value // by)


def _at_least(value: int, floor: int, what: str) -> int:
    """`value` if it is an integer of at least `floor`, else InputError."""
    given: object = value
    if isinstance(given, bool) or not isinstance(given, int) or given < floor:
        raise InputError(f"{what} = {value!r} cannot be used; give an integer of at least {floor}")
    return value
