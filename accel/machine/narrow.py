"""Results of a matmul in 16 bits: fp32 sums of a strip of rows in the scratch, then rounded once on their way to dst.

A strip is as many rows as stay in a cache. Chains are computed as for an fp32 dst, with a view of the strip in its
place, so that whatever leaves them in parts or out of order meets fp32 numbers until they are finished.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from accel.isa.layout import V_DTYPE, V_SHAPE, V_STRIDE, W_OPCODE
from accel.isa.table import BY_MNEMONIC, opcode
from accel.machine.codes import FP32, encode
from accel.machine.inner import inner
from accel.machine.panels import SCRATCH, offset
from accel.machine.words import TWO, ZERO
from accel.numerics.formats import FORMATS

if TYPE_CHECKING:
    from accel.isa.program import Program

__all__ = ["STRIP", "SUMS", "lay_sums", "round_sums", "sums_words"]

SUMS = SCRATCH  # words of the scratch before the sums
STRIP = 1 << 18  # sums of a strip: 1 MiB; a single row may be longer


def sums_words(program: Program) -> int:
    """Return the words of scratch that the sums of a program's matmuls take, 0 where none writes 16 bits."""
    rows = program.code[program.code[:, W_OPCODE] == opcode("matmul")]
    views = program.views[np.unique(rows[:, BY_MNEMONIC["matmul"].word("dst")])]
    views = views[~np.isin(views[:, V_DTYPE], [FP32, FORMATS["int32"].code])]
    columns = views[:, V_SHAPE + 2] * views[:, V_SHAPE + 3]
    elements = columns * views[:, V_SHAPE] * views[:, V_SHAPE + 1]
    return int(np.minimum(elements, np.maximum(STRIP, columns)).max(initial=0))


@inner
def lay_sums(nest: Any, rows: int, columns: int) -> Any:
    """Make row 0 of the work space the view of rows x columns of fp32 without gaps; return the rows of a strip."""
    nest[0, V_DTYPE] = FP32
    nest[0, V_SHAPE], nest[0, V_SHAPE + 1], nest[0, V_SHAPE + 2], nest[0, V_SHAPE + 3] = 1, rows, 1, columns
    nest[0, V_STRIDE], nest[0, V_STRIDE + 1], nest[0, V_STRIDE + 2], nest[0, V_STRIDE + 3] = 0, 4 * columns, 0, 4
    return max(1, STRIP // columns)


@inner
def round_sums(u8: Any, u16: Any, u32: Any, work32: Any, dst: Any, bias: int, base: int, top: int, end: int,
               units: Any) -> None:  # fmt: skip
    """Round the sums of rows [top, end), which stand in the scratch, to nearest even in dst; base in bytes."""
    inner_columns, stride = dst[V_SHAPE + 3], dst[V_STRIDE + 3]
    columns = dst[V_SHAPE + 2] * inner_columns
    for row in range(top, end):
        start, at = base + offset(dst, ZERO, row), SUMS + (row - top) * columns
        for first in range(0, columns, inner_columns):
            to = start + offset(dst, TWO, first)
            encode(u8, u16, u32, work32, at + first, dst[V_DTYPE], bias, to, stride, inner_columns, units)
