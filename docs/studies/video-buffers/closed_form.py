"""What the study predicts without simulating: cuts, traffic, knees, and frames that miss their deadline."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import accel
from accel.errors import CapacityError, UnsupportedError
from accel.hardware import ChipSpec, FrameFormat
from accel.kernels.parts.streaming_choice import ENOUGH_TILES, ROOMY, TILES, choose, cycles
from accel.kernels.parts.streaming_strips import Strips
from accel.numerics import fmt
from accel.problem import StreamingConv

HERE = Path(__file__).resolve().parent
WITHIN = 0.03  # of the fewest cycles: what `accel.sweep.knee` and the reports of sweeps take
MACRO = 4096  # bytes: SRAM comes in these steps
LONG = 240_000_000  # elements of frames and results in the outputs from which a frame set's cycles are taken
SECONDS = 10  # of video in which deadlines are counted


@dataclass(frozen=True)
class Curve:
    """One sensor set under one layer: everything but the SRAM of a node."""

    name: str
    sensor: str
    layer: str
    frame: FrameFormat
    fields: tuple[tuple[str, Any], ...]
    grid: tuple[int, ...]

    def problem(self, outputs: int) -> StreamingConv:
        """Return the layer over a video just long enough for `outputs` outputs."""
        fields = dict(self.fields)
        return StreamingConv(frames=fields["kt"] - 1 + outputs, **fields)

    @property
    def window(self) -> int:
        """Return the frames that an output reads."""
        return int(dict(self.fields)["kt"])

    @property
    def label(self) -> str:
        """Return the curve in words."""
        P = self.problem(1)
        return f"{P.cameras} x {P.w}x{P.h}x{P.c}, {P.kt}x{P.r}x{P.s}/{P.stride[0]} -> {P.k}"


def study() -> tuple[ChipSpec, Fraction, list[Curve]]:
    """Return chip, share of the period that a layer may use, and the curves of `curves.toml` that are simulated."""
    data = settings()
    curves = []
    for entry in data["curve"]:
        grid = tuple(kib * 1024 for kib in entry["sizes"])
        for cameras in entry["cameras"]:
            curves += [_curve(data, entry, entry["sensor"], cameras, window, grid) for window in entry["window"]]
    return accel.chip(data["chip"]), Fraction(str(data["stage_share"])), curves


def closed() -> list[Curve]:
    """Return the curves of every camera set and window that the study has in closed form."""
    data = settings()
    given = data["closed"]
    return [
        _curve(data, {"name": "closed", "layer": given["layer"]}, sensor, cameras, window, ())
        for sensor in given["sensors"] for cameras in given["cameras"] for window in given["window"]
    ]  # fmt: skip


def settings() -> dict[str, Any]:
    """Return `curves.toml`."""
    return tomllib.loads((HERE / "curves.toml").read_text(encoding="utf-8"))


def _curve(
    data: dict[str, Any], entry: dict[str, Any], sensor: str, cameras: int, window: int, grid: tuple[int, ...]
) -> Curve:
    frame, shrink = FrameFormat(**data["sensors"][sensor], cameras=cameras), entry.get("shrink", 1)
    fields = {"h": frame.height // shrink, "w": frame.width // shrink, "c": entry.get("channels", 1), "kt": window}
    fields |= data["layers"][entry["layer"]] | {"cameras": cameras}
    return Curve(entry["name"], sensor, entry["layer"], frame, tuple(fields.items()), grid)


def with_sram(chip: ChipSpec, size: int) -> ChipSpec:
    """Return the chip with `size` bytes of SRAM a node."""
    return chip.replace(**{"node.sram_bytes": size})


def on_a_tray(chip: ChipSpec) -> ChipSpec:
    """Return the chip with its share of a tray's memory: 20 interface processors for 150 dies, not one for each."""
    return chip.replace(**{"ports.0.bytes_per_cycle": chip.ports[0].bytes_per_cycle * 20 / 150})


@lru_cache(maxsize=4096)
def cut(chip: ChipSpec, curve: Curve, size: int) -> Strips | None:
    """Return how the kernel cuts frames for `size` bytes of SRAM, None where not even the filters fit."""
    try:
        return choose(with_sram(chip, size), curve.problem(1))
    except (CapacityError, UnsupportedError):
        return None


def steady(strips: Strips) -> tuple[int, int]:
    """Return two lengths in outputs between which a video is in its steady state.

    The first outputs tell nothing, since nodes have read ahead: four of them are left out (two of large sets). Then
    come enough for `LONG` elements of frames and results, since outputs of small sets differ by some percent from one
    to the next.
    """
    P = strips.problem
    item = fmt(P.dtype).bytes
    moved = (strips.fetched_bytes + strips.refetched_bytes + strips.stored_bytes) // item
    first = 2 if moved > LONG / 4 else 4
    return first, first + min(64, max(2, round(LONG / moved)))


@lru_cache(maxsize=256)
def knee_bytes(chip: ChipSpec, curve: Curve) -> int:
    """Return the knee in closed form: from where `cycles` are within 3 % of those with all SRAM, in 4 KiB steps.

    `cycles` is the larger of memory's time and a strip's, of the cut that the kernel takes; found by halves.
    """
    full = full_bytes(chip, curve)
    most = (1 + WITHIN) * cycles(chip, choose(with_sram(chip, full), curve.problem(1)))

    def good(size: int) -> bool:
        strips = cut(chip, curve, size)
        return strips is not None and cycles(chip, strips) <= most

    return _least(full, good)


def full_bytes(chip: ChipSpec, curve: Curve) -> int:
    """Return the SRAM from which more changes nothing: the whole window and full tiles.

    These have 256 pixels, or 128 or 64 where a strip has fewer than 8 (`ENOUGH_TILES`) of the larger ones.
    """
    P = curve.problem(1)
    nodes = chip.mesh.rows * chip.mesh.cols
    p, q = P.operands["y"].shape[-3:-1]
    high = next(h for h in range(1, p + 1) if -(-p // h) * P.cameras <= nodes and _legal(P, h))
    tile = next((size for size in TILES if size >= ROOMY and high * q >= ENOUGH_TILES * size), ROOMY)
    size = Strips(P, high, max(1, min(q, -(-tile // high))), P.kt + 1, P.kt, high, q).sram_bytes()
    return -(-size // MACRO) * MACRO


def _legal(P: StreamingConv, high: int) -> bool:
    return Strips(P, high, 1, P.kt + 1, P.kt, high, 1).legal()


@lru_cache(maxsize=256)
def fits_bytes(chip: ChipSpec, curve: Curve) -> int:
    """Return the least SRAM, in steps of 4 KiB, at which the kernel keeps the whole window, in any tiles.

    `full_bytes` where it keeps less even with that: where a frame less costs no cycles.
    """

    def good(size: int) -> bool:
        strips = cut(chip, curve, size)
        return strips is not None and not strips.older

    return _least(full_bytes(chip, curve), good)


def _least(high: int, good: Callable[[int], bool]) -> int:
    """Return the least size up to `high` that is good, in 4 KiB steps, where all larger ones are."""
    low, up = 0, high // MACRO  # in macros: too little, enough
    while up - low > 1:
        middle = (low + up) // 2
        low, up = (low, middle) if good(middle * MACRO) else (middle, up)
    return up * MACRO


def predicted(chip: ChipSpec, curve: Curve, strips: Strips) -> dict[str, int]:
    """Return what one frame set costs in closed form: bytes by kind, and cycles."""
    return {
        "fetched_bytes": strips.fetched_bytes, "refetched_bytes": strips.refetched_bytes,
        "halo_bytes": strips.halo_bytes, "stored_bytes": strips.stored_bytes,
        "predicted_cycles": cycles(chip, replace(strips, problem=curve.problem(1))),
    }  # fmt: skip


def missed(set_cycles: Fraction, clock_hz: int, fps: float, share: Fraction = Fraction(1)) -> int:
    """Return the frame sets of `SECONDS` of video that miss, in closed form.

    A layer that may use `share` of the chip's time takes e = set_cycles / share; frames arrive at rate fps. A set that
    waits while the newer one arrives is dropped (drop-oldest). While e is at most the period none misses; beyond it the
    layer never idles, and starts number n takes the newest set at n x e: with a the arrival of the last of N sets,
    ceil(a / e) + 1 sets are worked on, the others missed.
    """
    arrivals, each = _arrivals(clock_hz, fps), _each(set_cycles, share)
    if each * Fraction(str(fps)) <= clock_hz:
        return 0
    return max(0, len(arrivals) - 1 - -(-arrivals[-1] // each))


def missed_in_queue(set_cycles: Fraction, clock_hz: int, fps: float, share: Fraction = Fraction(1)) -> int:
    """Return the same by walking through every arrival: a waiting place for one set, which a newer one takes over."""
    each, free, waiting, dropped = _each(set_cycles, share), 0, False, 0
    for now in _arrivals(clock_hz, fps):
        if waiting and free < now:  # the one that waited began before this one came
            free, waiting = free + each, False
        if waiting:
            dropped += 1
        elif free <= now:
            free = now + each
        else:
            waiting = True
    return dropped


def _arrivals(clock_hz: int, fps: float) -> list[int]:
    rate = Fraction(str(fps))
    return [int(n * clock_hz / rate) for n in range(int(SECONDS * rate))]


def _each(set_cycles: Fraction, share: Fraction) -> int:
    return -(-set_cycles // share) if share else 0
