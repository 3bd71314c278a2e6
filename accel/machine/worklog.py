"""The work of a run as a log: what control flow would move and compute at once, kept for several threads of the host.

Control flow never depends on data, so it can run ahead of it. An item is one matmul or vector row, or one part of a
copy. Its *owner* is the node whose SRAM it writes, or for a store the tensor: all that writes an object is done by the
thread that owns it, in the order of the log. Two waits make every read see exactly the bytes of its place in the log:
one that reads an object of another owner waits for the last write before it, and a write waits for the reads of others
before it. What an item waits for stands earlier in the log, so the first item that is not done can always run.
docs/decisions/0012 gives the argument in full.
"""

from __future__ import annotations

from typing import Any

from accel.isa.layout import SPACE_MEMORY, V_OBJECT, V_SHAPE, V_SPACE, W_FIRST, W_OPCODE
from accel.isa.table import BY_MNEMONIC, opcode
from accel.jit import types
from accel.machine import words as s
from accel.machine.atomics import add, publish, seen
from accel.machine.effects import compute, part
from accel.machine.held import forget_all
from accel.machine.inner import entry, inner
from accel.machine.operands import MOST

__all__ = ["ARGUMENTS", "COST", "FIELDS", "ITEM_WORDS", "LINE", "READ", "SEQUENCE", "copy_effort", "log_part",
           "log_row", "row_effort", "run_log"]  # fmt: skip

# An item. ROW: the code row, -1 for a part of a copy. OWNER: an object: a node, or the number of nodes plus a tensor.
# AFTER: its place among the owner's items, from 1. SOURCE, NEED: another owner and how many of its items must be done.
# READS: the counter of reads of others to raise, -1 for none. CLEAR, EXPECTED: the one to wait for, and its value.
ROW, OWNER, AFTER, SOURCE, NEED, READS, CLEAR, EXPECTED, THREAD, OPERANDS = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9
DST_VIEW, DST, SRC_VIEW, SRC, READER, NODE = range(OPERANDS, OPERANDS + 6)  # of a part
ITEM_WORDS = 16
if max(MOST, 6) > ITEM_WORDS - OPERANDS:
    raise AssertionError("an item has too few words")

# What is known of an object while the log grows: its items, their cost, then for every group of buffers that share
# bytes the place of its last write and the reads of others.
SEQUENCE, COST, FIELDS = 0, 1, 2
WRITE, READ = 0, 1
LINE = 8  # words between counters of the threads: a cache line each
PATIENCE = 4096  # looks at a counter before the thread gives its processor away
MATMUL = opcode("matmul")
A_WORD = BY_MNEMONIC["matmul"].word("a")


@inner
def row_effort(code: Any, pc: int, views: Any) -> Any:
    """Return about how many cycles of the host a matmul or vector row takes."""
    effort = views[code[pc, W_FIRST], s.X_COUNT]
    if code[pc, W_OPCODE] == MATMUL:
        a = code[pc, A_WORD]
        return 500 + effort * views[a, V_SHAPE + 2] * views[a, V_SHAPE + 3] // 16
    return 200 + 2 * effort


@inner
def copy_effort(views: Any, view: int) -> Any:
    """Return about how many cycles of the host one part of a copy takes."""
    return 100 + views[view, s.X_COUNT] * views[view, s.X_ITEM] // 8


@inner
def _writes(items: Any, at: int, track: Any, owner: int, group: int, effort: int) -> None:
    """Enter an item that writes a group of an owner."""
    groups = (track.shape[1] - FIELDS) // 2
    track[owner, SEQUENCE] += 1
    track[owner, COST] += effort
    reads = track[owner, FIELDS + 2 * group + READ]
    items[at, OWNER], items[at, AFTER] = owner, track[owner, SEQUENCE]
    items[at, CLEAR], items[at, EXPECTED] = owner * groups + group if reads > 0 else -1, reads
    track[owner, FIELDS + 2 * group + WRITE] = track[owner, SEQUENCE]


@inner
def log_row(items: Any, track: Any, sets: Any, config: Any, code: Any, pc: int, value: Any, views: Any, node: int,
            thread: int) -> None:  # fmt: skip
    """Append a matmul or vector row with its decoded operands."""
    at = config[s.C_ITEMS]
    config[s.C_ITEMS] = at + 1
    items[at, ROW], items[at, SOURCE], items[at, READS], items[at, THREAD] = pc, -1, -1, thread
    for j in range(MOST):
        items[at, OPERANDS + j] = value[j]
    _writes(items, at, track, node, sets[views[code[pc, W_FIRST], V_OBJECT]], row_effort(code, pc, views))


@inner
def log_part(items: Any, track: Any, sets: Any, config: Any, buffers: int, views: Any, dst_view: int, dst: int,
             src_view: int, src: int, reader: int, node: int) -> None:  # fmt: skip
    """Append one part of a copy, from memory or the SRAM of node `reader` to that of `node` or to memory."""
    at = config[s.C_ITEMS]
    config[s.C_ITEMS] = at + 1
    items[at, ROW], items[at, READS], items[at, SOURCE], items[at, THREAD] = -1, -1, -1, 0
    items[at, DST_VIEW], items[at, DST], items[at, SRC_VIEW], items[at, SRC] = dst_view, dst, src_view, src
    items[at, READER], items[at, NODE] = reader, node
    target, group = views[dst_view, V_OBJECT], 0
    if views[dst_view, V_SPACE] == SPACE_MEMORY:
        owner = sets[buffers + target]
    else:
        owner, group = node, sets[target]
    source, read = views[src_view, V_OBJECT], 0
    if views[src_view, V_SPACE] == SPACE_MEMORY:
        of = sets[buffers + source]  # -1: nothing ever writes it
    else:
        of, read = reader, sets[source]
    if of >= 0 and of != owner:
        groups = (track.shape[1] - FIELDS) // 2
        items[at, SOURCE], items[at, NEED] = of, track[of, FIELDS + 2 * read + WRITE]
        items[at, READS] = of * groups + read
        track[of, FIELDS + 2 * read + READ] += 1
    _writes(items, at, track, owner, group, copy_effort(views, src_view))


@inner
def _reached(counters: Any, i: int, value: int) -> bool:
    """Return whether a counter reaches a value while this thread is patient."""
    for _ in range(PATIENCE):  # noqa: SIM110 - compiled, where a generator is not
        if seen(counters, i) >= value:
            return True
    return False


_WORD = types.int64
_LINE, _TABLE = types.Array(_WORD, 1, "C"), types.Array(_WORD, 2, "C")
_BYTES, _MAP = types.Array(types.uint8, 1, "C"), types.Array(types.uint8, 2, "C")
_HALVES, _WORDS, _SINGLES = (types.Array(t, 1, "C") for t in (types.uint16, types.uint32, types.float32))
ARGUMENTS = (
    _TABLE, _WORD, _WORD, _WORD, _LINE, _LINE, _LINE, types.Array(_WORD, 2, "C", readonly=True), _TABLE, _BYTES,
    _HALVES, _WORDS, _SINGLES, _LINE, _MAP, _BYTES, _LINE, _LINE, _LINE, _SINGLES, _WORDS, _TABLE, _LINE, _LINE, _LINE,
    _LINE,
)  # fmt: skip


@entry
def run_log(items: Any, first: int, count: int, me: int, team: Any, done: Any, reads: Any, code: Any, views: Any,
            u8: Any, u16: Any, u32: Any, f32: Any, bases: Any, needed: Any, shadow: Any, shadows: Any, units: Any,
            leaves: Any, work: Any, work32: Any, nest: Any, value: Any, config: Any, error: Any,
            failed: Any) -> Any:  # fmt: skip
    """Do the items from `first` on whose owner belongs to thread `me` (team[owner]) and return `count`.

    Returns the place of an item that has waited long for another thread; call again from there. done, reads: counters
    of all threads, zero before. work to error are this thread's own. The first error goes to `failed`, with its item
    last, and the thread goes on: what others wait for must still happen, and an earlier item may fail yet.
    """
    forget_all(config)
    for i in range(first, count):
        owner = items[i, OWNER]
        if team[owner] != me:
            continue
        source, clear = items[i, SOURCE], items[i, CLEAR]
        if source >= 0 and not _reached(done, source * LINE, items[i, NEED]):
            return i
        if clear >= 0 and not _reached(reads, clear * LINE, items[i, EXPECTED]):
            return i
        pc = items[i, ROW]
        if pc >= 0:
            for j in range(MOST):
                value[j] = items[i, OPERANDS + j]
            compute(code, pc, value, views, needed, owner, bases[owner], config, units, leaves, u8, u16, u32, f32,
                    work, work32, nest, error)  # fmt: skip
            if error[0]:
                if failed[0] == 0:
                    for j in range(error.shape[0]):
                        failed[j] = error[j]
                    failed[s.F_NODE], failed[s.F_THREAD], failed[s.F_ROW] = owner, items[i, THREAD], pc
                    failed[error.shape[0]] = i
                error[0] = 0
        else:
            part(u8, shadow, shadows, views, bases, needed, nest, items[i, DST_VIEW], items[i, DST],
                 items[i, SRC_VIEW], items[i, SRC], items[i, READER], items[i, NODE], config)  # fmt: skip
        if items[i, READS] >= 0:
            add(reads, items[i, READS] * LINE, s.ONE)
        publish(done, owner * LINE, items[i, AFTER])
    return count
