"""The instructions of an optimizer step on one block: direction of the update, skipping, rounding of the copy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from accel.kernels.parts.flows import Piece
from accel.lang import K

if TYPE_CHECKING:
    from accel.lang import View
    from accel.problem.optimizer import Optimizer

__all__ = ["Update"]


class Update:
    """One method on a node: constants and numbers of one element, and fp32 buffers of a block.

    `direction` leaves the new moments in M and V and the direction in T; `write` makes weights of it.
    """

    BUFFERS: ClassVar[int] = 5

    def __init__(self, k: K, problem: Optimizer, block: int, numbers: Mapping[str, View]) -> None:
        self.k, self.p, self.numbers = k, problem, numbers
        self.buffers = {name: k.sram((block,), "fp32", name) for name in ("W", "G", "M", "V", "T")}
        self.masks = k.sram((1,), "uint8", "masks")
        p = problem
        self.values = {"one": 1.0, "decay": p.weight_decay, "momentum": p.momentum, "beta2": p.beta2,
                       "gain1": 1.0 - p.beta1}  # fmt: skip
        names = (*self.values, "step", "shrink", "inverse1", "inverse2", "trust", "norm_w", "norm_r")
        self.scalars = {name: k.sram((1,), "fp32", name) for name in names}

    def prepare(self) -> None:
        """Compute what is one number for the whole step: -lr or -lr / c1, 1 / c1, 1 / sqrt(c2), 1 - lr decay."""
        v, p, s, n = self.k.vec, self.p, self.scalars, self.numbers
        for name, value in self.values.items():
            v.fill(s[name], value)
        v.neg(s["step"], n["lr"])
        if p.method == "adamw" and p.weight_decay:
            v.mul(s["shrink"], s["step"], p.weight_decay)
            v.add(s["shrink"], s["shrink"], 1.0)
        if p.method != "sgd":
            c1, c2 = n["correction"][0:1], n["correction"][1:2]
            if p.method == "lamb":
                v.div(s["inverse1"], s["one"], c1)
            else:
                v.div(s["step"], s["step"], c1)
            v.sqrt(s["inverse2"], c2)
            v.div(s["inverse2"], s["one"], s["inverse2"])

    def _block(self, piece: Piece) -> dict[str, View]:
        return {name: buffer[: piece.width] for name, buffer in self.buffers.items()}

    def _weights(self, piece: Piece) -> View:
        """Return the weights in fp32."""
        return piece["w"] if self.p.weights == "fp32" else self._block(piece)["W"]

    def direction(self, piece: Piece) -> None:
        """T = the direction of the update; M, V = the new moments."""
        v, p, s, b = self.k.vec, self.p, self.scalars, self._block(piece)
        if p.weights != "fp32":
            v.cast(b["W"], piece["w"])
        w, g, t = self._weights(piece), b["G"], b["T"]
        if p.dtype == "fp32":
            v.mul(g, piece["g"], self.numbers["factor"])
        else:
            v.cast(g, piece["g"])
            v.mul(g, g, self.numbers["factor"])
        if p.weight_decay and p.method in ("sgd", "adam"):
            v.fma(g, w, s["decay"], g)
        if p.method == "sgd":
            self._momentum(piece, b)
            return
        v.sub(t, g, piece["m"])
        v.fma(b["M"], t, s["gain1"], piece["m"])
        v.mul(t, g, g)
        v.mul(t, t, 1.0 - p.beta2)
        v.fma(b["V"], piece["v"], s["beta2"], t)
        v.sqrt(t, b["V"])
        v.mul(t, t, s["inverse2"])
        v.add(t, t, p.epsilon)
        if p.method != "lamb":
            v.div(t, b["M"], t)
            return
        v.mul(g, b["M"], s["inverse1"])
        v.div(t, g, t)
        if p.weight_decay:
            v.fma(t, w, s["decay"], t)

    def _momentum(self, piece: Piece, b: Mapping[str, View]) -> None:
        v, p, s = self.k.vec, self.p, self.scalars
        if not p.momentum:
            v.copy(b["T"], b["G"])
            return
        v.fma(b["M"], piece["m"], s["momentum"], b["G"])
        if p.nesterov:
            v.fma(b["T"], b["M"], s["momentum"], b["G"])
        else:
            v.copy(b["T"], b["M"])

    def squares(self, piece: Piece) -> list[View]:
        """Return the squares of weights and direction of a block, in buffers that are free before `write`."""
        v, b, w = self.k.vec, self._block(piece), self._weights(piece)
        v.mul(b["M"], w, w)
        v.mul(b["V"], b["T"], b["T"])
        return [b["M"], b["V"]]

    def trust(self, sums: View) -> None:
        """step = -lr |w| / |r| from the sums of squares (2, 1)."""
        v, s = self.k.vec, self.scalars
        for number, name in enumerate(("norm_w", "norm_r")):
            v.sqrt(s[name], sums[number])
        v.div(s["trust"], s["norm_w"], s["norm_r"])
        for name in ("norm_w", "norm_r"):
            v.compare(self.masks, s[name], ">", 0.0)
            v.select(s["trust"], self.masks, s["trust"], s["one"])
        v.mul(s["step"], s["step"], s["trust"])

    def write(self, piece: Piece) -> None:
        """Write weights, moments and the copy, or the old ones where the step has an overflow."""
        v, p, s, b = self.k.vec, self.p, self.scalars, self._block(piece)
        w, t, skip = self._weights(piece), b["T"], self.numbers["overflow"]
        if p.method == "adamw" and p.weight_decay:
            v.mul(b["G"], w, s["shrink"])
            v.fma(t, t, s["step"], b["G"])
        else:
            v.fma(t, t, s["step"], w)
        for name in p.moments:
            v.select(piece[f"new_{name}"], skip, piece[name], b[name.upper()])
        new = piece["new_w"] if p.weights == "fp32" else t
        v.select(new, skip, w, t)
        narrow = "copy" if p.copy != "none" else "new_w" if p.weights != "fp32" else ""
        if not narrow:
            return
        if p.rounding == "stochastic":
            index = self.k.element((p.size,), piece.left)
            v.cast(piece[narrow], new, "stochastic", stream=p.stream, index=index)
        else:
            v.cast(piece[narrow], new)
