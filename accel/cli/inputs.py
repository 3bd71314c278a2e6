"""Input tensors for a run: reproducible random numbers, plain or spiked with hard values."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from accel.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from accel.cli.target import Target
    from accel.isa.program import Tensor
    from accel.program import Program

__all__ = ["inputs_of", "random_inputs"]

NOWHERE: Mapping[str, int] = {}

# Codes of bf16, and bit patterns of fp32 with 16 zeros more: signed zeros, subnormals, smallest and largest normals,
# one and its neighbour, a value whose square overflows.
_HARD = (0x0000, 0x8000, 0x0001, 0x8001, 0x007F, 0x0080, 0x8080, 0x7F7F, 0xFF7F, 0x3F80, 0x3F81, 0xBF81, 0x6000, 0x1FFF)
_RARE = (0x7F80, 0xFF80, 0x7FC0)  # infinities and NaN: one element each, or they would be all there is in the result
_HARD_SHARE = 16  # one element in so many


def inputs_of(target: Target, seed: int, *, hard: bool = False) -> dict[str, np.ndarray]:
    """Return inputs of a target's program: those its library kernel makes where not any number will do, or random ones.

    InputError where `hard` values are asked of a kernel that makes its own.
    """
    from accel.kernels.catalog import kernel_of

    makes = None if target.problem is None else kernel_of(target.problem).inputs
    if makes is None:
        return random_inputs(target.program, seed, hard=hard, below=target.below)
    if hard:
        raise InputError(f"--hard does not go with {target.label}: its inputs are not any number; leave it out")
    return makes(target.problem, seed)


def random_inputs(
    program: Program, seed: int, *, hard: bool, below: Mapping[str, int] = NOWHERE
) -> dict[str, np.ndarray]:
    """Return one array per input tensor, the same for the same seed, name and shape, on every machine.

    Floats are +-[2^-7, 2) with every mantissa equally likely, spread over binades so that sums round; in configurable
    formats they are rounded to the tensor's own values. Integers are anything in range, or from 0 to less than
    `below[name]`. `hard` replaces one in 16 by zeros, subnormals, extremes and near-ones, and single elements by
    infinities and NaN; in integer formats by the ends of the range.
    """
    from accel.numerics import fmt

    tensors = {t.name: t for t in program.isa.tensors}
    arrays = {}
    for name, (shape, dtype) in program.inputs.items():
        key = [seed, zlib.crc32(name.encode())]
        if fmt(dtype).kind == "int":
            arrays[name] = _integers(shape, dtype, key, hard, below.get(name))
        elif dtype in ("bf16", "fp32"):
            arrays[name] = _tensor(shape, dtype, key, hard)
        else:
            arrays[name] = _narrowed(_tensor(shape, "fp32", key, hard), tensors[name])
    return arrays


def _integers(shape: tuple[int, ...], dtype: str, seed: list[int], hard: bool, below: int | None) -> Any:
    import numpy as np

    rng = np.random.Generator(np.random.PCG64(seed))
    limits = np.iinfo(dtype)
    low, high = (int(limits.min), int(limits.max)) if below is None else (0, below - 1)
    values = rng.integers(low, high + 1, shape).astype(dtype)
    if hard:
        ends = rng.choice(np.array([low, high, 0, min(1, high)], dtype), shape)
        values = np.where(rng.integers(0, _HARD_SHARE, shape) == 0, ends, values)
    return values


def _narrowed(values: Any, tensor: Tensor) -> Any:
    """fp32 numbers as those of a shorter format, so that an oracle sees what the kernel sees."""
    from accel.numerics import encode, fmt, from_storage

    options: Any = {"bias": tensor.bias, "denormals": tensor.denormals} if fmt(tensor.dtype).kind == "cfp" else {}
    return from_storage(encode(values, tensor.dtype, **options), tensor.dtype, as_="ml_dtypes", **options)


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
