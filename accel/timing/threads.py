"""Threads of a node: issue in order, wait for tokens, occupy units and SRAM ports, start copies, meet at barriers."""

from __future__ import annotations

from accel.isa.table import BY_MNEMONIC
from accel.jit import njit
from accel.timing.decode import evaluate, holds, rectangle
from accel.timing.network import inject
from accel.timing.ports import hops_between
from accel.timing.state import (
    BAD_SEMAPHORE,
    BAD_TARGET,
    C_COL0,
    C_COL1,
    C_DONE,
    C_ENTRY,
    C_KIND,
    C_LEFT,
    C_LIVE,
    C_LOG,
    C_NEXT,
    C_NODE,
    C_ROW0,
    C_ROW1,
    C_SENT,
    C_SITE_COL0,
    C_SITE_COL1,
    C_SITE_ROW0,
    C_SITE_ROW1,
    CLASS_BARRIER,
    CLASS_COPY,
    CLASS_END,
    CLASS_INC,
    CLASS_LOOP,
    CLASS_MARK,
    CLASS_VECTOR,
    CLASS_WAIT,
    COPY_MESH,
    COPY_READ,
    COPY_WRITE,
    E_SITE,
    ENDED,
    EV_REQUEST,
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
    K_PORTS,
    K_QUEUE,
    K_SEMAPHORE,
    K_SEMAPHORES,
    K_SITE_COLS,
    K_THREADS,
    LOG_BARRIER,
    LOG_COPY_MEMORY,
    LOG_COPY_MESH,
    LOG_INC,
    LOG_MATRIX,
    LOG_STALL,
    LOG_VECTOR,
    LOG_WAIT,
    N_COPIES,
    N_HEAD,
    N_LAST,
    N_MATRIX,
    N_MATRIX_BUSY,
    N_PORT,
    N_PORT_BUSY,
    N_TAIL,
    N_VECTOR,
    N_VECTOR_BUSY,
    P_COPY,
    P_FROM,
    P_KIND,
    P_N,
    P_NODE,
    P_SEM,
    Q_COUNT,
    Q_FIRST,
    Q_INTERLEAVE,
    Q_LATENCY,
    R_BYTES,
    R_CLASS,
    R_COPY,
    R_CYCLES,
    R_PORT,
    RUNNING,
    S_BARRIERS,
    S_COPY_COUNT,
    S_COPY_FREE,
    S_ERROR,
    S_EVENTS,
    S_LAST,
    S_LAST_LOG,
    S_LAST_THREAD,
    S_LIVE,
    S_LOG,
    S_NOW,
    S_SERIAL,
    S_STATUS,
    STALLED,
    T_COUNT,
    T_DEPTH,
    T_END,
    T_LOG,
    T_OPEN,
    T_PC,
    T_SEM,
    T_SERIAL,
    T_STATE,
    T_TIME,
    T_TRIP,
    T_TRIPS,
    WAITING,
    State,
    Tables,
)
from accel.timing.wheel import allocate, push

__all__ = ["advance", "execute", "finish", "give", "unstall"]

WAIT_SEM, WAIT_N = BY_MNEMONIC["wait"].word("sem"), BY_MNEMONIC["wait"].word("n")
INC_SEM, INC_N, INC_AT = (BY_MNEMONIC["inc"].word(name) for name in ("sem", "n", "at"))
BARRIER_AT = BY_MNEMONIC["barrier"].word("at")
LOOP_TRIPS, LOOP_END, END_BEGIN = BY_MNEMONIC["loop"].word("trips"), BY_MNEMONIC["loop"].word("end"), BY_MNEMONIC["end"].word("begin")
COPY_DST, COPY_SRC, COPY_TO, COPY_DONE, COPY_SENT = (
    BY_MNEMONIC["copy"].word(name) for name in ("dst", "src", "to", "done", "sent")
)
B_ROW0, B_ROW1, B_COL0, B_COL1, B_ARRIVED, B_SIZE, B_NODES = range(7)


@njit
def finish(st: State, t: int, th: int, entry: int) -> None:
    """Something ends in cycle t: remember the last such moment, the start of the critical path."""
    if t > st.scalars[S_LAST]:
        st.scalars[S_LAST] = t
        st.scalars[S_LAST_THREAD] = th
        st.scalars[S_LAST_LOG] = entry


@njit
def record(st: State, kind: int, th: int, pc: int, start: int, mid: int, end: int, ref: int) -> int:
    """Append a log entry for a thread and return its index."""
    g = st.scalars[S_LOG]
    st.scalars[S_LOG] = g + 1
    entry = st.log[g]
    entry[G_KIND], entry[G_THREAD], entry[G_ROW] = kind, th, pc
    entry[G_START], entry[G_MID], entry[G_END] = start, mid, end
    entry[G_PREV], entry[G_REF] = st.threads[th, T_LOG], ref
    st.threads[th, T_LOG] = g
    return g


@njit
def advance(tab: Tables, st: State, th: int, t: int) -> None:
    """Walk a thread that is free from cycle t to its next instruction with an effect, and schedule that one."""
    thread, rows, code = st.threads[th], tab.rows, tab.code
    issue = tab.config[K_ISSUE]
    node = th // tab.config[K_THREADS]
    pc = thread[T_PC]
    while pc < thread[T_END]:
        kind = rows[pc, R_CLASS]
        if kind == CLASS_MARK:
            pc += 1
        elif kind == CLASS_LOOP:
            t += issue
            trips = 0
            if holds(tab, st, pc, node, th):
                trips = code[pc, LOOP_TRIPS] + evaluate(tab, st, code[pc, LOOP_TRIPS + 1], node, th)
            if trips <= 0:
                pc += code[pc, LOOP_END] + 1
            else:
                depth = thread[T_DEPTH]
                thread[T_DEPTH] = depth + 1
                thread[T_TRIP + depth] = 0
                thread[T_TRIPS + depth] = trips
                pc += 1
        elif kind == CLASS_END:
            t += issue
            depth = thread[T_DEPTH] - 1
            thread[T_TRIP + depth] += 1
            if thread[T_TRIP + depth] < thread[T_TRIPS + depth]:
                pc -= code[pc, END_BEGIN] - 1
            else:
                thread[T_DEPTH] = depth
                pc += 1
        elif not holds(tab, st, pc, node, th):
            t += issue
            pc += 1
        else:
            thread[T_PC] = pc
            thread[T_STATE] = RUNNING
            e = allocate(st)
            st.pool[e, P_KIND] = EV_THREAD
            st.pool[e, P_NODE] = th
            push(st, t + (tab.config[K_COPY_ISSUE] if kind == CLASS_COPY else issue), e)
            return
    thread[T_PC] = pc
    thread[T_STATE] = ENDED
    thread[T_TIME] = t
    st.scalars[S_LIVE] -= 1
    st.nodes[node, N_LAST] = max(st.nodes[node, N_LAST], t)
    finish(st, t, th, thread[T_LOG])


@njit
def execute(tab: Tables, st: State, th: int) -> None:
    """Do what the instruction at the thread's counter does; its issue ends now."""
    thread, now = st.threads[th], st.scalars[S_NOW]
    pc = thread[T_PC]
    node = th // tab.config[K_THREADS]
    kind = tab.rows[pc, R_CLASS]
    st.scalars[S_EVENTS] += 2  # its start and its end
    if kind == CLASS_WAIT:
        wait(tab, st, th, pc, node)
        return
    if kind == CLASS_BARRIER:
        join(tab, st, th, pc, node)
        return
    if kind == CLASS_COPY:
        if st.nodes[node, N_COPIES] >= tab.config[K_QUEUE]:
            thread[T_STATE] = STALLED
            thread[T_SERIAL] = st.scalars[S_SERIAL]
            st.scalars[S_SERIAL] += 1
            thread[T_OPEN] = record(st, LOG_STALL, th, pc, now, now, -1, -1)
            return
        copy(tab, st, th, pc, node)
    elif kind == CLASS_INC:
        increment(tab, st, th, pc, node)
    else:
        now = operate(tab, st, th, pc, node, kind)
    thread[T_PC] = pc + 1
    advance(tab, st, th, now)


@njit
def operate(tab: Tables, st: State, th: int, pc: int, node: int, kind: int) -> int:
    """Run a macro-operation on its unit, first come first served, and return the cycle in which it ends."""
    now, unit, busy, entry = st.scalars[S_NOW], N_MATRIX, N_MATRIX_BUSY, LOG_MATRIX
    if kind == CLASS_VECTOR:
        unit, busy, entry = N_VECTOR, N_VECTOR_BUSY, LOG_VECTOR
    nodes = st.nodes
    start = max(now, nodes[node, unit])
    ports = max(start, nodes[node, N_PORT]) + tab.rows[pc, R_PORT]
    end = max(start + tab.rows[pc, R_CYCLES], ports)
    nodes[node, N_PORT] = ports
    nodes[node, N_PORT_BUSY] += tab.rows[pc, R_PORT]
    nodes[node, unit] = end
    nodes[node, busy] += tab.rows[pc, R_CYCLES]
    record(st, entry, th, pc, now, start, end, -1)
    return end


@njit
def wait(tab: Tables, st: State, th: int, pc: int, node: int) -> None:
    """Take tokens if they are there, else block until `give` brings enough."""
    code, thread, now = tab.code, st.threads[th], st.scalars[S_NOW]
    sem = code[pc, WAIT_SEM] + evaluate(tab, st, code[pc, WAIT_SEM + 1], node, th)
    n = code[pc, WAIT_N] + evaluate(tab, st, code[pc, WAIT_N + 1], node, th)
    if sem < 0 or sem >= tab.config[K_SEMAPHORES]:
        st.scalars[S_STATUS], st.scalars[S_ERROR] = BAD_SEMAPHORE, pc
        return
    if st.counts[node, sem] >= n:
        st.counts[node, sem] -= n
        thread[T_PC] = pc + 1
        advance(tab, st, th, now)
        return
    thread[T_STATE] = WAITING
    thread[T_SEM] = sem
    thread[T_COUNT] = n
    thread[T_SERIAL] = st.scalars[S_SERIAL]
    st.scalars[S_SERIAL] += 1
    thread[T_OPEN] = record(st, LOG_WAIT, th, pc, now, now, -1, -1)


@njit
def give(tab: Tables, st: State, node: int, sem: int, n: int, ref: int) -> None:
    """Add tokens to a semaphore and release the threads they suffice for, in the order in which these began to wait."""
    st.counts[node, sem] += n
    now, threads = st.scalars[S_NOW], tab.config[K_THREADS]
    st.nodes[node, N_LAST] = max(st.nodes[node, N_LAST], now)
    finish(st, now, -1, ref)
    while True:
        best = -1
        for th in range(node * threads, node * threads + threads):
            thread = st.threads[th]
            if thread[T_STATE] == WAITING and thread[T_SEM] == sem and thread[T_COUNT] <= st.counts[node, sem]:
                if best < 0 or thread[T_SERIAL] < st.threads[best, T_SERIAL]:
                    best = th
        if best < 0:
            return
        st.counts[node, sem] -= st.threads[best, T_COUNT]
        release(tab, st, best, now, ref)


@njit
def release(tab: Tables, st: State, th: int, t: int, ref: int) -> None:
    """A blocked thread goes on in cycle t with its next instruction; `ref` is the log entry that released it."""
    entry = st.threads[th, T_OPEN]
    st.log[entry, G_END] = t
    st.log[entry, G_REF] = ref
    st.threads[th, T_PC] += 1
    advance(tab, st, th, t)


@njit
def increment(tab: Tables, st: State, th: int, pc: int, node: int) -> None:
    """Send tokens to every node of the target: one cycle on the own node, hops and a fixed cost to another."""
    code, config, now = tab.code, tab.config, st.scalars[S_NOW]
    sem = code[pc, INC_SEM] + evaluate(tab, st, code[pc, INC_SEM + 1], node, th)
    n = code[pc, INC_N] + evaluate(tab, st, code[pc, INC_N + 1], node, th)
    r0, r1, c0, c1 = rectangle(tab, st, code[pc, INC_AT], node, th)
    if r0 < 0:
        st.scalars[S_STATUS], st.scalars[S_ERROR] = BAD_TARGET, pc
        return
    if sem < 0 or sem >= config[K_SEMAPHORES]:
        st.scalars[S_STATUS], st.scalars[S_ERROR] = BAD_SEMAPHORE, pc
        return
    g = record(st, LOG_INC, th, pc, now, now, now, -1)
    for row in range(r0, r1 + 1):
        for col in range(c0, c1 + 1):
            other = row * config[K_COLS] + col
            delay = 1
            if other != node:
                site = tab.row_site[row] * config[K_SITE_COLS] + tab.col_site[col]
                delay = hops_between(tab, site, node) * config[K_HOP] + config[K_SEMAPHORE]
            e = allocate(st)
            st.pool[e, P_KIND] = EV_TOKEN
            st.pool[e, P_NODE] = other
            st.pool[e, P_SEM] = sem
            st.pool[e, P_N] = n
            st.pool[e, P_FROM] = g
            push(st, now + delay, e)


@njit
def join(tab: Tables, st: State, th: int, pc: int, node: int) -> None:
    """Arrive at a barrier; the last node of its rectangle releases all of them after the barrier's cost."""
    now, bars = st.scalars[S_NOW], st.barriers
    r0, r1, c0, c1 = rectangle(tab, st, tab.code[pc, BARRIER_AT], node, th)
    row, col = node // tab.config[K_COLS], node % tab.config[K_COLS]
    if r0 < 0 or row < r0 or row > r1 or col < c0 or col > c1:
        st.scalars[S_STATUS], st.scalars[S_ERROR] = BAD_TARGET, pc
        return
    st.threads[th, T_STATE] = JOINING
    g = record(st, LOG_BARRIER, th, pc, now, now, -1, -1)
    st.threads[th, T_OPEN] = g
    at = 0  # the oldest open barrier of this rectangle which this node has not joined, else a new one
    while at < st.scalars[S_BARRIERS] and not (
        bars[at, B_ROW0] == r0 and bars[at, B_ROW1] == r1 and bars[at, B_COL0] == c0 and bars[at, B_COL1] == c1
        and bars[at, B_NODES + node] < 0
    ):  # fmt: skip
        at += 1
    if at == st.scalars[S_BARRIERS]:
        st.scalars[S_BARRIERS] += 1
        bars[at, B_ROW0], bars[at, B_ROW1], bars[at, B_COL0], bars[at, B_COL1] = r0, r1, c0, c1
        bars[at, B_ARRIVED] = 0
        bars[at, B_SIZE] = (r1 - r0 + 1) * (c1 - c0 + 1)
        bars[at, B_NODES:] = -1
    bars[at, B_NODES + node] = th
    bars[at, B_ARRIVED] += 1
    if bars[at, B_ARRIVED] < bars[at, B_SIZE]:
        return
    for other in range(tab.config[K_NODES]):
        joined = bars[at, B_NODES + other]
        if joined >= 0:
            release(tab, st, joined, now + tab.config[K_BARRIER], g)
    last = st.scalars[S_BARRIERS] - 1
    for i in range(at, last):  # closing the gap keeps the open barriers in order of age
        bars[i] = bars[i + 1]
    st.scalars[S_BARRIERS] = last


@njit
def unstall(tab: Tables, st: State, node: int, ref: int) -> None:
    """A place in the node's copy queue is free: the thread that has waited longest issues its copy."""
    threads = tab.config[K_THREADS]
    best = -1
    for th in range(node * threads, node * threads + threads):
        if st.threads[th, T_STATE] == STALLED and (best < 0 or st.threads[th, T_SERIAL] < st.threads[best, T_SERIAL]):
            best = th
    if best < 0:
        return
    now, pc = st.scalars[S_NOW], st.threads[best, T_PC]
    entry = st.threads[best, T_OPEN]
    st.log[entry, G_END] = now
    st.log[entry, G_REF] = ref
    copy(tab, st, best, pc, node)
    st.threads[best, T_PC] = pc + 1
    advance(tab, st, best, now)


@njit
def semaphore_of(tab: Tables, st: State, th: int, pc: int, node: int, word: int) -> int:
    """Return the index of a copy's semaphore operand, -1 for none."""
    sem = tab.code[pc, word]
    if sem < 0:
        return -1
    return sem + evaluate(tab, st, tab.code[pc, word + 1], node, th)


@njit
def copy(tab: Tables, st: State, th: int, pc: int, node: int) -> None:
    """Start a copy: into the node's send queue, or as a request on its way to a memory port."""
    code, config, scalars, now = tab.code, tab.config, st.scalars, st.scalars[S_NOW]
    r0, r1, c0, c1 = rectangle(tab, st, code[pc, COPY_TO], node, th)
    done, sent = semaphore_of(tab, st, th, pc, node, COPY_DONE), semaphore_of(tab, st, th, pc, node, COPY_SENT)
    if r0 < 0:
        scalars[S_STATUS], scalars[S_ERROR] = BAD_TARGET, pc
        return
    if max(done, sent) >= config[K_SEMAPHORES]:
        scalars[S_STATUS], scalars[S_ERROR] = BAD_SEMAPHORE, pc
        return
    kind = tab.rows[pc, R_COPY]
    c = scalars[S_COPY_FREE]
    x = st.copies[c]
    scalars[S_COPY_FREE] = x[C_NEXT]
    scalars[S_COPY_COUNT] -= 1
    x[C_NEXT] = -1
    x[C_NODE] = node
    x[C_LOG] = record(st, LOG_COPY_MESH if kind == COPY_MESH else LOG_COPY_MEMORY, th, pc, now, now, now, -1)
    x[C_KIND] = kind
    x[C_LEFT] = tab.rows[pc, R_BYTES]
    x[C_DONE], x[C_SENT] = done, sent
    x[C_ROW0], x[C_ROW1], x[C_COL0], x[C_COL1] = r0, r1, c0, c1
    x[C_LIVE] = 1 + (1 if kind == COPY_WRITE else (r1 - r0 + 1) * (c1 - c0 + 1))
    st.nodes[node, N_COPIES] += 1
    row0 = row1 = tab.row_site[r0]
    for row in range(r0 + 1, r1 + 1):
        row0, row1 = min(row0, tab.row_site[row]), max(row1, tab.row_site[row])
    col0 = col1 = tab.col_site[c0]
    for col in range(c0 + 1, c1 + 1):
        col0, col1 = min(col0, tab.col_site[col]), max(col1, tab.col_site[col])
    if kind != COPY_MESH:
        word = COPY_SRC if kind == COPY_READ else COPY_DST
        address = code[pc, word + 1] + evaluate(tab, st, code[pc, word + 2], node, th)
        one_row = kind == COPY_WRITE or r0 == r1
        row = tab.row_site[node // config[K_COLS]] if kind == COPY_WRITE else row0
        entry = entry_of(tab, st, address, row if one_row else -1)
        x[C_ENTRY] = entry
        site = tab.entries[entry, E_SITE]
        if kind == COPY_WRITE:
            row0 = row1 = site // config[K_SITE_COLS]
            col0 = col1 = site % config[K_SITE_COLS]
    x[C_SITE_ROW0], x[C_SITE_ROW1], x[C_SITE_COL0], x[C_SITE_COL1] = row0, row1, col0, col1
    if kind == COPY_READ:
        e = allocate(st)
        st.pool[e, P_KIND] = EV_REQUEST
        st.pool[e, P_COPY] = c
        q = port_of(tab, st, address)
        push(st, now + hops_between(tab, site, node) * config[K_HOP] + st.ports[q, Q_LATENCY], e)
        return
    if st.nodes[node, N_HEAD] < 0:
        st.nodes[node, N_HEAD] = c
    else:
        st.copies[st.nodes[node, N_TAIL], C_NEXT] = c
    st.nodes[node, N_TAIL] = c
    inject(tab, st, node)


@njit
def port_of(tab: Tables, st: State, address: int) -> int:
    """Return the memory port that holds an address: blocks of the interleave rotate over the ports."""
    return (address // st.ports[0, Q_INTERLEAVE]) % tab.config[K_PORTS]


@njit
def entry_of(tab: Tables, st: State, address: int, row: int) -> int:
    """Return the port router for a copy: the one in physical row `row`, else (or row -1) by the address block."""
    q = port_of(tab, st, address)
    first, count = st.ports[q, Q_FIRST], st.ports[q, Q_COUNT]
    if row >= 0:
        for entry in range(first, first + count):
            if tab.entries[entry, E_SITE] // tab.config[K_SITE_COLS] == row:
                return entry
    return first + (address // st.ports[q, Q_INTERLEAVE]) % count
