"""The interpreter: one loop over packed rows for all nodes and threads, bits and control flow, nothing of Python."""

from __future__ import annotations

from typing import Any

import numpy as np

from accel.errors import InternalError
from accel.isa.layout import (
    CODE_WORDS,
    DIR_COLLECT,
    H_DIRECTION,
    H_DST,
    H_ROLE,
    H_SRC,
    SPACE_MEMORY,
    SPACE_SRAM,
    V_OBJECT,
    V_SPACE,
    W_OPCODE,
    W_PRED,
)
from accel.isa.schema import Kind
from accel.isa.table import BY_MNEMONIC, ROWS
from accel.jit import types
from accel.machine import words as s
from accel.machine.addresses import evaluate, holds
from accel.machine.codes import AT_CODES, AT_LEAVES, CODES, CODES_ARGUMENTS
from accel.machine.effects import compute, land, lent, part
from accel.machine.held import forget_all
from accel.machine.inner import entry, inner
from accel.machine.links import address, link
from accel.machine.moves import move
from accel.machine.operands import decode, outside, place, rectangle
from accel.machine.probes import record
from accel.machine.raw import peek
from accel.machine.rings import ring_rows, straight, wraps
from accel.machine.schedule import admit, below, push_event, ready, take_event, take_thread
from accel.machine.sliced import mark_copy
from accel.machine.tokens import add_tokens, join
from accel.machine.units import ARGUMENTS, AT_RINGS, LEAVES, RINGS_ARGUMENTS, VIEWS
from accel.machine.worklog import copy_effort, log_part, log_row, row_effort

__all__ = ["addresses", "interpret", "run_shards"]

OP_WAIT, OP_INC, OP_BARRIER = (BY_MNEMONIC[name].opcode for name in ("wait", "inc", "barrier"))
OP_LOOP, OP_END, OP_MARK, OP_PROBE = (BY_MNEMONIC[name].opcode for name in ("loop", "end", "mark", "probe"))
OP_PULL = BY_MNEMONIC["pull"].opcode
LOOP_END_WORD = BY_MNEMONIC["loop"].word("end")
WAIT_SEM, WAIT_N = place("wait", "sem"), place("wait", "n")
INC_SEM, INC_N = place("inc", "sem"), place("inc", "n")
LOOP_TRIPS, LOOP_END, END_BEGIN = place("loop", "trips"), place("loop", "end"), place("end", "begin")
COPY_DST_WORD, COPY_SRC_WORD = BY_MNEMONIC["copy"].word("dst"), BY_MNEMONIC["copy"].word("src")
DST, SRC, DONE, SENT = (place("copy", name) for name in ("dst", "src", "done", "sent"))
if [place("pull", name) for name in ("dst", "src", "done", "sent")] != [DST, SRC, DONE, SENT]:
    raise InternalError("copy and pull, which share their code, have their operands in different places")
TARGET_PLACE = np.full(len(VIEWS), -1, np.int64)  # by opcode: which operand is a target, -1 where none is
for _row in ROWS:
    for _j, _operand in enumerate(_row.operands):
        if _operand.kind is Kind.TARGET:
            TARGET_PLACE[_row.opcode] = _j


@inner
def _read(copies: Any, slot: int, config: Any, u8: Any, shadows: Any, views: Any, bases: Any, needed: Any,
          nest: Any) -> Any:  # fmt: skip
    """Bring the source of a staged copy to its stage, once; return the stage, -1 where the source does not matter."""
    view, src, issuer = copies[slot, s.K_SRC_VIEW], copies[slot, s.K_SRC], copies[slot, s.K_ISSUER]
    if views[view, V_SPACE] == SPACE_SRAM:
        if needed[issuer, views[view, V_OBJECT]] == 0:
            return -1
        if wraps(views, view, src):
            src = straight(views, view, src, bases[issuer], u8, config, s.ONE)
        else:
            src += bases[issuer]
    else:
        src += lent(shadows, views[view, V_OBJECT])
    stage = config[s.C_STAGE] + slot * config[s.C_STAGE_BYTES]
    if copies[slot, s.K_READ] == 0:
        copies[slot, s.K_READ] = 1
        move(u8, views[view + config[s.C_VIEWS]], stage, views[view], src, nest)
    return stage


@inner
def deliver(threads: Any, sems: Any, queue: Any, config: Any, events: Any, copies: Any, rng: Any, u8: Any, shadow: Any,
            shadows: Any, views: Any, bases: Any, needed: Any, nest: Any, error: Any) -> None:  # fmt: skip
    """Let one thing in flight happen: a copy has read its source, a part of it arrives, or tokens do.

    A staged copy gives its source back (`sent`) as soon as it has read it, which may be long before a part arrives and
    is at the latest when the first does; any other gives it back after its last part.
    """
    kind, a, b, c = take_event(events, config, rng)
    if kind == s.TOKEN:
        add_tokens(threads, sems, queue, config, a, b, c, error)
        return
    if copies[a, s.K_STAGED]:
        stage = _read(copies, a, config, u8, shadows, views, bases, needed, nest)
        if kind == s.PART and stage >= 0:
            land(u8, shadow, shadows, views, bases, needed, nest, copies[a, s.K_DST_VIEW], copies[a, s.K_DST],
                 copies[a, s.K_SRC_VIEW] + config[s.C_VIEWS], stage, b, config)  # fmt: skip
    else:
        part(u8, shadow, shadows, views, bases, needed, nest, copies[a, s.K_DST_VIEW], copies[a, s.K_DST],
             copies[a, s.K_SRC_VIEW], copies[a, s.K_SRC], copies[a, s.K_ISSUER], b, config)  # fmt: skip
    if kind == s.PART and copies[a, s.K_DONE] >= 0:
        push_event(events, config, s.TOKEN, b, copies[a, s.K_DONE], s.ONE)
    copies[a, s.K_LEFT] -= 1
    free = kind == s.READ or (copies[a, s.K_LEFT] == 0 and copies[a, s.K_STAGED] == 0)
    if free and copies[a, s.K_SENT] >= 0:
        push_event(events, config, s.TOKEN, copies[a, s.K_ISSUER], copies[a, s.K_SENT], s.ONE)
    if copies[a, s.K_LEFT] == 0:
        copies[a, s.K_ROW] = -1
        config[s.C_COPIES] -= 1


# Parts of the interpreter that natural runs do without: called by address, so that they do not cost such runs a
# compilation. The table of addresses holds the leaves of `units`, then these.
_BYTE, _WORD = types.uint8, types.int64
_LINE, _TABLE = types.Array(_WORD, 1, "C"), types.Array(_WORD, 2, "C")
_BYTES, _MAP, _STATE = types.Array(_BYTE, 1, "C"), types.Array(_BYTE, 2, "C"), types.Array(types.uint64, 1, "C")
DELIVER = (_TABLE, _TABLE, _LINE, _LINE, _TABLE, _TABLE, _STATE, _BYTES, _BYTES, _LINE, _TABLE, _LINE, _MAP, _TABLE,
           _LINE)  # fmt: skip
RECORD = (types.Array(_WORD, 2, "C", readonly=True), _WORD, _LINE, _TABLE, _WORD, _WORD, _BYTES, _LINE, _TABLE, _TABLE)
MARK = (_TABLE, _WORD, _WORD, _WORD, _WORD, _LINE, _WORD, _MAP, _TABLE, _TABLE, _LINE)
AT_DELIVER, AT_MARK, AT_RECORD, SIZE = range(AT_RINGS + 1, AT_RINGS + 5)
call_deliver = link((deliver,), DELIVER)
call_mark = link((mark_copy,), MARK)
call_record = link((record,), RECORD)


def addresses(leaves: Any, *, codes: bool, rings: bool, random: bool, mark: bool, probes: bool) -> Any:
    """Return the table of addresses that a run of rows with these leaves needs, 0 for what it does without.

    codes: whether a row reads or writes numbers other than fp32, bf16 and integers; rings: whether a view is a ring.
    """
    table = np.zeros(SIZE, np.int64)
    for leaf in np.unique(leaves).tolist():
        if leaf >= 0 and not mark:
            table[AT_LEAVES + leaf] = address(LEAVES[leaf], ARGUMENTS)
    if codes and not mark:
        for j, function in enumerate(CODES):
            table[AT_CODES + j] = address(function, CODES_ARGUMENTS)
    if rings and not mark:
        table[AT_RINGS] = address(ring_rows, RINGS_ARGUMENTS)
    if probes:
        table[AT_RECORD] = address(record, RECORD)
    if random:
        table[AT_DELIVER] = address(deliver, DELIVER)
    if mark:
        table[AT_MARK] = address(mark_copy, MARK)
    return table


@inner
def _launch(events: Any, copies: Any, config: Any, rng: Any, pc: int, node: int, value: Any, dst_view: int,
            src_view: int, rect: Any) -> None:  # fmt: skip
    """Put a copy in flight: one part for every destination node, and where a coin and a stage allow, its read.

    node: the one whose SRAM is read and that hears when it was: the issuer, but of a pull.
    """
    slot = 0
    while copies[slot, s.K_ROW] >= 0:
        slot += 1
    copies[slot, s.K_ROW], copies[slot, s.K_ISSUER] = pc, node
    copies[slot, s.K_DST_VIEW], copies[slot, s.K_DST] = dst_view, value[DST]
    copies[slot, s.K_SRC_VIEW], copies[slot, s.K_SRC] = src_view, value[SRC]
    copies[slot, s.K_DONE], copies[slot, s.K_SENT] = value[DONE], value[SENT]
    copies[slot, s.K_LEFT] = (rect[1] - rect[0] + 1) * (rect[3] - rect[2] + 1)
    copies[slot, s.K_STAGED] = 1 if slot < config[s.C_STAGES] and below(rng, s.TWO) else 0
    copies[slot, s.K_READ] = 0
    config[s.C_COPIES] += 1
    if copies[slot, s.K_STAGED]:
        copies[slot, s.K_LEFT] += 1
        push_event(events, config, s.READ, slot, s.ZERO, s.ZERO)
    for r in range(rect[0], rect[1] + 1):
        for c in range(rect[2], rect[3] + 1):
            push_event(events, config, s.PART, slot, r * config[s.C_COLS] + c, s.ZERO)


@inner
def _suspend(threads: Any, queue: Any, config: Any, thread: int, pc: int, executed: int) -> Any:
    """Arrange that the next call goes on with this row, before any other thread runs; return FULL."""
    config[s.C_EXECUTED] += executed - 1
    threads[thread, s.S_PC] = pc
    config[s.C_HEAD] = (config[s.C_HEAD] + queue.shape[0] - 1) % queue.shape[0]
    queue[config[s.C_HEAD]] = thread
    config[s.C_READY] += 1
    return s.FULL


@entry
def interpret(  # noqa: C901 - one branch a control instruction, in one loop on purpose: calls would cost each row
              code: Any, views: Any, exprs: Any, preds: Any, targets: Any, params: Any, roles: Any, threads: Any,
              sems: Any, queue: Any, groups: Any, config: Any, events: Any, copies: Any, rng: Any, u8: Any, u16: Any,
              u32: Any, f32: Any, bases: Any, needed: Any, wanted: Any, kept: Any, shadow: Any, shadows: Any,
              units: Any, leaves: Any, work: Any, work32: Any, nest: Any, rect: Any, value: Any, log: Any,
              items: Any, track: Any, sets: Any, error: Any) -> Any:  # fmt: skip
    """Run every thread to its end and return an error code of `words`; `error` says where it happened.

    The tables are the program's, `views` extended. threads, queue, groups, config, events, copies: state of control
    (`words`). u8 to f32: one arena; bases[node]: where the SRAM of a node begins. needed[node, buffer]: whether its
    contents matter; under config[C_MARK] no bits move and `needed` grows instead (`sliced`). leaves[row]: see `units`.
    log: what probes record (`probes`); items, track, sets: work that is logged instead of done (`worklog`), once what a
    run does alone is used up. When a log is full the result is FULL, and a call with room in it goes on.
    """
    forget_all(config)
    random, mark, cols = config[s.C_RANDOM], config[s.C_MARK], config[s.C_COLS]
    nodes = config[s.C_ROWS] * cols
    buffers = needed.shape[1]
    executed = 0
    alone = config[s.C_ALONE]
    logging = config[s.C_LOGGING] != 0 and alone < 0
    full = False  # a random schedule had no room for what a thread wanted in flight
    while True:
        while config[s.C_EVENTS] > 0 and (full or config[s.C_READY] == 0 or below(rng, s.RANGE) < config[s.C_DELAY]):
            full = False
            call_deliver(units, AT_DELIVER, 0, (threads, sems, queue, config, events, copies, rng, u8, shadow, shadows,
                                                views, bases, needed, nest, error))  # fmt: skip
            if error[0]:
                return error[0]
        if config[s.C_READY] == 0:
            break
        thread = take_thread(queue, config, rng, random)
        node = thread // config[s.C_THREADS]
        pc, last = threads[thread, s.S_PC], threads[thread, s.S_LAST]
        running = True
        while running:
            if pc >= last:
                threads[thread, s.S_STATUS] = s.ENDED
                break
            executed += 1
            if logging and config[s.C_ITEMS] + nodes > items.shape[0]:
                return _suspend(threads, queue, config, thread, pc, executed)
            row = pc
            op, pred = peek(code, pc * CODE_WORDS + W_OPCODE), peek(code, pc * CODE_WORDS + W_PRED)
            if pred != 0 and not holds(preds, pred, exprs, params, node, threads, thread):
                pc += code[pc, LOOP_END_WORD] + 1 if op == OP_LOOP else 1
            elif decode(code, pc, views, exprs, params, node, threads, thread, sems.shape[1], value, error):
                if op == OP_WAIT:
                    if sems[node, value[WAIT_SEM]] >= value[WAIT_N]:
                        sems[node, value[WAIT_SEM]] -= value[WAIT_N]
                        pc += 1
                    else:
                        threads[thread, s.S_STATUS] = s.WAITING
                        threads[thread, s.S_SEM], threads[thread, s.S_COUNT] = value[WAIT_SEM], value[WAIT_N]
                        running = False
                elif TARGET_PLACE[op] >= 0:
                    target = value[TARGET_PLACE[op]]
                    if not rectangle(targets, target, exprs, params, node, threads, thread, config, rect, error):
                        running = False
                    elif op == OP_BARRIER:
                        pc += 1
                        join(threads, groups, roles, queue, config, node, thread, rect, error)
                        running = False
                    elif random and not admit(events, copies, config, nodes):
                        ready(threads, queue, config, thread)
                        full, running = True, False
                    elif op == OP_INC:
                        for r in range(rect[0], rect[1] + 1):
                            for c in range(rect[2], rect[3] + 1):
                                at, sem, n = r * cols + c, value[INC_SEM], value[INC_N]
                                if random and below(rng, s.TWO):
                                    push_event(events, config, s.TOKEN, at, sem, n)
                                else:
                                    add_tokens(threads, sems, queue, config, at, sem, n, error)
                        pc += 1
                    else:
                        dst_view, src_view = code[pc, COPY_DST_WORD], code[pc, COPY_SRC_WORD]
                        first, final = rect[0] * cols + rect[2], rect[1] * cols + rect[3]
                        reader = node
                        if op == OP_PULL:  # the same as a copy by that node to this one
                            reader = first
                            error[0] = s.OK if first == final else s.TARGET
                            rect[0] = rect[1] = node // cols
                            rect[2] = rect[3] = node % cols
                        elif views[dst_view, V_SPACE] == SPACE_MEMORY and (first != node or final != node):
                            error[0] = s.TARGET
                        if error[0] == s.OK and random:
                            _launch(events, copies, config, rng, pc, reader, value, dst_view, src_view, rect)
                        elif error[0] == s.OK:
                            if mark:
                                call_mark(units, AT_MARK, 0, (views, dst_view, value[DST], src_view, reader, rect, cols,
                                                              needed, wanted, kept, config))  # fmt: skip
                            for r in range(rect[0], rect[1] + 1):
                                for c in range(rect[2], rect[3] + 1):
                                    if logging:
                                        log_part(items, track, sets, config, buffers, views, dst_view, value[DST],
                                                 src_view, value[SRC], reader, r * cols + c)  # fmt: skip
                                    elif not mark:
                                        alone -= copy_effort(views, src_view)
                                        part(u8, shadow, shadows, views, bases, needed, nest, dst_view, value[DST],
                                             src_view, value[SRC], reader, r * cols + c, config)  # fmt: skip
                                    if value[DONE] >= 0:
                                        add_tokens(threads, sems, queue, config, r * cols + c, value[DONE], s.ONE,
                                                   error)  # fmt: skip
                            if value[SENT] >= 0:
                                add_tokens(threads, sems, queue, config, reader, value[SENT], s.ONE, error)
                        pc += 1
                elif op == OP_LOOP:
                    depth = threads[thread, s.S_DEPTH]
                    if value[LOOP_TRIPS] == 0:
                        pc += value[LOOP_END] + 1
                    else:
                        threads[thread, s.S_TRIP + depth], threads[thread, s.S_LIMIT + depth] = 0, value[LOOP_TRIPS]
                        threads[thread, s.S_DEPTH] = depth + 1
                        pc += 1
                elif op == OP_END:
                    depth = threads[thread, s.S_DEPTH] - 1
                    threads[thread, s.S_TRIP + depth] += 1
                    if threads[thread, s.S_TRIP + depth] < threads[thread, s.S_LIMIT + depth]:
                        pc += 1 - value[END_BEGIN]
                    else:
                        threads[thread, s.S_TRIP + depth] = 0
                        threads[thread, s.S_DEPTH] = depth
                        pc += 1
                else:
                    if op == OP_PROBE:
                        if config[s.C_PROBES] and needed[node, views[code[pc, COPY_DST_WORD], V_OBJECT]]:
                            call_record(units, AT_RECORD, 0, (code, pc, value, views, bases[node], node, u8, config,
                                                              log, nest))  # fmt: skip
                            if config[s.C_FULL]:
                                config[s.C_FULL] = 0
                                return _suspend(threads, queue, config, thread, pc, executed)
                    elif op == OP_MARK:
                        pass
                    elif logging:
                        log_row(items, track, sets, config, code, pc, value, views, node, thread)
                    else:
                        alone -= row_effort(code, pc, views)
                        compute(code, pc, value, views, needed, node, bases[node], config, units, leaves, u8, u16,
                                u32, f32, work, work32, nest, error)  # fmt: skip
                    pc += 1
            if error[0]:
                error[s.F_NODE], error[s.F_THREAD], error[s.F_ROW] = node, thread, row
                return error[0]
            if alone < 0 and not logging:
                config[s.C_ALONE] = -1
                logging = config[s.C_LOGGING] != 0
            if random and running:
                ready(threads, queue, config, thread)
                running = False
        threads[thread, s.S_PC] = pc
    config[s.C_EXECUTED] += executed
    for thread in range(threads.shape[0]):
        if threads[thread, s.S_STATUS] != s.ENDED:
            error[0] = s.DEADLOCK
            return s.DEADLOCK
    return s.OK


@entry
def run_shards(shards: Any, direction: int, views: Any, exprs: Any, params: Any, roles: Any, threads: Any, config: Any,
               u8: Any, bases: Any, needed: Any, wanted: Any, kept: Any, shadow: Any, shadows: Any, units: Any,
               nest: Any, rect: Any, error: Any) -> Any:  # fmt: skip
    """Preload or collect every shard of `direction` on every node of its role; return an error code of `words`."""
    cols = config[s.C_COLS]
    for i in range(shards.shape[0]):
        if shards[i, H_DIRECTION] != direction:
            continue
        dst_view, src_view = shards[i, H_DST], shards[i, H_SRC]
        for node in range(roles.shape[0]):
            if roles[node] != shards[i, H_ROLE]:
                continue
            first = node * config[s.C_THREADS]  # no loop is open before the start and after the end: all trips are 0
            dst = shards[i, H_DST + 1] + evaluate(exprs, shards[i, H_DST + 2], params, node, threads, first)
            src = shards[i, H_SRC + 1] + evaluate(exprs, shards[i, H_SRC + 2], params, node, threads, first)
            if outside(views, dst_view, dst, error) or outside(views, src_view, src, error):
                error[s.F_NODE], error[s.F_ROW] = node, i
                return error[0]
            if config[s.C_MARK] == 0:
                part(u8, shadow, shadows, views, bases, needed, nest, dst_view, dst, src_view, src, node, node, config)
            elif direction == DIR_COLLECT:
                rect[0] = rect[1] = node // cols
                rect[2] = rect[3] = node % cols
                call_mark(units, AT_MARK, 0, (views, dst_view, dst, src_view, node, rect, cols, needed, wanted, kept,
                                              config))  # fmt: skip
    return s.OK
