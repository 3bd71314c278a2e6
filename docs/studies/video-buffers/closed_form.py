"""What the study predicts without simulating: cuts, traffic, knees, and frames that miss their deadline."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import accel
from accel.errors import CapacityError, UnsupportedError
from accel.hardware import ChipSpec, FrameFormat
from accel.kernels.parts.streaming_choice import ROOMY, choose, cycles
from accel.kernels.parts.streaming_strips import Strips
from accel.problem import StreamingConv

HERE = Path(__file__).resolve().parent
MACRO = 4096  # bytes: SRAM comes in these steps
SMALL = 25_000_000  # elements of a window of all cameras
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
    edge: bool = True

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
    """Return chip, share of the period that a layer may use, and curves of `curves.toml`."""
    data = tomllib.loads((HERE / "curves.toml").read_text(encoding="utf-8"))
    curves = []
    for entry in data["curve"]:
        sensor, layer = data["sensors"][entry["sensor"]], data["layers"][entry["layer"]]
        shrink = entry.get("shrink", 1)
        for cameras in entry["cameras"]:
            for channels in entry["channels"]:
                for window in entry["window"]:
                    frame = FrameFormat(**sensor, cameras=cameras)
                    fields = {"h": frame.height // shrink, "w": frame.width // shrink, "c": channels, "kt": window}
                    fields |= layer | {"cameras": cameras}
                    grid = tuple(kib * 1024 for kib in data["grids"][entry["grid"]])
                    names = (entry["name"], entry["sensor"], entry["layer"])
                    curves.append(Curve(*names, frame, tuple(fields.items()), grid, entry.get("edge", False)))
    return accel.chip(data["chip"]), Fraction(str(data["stage_share"])), curves


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

    With the whole window on chip the ring has turned over after four outputs, and small sets, which are quick to
    simulate, have eight more, since nodes have read ahead at the start. Where memory is what everybody waits for, the
    second output takes what all others do (within 1 %).
    """
    P = strips.problem
    if strips.older:
        return 1, 2
    return (8, 16) if P.cameras * P.h * P.w * P.c * P.kt < SMALL else (4, 6)


def knee_bytes(chip: ChipSpec, curve: Curve) -> int:
    """Return the SRAM from which the whole window stays on chip, in steps of 4 KiB.

        (kt + 1) strips of a frame + filters + two accumulator tiles and two result tiles of 64 pixels

    with strips of ceil(rows out / strips) output rows and their halo, the lowest that give every node one at most.
    """
    P = curve.problem(1)
    nodes = chip.mesh.rows * chip.mesh.cols
    p, q = P.operands["y"].shape[-3:-1]
    high = next(h for h in range(1, p + 1) if -(-p // h) * P.cameras <= nodes and _legal(P, h))
    tile = Strips(P, high, max(1, min(q, -(-ROOMY // high))), P.kt + 1, P.kt, high, q)
    return -(-tile.sram_bytes() // MACRO) * MACRO


def _legal(P: StreamingConv, high: int) -> bool:
    return Strips(P, high, 1, P.kt + 1, P.kt, high, 1).legal()


def fits_bytes(chip: ChipSpec, curve: Curve) -> int:
    """Return the least SRAM, in steps of 4 KiB, at which the kernel keeps the whole window."""
    low, high = 0, knee_bytes(chip, curve) // MACRO  # in macros: too little, enough
    while high - low > 1:
        middle = (low + high) // 2
        strips = cut(chip, curve, middle * MACRO)
        low, high = (low, middle) if strips is not None and not strips.older else (middle, high)
    return high * MACRO


def sizes(chip: ChipSpec, curve: Curve) -> list[int]:
    """Return the SRAM sizes of a curve: its grid, and with `edge` where the window first stays, and 4 KiB less."""
    fits = fits_bytes(chip, curve)
    return sorted({*curve.grid, *((fits, fits - MACRO) if curve.edge else ())} - {0})


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
