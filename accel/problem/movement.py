"""Problems that only move numbers: permutations of axes, concatenation, slices with steps, rows by index."""

from __future__ import annotations

import re
from typing import Any, ClassVar, Literal

from msgspec.structs import force_setattr

from accel.errors import InputError
from accel.problem.checks import (
    check_choice,
    check_elements,
    check_format,
    check_int,
    unless_given,
)
from accel.problem.workload import Operand, Problem

__all__ = ["Concat", "Embedding", "Slice", "Transpose", "check_parts"]

_WAYS = ("fwd", "bwd")
_RANGE = r"(-?[0-9]{1,15})?:(-?[0-9]{1,15})?(?::([0-9]{1,15})?)?"


class _Movement(Problem, frozen=True):
    """What these problems share: no multiply-adds."""

    @property
    def macs(self) -> int:
        """None: bytes set the time."""
        return 0


class Transpose(_Movement, frozen=True):
    """y is x with its axes in another order: x (n, h, w, c) as `source` names them, y as `target` does.

    source, target: the letters n, h, w and c in any order, "nhwc" to "nchw" by default. A matrix (m, k) is n = h = 1.
    Backward takes gy to gx: the same way back. InputError for sizes below 1 and for letters that are not those four.
    """

    kind: ClassVar[str] = "transpose"

    n: int
    h: int
    w: int
    c: int
    source: str = "nhwc"
    target: str = "nchw"
    dtype: str = "bf16"
    direction: str = "fwd"

    def __post_init__(self) -> None:
        for name in "nhwc":
            force_setattr(self, name, check_int(self.kind, name, getattr(self, name)))
        for name in ("source", "target"):
            text = getattr(self, name)
            if not isinstance(text, str) or sorted(text) != sorted("nhwc"):
                raise InputError(
                    f"transpose: {name}={text!r} does not order the axes n, h, w, c; give for example 'nchw'"
                )
        _check(self)

    @property
    def operands(self) -> dict[str, Operand]:
        """x and y, or gy and gx."""
        x, y = (tuple(getattr(self, axis) for axis in order) for order in (self.source, self.target))
        if self.direction == "fwd":
            return {"x": Operand(x, self.dtype, "in"), "y": Operand(y, self.dtype, "out")}
        return {"gy": Operand(y, self.dtype, "in"), "gx": Operand(x, self.dtype, "out")}

    @property
    def axes(self) -> tuple[int, ...]:
        """Return the axis of the input that each axis of the output is."""
        source, target = (self.source, self.target)[:: 1 if self.direction == "fwd" else -1]
        return tuple(source.index(axis) for axis in target)

    @property
    def label(self) -> str:
        """For example "transpose fwd 8x56x56x64 nhwc>nchw bf16"."""
        shape = "x".join(str(getattr(self, axis)) for axis in "nhwc")
        return f"transpose {self.direction} {shape} {self.source}>{self.target} {self.dtype}"


class Concat(_Movement, frozen=True):
    """y (outer, sum of sizes, inner) holds x0 (outer, size 0, inner), x1, ... one behind the other along the axis.

    parts: the sizes, whole numbers of at least 1, as a tuple or as text: "64+64+128". Backward takes gy to gx0, gx1,
    ...: a split. Axes before the one that is joined multiply to `outer`, those behind it to `inner`.
    """

    kind: ClassVar[str] = "concat"

    outer: int
    inner: int
    parts: str | tuple[int, ...] = "1+1"
    dtype: str = "bf16"
    direction: str = "fwd"

    def __post_init__(self) -> None:
        for name in ("outer", "inner"):
            force_setattr(self, name, check_int(self.kind, name, getattr(self, name)))
        force_setattr(self, "parts", check_parts(self.kind, "parts", self.parts, low=1))
        _check(self)

    @property
    def pieces(self) -> dict[str, tuple[int, int]]:
        """Return (first, size) along the axis of every part by its name."""
        sizes = check_parts(self.kind, "parts", self.parts, low=1)
        letter = "x" if self.direction == "fwd" else "gx"
        return {f"{letter}{i}": (sum(sizes[:i]), size) for i, size in enumerate(sizes)}

    @property
    def operands(self) -> dict[str, Operand]:
        """x0, x1, ... and y, or gy and gx0, gx1, ..."""
        whole = (self.outer, sum(size for _, size in self.pieces.values()), self.inner)
        role: Literal["in", "out"] = "in" if self.direction == "fwd" else "out"
        parts = {n: Operand((self.outer, size, self.inner), self.dtype, role) for n, (_, size) in self.pieces.items()}
        if self.direction == "fwd":
            return {**parts, "y": Operand(whole, self.dtype, "out")}
        return {"gy": Operand(whole, self.dtype, "in"), **parts}

    @property
    def label(self) -> str:
        """For example "concat fwd 8x(64+64)x56 bf16"."""
        sizes = "+".join(str(size) for _, size in self.pieces.values())
        return f"concat {self.direction} {self.outer}x({sizes})x{self.inner} {self.dtype}"


class Slice(_Movement, frozen=True):
    """y is x (n, h, w, c) indexed by `index` as NumPy writes it: "::2, 1:-1, :, 3:4". Steps are positive.

    Backward takes gy to gx of the shape of x, +0 where nothing was taken. InputError for an index that is no such text,
    names more than four axes, or takes nothing.
    """

    kind: ClassVar[str] = "slice"

    n: int
    h: int
    w: int
    c: int
    index: str = ":"
    dtype: str = "bf16"
    direction: str = "fwd"

    def __post_init__(self) -> None:
        for name in "nhwc":
            force_setattr(self, name, check_int(self.kind, name, getattr(self, name)))
        if not self.ranges or not all(self.ranges):
            raise InputError(f"slice: index {self.index!r} takes nothing of {self._shape}; take at least one element")
        _check(self)

    @property
    def _shape(self) -> tuple[int, ...]:
        return (self.n, self.h, self.w, self.c)

    @property
    def ranges(self) -> tuple[range, ...]:
        """Return the indices that are taken of each axis."""
        index: object = self.index
        texts = index.split(",") if isinstance(index, str) else ["none"]
        found: list[range] = []
        for text in [*texts, *[":"] * (4 - len(texts))]:
            match = re.fullmatch(_RANGE, re.sub(r"\s", "", text), re.ASCII)
            if match is None or len(texts) > 4 or match[3] in ("0", "00"):
                raise InputError(f"slice: index {self.index!r} is not up to four of start:stop:step, positive steps; "
                                 "give for example '::2,1:-1,:,3:4'")  # fmt: skip
            start, stop, step = (None if part is None else int(part) for part in match.groups())
            found.append(range(*slice(start, stop, step).indices(self._shape[len(found)])))
        return tuple(found)

    @property
    def operands(self) -> dict[str, Operand]:
        """x and y, or gy and gx."""
        y = tuple(len(taken) for taken in self.ranges)
        if self.direction == "fwd":
            return {"x": Operand(self._shape, self.dtype, "in"), "y": Operand(y, self.dtype, "out")}
        return {"gy": Operand(y, self.dtype, "in"), "gx": Operand(self._shape, self.dtype, "out")}

    def compulsory_elements(self, name: str) -> int:
        """Elements of operand `name` that must be moved: of x only what is taken."""
        return super().compulsory_elements("y" if name == "x" else name)

    @property
    def label(self) -> str:
        """For example "slice fwd 8x56x56x64[::2,1:-1] bf16"."""
        shape = "x".join(map(str, self._shape))
        return f"slice {self.direction} {shape}[{self.index.replace(' ', '')}] {self.dtype}"


class Embedding(_Movement, frozen=True):
    """y (tokens, width) = the rows of table (vocab, width) that ids (tokens,) int32 name, bits untouched.

    Backward: gtable (vocab, width) in `out_dtype`: row v is one chain of fp32 additions from +0 over the rows of gy
    (tokens, width) whose id is v, tokens ascending, rounded once. An id outside 0 to vocab - 1 names no row: it gives
    +0, and adds to nothing (padding).
    """

    kind: ClassVar[str] = "embedding"

    tokens: int
    vocab: int
    width: int
    dtype: str = "bf16"
    out_dtype: str = ""
    direction: str = "fwd"

    def __post_init__(self) -> None:
        for name in ("tokens", "vocab", "width"):
            force_setattr(self, name, check_int(self.kind, name, getattr(self, name)))
        force_setattr(self, "vocab", check_int(self.kind, "vocab", self.vocab, high=(1 << 30)))
        force_setattr(self, "out_dtype", check_format(self.kind, "out_dtype", unless_given(self.out_dtype, self.dtype)))
        check_choice(self.kind, "direction", self.direction, _WAYS)
        if self.direction == "fwd" and self.out_dtype != self.dtype:
            raise InputError(f"embedding: forward moves bits of {self.dtype}; leave out_dtype={self.out_dtype!r} out")
        for name in ("dtype", "out_dtype") if self.direction == "bwd" else ():
            check_choice(self.kind, name, getattr(self, name), ("fp32", "bf16", "fp16"))
        _check(self)

    @property
    def operands(self) -> dict[str, Operand]:
        """ids, table and y, or ids, gy and gtable."""
        ids, rows, table = (self.tokens,), (self.tokens, self.width), (self.vocab, self.width)
        if self.direction == "fwd":
            return {"ids": Operand(ids, "int32", "in"), "table": Operand(table, self.dtype, "in"),
                    "y": Operand(rows, self.dtype, "out")}  # fmt: skip
        return {"ids": Operand(ids, "int32", "in"), "gy": Operand(rows, self.dtype, "in"),
                "gtable": Operand(table, self.out_dtype, "out")}  # fmt: skip

    @property
    def label(self) -> str:
        """For example "embedding fwd 2048 of 50257x768 bf16"."""
        formats = self.dtype if self.dtype == self.out_dtype else f"{self.dtype}>{self.out_dtype}"
        return f"embedding {self.direction} {self.tokens} of {self.vocab}x{self.width} {formats}"


def _check(problem: Any) -> None:
    """Check the fields that all of these problems have; InputError."""
    check_choice(problem.kind, "direction", problem.direction, _WAYS)
    force_setattr(problem, "dtype", check_format(problem.kind, "dtype", problem.dtype))
    for name, operand in problem.operands.items():
        check_elements(problem.kind, name, operand.shape, operand.role)


def check_parts(owner: str, name: str, value: object, *, low: int) -> tuple[int, ...]:
    """Return sizes that were given as a tuple, a list, or text "64+64+128"; InputError for anything else."""
    if isinstance(value, str):
        texts = value.split("+")
        if not all(re.fullmatch(r"\s*[0-9]{1,15}\s*", text, re.ASCII) for text in texts):
            raise InputError(
                f"{owner}: {name}={value!r} is not whole numbers with + between; give for example '64+128'"
            )
        value = [int(text) for text in texts]
    if not isinstance(value, tuple | list) or not value:
        raise InputError(f"{owner}: {name}={value!r} is no list of sizes; give for example (64, 128) or '64+128'")
    return tuple(check_int(owner, f"{name}[{i}]", size, low=low) for i, size in enumerate(value))
