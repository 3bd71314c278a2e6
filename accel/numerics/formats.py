"""The number formats: one frozen row each, looked up by name or by code."""

from __future__ import annotations

from dataclasses import dataclass

from accel.errors import InputError, InternalError, nearest

__all__ = ["FORMATS", "Format", "by_code", "fmt"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Format:
    """One number format: what a code of `bits` bits means and how the host stores it.

    A float code is sign | exponent | mantissa. `bias` is the exponent bias; None where the tensor
    carries its own (cfp8, 0..63). `storage` names the NumPy dtype that holds the codes.
    """

    name: str
    code: int
    kind: str  # "float" (fixed bias), "cfp" (bias per tensor) or "int"
    bits: int
    signed: bool
    exponent: int  # exponent bits; 0 for integers
    mantissa: int  # explicit fraction bits; for integers the value bits
    bias: int | None
    storage: str
    inf_nan: bool  # has infinities and NaN
    subnormals: bool
    meaning: str

    def __post_init__(self) -> None:
        """A row whose fields do not add up stops the import."""
        total = int(self.signed) + self.exponent + self.mantissa
        if total != self.bits or self.bits % 8 or self.kind not in ("float", "cfp", "int"):
            raise InternalError(f"format row {self.name!r} cannot be right: {total} bits declared as {self.bits}")
        if (self.kind == "float") != (self.bias is not None):
            raise InternalError(f"format row {self.name!r} cannot be right: only fixed-bias floats state a bias")

    @property
    def bytes(self) -> int:
        """Bytes of one stored element."""
        return self.bits // 8

    @property
    def default_bias(self) -> int:
        """The bias of a configurable format whose tensor states none: 2^(e-1) - 1 as in IEEE 754; 0 for the others."""
        return (1 << (self.exponent - 1)) - 1 if self.kind == "cfp" else 0


def _row(
    name: str,
    code: int,
    kind: str,
    layout: tuple[int, int, int],
    bias: int | None,
    storage: str,
    inf_nan: bool,
    subnormals: bool,
    meaning: str,
) -> Format:
    sign, exponent, mantissa = layout
    return Format(
        name=name,
        code=code,
        kind=kind,
        bits=sign + exponent + mantissa,
        signed=bool(sign),
        exponent=exponent,
        mantissa=mantissa,
        bias=bias,
        storage=storage,
        inf_nan=inf_nan,
        subnormals=subnormals,
        meaning=meaning,
    )


# Sources: fp32, fp16: IEEE 754-2019. bf16: https://arxiv.org/abs/1905.12322. cfp8-*, shp16, uhp16: "Tesla Dojo
# Technology: A Guide to Tesla's Configurable Floating Point Formats & Arithmetic" (2021). Codes are written into saved
# programs: they never change and are never reused.
_ROWS = (
    # name       code kind     (s, e, m)    bias  storage    infnan subnrm meaning
    _row("fp32",     1, "float", (1, 8, 23),  127, "float32", True,  True,  "IEEE binary32"),
    _row("bf16",     2, "float", (1, 8, 7),   127, "uint16",  True,  True,  "upper half of binary32"),
    _row("fp16",     3, "float", (1, 5, 10),  15,  "uint16",  True,  True,  "IEEE binary16"),
    _row("cfp8-143", 4, "cfp",   (1, 4, 3),   None, "uint8",  False, True,  "configurable, 3 fraction bits"),
    _row("cfp8-152", 5, "cfp",   (1, 5, 2),   None, "uint8",  False, True,  "configurable, 2 fraction bits"),
    _row("shp16",    6, "cfp",   (1, 5, 10),  None, "uint16", False, True,  "signed configurable half"),
    _row("uhp16",    7, "cfp",   (0, 6, 10),  None, "uint16", False, True,  "unsigned configurable half"),
    _row("int8",     8, "int",   (1, 0, 7),   None, "int8",   False, False, "two's complement"),
    _row("uint8",    9, "int",   (0, 0, 8),   None, "uint8",  False, False, "unsigned"),
    _row("int32",   10, "int",   (1, 0, 31),  None, "int32",  False, False, "two's complement, modulo 2^32"),
)  # fmt: skip

FORMATS: dict[str, Format] = {row.name: row for row in _ROWS}
_BY_CODE = {row.code: row for row in _ROWS}
if len(FORMATS) != len(_ROWS) or len(_BY_CODE) != len(_ROWS):
    raise InternalError("format table has a name or a code twice")


def fmt(name: str | Format) -> Format:
    """Return the row called `name` (a row is returned as it is); InputError names the nearest known name."""
    if isinstance(name, Format):
        return name
    key: object = name
    if not isinstance(key, str):
        raise InputError(f"a number format cannot be {key!r}; give its name, one of {', '.join(FORMATS)}")
    known = ", ".join(FORMATS)
    if key not in FORMATS:
        raise InputError(f"unknown number format {key!r}{nearest(key, FORMATS) or f'; use {known}'}")
    return FORMATS[key]


def by_code(code: int) -> Format:
    """Return the row with this code, as found in a stored program; InputError where there is none."""
    row = _BY_CODE.get(code)
    if row is None:
        raise InputError(f"unknown number format code {code!r}; codes run from 1 to {len(_ROWS)}")
    return row
