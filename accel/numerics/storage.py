"""Host arrays to stored codes and back: the one boundary where NumPy and ml_dtypes arrays enter and leave."""

from __future__ import annotations

from dataclasses import dataclass
from operator import index
from typing import Any

import numpy as np
import numpy.typing as npt

from accel.errors import InputError, UnsupportedError
from accel.numerics.casts import float32_to_odd, round_array, round_array_stochastic, widen_array
from accel.numerics.formats import Format
from accel.numerics.formats import fmt as find
from accel.numerics.scalar import BIAS_IEEE, BIAS_MASK

__all__ = ["Codes", "as_storage", "bias_word", "cast", "decode", "encode", "from_storage", "round_to"]

AnyArray = npt.NDArray[Any]
_SHORT_FLOATS = ("float8_", "float6_", "float4_")  # ml_dtypes names; each value is a float32


@dataclass(frozen=True)
class Codes:
    """Raw codes where values are expected: `as_storage` and `Program.run` take them bit by bit.

    array: of the format's storage dtype (uint8 for cfp8-143). bias and denormals must be those of the tensor.
    """

    array: AnyArray
    dtype: str
    bias: int = 0
    denormals: str = "gap"

    def __post_init__(self) -> None:
        """InputError unless the array holds codes of the format."""
        bias_word(self.dtype, self.bias, self.denormals)
        _check_storage(self.array, find(self.dtype))

    def __getitem__(self, key: Any) -> Codes:
        """The same part of the codes as of an array; InputError for an index that picks a single code."""
        part: object = self.array[key]
        if not isinstance(part, np.ndarray):
            raise InputError("one code is no tensor; take a slice of codes")
        return Codes(part, self.dtype, self.bias, self.denormals)


def bias_word(fmt: str | Format, bias: int | None, denormals: str = "gap") -> int:
    """Return the bias word of a view in `fmt`: `bias` (0..63) plus 256 for IEEE denormals; 0 for fixed formats.

    InputError for a bias that is missing or out of range, and for a bias or denormals="ieee" of a fixed format.
    """
    row = find(fmt)
    if denormals not in ("gap", "ieee"):
        raise InputError(f'denormals cannot be {denormals!r}; use "gap" or "ieee"')
    if row.kind != "cfp":
        if bias or denormals != "gap":
            raise InputError(f"{row.name} has a fixed exponent bias and denormals; leave bias= and denormals= out")
        return 0
    if bias is None:
        raise InputError(f"{row.name} has a bias per tensor; give bias=0..{BIAS_MASK}")
    try:
        number = index(bias)
    except TypeError:
        number = -1
    if isinstance(bias, bool) or not 0 <= number <= BIAS_MASK:
        raise InputError(f"the bias of {row.name} cannot be {bias!r}; give an integer in 0..{BIAS_MASK}")
    return number | (BIAS_IEEE if denormals == "ieee" else 0)


def as_storage(
    array: npt.ArrayLike | Codes,
    fmt: str | Format,
    *,
    bias: int | None = None,
    denormals: str = "gap",
    rounding: str = "nearest",
    seed: int = 0,
    stream: int = 0,
) -> AnyArray:
    """Return `array` as C-contiguous codes of `fmt` in the NumPy dtype that stores them (`Format.storage`).

    Takes float16, float32, float64, integer and ml_dtypes float arrays of any order, stride, byte order or
    writability. Numbers are *values*, rounded once; raw codes come as `Codes`. An array that already holds `fmt` keeps
    its bits, NaN payloads included, and is returned without a copy when it is contiguous.
    bias, denormals: of cfp8-143, cfp8-152, shp16 and uhp16, see `bias_word`. rounding: "nearest" (ties to even) or
    "stochastic", by the random number of each element's row-major index in `stream` under `seed`.
    InputError for bool, object, complex, string, structured, ragged or empty arrays, and for int8, uint8 and int32 from
    values that are no such integers (`cast` saturates instead).
    """
    row = find(fmt)
    word = bias_word(row, bias, denormals)
    draw = _draw(rounding, seed, stream)
    if isinstance(array, Codes):
        return _matching_codes(array, row, word)
    values = _numbers(array)
    if row.kind == "int":
        return _integers(values, row)
    if row.name == "bf16" and _is_bfloat16(values):
        return _contiguous(values).view(np.uint16)
    if row.name == "fp16" and values.dtype.kind == "f" and values.dtype.itemsize == 2:
        return _contiguous(values.astype(values.dtype.newbyteorder("="), copy=False)).view(np.uint16)
    if row.name == "fp32" and values.dtype.kind == "f" and values.dtype.itemsize == 4:
        return _contiguous(values.astype(values.dtype.newbyteorder("="), copy=False))
    return _rounded(_floats(values, draw), row, word, draw)


def cast(
    array: npt.ArrayLike,
    fmt: str | Format,
    *,
    bias: int | None = None,
    denormals: str = "gap",
    rounding: str = "nearest",
    seed: int = 0,
    stream: int = 0,
) -> AnyArray:
    """Return the codes that the instructions vec.cast and vec.cast_sr make of the numbers of `array` in `fmt`.

    bias, denormals, rounding, seed, stream, the shape and the errors are those of `as_storage`.

    Unlike `encode` it takes any number to int8, uint8 and int32: rounded, kept in the format's range, NaN to 0. And it
    writes the one NaN of a format, where `encode` leaves an array alone that already has the format.
    """
    row = find(fmt)
    word, draw, values = bias_word(row, bias, denormals), _draw(rounding, seed, stream), _numbers(array)
    if row.kind != "int":
        return _rounded(_floats(values, draw), row, word, draw)
    if values.dtype.kind in "iu":
        (low, high), theirs = _range(row), np.iinfo(values.dtype)
        return np.clip(values, max(low, int(theirs.min)), min(high, int(theirs.max))).astype(row.storage, order="C")
    floats = _floats(values, draw)
    if floats.dtype == np.float64 and draw is None:
        whole = np.clip(np.rint(np.where(np.isnan(floats), 0.0, floats)), *_range(row))
        return whole.astype(row.storage, order="C")
    return _rounded(floats, row, word, draw)


def from_storage(
    array: AnyArray, fmt: str | Format, as_: str = "float32", *, bias: int | None = None, denormals: str = "gap"
) -> AnyArray:
    """Return stored codes of `fmt` as values: `as_` "float32" (exact) or "ml_dtypes".

    "ml_dtypes" keeps the width where an array type has these codes: ml_dtypes.bfloat16 for bf16, float16 for fp16;
    cfp8, shp16 and uhp16, whose bias no array type knows, are float32 either way. fp32 and integers are their own
    storage and come back as they are. bias, denormals: see `bias_word`. InputError if `array` is not storage of `fmt`.
    """
    row = find(fmt)
    word = bias_word(row, bias, denormals)
    if as_ not in ("float32", "ml_dtypes"):
        raise InputError(f'from_storage cannot return {as_!r}; use "float32" or "ml_dtypes"')
    _check_storage(array, row)
    if row.kind == "int" or row.name == "fp32":
        return array
    if as_ == "float32" or row.kind == "cfp":
        return widen_array(array, row, word)
    return _contiguous(array).view(_half_type(row))


def encode(
    array: npt.ArrayLike | Codes,
    fmt: str | Format,
    *,
    bias: int | None = None,
    denormals: str = "gap",
    rounding: str = "nearest",
    seed: int = 0,
    stream: int = 0,
) -> AnyArray:
    """Return the codes of the numbers of `array` in `fmt`; never shares memory with its input.

    bias, denormals, rounding, seed, stream, the shape and the errors are those of `as_storage`.
    """
    codes = as_storage(array, fmt, bias=bias, denormals=denormals, rounding=rounding, seed=seed, stream=stream)
    given = array.array if isinstance(array, Codes) else array
    return codes.copy() if isinstance(given, np.ndarray) and np.may_share_memory(codes, given) else codes


def decode(codes: AnyArray, fmt: str | Format, *, bias: int | None = None, denormals: str = "gap") -> AnyArray:
    """Return the exact values of codes of `fmt`, float32 or integers as the format is; never shares memory with them.

    bias, denormals: of a configurable format, see `bias_word`. InputError if `codes` is not storage of `fmt`.
    """
    values = from_storage(codes, fmt, bias=bias, denormals=denormals)
    return values.copy() if np.may_share_memory(values, codes) else values


def round_to(
    array: npt.ArrayLike,
    fmt: str | Format,
    *,
    bias: int | None = None,
    denormals: str = "gap",
    rounding: str = "nearest",
    seed: int = 0,
    stream: int = 0,
) -> AnyArray:
    """Return the numbers of `array` rounded to values of `fmt`, as float32 or integers.

    bias, denormals, rounding, seed, stream, the shape and the errors are those of `as_storage`.
    """
    codes = encode(array, fmt, bias=bias, denormals=denormals, rounding=rounding, seed=seed, stream=stream)
    return decode(codes, fmt, bias=bias, denormals=denormals)


def _draw(rounding: str, seed: int, stream: int) -> tuple[int, int] | None:
    """The seed and stream of stochastic rounding, or None for nearest; InputError for others."""
    if rounding not in ("nearest", "stochastic"):
        raise InputError(f'rounding cannot be {rounding!r}; use "nearest" or "stochastic"')
    for name, value, bits in (("seed", seed, 64), ("stream", stream, 32)):
        try:
            fits = 0 <= index(value) < 1 << bits
        except TypeError:
            fits = False
        if not fits:
            raise InputError(f"{name} cannot be {value!r}; give an integer in 0 .. 2^{bits} - 1")
    return (index(seed), index(stream)) if rounding == "stochastic" else None


def _rounded(floats: AnyArray, row: Format, word: int, draw: tuple[int, int] | None) -> AnyArray:
    """float32 or float64 values as codes of `row`, rounded once."""
    if draw is not None:
        return round_array_stochastic(floats, row, word, *draw)
    if row.name == "fp32":
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            return round_array(floats.astype(np.float32, copy=False), row, word)
    return round_array(float32_to_odd(floats) if floats.dtype == np.float64 else floats, row, word)


def _floats(values: AnyArray, draw: tuple[int, int] | None) -> AnyArray:
    """Numbers as float32 where that is exact, else as float64 that rounds on like the number itself."""
    if values.dtype.kind in "iu":
        if draw is not None and not _held_by_float64(values):
            raise InputError("integers beyond 2^53 cannot be rounded stochastically; make them float64 first")
        return _integers_as_float64(values)
    if _is_bfloat16(values) or values.dtype.name.startswith(_SHORT_FLOATS):
        with np.errstate(invalid="ignore"):
            return values.astype(np.float32)
    native = values.astype(values.dtype.newbyteorder("="), copy=False)
    return native if native.dtype == np.float64 else native.astype(np.float32, copy=False)


def _is_bfloat16(array: AnyArray) -> bool:
    """True for ml_dtypes arrays; by name, so that ml_dtypes need not be imported."""
    return array.dtype.name == "bfloat16" and array.dtype.itemsize == 2


def _half_type(row: Format) -> npt.DTypeLike:
    """The array type of 16-bit codes of bf16 or fp16."""
    if row.name == "fp16":
        return np.float16
    try:
        import ml_dtypes
    except ImportError:
        raise UnsupportedError('ml_dtypes is not installed; install it or ask for "float32"') from None
    return ml_dtypes.bfloat16  # type: ignore[no-any-return]


def _check_storage(array: object, row: Format) -> None:
    """InputError unless `array` holds codes of `row`."""
    got = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
    if got != np.dtype(row.storage):
        raise InputError(f"{row.name} is stored as {row.storage}, not {got}; make storage with as_storage")


def _contiguous(array: AnyArray) -> AnyArray:
    """`array` in row-major order; not np.ascontiguousarray, which gives a scalar one dimension."""
    return np.require(array, requirements="C")


def _matching_codes(codes: Codes, row: Format, word: int) -> AnyArray:
    """The array of `codes`, or InputError if they are codes of something else."""
    theirs = bias_word(codes.dtype, codes.bias, codes.denormals)
    if codes.dtype != row.name or theirs != word:
        have = f"{codes.dtype} with bias word {theirs}" if theirs or word else codes.dtype
        want = f"{row.name} with bias word {word}" if theirs or word else row.name
        raise InputError(f"codes of {have} cannot be a tensor of {want}; decode them, then give the values")
    return _contiguous(codes.array)


def _numbers(array: object) -> AnyArray:
    """`array` as an ndarray of real numbers, or InputError."""
    if isinstance(array, np.ma.MaskedArray) and np.ma.is_masked(array):
        raise InputError("a masked array has elements without a value; fill them first, with array.filled(0)")
    try:
        values = np.asarray(array)
    except Exception:  # noqa: BLE001 - an object's own __array__ may raise anything
        raise InputError("cannot make an array of this input; give a rectangular array of numbers") from None
    kind = values.dtype.kind
    short = _is_bfloat16(values) or values.dtype.name.startswith(_SHORT_FLOATS)
    if not (short or kind in "iu" or (kind == "f" and values.dtype.itemsize <= 8)):
        raise InputError(
            f"array of dtype {values.dtype} cannot be a tensor; give float16, float32, float64, bfloat16 or integers"
        )
    if values.size == 0:
        raise InputError(f"array of shape {values.shape} is empty; every dimension must be at least 1")
    return values


def _range(row: Format) -> tuple[int, int]:
    """The smallest and the largest integer of an integer format."""
    return (-(1 << row.mantissa) if row.signed else 0), (1 << row.mantissa) - 1


def _integers(values: AnyArray, row: Format) -> AnyArray:
    """Integers as storage of an integer format; InputError for floats and for values outside its range."""
    if values.dtype.kind not in "iu":
        raise InputError(f"array of dtype {values.dtype} cannot become {row.name}; round it to integers first")
    low, high = _range(row)
    if int(values.min()) < low or int(values.max()) > high:
        raise InputError(f"array holds values outside {row.name}; keep them in {low} .. {high}")
    return np.require(values, dtype=row.storage, requirements="C")


def _held_by_float64(integers: AnyArray) -> bool:
    """Whether float64 holds each of the integers."""
    return int(integers.min()) >= -(1 << 53) and int(integers.max()) <= 1 << 53


def _integers_as_float64(values: AnyArray) -> AnyArray:
    """Integers as float64 such that rounding on to any shorter format rounds the integer once.

    Beyond 2^53, where float64 would round first, the low 11 bits are folded into one sticky bit (rounding to odd).
    """
    if values.dtype.itemsize < 8:
        return values.astype(np.float64)
    native = values.astype(values.dtype.newbyteorder("="), copy=False)
    low = native & native.dtype.type(0x7FF)
    sticky = np.where(low != 0, native.dtype.type(0x800), native.dtype.type(0))
    big = native > (1 << 53)
    if native.dtype.kind == "i":
        big |= native < -(1 << 53)
    return np.where(big, (native - low) | sticky, native).astype(np.float64)
