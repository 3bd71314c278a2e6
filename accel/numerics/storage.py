"""Host arrays to stored codes and back: the one boundary where NumPy and ml_dtypes arrays enter and leave."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from accel.errors import InputError, UnsupportedError
from accel.numerics.bf16 import decode_array, encode_array, float32_to_odd
from accel.numerics.formats import Format, require

__all__ = ["as_storage", "decode", "encode", "from_storage", "round_to"]

AnyArray = npt.NDArray[Any]


def as_storage(array: npt.ArrayLike, fmt: str | Format) -> AnyArray:
    """Return `array` as C-contiguous codes of `fmt`: uint16 for bf16, float32 for fp32, int32 for int32.

    Takes float16, float32, float64, integer and ml_dtypes bfloat16 arrays of any order, stride, byte order or
    writability. Numbers are *values*, rounded once, nearest-even; integers that are codes go through `decode` first. An
    array that already holds `fmt` keeps its bits, NaN payloads included, and is returned without a copy when it is
    contiguous. InputError for bool, object, complex, string, structured, ragged or empty arrays, and for int32 from
    values that are no int32.
    """
    row = require(fmt)
    values = _numbers(array)
    if row.name == "int32":
        return _int32(values)
    if _is_bfloat16(values):
        codes = np.ascontiguousarray(values).view(np.uint16)
        return codes if row.name == "bf16" else decode_array(codes)
    if values.dtype.kind in "iu":
        values = _integers_as_float64(values)
    native = values.astype(values.dtype.newbyteorder("="), copy=False)
    if row.name == "fp32":
        with np.errstate(over="ignore", under="ignore"):
            return np.require(native, dtype=np.float32, requirements="C")
    return encode_array(float32_to_odd(native) if native.dtype == np.float64 else native.astype(np.float32, copy=False))


def from_storage(array: AnyArray, fmt: str | Format, as_: str = "float32") -> AnyArray:
    """Return stored codes of `fmt` as values: `as_` "float32" (exact) or "ml_dtypes" (bf16 as ml_dtypes.bfloat16).

    fp32 and int32 are their own storage and come back as they are. InputError if `array` is not storage of `fmt`.
    """
    row = require(fmt)
    if as_ not in ("float32", "ml_dtypes"):
        raise InputError(f'from_storage cannot return {as_!r}; use "float32" or "ml_dtypes"')
    given: object = array
    got = given.dtype if isinstance(given, np.ndarray) else type(given).__name__
    if got != np.dtype(row.storage):
        raise InputError(f"{row.name} is stored as {row.storage}, not {got}; make storage with as_storage")
    if row.name != "bf16":
        return array
    if as_ == "float32":
        return decode_array(array)
    try:
        import ml_dtypes
    except ImportError:
        raise UnsupportedError('ml_dtypes is not installed; install it or ask for "float32"') from None
    values: AnyArray = np.ascontiguousarray(array).view(ml_dtypes.bfloat16).reshape(array.shape)
    return values


def encode(array: npt.ArrayLike, fmt: str | Format) -> AnyArray:
    """Return the codes of numbers in `fmt`, nearest-even; as `as_storage`, but never shares memory with its input."""
    codes = as_storage(array, fmt)
    return codes.copy() if isinstance(array, np.ndarray) and np.may_share_memory(codes, array) else codes


def decode(codes: AnyArray, fmt: str | Format) -> AnyArray:
    """Return the exact values of codes: float32, or int32 for int32; never shares memory with its input."""
    values = from_storage(codes, fmt)
    return values.copy() if np.may_share_memory(values, codes) else values


def round_to(array: npt.ArrayLike, fmt: str | Format) -> AnyArray:
    """Return numbers rounded to the nearest value of `fmt` (ties to even), as float32 (int32 for int32)."""
    return decode(encode(array, fmt), fmt)


def _is_bfloat16(array: AnyArray) -> bool:
    """True for ml_dtypes arrays; by name, so that ml_dtypes need not be imported."""
    return array.dtype.name == "bfloat16" and array.dtype.itemsize == 2


def _numbers(array: npt.ArrayLike) -> AnyArray:
    """`array` as an ndarray of real numbers, or InputError."""
    if isinstance(array, np.ma.MaskedArray) and np.ma.is_masked(array):
        raise InputError("a masked array has elements without a value; fill them first, with array.filled(0)")
    try:
        values = np.asarray(array)
    except Exception:  # noqa: BLE001 - an object's own __array__ may raise anything
        raise InputError("cannot make an array of this input; give a rectangular array of numbers") from None
    kind = values.dtype.kind
    if not (_is_bfloat16(values) or kind in "iu" or (kind == "f" and values.dtype.itemsize <= 8)):
        raise InputError(
            f"array of dtype {values.dtype} cannot be a tensor; give float16, float32, float64, bfloat16 or integers"
        )
    if values.size == 0:
        raise InputError(f"array of shape {values.shape} is empty; every dimension must be at least 1")
    return values


def _int32(values: AnyArray) -> AnyArray:
    """Integers as int32 storage; InputError for floats and for values outside int32."""
    if values.dtype.kind not in "iu":
        raise InputError(f"array of dtype {values.dtype} cannot become int32; round it to integers first")
    if int(values.min()) < -(1 << 31) or int(values.max()) >= 1 << 31:
        raise InputError("array holds values outside int32; keep them in -2^31 .. 2^31 - 1")
    return np.require(values, dtype=np.int32, requirements="C")


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
