"""Vector rows in every format and layout, byte for byte, against oracles that share nothing with the executor."""

from __future__ import annotations

import numpy as np
import pytest
from format_oracle import BYTES, CONFIGURABLE, FLOATS, INTEGERS, nearest, philox, stochastic, values
from row_bench import SRAM, Operand, dense, run, scattered
from test_machine_vector import IMMEDIATE, ORACLE

from accel.errors import BoundsError
from accel.isa.codec import Bits
from accel.isa.schema import Engine
from accel.isa.table import BY_MNEMONIC, ROWS
from accel.testing.slow_functions import FUNCTIONS

ENGINES = ("jit", "plain")
REGION = SRAM // 4
BIASES = {"cfp8-143": [(7, True), (7, False), (0, False), (63, True)], "cfp8-152": [(15, True), (30, False)],
          "shp16": [(15, False), (15, True), (40, False)], "uhp16": [(31, False), (20, True)]}  # fmt: skip
FORMATS = [(f, b, i) for f in FLOATS for b, i in BIASES.get(f, [(0, False)])]
RELATIONS = {1: np.equal, 2: np.not_equal, 3: np.less, 4: np.less_equal, 5: np.greater, 6: np.greater_equal}
HARD = np.array([0.0, -0.0, 1.0, -1.5, 3e38, -3e38, np.inf, -np.inf, np.nan, 1e-45, -1e-40, 0.1, 255.5, 65504.0],
                np.float32)  # fmt: skip


def memory(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, SRAM, dtype=np.uint8)


def tame(rng: np.random.Generator, sram: np.ndarray, operand: Operand) -> None:
    """Fill an operand with numbers that meet: small ones, repeated ones, special ones."""
    if operand.dtype in INTEGERS:
        edges = np.array([0, 1, -1, 2, 127, 128, -128, 255, 2**31 - 1, -(2**31), 46341, -46341])
        operand.write(sram, rng.choice(edges, operand.shape) & 0xFFFFFFFF)
        return
    numbers = rng.choice(np.concatenate([HARD, rng.standard_normal(8).astype(np.float32)]), operand.shape)
    operand.write(sram, nearest(operand.dtype, numbers, operand.bias, operand.ieee))


def laid_out(rng: np.random.Generator, formats: dict[str, tuple[str, int, bool]], shape: tuple[int, ...],
             scalar: int = 0) -> dict[str, Operand]:  # fmt: skip
    out = {}
    for region, (name, (dtype, bias, ieee)) in enumerate(formats.items()):
        operand = Operand(dtype, shape, (), 0, bias=bias, ieee=ieee, scalar=scalar if dtype in CONFIGURABLE else 0)
        out[name] = scattered(rng, operand, region * REGION, REGION, broadcast=name != "dst")
    return out


def check(mnemonic, sram, operands, codes, engine="jit", **others):
    """Run, and compare all of SRAM with what it must be when dst takes `codes`."""
    want = sram.copy()
    operands["dst"].write(want, codes)
    got = run(mnemonic, sram, operands, engine=engine, **others)
    np.testing.assert_array_equal(got, want)


def read(sram: np.ndarray, operand: Operand) -> np.ndarray:
    return values(operand.dtype, operand.read(sram), **operand.biased(sram))


def to(sram: np.ndarray, operand: Operand, numbers: np.ndarray) -> np.ndarray:
    return nearest(operand.dtype, numbers, **operand.biased(sram))


FLOAT_ORACLE = ORACLE | FUNCTIONS
FLOAT_ROWS = sorted(FLOAT_ORACLE) + sorted(IMMEDIATE)


@pytest.mark.parametrize("mnemonic", FLOAT_ROWS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_float_rows_in_every_format_and_layout(mnemonic, dtype):
    row = BY_MNEMONIC[mnemonic]
    for case, (bias, ieee) in enumerate(BIASES.get(dtype, [(0, False)]) * 2):
        rng = np.random.default_rng([case, row.opcode])
        shape = tuple(int(n) for n in rng.integers(1, 6, int(rng.integers(1, 5))))
        formats = {o.name: (dtype, bias, ieee) for o in row.views}
        operands, sram = laid_out(rng, formats, shape, scalar=SRAM - 3 if case % 2 else 0), memory(case)
        if case > 1:
            for operand in operands.values():
                tame(rng, sram, operand)
        more, given = {}, [read(sram, o) for name, o in operands.items() if name != "dst"]
        if mnemonic in IMMEDIATE:
            more["imm"] = float(np.float32(rng.standard_normal()))
            given.append(np.float32(more["imm"]))
        with np.errstate(all="ignore"):
            want = FLOAT_ORACLE[IMMEDIATE.get(mnemonic, mnemonic)](*given)
        engine = "plain" if case == 0 else "jit"
        check(mnemonic, sram, operands, to(sram, operands["dst"], want), engine=engine, **more)


def wrapped(numbers: np.ndarray, dtype: str) -> np.ndarray:
    return numbers & ((1 << 8 * BYTES[dtype]) - 1)


INTEGER_ORACLE = {
    "vec.neg": lambda x: -x, "vec.abs": np.abs, "vec.relu": lambda x: np.maximum(x, 0), "vec.copy": lambda x: x,
    "vec.add": lambda x, y: x + y, "vec.sub": lambda x, y: x - y, "vec.mul": lambda x, y: x * y,
    "vec.max": np.maximum, "vec.min": np.minimum, "vec.fma": lambda x, y, z: (x * y + z) & 0xFFFFFFFF,
    "vec.fill": lambda x: x,
}  # fmt: skip
INTEGER_IMMEDIATE = IMMEDIATE | {"vec.fill": "vec.fill"}
OTHERWISE = {"vec.compare", "vec.comparei", "vec.select"}


def test_every_integer_row_has_an_oracle():
    tested = set(INTEGER_ORACLE) | set(IMMEDIATE) | OTHERWISE
    assert {row.mnemonic for row in ROWS if row.integer} == tested


@pytest.mark.parametrize("mnemonic", sorted(set(INTEGER_ORACLE) | set(IMMEDIATE)))
@pytest.mark.parametrize("engine", ENGINES)
def test_integer_rows(mnemonic, engine):
    row = BY_MNEMONIC[mnemonic]
    for case in range(6):
        rng = np.random.default_rng([case, row.opcode])
        shape = tuple(int(n) for n in rng.integers(1, 6, int(rng.integers(1, 5))))
        names, kinds = [o.name for o in row.views], list(INTEGERS)
        one = kinds[case % 3]  # copies are of one format; other rows mix integers freely
        formats = {n: (one if mnemonic == "vec.copy" else str(rng.choice(kinds)), 0, False) for n in names}
        operands, sram = laid_out(rng, formats, shape), memory(case)
        if case > 2:
            for operand in operands.values():
                tame(rng, sram, operand)
        more, given = {}, [read(sram, o) for name, o in operands.items() if name != "dst"]
        if mnemonic in INTEGER_IMMEDIATE:
            number = int(rng.integers(-(2**31), 2**31)) if case % 2 else int(rng.integers(-3, 4))
            more["imm"] = Bits(number & 0xFFFFFFFF)
            given.append(np.int64(number))
        with np.errstate(all="ignore"):
            want = INTEGER_ORACLE[INTEGER_IMMEDIATE.get(mnemonic, mnemonic)](*given)
        dst = operands["dst"]
        check(mnemonic, sram, operands, wrapped(np.broadcast_to(want, dst.shape), dst.dtype), engine=engine, **more)


def tree(numbers: list, fold, identity):
    """16 interleaved ascending chains, then a balanced tree of neighbours."""
    chains = [identity] * 16
    for i, x in enumerate(numbers):
        chains[i % 16] = fold(chains[i % 16], x)
    while len(chains) > 1:
        chains = [fold(chains[i], chains[i + 1]) for i in range(0, len(chains), 2)]
    return chains[0]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS])
def test_reductions(dtype, engine):
    whole = dtype in INTEGERS
    folds = {"vec.reduce_sum": (lambda a, b: a + b, 0), "vec.reduce_max": (ORACLE["vec.max"], -np.inf),
             "vec.reduce_min": (ORACLE["vec.min"], np.inf)}  # fmt: skip
    if whole:
        folds = {"vec.reduce_sum": (lambda a, b: a + b, 0), "vec.reduce_max": (max, -(2**31)),
                 "vec.reduce_min": (min, 2**31 - 1)}  # fmt: skip
    for case, (mnemonic, (fold, identity)) in enumerate(folds.items()):
        bias, ieee = BIASES.get(dtype, [(0, False)])[0]
        rng = np.random.default_rng([case, 4])
        x = dense(dtype, (2, 3, int(rng.integers(17, 40))), 0, bias=bias, ieee=ieee)
        target = "int32" if whole else dtype
        dst = dense(target, (2, 3, 1), REGION, bias=bias, ieee=ieee)
        sram = memory(case)
        tame(rng, sram, x)
        given = read(sram, x)
        start = int(identity) if whole else np.float32(identity)
        with np.errstate(all="ignore"):
            want = np.array([tree([int(v) if whole else v for v in r], fold, start) for r in given.reshape(6, -1)])
        want = want.reshape(dst.shape)
        codes = wrapped(want.astype(np.int64), target) if whole else to(sram, dst, want.astype(np.float32))
        check(mnemonic, sram, {"dst": dst, "x": x}, codes, engine=engine)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("source", [*FLOATS, *INTEGERS])
def test_casts_between_all_formats(source, engine):
    for case, (target, bias, ieee) in enumerate([*FORMATS, *((f, 0, False) for f in INTEGERS)]):
        rng = np.random.default_rng([case, 9])
        from_bias, from_ieee = BIASES.get(source, [(0, False)])[case % len(BIASES.get(source, [0]))]
        operands = laid_out(rng, {"dst": (target, bias, ieee), "x": (source, from_bias, from_ieee)}, (3, 5, 4))
        sram = memory(case)
        if case % 2:
            tame(rng, sram, operands["x"])
        given = read(sram, operands["x"]).astype(np.float64)  # exact: int32 and fp32 both fit
        check("vec.cast", sram, operands, to(sram, operands["dst"], given), engine=engine)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS])
def test_compare(dtype, engine):
    bias, ieee = BIASES.get(dtype, [(0, False)])[0]
    for relation, oracle in RELATIONS.items():
        rng = np.random.default_rng([relation, 3])
        formats = {"dst": ("uint8", 0, False), "x": (dtype, bias, ieee), "y": (dtype, bias, ieee)}
        operands, sram = laid_out(rng, formats, (4, 5, 3)), memory(relation)
        for name in ("x", "y"):
            tame(rng, sram, operands[name])
        x, y = read(sram, operands["x"]), read(sram, operands["y"])
        check("vec.compare", sram, operands, oracle(x, y).astype(int), engine=engine, relation=relation)
        number = x.ravel()[7]
        imm = Bits(int(number) & 0xFFFFFFFF) if dtype in INTEGERS else float(number)
        del operands["y"]
        check("vec.comparei", sram, operands, oracle(x, number).astype(int), engine=engine, relation=relation, imm=imm)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", BYTES)
def test_select_moves_bits(dtype, engine):
    for case in range(4):
        rng = np.random.default_rng([case, 5])
        formats = {
            "dst": (dtype, 0, False),
            "mask": ("uint8", 0, False),
            "x": (dtype, 0, False),
            "y": (dtype, 0, False),
        }
        operands, sram = laid_out(rng, formats, (2, 3, 4, 3)), memory(case)
        operands["mask"].write(sram, rng.choice([0, 0, 1, 2, 255], operands["mask"].shape))
        mask, x, y = (operands[n].read(sram) for n in ("mask", "x", "y"))
        check("vec.select", sram, operands, np.where(mask != 0, x, y), engine=engine)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", BYTES)
def test_transpose_moves_bits(dtype, engine):
    for case in range(4):
        rng = np.random.default_rng([case, 6])
        dst = scattered(rng, Operand(dtype, (2, 3, 5, 4), (), 0), 0, REGION, broadcast=False)
        x = scattered(rng, Operand(dtype, (2, 3, 4, 5), (), 0), 2 * REGION, REGION, broadcast=True)
        sram = memory(case)
        check("vec.transpose", sram, {"dst": dst, "x": x}, x.read(sram).swapaxes(2, 3), engine=engine)


def logical(shape: tuple[int, ...], base: int, steps: tuple[int, ...]) -> np.ndarray:
    """Logical index of every element, modulo 2^64, as Python integers."""
    index = np.full(shape, base, object)
    for d, n in enumerate(shape):
        index = index + (np.arange(n, dtype=object) * steps[4 - len(shape) + d]).reshape(
            (-1,) + (1,) * (len(shape) - 1 - d)
        )
    return index % 2**64


INDICES = [
    (0, (0, 60, 20, 1)),
    (5, (7, 0, 3, 1000)),
    (-3, (0, 0, 20, 1)),
    (2**40 - 1, (0, 2**33, -1, 2**31)),
    (1, (0, 9, 3, 1)),
]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", ["int32", "fp32", "bf16", "fp16"])
def test_iota(dtype, engine):
    for case, (base, steps) in enumerate(INDICES):
        rng = np.random.default_rng([case, 7])
        dst, sram = scattered(rng, Operand(dtype, (3, 4, 5), (), 0), 0, REGION, broadcast=False), memory(case)
        index = logical(dst.shape, base, steps) % 2**32
        signed = np.where(index >= 2**31, index - 2**32, index).astype(np.int64)
        check("vec.iota", sram, {"dst": dst}, nearest(dtype, signed.astype(np.float64)) if dtype != "int32" else index,
              engine=engine, index=(base, 0, *steps))  # fmt: skip


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", ["int32", "fp32"])
@pytest.mark.parametrize("seed", [0, 2**64 - 1, 0x0123456789ABCDEF])
def test_random(dtype, engine, seed):
    for case, (base, steps) in enumerate(INDICES):
        rng = np.random.default_rng([case, 8])
        dst, sram = scattered(rng, Operand(dtype, (3, 4, 5), (), 0), 0, REGION, broadcast=False), memory(case)
        stream = [0, 1, 2**32 - 1][case % 3]
        drawn = np.array([philox(int(i), stream, seed) for i in logical(dst.shape, base, steps).ravel()]).reshape(
            dst.shape
        )
        want = drawn if dtype == "int32" else nearest("fp32", (drawn >> 8) * 2.0**-24)
        check("vec.random", sram, {"dst": dst}, want, engine=engine, seed=seed, stream=stream, index=(base, 0, *steps))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("target", [*FLOATS, *INTEGERS])
def test_stochastic_casts(target, engine):
    for case, source in enumerate(["fp32", "fp32", "bf16", "fp32", "shp16", "fp32", "cfp8-152", "fp32"]):
        rng = np.random.default_rng([case, 10])
        bias, ieee = BIASES.get(target, [(0, False)])[case // 2 % len(BIASES.get(target, [0]))]
        from_bias, from_ieee = BIASES.get(source, [(0, False)])[0]
        operands = laid_out(rng, {"dst": (target, bias, ieee), "x": (source, from_bias, from_ieee)}, (4, 3, 6))
        sram, x = memory(case), operands["x"]
        if case % 2:
            near = (
                rng.standard_normal(x.shape)
                * 10.0 ** rng.integers(-3, 3, x.shape)
                * 2.0 ** -(bias if ieee or bias else 0)
            )
            x.write(sram, nearest(source, near.astype(np.float32), from_bias, from_ieee))
        base, steps = INDICES[case % len(INDICES)]
        seed, stream, given = 77 + case, 3, read(sram, x)
        index = logical(x.shape, base, steps)
        want = [stochastic(target, float(v), philox(int(i), stream, seed), bias, ieee)
                for v, i in zip(given.ravel(), index.ravel(), strict=True)]  # fmt: skip
        check("vec.cast_sr", sram, operands, np.array(want).reshape(x.shape), engine=engine, seed=seed, stream=stream,
              index=(base, 0, *steps))  # fmt: skip


def rows_by_index(rng, dtype, case, bias=0, ieee=False):
    """Operands (table, rows, index) of a gather or scatter, with an index into 7 rows that repeats."""
    n, columns = int(rng.integers(1, 12)), int(rng.integers(1, 9))
    form = {"bias": bias, "ieee": ieee}
    table = scattered(rng, Operand(dtype, (1, 1, 7, columns), (), 0, **form), 0, REGION, broadcast=False)
    rows = scattered(rng, Operand(dtype, (1, 1, n, columns), (), 0, **form), REGION, REGION, broadcast=False)
    index = scattered(rng, Operand("int32", (1, 1, 1, n), (), 0), 2 * REGION, REGION, broadcast=False)
    sram = memory(case)
    index.write(sram, rng.integers(0, 7, index.shape))
    return table, rows, index, sram


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", BYTES)
def test_gather_moves_rows(dtype, engine):
    for case in range(5):
        table, rows, index, sram = rows_by_index(np.random.default_rng([case, 11]), dtype, case)
        want = table.read(sram)[0, 0][index.read(sram)[0, 0, 0]]
        check("vec.gather", sram, {"dst": rows, "x": table, "index": index}, want, engine=engine)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("dtype", "bias", "ieee"), FORMATS)
def test_scatter_add_rounds_each_step(dtype, bias, ieee, engine):
    for case in range(5):
        rng = np.random.default_rng([case, 12])
        table, rows, index, sram = rows_by_index(rng, dtype, case, bias, ieee)
        if case:
            tame(rng, sram, table)
            tame(rng, sram, rows)
        codes, added = table.read(sram)[0, 0], read(sram, rows)[0, 0]
        with np.errstate(all="ignore"):
            for i, row in enumerate(index.read(sram)[0, 0, 0]):
                codes[row] = nearest(dtype, values(dtype, codes[row], bias, ieee) + added[i], bias, ieee)
        check("vec.scatter_add", sram, {"dst": table, "x": rows, "index": index}, codes, engine=engine)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("mnemonic", ["vec.gather", "vec.scatter_add"])
@pytest.mark.parametrize("bad", [-1, 7, 2**31 - 1, -(2**31)])
def test_an_index_outside_the_table_is_an_error_at_its_line(mnemonic, bad, engine):
    table, rows = dense("bf16", (1, 1, 7, 3), 0), dense("bf16", (1, 1, 4, 3), 1024)
    index, sram = dense("int32", (1, 1, 1, 4), 2048), memory(1)
    index.write(sram, np.array([0, 6, bad, 2]))
    views = {"dst": rows, "x": table} if mnemonic == "vec.gather" else {"dst": table, "x": rows}
    with pytest.raises(
        BoundsError, match=rf"node \(0, 0\) takes row {bad} of a table of 7: element 2 of its index"
    ) as e:
        run(mnemonic, sram, {**views, "index": index}, engine=engine)
    assert str(e.value.at) == "hand.py:3"


def test_every_vector_row_is_tested_here_or_beside():
    here = set(FLOAT_ROWS) | set(INTEGER_ORACLE) | set(INTEGER_IMMEDIATE) | {
        "vec.compare", "vec.comparei", "vec.select", "vec.transpose", "vec.iota", "vec.random", "vec.cast_sr",
        "vec.gather", "vec.scatter_add", "vec.reduce_sum", "vec.reduce_max", "vec.reduce_min",
    }  # fmt: skip
    assert {row.mnemonic for row in ROWS if row.engine is Engine.VECTOR} == here
