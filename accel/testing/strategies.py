"""Hypothesis strategies: chips, meshes, sizes, tiles, formats, cases of a kernel, hard arrays, whole legal programs."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np

from accel.errors import InputError, UnsupportedError
from accel.hardware.catalog import chip
from accel.lang import tensor
from accel.numerics.formats import FORMATS
from accel.testing.choices import Choices
from accel.testing.hard_values import KINDS, hard_codes
from accel.testing.legal_programs import Case, instruction, legal_program
from accel.testing.pool import ALL_FLOATS, ALL_INTEGERS, Limits

try:
    from hypothesis import strategies as st
except ImportError:
    raise UnsupportedError(
        "Cannot import accel.testing.strategies because Hypothesis is not installed; "
        "use `pip install accel-codesign[testing]`"
    ) from None

__all__ = [
    "cases", "chips", "formats", "hard_arrays", "instructions", "legal_programs", "meshes", "sizes", "strided", "tiles",
]  # fmt: skip

# Beside what kernels cut work into (lanes, accumulator blocks, groups of 8), and numbers that nothing divides.
AWKWARD = (1, 2, 3, 5, 7, 8, 9, 13, 15, 16, 17, 23, 31, 32, 33, 37, 61, 63, 64, 65, 67, 97, 127, 128, 131)


def _choices(draw: Any) -> Choices:
    return Choices(lambda low, high: int(draw(st.integers(low, high))))


def formats() -> st.SearchStrategy[str]:
    """Names of all number formats."""
    return st.sampled_from(ALL_FLOATS + ALL_INTEGERS)


def sizes(most: int = 40) -> st.SearchStrategy[int]:
    """Sizes of a dimension, 1 to `most`: degenerate, prime, ragged, at and beside multiples of 8; 1 is simplest."""
    if type(most) is not int or most < 1:
        raise InputError(f"most must be a whole number of at least 1, got {most!r}")
    return st.one_of(
        st.integers(1, min(most, 4)), st.sampled_from([n for n in AWKWARD if n <= most]), st.integers(1, most)
    )


def tiles(size: int) -> st.SearchStrategy[int]:
    """Sizes of a tile that cuts `size`: what divides it, what does not, and all of it."""
    divisors = [n for n in range(1, size + 1) if size % n == 0]
    return st.one_of(st.sampled_from(divisors), st.integers(1, size))


def meshes(rows: int = 4, cols: int = 4) -> st.SearchStrategy[tuple[int, int]]:
    """Meshes (rows, cols) from 1 x 1 to a largest one; for `mesh` of a case, or of a chip."""
    return st.tuples(st.integers(1, rows), st.integers(1, cols))


@st.composite
def cases(
    draw: Any,
    /,
    tensors: Mapping[str, str],
    sizes_of: Mapping[str, Any] | None = None,
    most: int = 40,
    **parameters: Any,
) -> dict[str, Any]:
    """Cases for `kernel_property`: tensors by name as text, "m k bf16", whose letters stand for drawn sizes.

    The same letter is the same size everywhere; a number is itself; the format may be left out (bf16). sizes_of: a
    strategy or a list for single letters, the others are `sizes(most)`. parameters: a value, a strategy, a list to
    choose from, or a function of sizes by letter, as in `cases(dict(x="m n", y="m n"), bm=lambda m: min(m, 8))`.
    """
    letters: dict[str, int] = {}
    made: dict[str, Any] = {}
    for name, text in tensors.items():
        words = str(text).split()
        dtype = words.pop() if words and words[-1] in FORMATS else "bf16"
        if not words:
            raise InputError(f"tensor {name!r} is described by {text!r}; write sizes and a format, as in 'm 8 fp32'")
        for word in words:
            if not word.isdigit() and word not in letters:
                letters[word] = draw(_drawable((sizes_of or {}).get(word, sizes(most))))
        made[name] = tensor(tuple(int(word) if word.isdigit() else letters[word] for word in words), dtype)
    for name, value in parameters.items():
        if inspect.isfunction(value):
            wanted = value.__code__.co_varnames[: value.__code__.co_argcount]
            made[name] = value(**{letter: letters[letter] for letter in wanted})
        else:
            made[name] = draw(_drawable(value)) if isinstance(value, list | st.SearchStrategy) else value
    return made


def _drawable(value: Any) -> st.SearchStrategy[Any]:
    if isinstance(value, st.SearchStrategy):
        return value
    return st.sampled_from(value) if isinstance(value, list | tuple | range) else st.just(value)


@st.composite
def strided(draw: Any, array: Any) -> Any:
    """An array with the elements of `array` that lies otherwise in memory: gaps, reversed or exchanged dimensions."""
    given = np.asarray(array)
    order = draw(st.permutations(range(given.ndim)))
    steps = [draw(st.sampled_from((1, 2, -1, -2))) for _ in range(given.ndim)]
    room = np.zeros([given.shape[d] * abs(steps[d]) for d in order], given.dtype)
    view = room.transpose(np.argsort(order))[tuple(slice(None, None, step) for step in steps)]
    view[...] = given
    return view


@st.composite
def hard_arrays(draw: Any, dtype: str, shape: tuple[int, ...]) -> Any:
    """Arrays of storage codes of format `dtype` in a shape, full of the values that break arithmetic."""
    return hard_codes(dtype, shape, draw(st.integers(0, 1 << 30)), draw(st.sampled_from(KINDS)))


@st.composite
def instructions(draw: Any, mnemonic: str = "", limits: Limits | None = None) -> Case:
    """One compute instruction on one node, its buffers loaded and stored; mnemonic: "" for any that limits allow."""
    return instruction(_choices(draw), mnemonic, limits)


@st.composite
def legal_programs(draw: Any, limits: Limits | None = None, chip_json: str = "") -> Case:
    """Whole programs without hazards, over several nodes and threads; they shrink to few blocks and simple views.

    limits: what they may use; chip_json: the chip that they say they are for.
    """
    return legal_program(_choices(draw), limits, chip_json)


@st.composite
def chips(draw: Any) -> Any:
    """Small chips of 4 x 4 nodes, each a `mini` with some fields changed; every legal program fits on them."""
    c = _choices(draw)
    changes = {
        "noc.link_bytes_per_cycle": c.pick((64, 16, 128)),
        "noc.packet_bytes": c.pick((1024, 256)),
        "noc.buffer_packets": c.pick((4, 1, 16)),
        "node.copy_queue_depth": c.pick((16, 1, 2)),
        "node.vector.bytes_per_cycle": c.pick((64, 16, 128)),
        "ports.west.latency_cycles": c.pick((40, 0, 500)),
    }
    return chip("mini").replace(**{path: value for path, value in changes.items() if c.one_in(2)})
