"""The interpreter: one loop over packed rows for all nodes and threads, bits and control flow, nothing of Python."""

from __future__ import annotations

from typing import Any

from accel.isa.layout import (
    DIR_COLLECT,
    H_DIRECTION,
    H_DST,
    H_ROLE,
    H_SRC,
    SPACE_MEMORY,
    SPACE_SRAM,
    T_COL0,
    T_COL1,
    T_ROW0,
    T_ROW1,
    TARGET_ALL,
    TARGET_SELF,
    V_OBJECT,
    V_SPACE,
    W_OPCODE,
    W_PRED,
)
from accel.isa.table import BY_MNEMONIC
from accel.jit import njit
from accel.machine import words as s
from accel.machine.addresses import evaluate, holds
from accel.machine.matmul import matmul
from accel.machine.moves import move, touch
from accel.machine.schedule import admit, below, push_event, ready, take_event, take_thread
from accel.machine.sliced import mark_copy
from accel.machine.vector import OP_COPY, elementwise, info, reduce

__all__ = ["interpret", "run_shards"]

_W = {name: {o.name: row.word(o.name) for o in row.operands} for name, row in BY_MNEMONIC.items()}
OP = {name: row.opcode for name, row in BY_MNEMONIC.items()}
OP_WAIT, OP_INC, OP_BARRIER, OP_LOOP, OP_END = OP["wait"], OP["inc"], OP["barrier"], OP["loop"], OP["end"]
OP_MARK, OP_DMA, OP_MATMUL = OP["mark"], OP["copy"], OP["matmul"]
WAIT_SEM, WAIT_N = _W["wait"]["sem"], _W["wait"]["n"]
INC_SEM, INC_N, INC_AT = _W["inc"]["sem"], _W["inc"]["n"], _W["inc"]["at"]
BARRIER_AT = _W["barrier"]["at"]
LOOP_TRIPS, LOOP_END, END_BEGIN = _W["loop"]["trips"], _W["loop"]["end"], _W["end"]["begin"]
COPY_DST, COPY_SRC, COPY_TO = _W["copy"]["dst"], _W["copy"]["src"], _W["copy"]["to"]
COPY_DONE, COPY_SENT = _W["copy"]["done"], _W["copy"]["sent"]
MM_DST, MM_A, MM_B, MM_ACCUMULATE = (_W["matmul"][n] for n in ("dst", "a", "b", "accumulate"))
VEC_DST, VEC_X = _W["vec.copy"]["dst"], _W["vec.copy"]["x"]  # y and z follow, three words each, then the immediate


@njit
def _outside(views: Any, view: int, address: int, error: Any) -> bool:
    """Return whether a view at a byte address leaves the object it names, and note which rule it broke."""
    # Compared without adding to `address`, which may be any 64-bit number in a hand-made program.
    if address < views[view, s.X_BEGIN] - views[view, s.X_LOW] or address > views[view, s.X_END] - views[view, s.X_HIGH]:
        error[0] = s.BOUNDS
    elif address % views[view, s.X_ITEM] != 0:
        error[0] = s.ALIGNMENT
    else:
        return False
    error[s.F_A], error[s.F_B] = view, address
    return True


@njit
def _rectangle(targets: Any, target: int, exprs: Any, params: Any, node: int, threads: Any, thread: int, config: Any,
               rect: Any, error: Any) -> bool:  # fmt: skip
    """Write the inclusive rectangle of a target to `rect`; return False (and note it) where it leaves the mesh."""
    rows, cols = config[s.C_ROWS], config[s.C_COLS]
    if target == TARGET_SELF:
        rect[0], rect[1] = node // cols, node // cols
        rect[2], rect[3] = node % cols, node % cols
        return True
    if target == TARGET_ALL:
        rect[0], rect[1], rect[2], rect[3] = 0, rows - 1, 0, cols - 1
        return True
    rect[0] = targets[target, T_ROW0] + evaluate(exprs, targets[target, T_ROW0 + 1], params, node, threads, thread)
    rect[1] = targets[target, T_ROW1] + evaluate(exprs, targets[target, T_ROW1 + 1], params, node, threads, thread)
    rect[2] = targets[target, T_COL0] + evaluate(exprs, targets[target, T_COL0 + 1], params, node, threads, thread)
    rect[3] = targets[target, T_COL1] + evaluate(exprs, targets[target, T_COL1 + 1], params, node, threads, thread)
    if 0 <= rect[0] <= rect[1] < rows and 0 <= rect[2] <= rect[3] < cols:
        return True
    error[0] = s.TARGET
    return False


@njit
def _add_tokens(threads: Any, sems: Any, queue: Any, config: Any, node: int, sem: int, count: int, error: Any) -> None:
    """Add tokens to a semaphore and make its waiters ready that can go on now."""
    sems[node, sem] += count
    if sems[node, sem] > config[s.C_LIMIT]:
        error[0], error[s.F_A], error[s.F_B], error[s.F_C] = s.OVERFLOW, sem, sems[node, sem], node
        return
    first = node * config[s.C_THREADS]
    for thread in range(first, first + config[s.C_THREADS]):
        if threads[thread, s.S_STATUS] == s.WAITING and threads[thread, s.S_SEM] == sem:
            if sems[node, sem] >= threads[thread, s.S_COUNT]:
                ready(threads, queue, config, thread)


@njit
def _part(u8: Any, shadow: Any, shadows: Any, views: Any, bases: Any, needed: Any, nest: Any, dst_view: int, dst: int,
          src_view: int, src: int, issuer: int, node: int) -> None:  # fmt: skip
    """Move the bits of one copy to one destination node (the issuer itself where dst is memory)."""
    src_object, dst_object = views[src_view, V_OBJECT], views[dst_view, V_OBJECT]
    if views[src_view, V_SPACE] == SPACE_SRAM:
        if needed[issuer, src_object] == 0:
            return
        src += bases[issuer]
    if views[dst_view, V_SPACE] == SPACE_MEMORY:
        move(u8, views[dst_view], dst, views[src_view], src, nest)
        if shadows[dst_object] >= 0:
            at = shadows[dst_object] + (dst - views[dst_view, s.X_BEGIN]) // views[dst_view, s.X_ITEM]
            touch(shadow, views[dst_view], at, nest)
    elif needed[node, dst_object] != 0:
        move(u8, views[dst_view], dst + bases[node], views[src_view], src, nest)


@njit
def _deliver(threads: Any, sems: Any, queue: Any, config: Any, events: Any, copies: Any, rng: Any, u8: Any, shadow: Any,
             shadows: Any, views: Any, bases: Any, needed: Any, nest: Any, error: Any) -> None:  # fmt: skip
    """Let one thing in flight happen: a part of a copy arrives, or a token."""
    kind, a, b, c = take_event(events, config, rng)
    if kind == s.TOKEN:
        _add_tokens(threads, sems, queue, config, a, b, c, error)
        return
    _part(u8, shadow, shadows, views, bases, needed, nest, copies[a, s.K_DST_VIEW], copies[a, s.K_DST],
          copies[a, s.K_SRC_VIEW], copies[a, s.K_SRC], copies[a, s.K_ISSUER], b)  # fmt: skip
    if copies[a, s.K_DONE] >= 0:
        push_event(events, config, s.TOKEN, b, copies[a, s.K_DONE], 1)
    copies[a, s.K_LEFT] -= 1
    if copies[a, s.K_LEFT] == 0:
        if copies[a, s.K_SENT] >= 0:
            push_event(events, config, s.TOKEN, copies[a, s.K_ISSUER], copies[a, s.K_SENT], 1)
        copies[a, s.K_ROW] = -1
        config[s.C_COPIES] -= 1


@njit
def _join(threads: Any, groups: Any, roles: Any, queue: Any, config: Any, node: int, thread: int, rect: Any,
          error: Any) -> None:  # fmt: skip
    """Let a thread arrive at the barrier of a rectangle; release one thread of every node when all are there."""
    count = config[s.C_GROUPS]
    group = 0
    while group < count:
        same = True
        for i in range(4):
            same = same and groups[group, i] == rect[i]
        if same:
            break
        group += 1
    if group == count:
        if count == groups.shape[0]:
            error[0] = s.GROUPS
            return
        config[s.C_GROUPS] += 1
        groups[group, 4] = 0
        members = 0
        for i in range(4):
            groups[group, i] = rect[i]
        for r in range(rect[0], rect[1] + 1):
            for c in range(rect[2], rect[3] + 1):
                members += 1 if roles[r * config[s.C_COLS] + c] >= 0 else 0
        groups[group, 5] = members
    per_node = config[s.C_THREADS]
    first = True
    for other in range(node * per_node, (node + 1) * per_node):
        if threads[other, s.S_STATUS] == s.JOINING and threads[other, s.S_GROUP] == group:
            first = False
    threads[thread, s.S_STATUS], threads[thread, s.S_GROUP] = s.JOINING, group
    if first:
        groups[group, 4] += 1
    if groups[group, 4] < groups[group, 5]:
        return
    groups[group, 4] = 0
    for r in range(rect[0], rect[1] + 1):
        for c in range(rect[2], rect[3] + 1):
            start = (r * config[s.C_COLS] + c) * per_node
            released = False
            for other in range(start, start + per_node):
                if threads[other, s.S_STATUS] == s.JOINING and threads[other, s.S_GROUP] == group:
                    if not released:
                        released = True
                        ready(threads, queue, config, other)
                    else:
                        groups[group, 4] += 1
                        break


@njit
def interpret(code: Any, views: Any, exprs: Any, preds: Any, targets: Any, params: Any, roles: Any, threads: Any,
              sems: Any, queue: Any, groups: Any, config: Any, events: Any, copies: Any, rng: Any, u8: Any, u16: Any,
              u32: Any, f32: Any, bases: Any, needed: Any, wanted: Any, kept: Any, shadow: Any, shadows: Any, work: Any,
              work32: Any, piece: Any, piece32: Any, nest: Any, rect: Any, error: Any) -> int:  # fmt: skip
    """Run every thread to its end and return an error code of `words`; `error` says where it happened.

    The tables are the program's, `views` extended. threads, queue, groups, config, events, copies: the state of control
    (`words`). u8 to f32: one arena; bases[node]: where the SRAM of a node begins. needed[node, buffer]: whether contents
    matter; under config[C_MARK] no bits move and `needed` grows instead (`sliced`).
    """
    random, mark, cols = config[s.C_RANDOM], config[s.C_MARK], config[s.C_COLS]
    nodes = config[s.C_ROWS] * cols
    executed = 0
    while True:
        if random:
            while config[s.C_EVENTS] > 0 and (config[s.C_READY] == 0 or below(rng, 256) < config[s.C_DELAY]):
                _deliver(threads, sems, queue, config, events, copies, rng, u8, shadow, shadows, views, bases, needed,
                         nest, error)  # fmt: skip
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
            row = pc
            op = code[pc, W_OPCODE]
            if code[pc, W_PRED] != 0 and not holds(preds, code[pc, W_PRED], exprs, params, node, threads, thread):
                pc += code[pc, LOOP_END] + 1 if op == OP_LOOP else 1
            elif op == OP_WAIT:
                sem = code[pc, WAIT_SEM] + evaluate(exprs, code[pc, WAIT_SEM + 1], params, node, threads, thread)
                n = code[pc, WAIT_N] + evaluate(exprs, code[pc, WAIT_N + 1], params, node, threads, thread)
                if sem < 0 or sem >= sems.shape[1] or n < 0:
                    error[0], error[s.F_A] = (s.COUNT, n) if n < 0 else (s.SEMAPHORE, sem)
                elif sems[node, sem] >= n:
                    sems[node, sem] -= n
                    pc += 1
                else:
                    threads[thread, s.S_STATUS] = s.WAITING
                    threads[thread, s.S_SEM], threads[thread, s.S_COUNT] = sem, n
                    running = False
            elif op == OP_LOOP:
                trips = code[pc, LOOP_TRIPS] + evaluate(exprs, code[pc, LOOP_TRIPS + 1], params, node, threads, thread)
                depth = threads[thread, s.S_DEPTH]
                if trips < 0:
                    error[0], error[s.F_A] = s.COUNT, trips
                elif trips == 0:
                    pc += code[pc, LOOP_END] + 1
                else:
                    threads[thread, s.S_TRIP + depth], threads[thread, s.S_LIMIT + depth] = 0, trips
                    threads[thread, s.S_DEPTH] = depth + 1
                    pc += 1
            elif op == OP_END:
                depth = threads[thread, s.S_DEPTH] - 1
                threads[thread, s.S_TRIP + depth] += 1
                if threads[thread, s.S_TRIP + depth] < threads[thread, s.S_LIMIT + depth]:
                    pc += 1 - code[pc, END_BEGIN]
                else:
                    threads[thread, s.S_TRIP + depth] = 0
                    threads[thread, s.S_DEPTH] = depth
                    pc += 1
            elif op == OP_INC:
                sem = code[pc, INC_SEM] + evaluate(exprs, code[pc, INC_SEM + 1], params, node, threads, thread)
                n = code[pc, INC_N] + evaluate(exprs, code[pc, INC_N + 1], params, node, threads, thread)
                if sem < 0 or sem >= sems.shape[1] or n < 0:
                    error[0], error[s.F_A] = (s.COUNT, n) if n < 0 else (s.SEMAPHORE, sem)
                elif _rectangle(targets, code[pc, INC_AT], exprs, params, node, threads, thread, config, rect, error):
                    if random and not admit(events, copies, config, nodes):
                        ready(threads, queue, config, thread)
                        _deliver(threads, sems, queue, config, events, copies, rng, u8, shadow, shadows, views, bases,
                                 needed, nest, error)  # fmt: skip
                        running = False
                    else:
                        for r in range(rect[0], rect[1] + 1):
                            for c in range(rect[2], rect[3] + 1):
                                if random and below(rng, 2):
                                    push_event(events, config, s.TOKEN, r * cols + c, sem, n)
                                else:
                                    _add_tokens(threads, sems, queue, config, r * cols + c, sem, n, error)
                        pc += 1
            elif op == OP_DMA:
                dst_view, src_view = code[pc, COPY_DST], code[pc, COPY_SRC]
                dst = code[pc, COPY_DST + 1] + evaluate(exprs, code[pc, COPY_DST + 2], params, node, threads, thread)
                src = code[pc, COPY_SRC + 1] + evaluate(exprs, code[pc, COPY_SRC + 2], params, node, threads, thread)
                done, sent = code[pc, COPY_DONE], code[pc, COPY_SENT]
                if done >= 0:
                    done += evaluate(exprs, code[pc, COPY_DONE + 1], params, node, threads, thread)
                if sent >= 0:
                    sent += evaluate(exprs, code[pc, COPY_SENT + 1], params, node, threads, thread)
                inside = _rectangle(targets, code[pc, COPY_TO], exprs, params, node, threads, thread, config, rect, error)
                if views[dst_view, V_SPACE] == SPACE_MEMORY and inside:
                    if rect[0] * cols + rect[2] != node or rect[1] * cols + rect[3] != node:
                        error[0], inside = s.TARGET, False
                if done < -1 or done >= sems.shape[1] or sent < -1 or sent >= sems.shape[1]:
                    error[0] = s.SEMAPHORE
                    error[s.F_A] = done if done < -1 or done >= sems.shape[1] else sent
                elif not inside or _outside(views, dst_view, dst, error) or _outside(views, src_view, src, error):
                    running = False
                elif random and not admit(events, copies, config, nodes):
                    ready(threads, queue, config, thread)
                    _deliver(threads, sems, queue, config, events, copies, rng, u8, shadow, shadows, views, bases,
                             needed, nest, error)  # fmt: skip
                    running = False
                elif random:
                    slot = 0
                    while copies[slot, s.K_ROW] >= 0:
                        slot += 1
                    copies[slot, s.K_ROW], copies[slot, s.K_ISSUER] = pc, node
                    copies[slot, s.K_DST_VIEW], copies[slot, s.K_DST] = dst_view, dst
                    copies[slot, s.K_SRC_VIEW], copies[slot, s.K_SRC] = src_view, src
                    copies[slot, s.K_DONE], copies[slot, s.K_SENT] = done, sent
                    copies[slot, s.K_LEFT] = (rect[1] - rect[0] + 1) * (rect[3] - rect[2] + 1)
                    config[s.C_COPIES] += 1
                    for r in range(rect[0], rect[1] + 1):
                        for c in range(rect[2], rect[3] + 1):
                            push_event(events, config, s.PART, slot, r * cols + c, 0)
                    pc += 1
                else:
                    if mark:
                        mark_copy(views, dst_view, dst, src_view, node, rect, cols, needed, wanted, kept, config)
                    for r in range(rect[0], rect[1] + 1):
                        for c in range(rect[2], rect[3] + 1):
                            if not mark:
                                _part(u8, shadow, shadows, views, bases, needed, nest, dst_view, dst, src_view,
                                      src, node, r * cols + c)  # fmt: skip
                            if done >= 0:
                                _add_tokens(threads, sems, queue, config, r * cols + c, done, 1, error)
                    if sent >= 0:
                        _add_tokens(threads, sems, queue, config, node, sent, 1, error)
                    pc += 1
            elif op == OP_MATMUL:
                dst_view, a_view, b_view = code[pc, MM_DST], code[pc, MM_A], code[pc, MM_B]
                dst = code[pc, MM_DST + 1] + evaluate(exprs, code[pc, MM_DST + 2], params, node, threads, thread)
                a = code[pc, MM_A + 1] + evaluate(exprs, code[pc, MM_A + 2], params, node, threads, thread)
                b = code[pc, MM_B + 1] + evaluate(exprs, code[pc, MM_B + 2], params, node, threads, thread)
                if _outside(views, dst_view, dst, error) or _outside(views, a_view, a, error) or _outside(views, b_view, b, error):
                    running = False
                else:
                    if needed[node, views[dst_view, V_OBJECT]]:
                        if mark:
                            for view in (a_view, b_view):
                                if needed[node, views[view, V_OBJECT]] == 0:
                                    needed[node, views[view, V_OBJECT]] = 1
                                    config[s.C_CHANGED] = 1
                        else:
                            base = bases[node]
                            matmul(f32, u16, work, work32, views[dst_view], (base + dst) >> 2, views[a_view],
                                   (base + a) >> 1, views[b_view], (base + b) >> 1,
                                   code[pc, MM_ACCUMULATE])  # fmt: skip
                    pc += 1
            elif op == OP_BARRIER:
                if _rectangle(targets, code[pc, BARRIER_AT], exprs, params, node, threads, thread, config, rect, error):
                    pc += 1
                    threads[thread, s.S_PC] = pc
                    _join(threads, groups, roles, queue, config, node, thread, rect, error)
                    running = False
            elif op == OP_MARK:
                pc += 1
            else:
                index, reads, has_imm, folds = info(op)
                dst_view = code[pc, VEC_DST]
                dst = code[pc, VEC_DST + 1] + evaluate(exprs, code[pc, VEC_DST + 2], params, node, threads, thread)
                x_view, y_view, z_view, x, y, z, imm = dst_view, dst_view, dst_view, 0, 0, 0, code[pc, VEC_X + 3 * reads]
                bad = _outside(views, dst_view, dst, error)
                if reads > 0 and not bad:
                    x_view = code[pc, VEC_X]
                    x = code[pc, VEC_X + 1] + evaluate(exprs, code[pc, VEC_X + 2], params, node, threads, thread)
                    bad = _outside(views, x_view, x, error)
                if reads > 1 and not bad:
                    y_view = code[pc, VEC_X + 3]
                    y = code[pc, VEC_X + 4] + evaluate(exprs, code[pc, VEC_X + 5], params, node, threads, thread)
                    bad = _outside(views, y_view, y, error)
                if reads > 2 and not bad:
                    z_view = code[pc, VEC_X + 6]
                    z = code[pc, VEC_X + 7] + evaluate(exprs, code[pc, VEC_X + 8], params, node, threads, thread)
                    bad = _outside(views, z_view, z, error)
                if not bad:
                    if needed[node, views[dst_view, V_OBJECT]]:
                        base = bases[node]
                        if mark:
                            for view in (x_view, y_view, z_view):
                                if needed[node, views[view, V_OBJECT]] == 0:
                                    needed[node, views[view, V_OBJECT]] = 1
                                    config[s.C_CHANGED] = 1
                        elif op == OP_COPY:
                            move(u8, views[dst_view], base + dst, views[x_view], base + x, nest)
                        elif folds:
                            reduce(u16, u32, piece, piece32, op, views[dst_view], base + dst, views[x_view], base + x)
                        else:
                            elementwise(u16, u32, piece, piece32, nest, index, reads, views[dst_view], base + dst,
                                        views[x_view], base + x, views[y_view], base + y, views[z_view], base + z,
                                        imm, has_imm)  # fmt: skip
                    pc += 1
            if error[0]:
                error[s.F_NODE], error[s.F_THREAD], error[s.F_ROW] = node, thread, row
                return error[0]
            if random and running:
                ready(threads, queue, config, thread)
                running = False
        if threads[thread, s.S_STATUS] != s.JOINING:
            threads[thread, s.S_PC] = pc
    config[s.C_EXECUTED] += executed
    for thread in range(threads.shape[0]):
        if threads[thread, s.S_STATUS] != s.ENDED:
            error[0] = s.DEADLOCK
            return s.DEADLOCK
    return s.OK


@njit
def run_shards(shards: Any, direction: int, views: Any, exprs: Any, params: Any, roles: Any, threads: Any, config: Any,
               u8: Any, bases: Any, needed: Any, wanted: Any, kept: Any, shadow: Any, shadows: Any, nest: Any, rect: Any,
               error: Any) -> int:  # fmt: skip
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
            if _outside(views, dst_view, dst, error) or _outside(views, src_view, src, error):
                error[s.F_NODE], error[s.F_ROW] = node, i
                return error[0]
            if config[s.C_MARK] == 0:
                _part(u8, shadow, shadows, views, bases, needed, nest, dst_view, dst, src_view, src, node, node)
            elif direction == DIR_COLLECT:
                rect[0], rect[1], rect[2], rect[3] = node // cols, node // cols, node % cols, node % cols
                mark_copy(views, dst_view, dst, src_view, node, rect, cols, needed, wanted, kept, config)
    return s.OK
