"""Attention as a problem: y = softmax(scale q k^T) v for each head, and its gradients."""

from __future__ import annotations

import math
from typing import ClassVar

from msgspec.structs import force_setattr

from accel.errors import InputError
from accel.problem.checks import (
    check_choice,
    check_elements,
    check_flag,
    check_format,
    check_int,
    unless_given,
)
from accel.problem.workload import Operand, Problem

__all__ = ["CAUSAL_GROUP", "Attention"]

CAUSAL_GROUP = 16
"""Causal rows see keys in groups of so many: masked keys of a row's own group take part as zeros, later ones do not."""


class Attention(Problem, frozen=True):
    """Scaled dot-product attention of `b` images with `h` heads of size `d`: `q` queries look at `kv` keys.

    Tensors lie as frameworks pass them to their fused kernels, (b, h, q, d) and (b, kv_heads, kv, d); `lse` (b, h, q),
    the logarithm of each row's sum of exponentials, is what the backward direction needs. causal: query i sees keys 0
    to i (counted from the first of both, whatever their numbers). kv_heads: heads of k and v, each shared by h /
    kv_heads neighbouring heads of q (default h). scale: of the scores (default 1 / sqrt(d)), rounded to fp32. block:
    keys whose scores share one running maximum, a part of the definition; a multiple of 16. direction "fwd": q, k, v
    give y and lse; "bwd": q, k, v, y, gy and lse give gq, gk and gv. dtype: of all but lse; out_dtype: of y, or of the
    gradients (default dtype). InputError for what is not so.
    """

    kind: ClassVar[str] = "attention"

    b: int
    h: int
    q: int
    kv: int
    d: int
    causal: bool = False
    dtype: str = "bf16"
    out_dtype: str = ""
    direction: str = "fwd"
    block: int = 128
    scale: float | None = None
    kv_heads: int | None = None

    def __post_init__(self) -> None:
        for name in ("b", "h", "q", "kv", "d", "block"):
            force_setattr(self, name, check_int("attention", name, getattr(self, name)))
        check_flag("attention", "causal", self.causal)
        check_choice("attention", "direction", self.direction, ("fwd", "bwd"))
        force_setattr(self, "dtype", check_format("attention", "dtype", self.dtype))
        force_setattr(
            self, "out_dtype", check_format("attention", "out_dtype", unless_given(self.out_dtype, self.dtype))
        )
        if self.kv_heads is not None:
            force_setattr(self, "kv_heads", check_int("attention", "kv_heads", self.kv_heads))
            if self.h % self.kv_heads:
                raise InputError(
                    f"attention: kv_heads={self.kv_heads} does not divide h={self.h}; heads of q share those of k and "
                    "v evenly, so use a divisor"
                )
        if self.block % CAUSAL_GROUP:
            raise InputError(f"attention: block={self.block} is no multiple of {CAUSAL_GROUP}; use for example 128")
        if self.scale is not None:
            self._check_scale()
        for name, operand in self.operands.items():
            check_elements("attention", name, operand.shape, operand.role)

    def _check_scale(self) -> None:
        number = isinstance(self.scale, int | float) and not isinstance(self.scale, bool)
        if not number or not 2.0**-126 <= self.scale < 2.0**127:  # type: ignore[operator]
            raise InputError(f"attention: scale={self.scale!r} is no normal positive number of fp32; use 1 / sqrt(d)")
        force_setattr(self, "scale", float(self.scale))  # type: ignore[arg-type]

    @property
    def factor(self) -> float:
        """What scores are multiplied with: `scale`, or 1 / sqrt(d), before its rounding to fp32."""
        return 1.0 / math.sqrt(self.d) if self.scale is None else self.scale

    @property
    def shared(self) -> int:
        """Heads of q that use one head of k and v."""
        return self.h // (self.h if self.kv_heads is None else self.kv_heads)

    @property
    def operands(self) -> dict[str, Operand]:
        """q, k, v, and y, gy, lse; outputs last."""
        rows = (self.b, self.h, self.q)
        keys = (self.b, self.h // self.shared, self.kv, self.d)
        q, k, v = Operand((*rows, self.d), self.dtype, "in"), *(Operand(keys, self.dtype, "in") for _ in "kv")
        if self.direction == "fwd":
            y, lse = Operand((*rows, self.d), self.out_dtype, "out"), Operand(rows, "fp32", "out")
            return {"q": q, "k": k, "v": v, "y": y, "lse": lse}
        gradient = Operand(keys, self.out_dtype, "out")
        return {
            "q": q, "k": k, "v": v, "y": q, "gy": q, "lse": Operand(rows, "fp32", "in"),
            "gq": Operand((*rows, self.d), self.out_dtype, "out"), "gk": gradient, "gv": gradient,
        }  # fmt: skip

    @property
    def pairs(self) -> int:
        """Pairs of a query and a key that it sees, over all images and heads."""
        seen = self.q * self.kv
        if self.causal:
            full = max(0, self.q - self.kv)  # queries past the last key see all keys
            most = self.q - full
            seen = most * (most + 1) // 2 + full * self.kv
        return self.b * self.h * seen

    @property
    def macs(self) -> int:
        """2 d a pair forward (scores, and their mean of values), 5 d backward; pairs that are masked do not count."""
        return self.pairs * self.d * (2 if self.direction == "fwd" else 5)

    @property
    def touching_macs(self) -> int:
        """0: no multiply-add reads an element of every input, so none bounds what must cross a node's port."""
        return 0

    def compulsory_elements(self, name: str) -> int:
        """Elements of operand `name` that must be moved: of k and v only the keys that a query sees."""
        if name in ("k", "v") and self.causal:
            return self.b * (self.h // self.shared) * min(self.q, self.kv) * self.d
        return super().compulsory_elements(name)

    @property
    def label(self) -> str:
        """For example "attention 1x96x2048x2048x128 causal bf16" or "attention 2x8x64x64x32 bf16 bwd"."""
        formats = self.dtype if self.dtype == self.out_dtype else f"{self.dtype}>{self.out_dtype}"
        sizes = "x".join(str(n) for n in (self.b, self.h, self.q, self.kv, self.d))
        extra = (" causal" if self.causal else "") + (f" kv_heads={self.kv_heads}" if self.shared > 1 else "")
        return f"attention {sizes}{extra} {formats}{' bwd' if self.direction == 'bwd' else ''}"
