"""Threads of a node: issue in order, wait for tokens, occupy units and SRAM ports, meet at barriers."""

from __future__ import annotations

from accel.isa.layout import CODE_WORDS
from accel.isa.table import BY_MNEMONIC
from accel.timing.compiled import njit
from accel.timing.copies import start_copy
from accel.timing.decode import fail, holds, operand, rectangle
from accel.timing.state import (
    B_ARRIVED,
    B_COL0,
    B_COL1,
    B_NODES,
    B_ROW0,
    B_ROW1,
    B_SIZE,
    BAD_COUNT,
    BAD_MEMBER,
    BAD_SEMAPHORE,
    BAD_TARGET,
    CLASS_BARRIER,
    CLASS_COPY,
    CLASS_END,
    CLASS_INC,
    CLASS_LOOP,
    CLASS_MARK,
    CLASS_VECTOR,
    CLASS_WAIT,
    ENDED,
    EV_THREAD,
    EV_TOKEN,
    G_END,
    G_KIND,
    G_MID,
    G_PREV,
    G_REF,
    G_ROW,
    G_START,
    G_THREAD,
    JOINING,
    K_BARRIER,
    K_COLS,
    K_COPY_ISSUE,
    K_HOP,
    K_ISSUE,
    K_NODES,
    K_QUEUE,
    K_SEEN,
    K_SEMAPHORE,
    K_SEMAPHORES,
    K_THREADS,
    LOG_BARRIER,
    LOG_INC,
    LOG_MATRIX,
    LOG_STALL,
    LOG_VECTOR,
    LOG_WAIT,
    N_ACTIVE,
    N_COL,
    N_COPIES,
    N_COUNTS,
    N_FIRST_THREAD,
    N_INDEX,
    N_LAST,
    N_MATRIX,
    N_MATRIX_BUSY,
    N_PORT,
    N_PORT_BUSY,
    N_ROW,
    N_SEEN,
    N_SITE_COL,
    N_SITE_ROW,
    N_VECTOR,
    N_VECTOR_BUSY,
    NODE_WORDS,
    O_BARRIERS,
    O_CODE,
    O_NODES,
    O_ROWS,
    O_SEEN,
    P_COPY,
    P_FROM,
    P_N,
    P_SEM,
    R_CLASS,
    R_CYCLES,
    R_PORT,
    ROW_WORDS,
    RUNNING,
    S_BARRIERS,
    S_EVENTS,
    S_LAST,
    S_LAST_LOG,
    S_LAST_THREAD,
    S_LIVE,
    S_LOG,
    S_NOW,
    S_SEEN,
    S_SERIAL,
    SEEN_HOW,
    SEEN_LOOP,
    SEEN_MARK,
    SEEN_OFF,
    SEEN_PASSED,
    SEEN_ROW,
    SEEN_THREAD,
    SEEN_TIME,
    SEEN_WORDS,
    STALLED,
    T_COUNT,
    T_DEPTH,
    T_END,
    T_INDEX,
    T_LOG,
    T_NODE,
    T_OPEN,
    T_PC,
    T_SEM,
    T_SERIAL,
    T_STATE,
    T_TIME,
    T_TRIP,
    T_TRIPS,
    THREAD_WORDS,
    WAITING,
    Log,
    Words,
)
from accel.timing.wheel import allocate, push

__all__ = ["advance", "execute", "finish", "give", "seek", "unstall"]


def _word(mnemonic: str, operand: str) -> int:
    return BY_MNEMONIC[mnemonic].word(operand)


WAIT_SEM, WAIT_N = _word("wait", "sem"), _word("wait", "n")
INC_SEM, INC_N, INC_AT = _word("inc", "sem"), _word("inc", "n"), _word("inc", "at")
BARRIER_AT = _word("barrier", "at")
LOOP_TRIPS, LOOP_END, END_BEGIN = _word("loop", "trips"), _word("loop", "end"), _word("end", "begin")


@njit
def finish(m: Words, t: int, th: int, entry: int) -> None:
    """Something ends in cycle t: remember the last such moment, the start of the critical path."""
    if t > m[S_LAST]:
        m[S_LAST] = t
        m[S_LAST_THREAD] = th
        m[S_LAST_LOG] = entry


@njit
def record(m: Words, g: Log, kind: int, th: int, start: int, mid: int, end: int) -> int:
    """Append a log entry for the thread's present instruction and return its index."""
    i = m[S_LOG]
    m[S_LOG] = i + 1
    g[i, G_KIND] = kind
    g[i, G_THREAD] = m[th + T_INDEX]
    g[i, G_ROW] = m[th + T_PC]
    g[i, G_START] = start
    g[i, G_MID] = mid
    g[i, G_END] = end
    g[i, G_PREV] = m[th + T_LOG]
    g[i, G_REF] = -1
    m[th + T_LOG] = i
    return i


@njit
def see(m: Words, th: int, pc: int, t: int, how: int) -> None:
    """Note, in a recording run, a row that leaves no log entry and whose issue ends in cycle t."""
    if m[m[th + T_NODE] + N_SEEN] == 0:
        return
    i = m[S_SEEN]
    m[S_SEEN] = i + 1
    if i < m[K_SEEN]:  # what does not fit is counted, and the run is repeated with room for it
        at = m[O_SEEN] + i * SEEN_WORDS
        m[at + SEEN_THREAD] = m[th + T_INDEX]
        m[at + SEEN_ROW] = pc
        m[at + SEEN_TIME] = t
        m[at + SEEN_HOW] = how


@njit
def seek(m: Words, th: int, t: int) -> int:
    """Walk a thread that is free from cycle t to its next instruction with an effect, or its end.

    Returns the cycle in which that instruction begins to issue: rows that are switched off, loops and ends cost theirs.
    """
    pc, end, issue = m[th + T_PC], m[th + T_END], m[K_ISSUE]
    while pc < end:
        kind = m[m[O_ROWS] + pc * ROW_WORDS + R_CLASS]
        if kind == CLASS_MARK:
            if m[K_SEEN] != 0:
                see(m, th, pc, t, SEEN_MARK)
            pc += 1
        elif kind == CLASS_END:
            t += issue
            if m[K_SEEN] != 0:
                see(m, th, pc, t, SEEN_LOOP)
            depth = m[th + T_DEPTH] - 1
            m[th + T_TRIP + depth] += 1
            if m[th + T_TRIP + depth] < m[th + T_TRIPS + depth]:
                pc -= m[m[O_CODE] + pc * CODE_WORDS + END_BEGIN] - 1
            else:
                m[th + T_DEPTH] = depth
                pc += 1
        else:
            on = holds(m, pc, th)
            if on and kind != CLASS_LOOP:
                break
            t += issue
            if m[K_SEEN] != 0:
                see(m, th, pc, t, SEEN_LOOP if on else SEEN_OFF)
            if kind == CLASS_LOOP:
                trips = operand(m, m[O_CODE] + pc * CODE_WORDS + LOOP_TRIPS, th) if on else 0
                if trips < 0:
                    m[th + T_PC] = pc
                    fail(m, BAD_COUNT, th, trips)
                if trips > 0:
                    depth = m[th + T_DEPTH]
                    m[th + T_DEPTH] = depth + 1
                    m[th + T_TRIP + depth] = 0
                    m[th + T_TRIPS + depth] = trips
                else:
                    pc += m[m[O_CODE] + pc * CODE_WORDS + LOOP_END]
            pc += 1
    m[th + T_PC] = pc
    return t


@njit
def advance(m: Words, th: int, t: int) -> None:
    """Schedule the next instruction with an effect of a thread that is free from cycle t, or end the thread."""
    t = seek(m, th, t)
    if m[th + T_PC] < m[th + T_END]:
        m[th + T_STATE] = RUNNING
        e = allocate(m, EV_THREAD)
        m[e + P_COPY] = th
        kind = m[m[O_ROWS] + m[th + T_PC] * ROW_WORDS + R_CLASS]
        push(m, t + (m[K_COPY_ISSUE] if kind == CLASS_COPY else m[K_ISSUE]), e)
        return
    m[th + T_STATE] = ENDED
    m[th + T_TIME] = t
    m[S_LIVE] -= 1
    node = m[th + T_NODE]
    m[node + N_LAST] = max(m[node + N_LAST], t)
    finish(m, t, m[th + T_INDEX], m[th + T_LOG])


@njit
def execute(m: Words, g: Log, th: int) -> None:
    """Do what the instruction at the thread's counter does; its issue ends now."""
    t = m[S_NOW]
    kind = m[m[O_ROWS] + m[th + T_PC] * ROW_WORDS + R_CLASS]
    m[S_EVENTS] += 2  # its start and its end
    if kind == CLASS_WAIT:
        if not take(m, th):
            block(m, g, th, WAITING, LOG_WAIT)
            return
        if m[K_SEEN] != 0:
            see(m, th, m[th + T_PC], t, SEEN_PASSED)
    elif kind == CLASS_COPY:
        if m[m[th + T_NODE] + N_COPIES] >= m[K_QUEUE]:
            block(m, g, th, STALLED, LOG_STALL)
            return
        start_copy(m, g, th, record(m, g, LOG_INC, th, t, t, t))
    elif kind == CLASS_INC:
        increment(m, th, record(m, g, LOG_INC, th, t, t, t))
    elif kind == CLASS_BARRIER:
        block(m, g, th, JOINING, LOG_BARRIER)
        join(m, g, th)
        return
    else:
        t = operate(m, g, th, kind)
    m[th + T_PC] += 1
    advance(m, th, t)


@njit
def block(m: Words, g: Log, th: int, state: int, kind: int) -> None:
    """A thread stops at its present instruction; the log entry stays open until `release`."""
    m[th + T_STATE] = state
    m[th + T_SERIAL] = m[S_SERIAL]
    m[S_SERIAL] += 1
    m[th + T_OPEN] = record(m, g, kind, th, m[S_NOW], m[S_NOW], -1)


@njit
def release(m: Words, g: Log, th: int, t: int, ref: int) -> None:
    """A blocked thread goes on in cycle t with its next instruction; `ref` is the log entry that released it."""
    entry = m[th + T_OPEN]
    g[entry, G_END] = t
    g[entry, G_REF] = ref
    m[th + T_PC] += 1
    advance(m, th, t)


@njit
def operate(m: Words, g: Log, th: int, kind: int) -> int:
    """Run a macro-operation on its unit, first come first served, and return the cycle in which it ends."""
    node = m[th + T_NODE]
    row = m[O_ROWS] + m[th + T_PC] * ROW_WORDS
    unit, busy, entry = N_MATRIX, N_MATRIX_BUSY, LOG_MATRIX
    if kind == CLASS_VECTOR:
        unit, busy, entry = N_VECTOR, N_VECTOR_BUSY, LOG_VECTOR
    start = max(m[S_NOW], m[node + unit])
    ports = max(start, m[node + N_PORT]) + m[row + R_PORT]
    end = max(start + m[row + R_CYCLES], ports)
    m[node + N_PORT] = ports
    m[node + N_PORT_BUSY] += m[row + R_PORT]
    m[node + unit] = end
    m[node + busy] += m[row + R_CYCLES]
    record(m, g, entry, th, m[S_NOW], start, end)
    return end


@njit
def take(m: Words, th: int) -> bool:
    """Take the tokens of a wait if they are all there."""
    node, pc = m[th + T_NODE], m[th + T_PC]
    code = m[O_CODE] + pc * CODE_WORDS
    sem, n = operand(m, code + WAIT_SEM, th), operand(m, code + WAIT_N, th)
    if sem < 0 or sem >= m[K_SEMAPHORES] or n < 0:
        fail(m, BAD_COUNT if n < 0 else BAD_SEMAPHORE, th, n if n < 0 else sem)
        return False
    m[th + T_SEM] = sem
    m[th + T_COUNT] = n
    if m[m[node + N_COUNTS] + sem] < n:
        return False
    m[m[node + N_COUNTS] + sem] -= n
    return True


@njit
def longest(m: Words, node: int, state: int, sem: int, count: int) -> int:
    """Return the thread of a node that has been longest in a blocked state, 0 if none.

    A waiting thread counts if it waits on `sem` for at most `count`.
    """
    best = 0
    th = m[node + N_FIRST_THREAD]
    for _ in range(m[K_THREADS]):
        fits = state != WAITING or (m[th + T_SEM] == sem and m[th + T_COUNT] <= count)
        if m[th + T_STATE] == state and fits and (best == 0 or m[th + T_SERIAL] < m[best + T_SERIAL]):
            best = th
        th += THREAD_WORDS
    return best


@njit
def give(m: Words, g: Log, node: int, sem: int, n: int, ref: int) -> None:
    """Add tokens to a semaphore and release the threads they suffice for, in the order in which these began to wait."""
    at = m[node + N_COUNTS] + sem
    m[at] += n
    m[node + N_LAST] = max(m[node + N_LAST], m[S_NOW])
    finish(m, m[S_NOW], -1, ref)
    th = longest(m, node, WAITING, sem, m[at])
    while th != 0:
        m[at] -= m[th + T_COUNT]
        release(m, g, th, m[S_NOW], ref)
        th = longest(m, node, WAITING, sem, m[at])


@njit
def increment(m: Words, th: int, entry: int) -> None:
    """Send tokens to every node of the target: one cycle on the own node, hops and a fixed cost to another."""
    pc, own = m[th + T_PC], m[th + T_NODE]
    code = m[O_CODE] + pc * CODE_WORDS
    sem, n = operand(m, code + INC_SEM, th), operand(m, code + INC_N, th)
    r0, r1, c0, c1 = rectangle(m, m[code + INC_AT], th)
    if r0 < 0:
        fail(m, BAD_TARGET, th, 0)
        return
    if sem < 0 or sem >= m[K_SEMAPHORES] or n < 0:
        fail(m, BAD_COUNT if n < 0 else BAD_SEMAPHORE, th, n if n < 0 else sem)
        return
    for row in range(r0, r1 + 1):
        for col in range(c0, c1 + 1):
            node = m[O_NODES] + (row * m[K_COLS] + col) * NODE_WORDS
            delay = 1
            if node != own:
                down = abs(m[node + N_SITE_ROW] - m[own + N_SITE_ROW])
                across = abs(m[node + N_SITE_COL] - m[own + N_SITE_COL])
                delay = (down + across) * m[K_HOP] + m[K_SEMAPHORE]
            e = allocate(m, EV_TOKEN)
            m[e + P_COPY] = node
            m[e + P_SEM] = sem
            m[e + P_N] = n
            m[e + P_FROM] = entry
            push(m, m[S_NOW] + delay, e)


@njit
def join(m: Words, g: Log, th: int) -> None:
    """Arrive at a barrier; the last node of its rectangle releases all of them after the barrier's cost."""
    node, pc, entry = m[th + T_NODE], m[th + T_PC], m[th + T_OPEN]
    r0, r1, c0, c1 = rectangle(m, m[m[O_CODE] + pc * CODE_WORDS + BARRIER_AT], th)
    row, col = m[node + N_ROW], m[node + N_COL]
    if r0 < 0 or row < r0 or row > r1 or col < c0 or col > c1:
        fail(m, BAD_TARGET if r0 < 0 else BAD_MEMBER, th, 0)
        return
    words = B_NODES + m[K_NODES]
    bar, last = m[O_BARRIERS], m[O_BARRIERS] + m[S_BARRIERS] * words
    while bar < last and not (  # the oldest open barrier of this rectangle which this node has not joined
        m[bar + B_ROW0] == r0 and m[bar + B_ROW1] == r1 and m[bar + B_COL0] == c0 and m[bar + B_COL1] == c1
        and m[bar + B_NODES + m[node + N_INDEX]] == 0
    ):  # fmt: skip
        bar += words
    if bar == last:  # else a new one
        m[S_BARRIERS] += 1
        m[bar + B_ROW0] = r0
        m[bar + B_ROW1] = r1
        m[bar + B_COL0] = c0
        m[bar + B_COL1] = c1
        m[bar + B_ARRIVED] = 0
        m[bar + B_SIZE] = 0
        for i in range(r0, r1 + 1):
            for j in range(c0, c1 + 1):  # nodes without a role take no part
                m[bar + B_SIZE] += m[m[O_NODES] + (i * m[K_COLS] + j) * NODE_WORDS + N_ACTIVE]
        for i in range(m[K_NODES]):
            m[bar + B_NODES + i] = 0
    m[bar + B_NODES + m[node + N_INDEX]] = th
    m[bar + B_ARRIVED] += 1
    if m[bar + B_ARRIVED] < m[bar + B_SIZE]:
        return
    for i in range(m[K_NODES]):
        joined = m[bar + B_NODES + i]
        if joined != 0:
            release(m, g, joined, m[S_NOW] + m[K_BARRIER], entry)
    m[S_BARRIERS] -= 1
    for at in range(bar, m[O_BARRIERS] + m[S_BARRIERS] * words):  # the open barriers stay in order of age
        m[at] = m[at + words]


@njit
def unstall(m: Words, g: Log, node: int, ref: int) -> None:
    """A place in the node's copy queue is free: the thread that has waited longest issues its copy."""
    th = longest(m, node, STALLED, 0, 0)
    if th != 0:
        t = m[S_NOW]
        open_entry = m[th + T_OPEN]
        g[open_entry, G_END] = t
        start_copy(m, g, th, record(m, g, LOG_INC, th, t, t, t))
        release(m, g, th, t, ref)
