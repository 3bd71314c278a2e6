"""The battery: an engine of the executor against the slow model over drawn instructions and programs, in one call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np

from accel.errors import AccelError
from accel.isa.layout import BIAS_IEEE
from accel.isa.table import BY_MNEMONIC
from accel.numerics.formats import fmt
from accel.testing.choices import Choices
from accel.testing.drawn_rows import COMPUTE
from accel.testing.hard_values import hard_codes, special_codes
from accel.testing.legal_programs import Case, instruction, legal_program
from accel.testing.maker import Maker
from accel.testing.pool import Limits, Pool
from accel.testing.single_rows import Array, row_on_arrays
from accel.testing.slow_formats import ladder
from accel.testing.slow_run import slow_run
from accel.testing.slow_vector import RELATIONS

__all__ = ["battery", "cases", "corner_cases", "difference", "large_cases"]

# Just beyond what engines work on at a time: pieces of 1024 elements, panels of 512 steps, blocks of rows and columns.
LENGTHS = (1023, 1025, 2100)
PRODUCTS = ((3, 2, 513), (15, 33, 40), (16, 34, 520), (1, 1040, 3))


def difference(case: Case, *, engine: str = "jit", schedule: str | int = "natural",
               threads: int | None = None) -> str | None:  # fmt: skip
    """Return what differs between the executor and the slow model, None where every bit of every output agrees.

    engine, schedule, threads: how the executor runs, as `accel.machine.execute` takes them. What probes saw is compared
    too, regardless of order. An error that one of them raises counts as a difference.
    """
    from accel.machine import execute

    records: list[Any] = []
    try:
        want = slow_run(case.program, case.inputs, seed=case.seed)
        got = execute(case.program, case.inputs, random_seed=case.seed, engine=engine, schedule=schedule,
                      record=records.append if want.records else None, threads=threads)  # fmt: skip
    except AccelError as error:
        return f"{type(error).__name__}: {error}"
    for name, codes in want.outputs.items():
        bits = f"u{codes.itemsize}"
        wrong = np.flatnonzero(codes.view(bits).ravel() != got[name].view(bits).ravel())
        if wrong.size:
            at = int(wrong[0])
            mine, theirs = (int(side.view(bits).ravel()[at]) for side in (got[name], codes))
            return (
                f"{', '.join(case.blocks)}: {wrong.size} of {codes.size} elements of {name} ({codes.dtype}) differ, "
                f"the first is [{at}]: {mine:#x} instead of {theirs:#x}"
            )
    seen = Counter((case.program.marks[r.name], r.node, r.codes.tobytes()) for r in records)
    if seen != Counter((r.name, r.node, r.codes.tobytes()) for r in want.records):
        return f"{', '.join(case.blocks)}: probes saw other bits"
    return None


def cases(each: int, programs: int, limits: Limits | None = None) -> Iterator[Case]:
    """Yield `each` drawn instructions of every compute row, then so many whole programs; always the same ones."""
    limits = limits or Limits()
    for seed in range(each):  # rows inside seeds: the first of every row come early
        for mnemonic in COMPUTE:
            if mnemonic not in limits.without:
                yield instruction(Choices.seeded(seed), mnemonic, limits)
    for seed in range(programs):
        yield legal_program(Choices.seeded(seed), limits)


def large_cases(limits: Limits | None = None) -> Iterator[Case]:
    """Yield instructions that are longer than the blocks an engine cuts them into."""
    limits = limits or Limits()
    floats, integers = limits.floats, limits.integers
    narrow, bytewise = Pool(Maker(1, 1, 1), Choices.seeded(0), limits).products()
    pairs = [(f, "fp32") for f in narrow] + [(i, "int32") for i in bytewise]
    rounded = [f for f in floats if f in limits.results]
    pairs += [(f, out) for out in rounded for f in narrow if f in ("bf16", "cfp8-143", "fp16")]
    for number, (dtype, dst) in enumerate(pairs if "matmul" not in limits.without else ()):
        for m, n, k in PRODUCTS:
            a = hard_codes(dtype, (1, m, 1, k), 10 * number, "near_one")
            b = hard_codes(dtype, (1, k, 1, n), 10 * number + 1, "near_one")
            start = hard_codes(dst, (1, m, 1, n), 10 * number + 2, "near_one")
            word = 7 if fmt(dtype).kind == "cfp" else 0
            operands = {"a": Array(dtype, a, word), "b": Array(dtype, b, word)}
            for accumulate in (0,) if dst in rounded else (0, 1):
                yield row_on_arrays("matmul", dst, operands, shape=(1, m, 1, n), update=start, accumulate=accumulate)
    for number, dtype in enumerate(floats + integers):
        for length in LENGTHS:
            x, y = (hard_codes(dtype, (2, length), 5 * number + i, "mixed") for i in (0, 1))
            yield row_on_arrays("vec.add", dtype, {"x": Array(dtype, x), "y": Array(dtype, y)})
            yield row_on_arrays("vec.reduce_sum", dtype, {"x": Array(dtype, x)}, shape=(2, 1))


def corner_cases(limits: Limits | None = None) -> Iterator[Case]:
    """Yield rows on the codes that decide between two readings of a rule: ties, gaps, signed zeros, NaN."""
    limits = limits or Limits()
    for dtype in limits.floats:
        for word in (7, 40, 256 + 15) if fmt(dtype).kind == "cfp" else (0,):
            numbers = _ties(dtype, word)
            yield row_on_arrays("vec.cast", dtype, {"x": Array("fp32", numbers)}, bias=word)
            minus = np.full((3, 20), 1 << fmt(dtype).bits - 1 if fmt(dtype).signed else 0)
            yield row_on_arrays("vec.reduce_sum", dtype, {"x": Array(dtype, minus, word)}, shape=(3, 1), bias=word)
    turns = _turns() if "fp32" in limits.floats else np.zeros(0, np.uint32)
    for mnemonic, row in BY_MNEMONIC.items():
        if row.wide and mnemonic not in limits.without and turns.size:
            yield row_on_arrays(mnemonic, "fp32", {"x": Array("fp32", turns)})
        if [o.name for o in row.views] != ["dst", "x", "y"] or mnemonic in limits.without:
            continue
        for dtype in limits.floats + (limits.integers if row.integer else ()):
            special = special_codes(dtype)[:: 1 if fmt(dtype).bits == 8 else 3]
            half = 1 << fmt(dtype).bits - 1
            special = np.unique(np.concatenate([special[:24], special[-8:], np.array([0, half], special.dtype)]))
            x, y = (side.ravel() for side in np.meshgrid(special, special))
            operands = {"x": Array(dtype, x), "y": Array(dtype, y)}
            if any(o.name == "relation" for o in row.operands):
                for relation in RELATIONS:
                    yield row_on_arrays(mnemonic, "uint8", operands, relation=relation)
            else:
                yield row_on_arrays(mnemonic, dtype, operands)


def _turns() -> Any:
    """Return the bits of fp32 numbers at which a function changes its formula or its kind of result, and around."""
    points = [
        0.5,
        0.5625,
        0.75,
        0.95,
        1.0,
        1.5,
        3.0,
        4.0,
        17.0,
        88.0,
        88.72284,
        87.5,
        96.0,
        102.7,
        103.97208,
        2.0**-126,
    ]
    near = (np.array(points, np.float32).view(np.int32)[:, None] + np.array([-9, -1, 0, 1, 7], np.int32)).ravel()
    bits = np.concatenate([near.view(np.uint32), special_codes("fp32")[::2].astype(np.uint32)])
    return np.unique(np.concatenate([bits, bits ^ np.uint32(1 << 31)]))


def _ties(dtype: str, word: int) -> Any:
    """Return the bits of fp32 numbers between two codes of a format, their neighbours, and the negatives of all."""
    if dtype == "fp32":
        return special_codes("fp32")
    steps = ladder(dtype, word % BIAS_IEEE, word >= BIAS_IEEE)
    below = np.unique(np.concatenate([np.arange(40), np.arange(len(steps) - 20, len(steps) - 1),
                                      np.arange(0, len(steps) - 1, 53), np.arange(1000, 1040)]))  # fmt: skip
    below = below[below < len(steps) - 1]
    with np.errstate(over="ignore"):
        middle = ((steps[below] + steps[below + 1]) / 2).astype(np.float32)
    sides = [middle, np.nextafter(middle, np.float32(0)), np.nextafter(middle, np.float32(np.inf))]
    return np.concatenate([*sides, *(-side for side in sides)]).view(np.uint32)


def battery(each: int = 25, programs: int = 40, *, engine: str = "jit", limits: Limits | None = None) -> str | None:
    """Return the first difference over drawn, corner and large cases, None where there is none.

    Every second program runs in random order.
    """
    for number, case in enumerate(chain(cases(each, programs, limits), corner_cases(limits), large_cases(limits))):
        schedule: str | int = number if len(case.blocks) > 1 and number % 2 else "natural"
        found = difference(case, engine=engine, schedule=schedule)
        if found is not None:
            return found
    return None
