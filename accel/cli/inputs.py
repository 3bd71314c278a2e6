"""Input tensors for a run: reproducible random numbers, plain or spiked with hard values."""

from __future__ import annotations

import math
import zlib
from typing import TYPE_CHECKING, Any

from accel.errors import UnsupportedError

if TYPE_CHECKING:
    import numpy as np

    from accel.program import Program

__all__ = ["random_inputs"]

# Codes of bf16, and bit patterns of fp32 with 16 zeros more: signed zeros, subnormals, smallest and largest normals,
# one and its neighbour, a value whose square overflows.
_HARD = (0x0000, 0x8000, 0x0001, 0x8001, 0x007F, 0x0080, 0x8080, 0x7F7F, 0xFF7F, 0x3F80, 0x3F81, 0xBF81, 0x6000, 0x1FFF)
_RARE = (0x7F80, 0xFF80, 0x7FC0)  # infinities and NaN: one element each, or they would be all there is in the result
_HARD_SHARE = 16  # one element in so many


def random_inputs(program: Program, seed: int, *, hard: bool) -> dict[str, np.ndarray]:
    """Return one array per input tensor, the same for the same seed, name and shape, on every machine.

    Values are +-[2^-7, 2) with every mantissa equally likely, spread over binades so that sums round; `hard` replaces
    one in 16 by zeros, subnormals, extremes and near-ones, and single elements by infinities and NaN.
    """
    arrays = {}
    for name, (shape, dtype) in program.inputs.items():
        if dtype not in ("bf16", "fp32"):
            raise UnsupportedError(f"no random values for input {name!r} in {dtype}; use bf16 or fp32 tensors")
        arrays[name] = _tensor(shape, dtype, [seed, zlib.crc32(name.encode())], hard)
    return arrays


def _tensor(shape: tuple[int, ...], dtype: str, seed: list[int], hard: bool) -> Any:
    import ml_dtypes
    import numpy as np

    rng = np.random.Generator(np.random.PCG64(seed))
    mantissa = 7 if dtype == "bf16" else 23
    word: Any = np.uint16 if dtype == "bf16" else np.uint32
    size = math.prod(shape)
    raw: Any = np.frombuffer(rng.bytes(size * np.dtype(word).itemsize), np.dtype(word).newbyteorder("<"))
    codes: Any = raw.astype(word).reshape(shape)
    codes &= word((1 << (mantissa + 8)) | ((8 << mantissa) - 1))  # sign, 3 bits of exponent, mantissa
    codes += word(120 << mantissa)
    if hard:
        flat, shift = codes.reshape(-1), word(mantissa - 7)
        places = np.flatnonzero(rng.integers(0, _HARD_SHARE, size=flat.size) == 0)
        flat[places] = rng.choice(np.array(_HARD, word), size=places.size) << shift
        rare: Any = rng.permutation(flat.size)[: len(_RARE)] if flat.size >= 64 else []
        flat[rare] = np.array(_RARE[: len(rare)], word) << shift
        codes = flat.reshape(shape)
    return codes.view(ml_dtypes.bfloat16 if dtype == "bf16" else np.float32)
