"""Refuses program tables that no engine may follow: every index, shape, stride and loop is checked before any use."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from accel.errors import InputError, ProgramError
from accel.isa import layout as w
from accel.isa.fitting import check_operands, location, refuse, within
from accel.isa.layout import VX_WORDS, X_BEGIN, X_COUNT, X_END, X_HIGH, X_ITEM, X_LOW
from accel.isa.reserved import require_spellable
from accel.isa.table import BY_MNEMONIC
from accel.isa.work import MOST_INSTRUCTIONS, most_instructions
from accel.numerics.formats import by_code, fmt

if TYPE_CHECKING:
    from accel.isa.program import Program, Table

__all__ = ["checked_views", "location"]

LARGEST_SRAM = 1 << 32  # bytes of the largest SRAM that a chip may have
LARGEST = 1 << 40  # no address, stride or count of a sound program comes near; sums of a few cannot wrap
LOOP, END = BY_MNEMONIC["loop"].opcode, BY_MNEMONIC["end"].opcode
MOST_THREADS = 256


def _shaped(program: Program, name: str, words: int | None, rows: int | None = None) -> None:
    table = getattr(program, name)
    if table.ndim != 2 or (words is not None and table.shape[1] != words) or (rows is not None and len(table) != rows):
        raise ProgramError(f"Cannot use {program.name!r}: table {name!r} has shape {table.shape}; rebuild the program")
    if table.size and (int(table.max()) > LARGEST or int(table.min()) < -LARGEST):
        raise ProgramError(f"Cannot use {program.name!r}: table {name!r} holds a number beyond 2^40; rebuild it")


def _extended_views(program: Program) -> Table:
    """Return the view table with extents, element sizes and the bytes of the object each view may touch."""
    views = np.zeros((max(1, len(program.views)), VX_WORDS), np.int64)
    for i, view in enumerate(program.views):
        views[i, : w.VIEW_WORDS] = view
        where = f"Cannot use {program.name!r}: view {i}"
        try:
            item = by_code(int(view[w.V_DTYPE])).bytes
        except InputError as error:
            raise ProgramError(f"{where}: {error}") from None
        shape, stride = view[w.V_SHAPE : w.V_SHAPE + w.DIMS], view[w.V_STRIDE : w.V_STRIDE + w.DIMS]
        if view[w.V_SPACE] not in (w.SPACE_SRAM, w.SPACE_MEMORY) or shape.min() < 1 or (stride % item).any():
            raise ProgramError(
                f"{where} has space {view[w.V_SPACE]}, shape {shape.tolist()}, strides {stride.tolist()}; "
                "sizes must be at least 1 and strides whole elements"
            )
        if float(np.prod(shape.astype(float))) > LARGEST:
            raise ProgramError(f"{where} has more than 2^40 elements; rebuild the program")
        if view[w.V_SPACE] == w.SPACE_SRAM and float(np.prod(shape.astype(float))) > LARGEST_SRAM:
            # only repeated elements (stride 0) can be more than an SRAM has bytes; one row would run for hours
            raise ProgramError(f"{where} has more than 2^32 elements, and no SRAM has; rebuild the program")
        if float(np.abs((shape - 1).astype(float) * stride.astype(float)).sum()) > LARGEST:
            raise ProgramError(f"{where} reaches further than 2^40 bytes; rebuild the program")
        reach = (shape - 1) * stride
        objects = program.buffers if view[w.V_SPACE] == w.SPACE_SRAM else program.tensors
        if not 0 <= view[w.V_OBJECT] < len(objects):
            raise ProgramError(f"{where} names object {view[w.V_OBJECT]} of {len(objects)}; rebuild the program")
        target: Any = objects[int(view[w.V_OBJECT])]
        begin = target.offset if view[w.V_SPACE] == w.SPACE_SRAM else target.address
        views[i, X_LOW] = np.minimum(reach, 0).sum()
        views[i, X_HIGH] = np.maximum(reach, 0).sum() + item
        views[i, X_ITEM], views[i, X_COUNT] = item, np.prod(shape)
        views[i, X_BEGIN], views[i, X_END] = begin, begin + target.nbytes
        if view[w.V_SPACE] == w.SPACE_MEMORY and by_code(int(view[w.V_DTYPE])).name != target.dtype:
            raise ProgramError(f"{where} reads tensor {target.name!r} ({target.dtype}) in another format; cast in SRAM")
        _ring(program, where, views[i])
        _bias(program, where, view)
    return views


def _ring(program: Program, where: str, view: Table) -> None:
    """Refuse a ring that does not lie in its buffer, or a view longer than its ring (so it wraps once at most)."""
    base, size = int(view[w.V_RING_BASE]), int(view[w.V_RING_BYTES])
    if not base and not size:
        return
    if size < 1 or view[w.V_SPACE] != w.SPACE_SRAM:
        raise ProgramError(f"{where} is a ring of {size} bytes from {base}; a ring has bytes, and lies in SRAM")
    if base < view[X_BEGIN] or base + size > view[X_END] or base % view[X_ITEM] or size % view[X_ITEM]:
        raise ProgramError(f"{where} is a ring of {size} bytes from {base}, which are no elements of its buffer")
    if view[X_HIGH] - view[X_LOW] > size:
        raise ProgramError(
            f"{where} reaches {view[X_HIGH] - view[X_LOW]} bytes in a ring of {size}; use a shorter view"
        )


def _bias(program: Program, where: str, view: Table) -> None:
    """Refuse a bias out of range, one on a format that has none, and a bias scalar outside every buffer."""
    bias, scalar = int(view[w.V_BIAS]), int(view[w.V_SCALAR])
    form = by_code(int(view[w.V_DTYPE]))
    if form.kind != "cfp" and (bias or scalar):
        raise ProgramError(f"{where} gives a bias to {form.name}, which has none of its own; rebuild the program")
    if bias & ~w.BIAS_IEEE not in range(64):
        raise ProgramError(f"{where} has bias word {bias}; a bias is 0 to 63, plus {w.BIAS_IEEE} for IEEE denormals")
    inside = any(b.offset <= scalar - 1 < b.offset + b.nbytes for b in program.buffers)
    if scalar and not (inside and view[w.V_SPACE] == w.SPACE_SRAM):
        raise ProgramError(f"{where} takes its bias from SRAM byte {scalar - 1}, which is in no buffer; rebuild it")


def _objects(program: Program) -> None:
    """Refuse buffers and tensors whose bytes do not follow from shape and format, or lie outside their memory."""
    name = program.name
    if not (0 <= program.sram_bytes <= LARGEST and 0 <= program.memory_bytes <= LARGEST and program.flops >= 0):
        raise ProgramError(f"Cannot use {name!r}: its sizes or flops are out of range; rebuild the program")
    for kind, objects, limit in (("buffer", program.buffers, program.sram_bytes),
                                 ("tensor", program.tensors, program.memory_bytes)):  # fmt: skip
        seen: set[str] = set()
        for item in objects:
            where = f"Cannot use {name!r}: {kind} {item.name!r}"
            try:
                element = fmt(item.dtype).bytes
            except InputError as error:
                raise ProgramError(f"{where}: {error}") from None
            if any(n < 1 for n in item.shape) or item.nbytes != element * math.prod(item.shape):
                raise ProgramError(
                    f"{where} of shape {item.shape} in {item.dtype} cannot take {item.nbytes} bytes; rebuild it"
                )
            begin = item.offset if kind == "buffer" else item.address  # type: ignore[union-attr]
            if begin < 0 or begin + item.nbytes > limit or begin % element:
                raise ProgramError(
                    f"{where} takes bytes {begin} to {begin + item.nbytes} of {limit}; rebuild the program"
                )
            if kind == "tensor" and not (0 <= item.bias <= 63 and item.denormals in ("gap", "ieee")):  # type: ignore[union-attr]
                raise ProgramError(f"{where} has a bias or denormals that no format has; rebuild it")
            if kind == "tensor" and item.name in seen:
                raise ProgramError(f"{where} is there twice; rebuild the program")
            seen.add(item.name)
    count = program.semaphore_init.size
    if program.semaphore_init.ndim != 1 or (count and int(program.semaphore_init.min()) < 0):
        raise ProgramError(f"Cannot use {name!r}: its semaphores do not start at counts of 0 or more; rebuild it")
    if count * program.nodes > LARGEST >> 12:
        raise ProgramError(f"Cannot use {name!r}: {count} semaphores a node are too many; rebuild the program")
    for sem in program.semaphores:
        if sem.index < 0 or sem.count < 1 or sem.index + sem.count > count:
            raise ProgramError(f"Cannot use {name!r}: semaphore {sem.name!r} is none of its {count}; rebuild it")


def _loops(program: Program) -> None:
    """Refuse loops that do not nest, nest too deep, or leave their span; every end must find its loop."""
    code = program.code
    for role in range(program.roles):
        for thread in range(program.threads):
            begin, end = (int(v) for v in program.spans[role, thread])
            if not 0 <= begin <= end <= len(code):
                raise ProgramError(f"Cannot use {program.name!r}: a thread has rows {begin} to {end}; rebuild it")
            open_rows: list[int] = []
            for row in begin + np.flatnonzero(np.isin(code[begin:end, w.W_OPCODE], (LOOP, END))):
                at = int(row)
                if code[at, w.W_OPCODE] == LOOP:
                    open_rows.append(at)
                    close = at + int(code[at, BY_MNEMONIC["loop"].word("end")])
                    if not at < close < end or code[close, w.W_OPCODE] != END:
                        raise refuse(program, at, "its end is not there")
                    if len(open_rows) > w.DEPTHS:
                        raise refuse(program, at, f"loops nest at most {w.DEPTHS} deep")
                else:
                    opened = open_rows.pop() if open_rows else -1
                    back = int(code[at, BY_MNEMONIC["end"].word("begin")])
                    ahead = int(code[opened, BY_MNEMONIC["loop"].word("end")])
                    if opened < 0 or at - back != opened or opened + ahead != at:
                        raise refuse(program, at, "its loop is not there")
                    if code[at, w.W_PRED]:
                        raise refuse(program, at, "an end takes no predicate")
            if open_rows:
                raise refuse(program, open_rows[-1], "its end is not there")


def checked_views(program: Program) -> Table:
    """Return the extended view table of a program that is safe to follow; ProgramError or UnsupportedError if not.

    `Program.extended_views` keeps the result, so all engines check a program once between them.
    """
    if not 1 <= program.threads <= MOST_THREADS or len(program.targets) < 2:
        raise ProgramError(
            f"Cannot use {program.name!r}: it has {program.threads} threads a node and {len(program.targets)} targets; "
            f"1 to {MOST_THREADS} threads and the 2 fixed targets belong there; rebuild the program"
        )
    for name, words, rows in (
        ("code", w.CODE_WORDS, None), ("views", w.VIEW_WORDS, None), ("exprs", w.EXPR_WORDS, None),
        ("preds", w.PRED_WORDS, None), ("targets", w.TARGET_WORDS, None), ("shards", w.SHARD_WORDS, None),
        ("params", None, program.nodes),
    ):  # fmt: skip
        _shaped(program, name, words, rows)
    if (
        min(program.rows, program.cols, program.roles) < 1
        or program.role_of.shape != (program.nodes,)
        or program.params.shape[1] < 2
        or len(program.thread_names) != program.roles
    ):
        raise ProgramError(f"Cannot use {program.name!r}: its mesh, roles and parameters do not fit; rebuild it")
    if program.spans.shape != (program.roles, program.threads, 2) or len(program.exprs) < 1 or len(program.preds) < 1:
        raise ProgramError(f"Cannot use {program.name!r}: spans or row 0 of a table are missing; rebuild the program")
    within(program, "role_of", program.role_of, -1, program.roles, "role")
    within(program, "code", program.code[:, w.W_LINE], 0, max(1, len(program.lines)), "line")
    within(program, "code", program.code[:, w.W_PRED], 0, len(program.preds), "predicate")
    exprs = program.exprs
    within(program, "exprs", exprs[:, w.E_NPARAMS], 0, w.EXPR_PARAMS + 1, "a count of parameters")
    within(program, "exprs", exprs[:, w.E_NLOOPS], 0, w.EXPR_LOOPS + 1, "a count of loops")
    parameters = exprs[:, w.E_PARAMS : w.E_LOOPS : 2]
    within(program, "exprs", parameters, 0, program.params.shape[1], "parameter")
    for j in range(w.EXPR_LOOPS):
        at = w.E_LOOPS + w.EXPR_LOOP_WORDS * j
        within(program, "exprs", exprs[:, at + w.L_DEPTH], 0, w.DEPTHS, "loop level")
        within(program, "exprs", exprs[:, at + w.L_MOD], 0, LARGEST, "modulus")
    preds = program.preds
    within(program, "preds", preds[:, w.P_COUNT], 0, w.PRED_TERMS + 1, "a count of terms")
    for j in range(w.PRED_TERMS):
        used = preds[preds[:, w.P_COUNT] > j]
        within(program, "preds", used[:, w.P_TERMS + 3 * j], 0, len(exprs), "expression")
        within(program, "preds", used[:, w.P_TERMS + 3 * j + 2], w.REL_EQ, w.REL_GE + 1, "relation")
    within(program, "targets", program.targets[:, 1::2], 0, len(exprs), "expression")
    _objects(program)
    views = _extended_views(program)
    check_operands(program, views)
    _loops(program)
    executed, cause = most_instructions(program)
    if executed > MOST_INSTRUCTIONS:
        raise ProgramError(
            f"Cannot use {program.name!r}: its nodes would execute up to {executed:.1e} instructions, more than 2^40; "
            "make fewer trips", at=location(program, cause) if cause >= 0 else None,
        )  # fmt: skip
    shards = program.shards
    for at in (w.H_DST, w.H_SRC):
        within(program, "shards", shards[:, at], 0, len(program.views), "view")
        within(program, "shards", shards[:, at + 2], 0, len(exprs), "expression")
        if views[shards[:, at], w.V_RING_BYTES].any():
            raise ProgramError(f"Cannot use {program.name!r}: a preload or collect uses a ring; use a plain view")
    within(program, "shards", shards[:, w.H_ROLE], 0, program.roles, "role")
    within(program, "shards", shards[:, w.H_DIRECTION], 0, w.DIR_COLLECT + 1, "direction")
    require_spellable(program)
    return views
