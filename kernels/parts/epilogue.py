"""What follows the sums of a product on their way out: an activation, in fp32 and in place, strip by strip."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from accel.kernels.parts.elementwise_steps import STEPS

if TYPE_CHECKING:
    from accel.lang import K, View

__all__ = ["STRIP", "Activation", "strip_of", "work_of"]

STRIP = 2048  # elements that an activation works on at a time, beyond which its buffers only take SRAM


def work_of(activation: str) -> tuple[str, ...]:
    """Return the working buffers of an activation, fp32, each of the size of a strip."""
    return {"gelu": ("w0", "w1"), "gelu_tanh": ("w0", "w1"), "silu": ("w0",)}.get(activation, ())


def strip_of(pixels: int, filters: int) -> tuple[int, int]:
    """Return (pixels, filters) of a strip of sums (pixels, filters)."""
    return max(1, min(pixels, STRIP // filters)), filters


class Activation:
    """An activation of sums: `STEPS["fwd"]` of the lesson `elementwise`, with buffers for a strip of `room`."""

    def __init__(self, k: K, name: str, room: tuple[int, ...]) -> None:
        self.k, self.name, self.room = k, name, room
        self.work = {buffer: k.sram(room, "fp32", buffer) for buffer in work_of(name)}

    def apply(self, sums: View) -> None:
        """sums = activation(sums); `sums` has the rank of a strip, or is rows of strips."""
        if self.name == "none":
            return
        for strip in self._strips(sums) if self.work else (sums,):
            part = tuple(slice(0, size) for size in strip.shape)
            work = {name: buffer[part] for name, buffer in self.work.items()}
            STEPS["fwd"][self.name](self.k.vec, {"x": strip, "y": strip, "w1": strip, **work})  # silu has no use for w1

    def _strips(self, sums: View) -> Iterator[View]:
        if sums.ndim > len(self.room):
            for row in range(sums.shape[0]):
                yield from self._strips(sums[row])
            return
        for low in range(0, sums.shape[0], self.room[0]):
            yield sums[low : min(sums.shape[0], low + self.room[0])]
