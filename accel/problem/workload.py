"""What every problem offers: operands, flops, compulsory bytes, arithmetic intensity, bound and a plain dict."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any, ClassVar, Literal, NamedTuple, Self, cast

import msgspec
from msgspec import StructMeta

from accel.errors import InputError, nearest
from accel.numerics import fmt
from accel.problem.bound import Bound, Chip, Demand, bound_of

__all__ = ["Operand", "Problem"]

_COUNTS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six", 7: "seven", 8: "eight", 9: "nine"}


class Operand(NamedTuple):
    """One tensor of a problem: shape in elements, number format, and whether it is read or written."""

    shape: tuple[int, ...]
    dtype: str
    role: Literal["in", "out"]

    @property
    def bytes(self) -> int:
        """Storage of the whole tensor in bytes, unpadded."""
        return -(-math.prod(self.shape) * fmt(self.dtype).bits // 8)


class _ProblemType(StructMeta):
    """The type of problem classes: arguments that are no fields are an InputError with the nearest field."""

    def __call__(cls, *args: Any, **fields: Any) -> Any:  # noqa: N805 - its instances are classes
        known = cls.__struct_fields__
        kind = cast("type[Problem]", cls).kind
        for name in fields:
            if name not in known:
                raise InputError(f"{kind}: unknown field {name!r}{nearest(name, known)}; fields: {', '.join(known)}")
        if len(args) > len(known):
            raise InputError(f"{kind}: {len(args)} values for {len(known)} fields; give {', '.join(known)}")
        twice = [name for name in known[: len(args)] if name in fields]
        if twice:
            raise InputError(f"{kind}: {twice[0]} is given by position and by name; give it once")
        missing = [name for name in cast("type[Problem]", cls).sizes()[len(args) :] if name not in fields]
        if missing:
            raise InputError(f"{kind}: missing {', '.join(missing)}; give every size")
        return super().__call__(*args, **fields)


class Problem(msgspec.Struct, frozen=True, metaclass=_ProblemType):
    """A computation named by shapes and formats alone; subclasses say what it is."""

    kind: ClassVar[str] = "problem"

    @property
    def operands(self) -> dict[str, Operand]:
        """Tensors by name, inputs first."""
        raise TypeError(f"{type(self).__name__} names no operands; use Matmul or Conv2d")

    @property
    def macs(self) -> int:
        """Multiply-adds as the field counts them (padding taps of a convolution included)."""
        raise TypeError(f"{type(self).__name__} counts no work; use Matmul or Conv2d")

    @property
    def touching_macs(self) -> int:
        """Multiply-adds that read an element of every input: `macs` without padding taps."""
        return self.macs

    @property
    def taps(self) -> int:
        """Filter positions that may read one input element (1 for a matmul); see `accel.problem.bound`."""
        return 1

    @property
    def multiplied(self) -> tuple[str, ...]:
        """The operands whose elements meet in every multiply-add: the two factors and the sum."""
        return tuple(self.operands)

    @property
    def engine_dtype(self) -> str:
        """The format of the inputs, hence the engine whose peak counts; int32 tensors beside numbers are indices."""
        inputs = [operand.dtype for operand in self.operands.values() if operand.role == "in"]
        return next((dtype for dtype in inputs if dtype != "int32"), inputs[0])

    @property
    def label(self) -> str:
        """Short text for tables."""
        return self.kind

    @property
    def flops(self) -> int:
        """Useful floating-point operations: 2 per multiply-add (machine contract, section 4)."""
        return 2 * self.macs

    @property
    def least_flops(self) -> int:
        """Floating-point operations that no kernel can leave out: `flops`, unless they count what takes no part."""
        return self.flops

    def compulsory_elements(self, name: str) -> int:
        """Elements of operand `name` that must be moved: all of it, less what no multiply-add reads."""
        return math.prod(self.operands[name].shape)

    def compulsory_operand_bytes(self, name: str) -> int:
        """Bytes of operand `name` that must be moved once."""
        return -(-self.compulsory_elements(name) * fmt(self.operands[name].dtype).bits // 8)

    @property
    def compulsory_bytes(self) -> int:
        """Bytes of every operand moved once: the least any machine without resident operands exchanges with memory."""
        return sum(self.compulsory_operand_bytes(name) for name in self.operands)

    @property
    def arithmetic_intensity(self) -> float:
        """Useful flops per compulsory byte."""
        return self.flops / self.compulsory_bytes

    def demand(self, resident: Iterable[str] = ()) -> Demand:
        """Return what the problem asks of any chip, all that its bound depends on; `resident` as for `bound`."""
        kept = self._check_resident(resident)
        moved = {name: self.compulsory_operand_bytes(name) for name in self.operands if name not in kept}
        reads = sum(size for name, size in moved.items() if self.operands[name].role == "in")
        writes = sum(size for name, size in moved.items() if self.operands[name].role == "out")
        sizes = [fmt(self.operands[name].dtype).bits / 8 for name in self.multiplied]
        return Demand(
            flops=self.least_flops,
            dtype=self.engine_dtype,
            read_bytes=reads,
            write_bytes=writes,
            touching_macs=self.touching_macs,
            taps=self.taps,
            bytes_product=math.prod(sizes),
            any_resident=bool(kept),
        )

    def bound(self, chip: Chip, resident: Iterable[str] = ()) -> Bound:
        """Return the least seconds this problem takes on `chip`, whatever the kernel, with its cause.

        `resident` names operands that start (or, for an output, may stay) sharded in SRAM: no memory traffic.
        InputError for a name that is no operand; UnsupportedError where the chip lacks the format.
        """
        return bound_of(self.demand(resident), chip)

    def _check_resident(self, resident: Iterable[str]) -> frozenset[str]:
        names = (resident,) if isinstance(resident, str) else tuple(resident)
        for name in names:
            if name not in self.operands:
                raise InputError(
                    f"{self.kind}: resident operand {name!r} is not one of {', '.join(self.operands)}"
                    f"{nearest(str(name), self.operands)}"
                )
        return frozenset(names)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data with the key `kind`, ready for JSON; `from_dict` takes it back."""
        data: dict[str, Any] = {"kind": self.kind}
        for name in self.__struct_fields__:
            value = getattr(self, name)
            data[name] = list(value) if isinstance(value, tuple) else value
        return data

    @classmethod
    def sizes(cls) -> tuple[str, ...]:
        """Return the names of the sizes that every problem of this kind has, in the order of their text form."""
        return cls.__struct_fields__[: len(cls.__struct_fields__) - len(cls.__struct_defaults__)]

    @classmethod
    def parse(cls, text: object, **options: Any) -> Self:
        """Build from the `sizes` in order, such as "8,56,56" or "8x56x56", and the other fields by name.

        InputError for text that is not as many whole numbers, or for an option that is no field.

        >>> from accel.problem import Matmul
        >>> Matmul.parse("64x48x32", dtype="fp32").flops
        196608
        """
        parts = re.split(r"[x,]", text.strip().lower()) if isinstance(text, str) else []
        sizes = cls.sizes()
        if len(parts) != len(sizes) or not all(re.fullmatch(r"\s*[0-9]{1,15}\s*", part, re.ASCII) for part in parts):
            numbers = "a whole number" if len(sizes) == 1 else f"{_COUNTS.get(len(sizes), len(sizes))} whole numbers"
            raise InputError(f"{cls.kind}: shape {text!r} is not {','.join(sizes)}; give {numbers}")
        return cls.from_dict({**dict(zip(sizes, (int(part) for part in parts), strict=True)), **options})

    @classmethod
    def from_dict(cls, data: object) -> Self:
        """Build from `to_dict` data; InputError for an unknown or missing key, or another kind."""
        if not isinstance(data, dict):
            raise InputError(f"{cls.kind}: {type(data).__name__} is not a table of keys; give a dict")
        if data.get("kind", cls.kind) != cls.kind:
            raise InputError(f"{cls.kind}: the data are of kind {data['kind']!r}; use accel.problem.from_dict")
        given = {key: value for key, value in data.items() if key != "kind"}
        for key in given:
            if key not in cls.__struct_fields__:
                known = cls.__struct_fields__
                raise InputError(f"{cls.kind}: unknown key {key!r}{nearest(str(key), known)}; keys: {', '.join(known)}")
        missing = [key for key in cls.sizes() if key not in given]
        if missing:
            raise InputError(f"{cls.kind}: missing {', '.join(missing)}; give every size")
        return cls(**given)
