"""The instruction table: one literal row an instruction; everything else about the ISA is derived from it."""

from __future__ import annotations

from accel.errors import InternalError
from accel.isa import semantics as s
from accel.isa import transcendentals as t
from accel.isa.schema import Direction, Engine, Kind, Operand, Passes, Row, Semantics

__all__ = ["BY_MNEMONIC", "BY_OPCODE", "ROWS", "opcode"]

BOTH = ("sram", "memory")
SRAM = ("sram",)


def _w(name: str = "dst", spaces: tuple[str, ...] = SRAM) -> Operand:
    return Operand(name, Kind.VIEW, Direction.WRITE, spaces)


def _r(name: str, spaces: tuple[str, ...] = SRAM) -> Operand:
    return Operand(name, Kind.VIEW, Direction.READ, spaces)


def _vector(
    mnemonic: str, op: int, reads: str, f: Semantics | None, meaning: str, *, passes: Passes = 1, imm: bool = False,
    integer: Semantics | None = None, more: tuple[Operand, ...] = (),
) -> Row:  # fmt: skip
    operands = (_w(), *(_r(name) for name in reads.split())) + ((Operand("imm", Kind.FLOAT),) if imm else ()) + more
    return Row(mnemonic, op, Engine.VECTOR, "vector", operands, meaning, f, passes, integer)


def _function(mnemonic: str, op: int, f: Semantics, meaning: str, passes: Passes) -> Row:
    operands = (_w(), _r("x"))
    return Row(mnemonic, op, Engine.VECTOR, "vector", operands, meaning, f, passes, wide=True)


def _reduce(mnemonic: str, op: int, meaning: str) -> Row:
    return Row(mnemonic, op, Engine.VECTOR, "reduce", (_w(), _r("x")), meaning)


SEM = Kind.SEM
INDEX, STREAM, RELATION = (
    Operand("index", Kind.INDEX), Operand("stream", Kind.IMM), Operand("relation", Kind.IMM),
)  # fmt: skip
ROWS: tuple[Row, ...] = (
    # --- control --------------------------------------------------------------------------------------------------
    Row("wait", 1, Engine.CONTROL, "issue", (Operand("sem", SEM, Direction.UPDATE), Operand("n", Kind.VALUE)),
        "Blocks until the semaphore counts at least n, then takes n from it."),
    Row("inc", 2, Engine.CONTROL, "issue",
        (Operand("sem", SEM, Direction.UPDATE), Operand("n", Kind.VALUE), Operand("at", Kind.TARGET)),
        "Adds n to the semaphore on every node of the target; may overtake a copy."),
    Row("barrier", 3, Engine.CONTROL, "issue", (Operand("at", Kind.TARGET),),
        "Blocks until one thread of every node of the target has arrived."),
    Row("loop", 4, Engine.CONTROL, "issue", (Operand("trips", Kind.VALUE), Operand("end", Kind.IMM)),
        "Repeats the rows up to its end; `end` is the distance in rows to the matching end, 0 trips skip the body."),
    Row("end", 5, Engine.CONTROL, "issue", (Operand("begin", Kind.IMM),),
        "Closes a loop; `begin` is the distance in rows back to it."),
    Row("mark", 6, Engine.CONTROL, "issue", (Operand("phase", Kind.IMM),),
        "Names the phase that follows, for profiles; free of cost and effect."),
    Row("probe", 7, Engine.CONTROL, "issue", (_r("x"), Operand("name", Kind.IMM)),
        "Hands the bits of x to whoever debugs the run, under a name; free of cost and effect."),
    # --- data movement --------------------------------------------------------------------------------------------
    Row("copy", 16, Engine.DMA, "dma",
        (_w("dst", BOTH), _r("src", BOTH), Operand("to", Kind.TARGET),
         Operand("done", SEM, Direction.UPDATE), Operand("sent", SEM, Direction.UPDATE)),
        "Moves bits from src to dst on every node of the target, asynchronously; done fires at each destination "
        "(at the issuer when dst is memory), sent fires at the issuer when src may be overwritten."),
    Row("pull", 17, Engine.DMA, "dma",
        (_w(), _r("src"), Operand("of", Kind.TARGET),
         Operand("done", SEM, Direction.UPDATE), Operand("sent", SEM, Direction.UPDATE)),
        "Moves bits from src on the one node `of` to dst here, asynchronously; done fires here when dst is visible, "
        "sent fires at `of` when src may be overwritten."),
    # --- matrix unit ----------------------------------------------------------------------------------------------
    Row("matmul", 32, Engine.MATRIX, "matrix",
        (Operand("dst", Kind.VIEW, Direction.UPDATE, SRAM), _r("a"), _r("b"), Operand("accumulate", Kind.IMM)),
        "dst = a @ b, or dst += a @ b; each element one chain of fused multiply-adds, k ascending, in fp32 or int32. "
        "Without accumulate, fp32 sums may be rounded once, to nearest even, to a dst in 16 bits."),
    # --- vector unit ----------------------------------------------------------------------------------------------
    _vector("vec.fill", 48, "", s.fill, "dst = imm.", imm=True, integer=s.fill),
    _vector("vec.copy", 49, "x", s.copy, "dst = x, bits untouched (dst and x of one format).", integer=s.copy),
    _vector("vec.cast", 50, "x", s.cast, "dst = x rounded to nearest even in the format of dst."),
    _vector("vec.neg", 51, "x", s.negate, "dst = -x.", integer=s.negate),
    _vector("vec.abs", 52, "x", s.absolute, "dst = |x|.", integer=s.absolute),
    _vector("vec.relu", 53, "x", s.relu, "dst = x where x > 0 or NaN, otherwise +0.", integer=s.integer_relu),
    _vector("vec.sqrt", 54, "x", s.square_root, "dst = square root of x.", passes="sqrt_passes"),
    _vector("vec.cast_sr", 55, "x", None, "dst = x rounded at random to one of its neighbours in the format of dst.",
            passes="stochastic_passes", more=(STREAM, INDEX)),
    _vector("vec.add", 56, "x y", s.add, "dst = x + y.", integer=s.add),
    _vector("vec.sub", 57, "x y", s.subtract, "dst = x - y.", integer=s.subtract),
    _vector("vec.mul", 58, "x y", s.multiply, "dst = x * y.", integer=s.multiply),
    _vector("vec.div", 59, "x y", s.divide, "dst = x / y.", passes="divide_passes"),
    _vector("vec.max", 60, "x y", s.maximum, "dst = the larger of x and y; NaN wins; +0 is larger than -0.",
            integer=s.integer_maximum),
    _vector("vec.min", 61, "x y", s.minimum, "dst = the smaller of x and y; NaN wins; -0 is smaller than +0.",
            integer=s.integer_minimum),
    _vector("vec.fma", 62, "x y z", s.fma, "dst = x * y + z with one rounding.", integer=s.integer_fma),
    _vector("vec.addi", 64, "x", s.add, "dst = x + imm.", imm=True, integer=s.add),
    _vector("vec.muli", 65, "x", s.multiply, "dst = x * imm.", imm=True, integer=s.multiply),
    _vector("vec.maxi", 66, "x", s.maximum, "dst = the larger of x and imm.", imm=True, integer=s.integer_maximum),
    _vector("vec.mini", 67, "x", s.minimum, "dst = the smaller of x and imm.", imm=True, integer=s.integer_minimum),
    _vector("vec.compare", 68, "x y", s.compare, "dst = 1 where x stands in the relation to y, otherwise 0.",
            integer=s.compare, more=(RELATION,)),
    _vector("vec.comparei", 69, "x", s.compare, "dst = 1 where x stands in the relation to imm, otherwise 0.",
            imm=True, integer=s.compare, more=(RELATION,)),
    _vector("vec.select", 70, "mask x y", s.select, "dst = x where mask is not 0, otherwise y; bits untouched.",
            integer=s.select),
    _reduce("vec.reduce_sum", 72, "dst = sum over the last dimension of x: 16 interleaved chains, then a tree."),
    _reduce("vec.reduce_max", 73, "dst = largest over the last dimension of x: 16 interleaved chains, then a tree."),
    _reduce("vec.reduce_min", 74, "dst = smallest over the last dimension of x: 16 interleaved chains, then a tree."),
    Row("vec.transpose", 75, Engine.VECTOR, "transpose", (_w(), _r("x")),
        "dst = x with its last two dimensions exchanged, bits untouched.", passes="transpose_passes"),
    _vector("vec.iota", 76, "", None, "dst = the logical index of each element, modulo 2^32.", more=(INDEX,)),
    _vector("vec.random", 77, "", None, "dst = the random number of each element's logical index.",
            passes="random_passes", more=(STREAM, INDEX)),
    Row("vec.gather", 80, Engine.VECTOR, "gather", (_w(), _r("x"), _r("index")),
        "dst[i] = x[index[i]] for every row i, bits untouched; an index outside x is an error."),
    Row("vec.scatter_add", 81, Engine.VECTOR, "gather",
        (Operand("dst", Kind.VIEW, Direction.UPDATE, SRAM), _r("x"), _r("index")),
        "dst[index[i]] += x[i] for i ascending, one rounding a step; an index outside dst is an error."),
    # --- functions: micro-operations counted in `transcendentals.py`; largest errors over all fp32 numbers ----------
    _function("vec.exp", 88, t.exp, "dst = e^x, to 1 ulp of fp32.", 12),
    _function("vec.log", 89, t.log, "dst = natural logarithm of x, to 1 ulp of fp32.", 16),
    _function("vec.tanh", 90, t.tanh, "dst = hyperbolic tangent of x, to 1.5 ulp of fp32.", (25, "divide_passes")),
    _function("vec.sigmoid", 91, t.sigmoid, "dst = 1 / (1 + e^-x), to 1.5 ulp of fp32.", (22, "divide_passes")),
    _function("vec.erf", 92, t.erf, "dst = error function of x, to 1.1 ulp of fp32.", 31),
    _function("vec.rsqrt", 93, t.rsqrt, "dst = 1 / square root of x, to 1 ulp of fp32.",
              (8, "divide_passes", "sqrt_passes")),
)  # fmt: skip

BY_MNEMONIC: dict[str, Row] = {row.mnemonic: row for row in ROWS}
BY_OPCODE: dict[int, Row] = {row.opcode: row for row in ROWS}
if len(BY_MNEMONIC) != len(ROWS) or len(BY_OPCODE) != len(ROWS):
    raise InternalError("the instruction table names a mnemonic or an opcode twice")


def opcode(mnemonic: str) -> int:
    """Return the opcode of a mnemonic of the table."""
    return BY_MNEMONIC[mnemonic].opcode
