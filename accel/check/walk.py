"""Jitted walk of a program's control flow, without data: threads run, tokens fly, accesses are recorded."""

from __future__ import annotations

from accel.check import layout as w
from accel.check.compiled import entry, inner
from accel.check.control import barrier, evaluate, fail, holds, loop_begin, loop_end, rectangle
from accel.check.engines import compute, foot_of, inside, move
from accel.check.layout import Ints, State
from accel.check.order import own_tick, tell
from accel.check.shadow import mark_written, place_of, written
from accel.check.tokens import deliver, fire, make_runnable, queue_of, settle, take
from accel.isa import layout as isa
from accel.isa.table import BY_MNEMONIC

__all__ = ["STEPS_LIMIT", "run", "shard"]

_WAIT, _INC = BY_MNEMONIC["wait"], BY_MNEMONIC["inc"]
WAIT_SEM, WAIT_N, INC_SEM, INC_N, INC_AT = (
    _WAIT.word("sem"), _WAIT.word("n"), _INC.word("sem"), _INC.word("n"), _INC.word("at"),
)  # fmt: skip
STEPS_LIMIT = 400_000_000
EVENTS_LIMIT = 2_000_000_000  # what a log entry can name


@inner
def _inc(s: State, i: int, row: int) -> int:
    m = s.m
    c = m[w.M_CODE] + row * isa.CODE_WORDS
    sem = m[c + INC_SEM] + evaluate(m, i, m[c + INC_SEM + 1])
    n = m[c + INC_N] + evaluate(m, i, m[c + INC_N + 1])
    r0, r1, c0, c1 = rectangle(m, i, m[c + INC_AT])
    if sem < 0 or sem >= m[w.M_SEMS]:
        m[w.X_ERROR_VALUE] = sem
        return fail(m, i, row, w.WRONG_SEM)
    if r1 < 0:
        return fail(m, i, row, w.WRONG_TARGET)
    if n < 0:
        m[w.X_ERROR_VALUE] = n
        return fail(m, i, row, w.WRONG_COUNT)
    if n > 0:
        tick = own_tick(m, i)
        base = tell(m, i)
        for r in range(r0, r1 + 1):
            for q in range(c0, c1 + 1):
                key = (r * m[w.M_COLS] + q) * m[w.M_SEMS] + sem
                deliver(s, fire(m, key, base, i, tick, i, tick, row, n, w.TOKEN_INC))
    return w.GO_ON


@inner
def _wait(s: State, i: int, row: int) -> int:
    m = s.m
    c = m[w.M_CODE] + row * isa.CODE_WORDS
    sem = m[c + WAIT_SEM] + evaluate(m, i, m[c + WAIT_SEM + 1])
    n = m[c + WAIT_N] + evaluate(m, i, m[c + WAIT_N + 1])
    if sem < 0 or sem >= m[w.M_SEMS]:
        m[w.X_ERROR_VALUE] = sem
        return fail(m, i, row, w.WRONG_SEM)
    if n < 0:
        m[w.X_ERROR_VALUE] = n
        return fail(m, i, row, w.WRONG_COUNT)
    key = (i // m[w.M_THREADS]) * m[w.M_SEMS] + sem
    if m[queue_of(m, key) + w.Q_COUNT] < n:
        th = m[w.M_TH] + i * w.T_WORDS
        m[th + w.T_STATUS], m[th + w.T_KEY], m[th + w.T_NEED], m[th + w.T_ROW] = w.BLOCKED, key, n, row
        return w.STOP
    if n > 0:
        take(s, i, key, n, row)
    return w.GO_ON


@inner
def _step(s: State, i: int) -> int:
    """Run one instruction of thread i; STOP when it blocks or is over, FAIL when the row breaks the machine."""
    m = s.m
    th = m[w.M_TH] + i * w.T_WORDS
    row = m[th + w.T_PC]
    if row >= m[th + w.T_LAST]:
        m[th + w.T_STATUS] = w.OVER
        return w.STOP
    c = m[w.M_CODE] + row * isa.CODE_WORDS
    op = m[w.M_OPS] + m[c + isa.W_OPCODE] * w.O_WORDS
    kind = m[op + w.O_CLASS]
    runs = m[c + isa.W_PRED] == 0 or holds(m, i, m[c + isa.W_PRED])
    if kind == w.C_LOOP:
        return loop_begin(m, i, row, runs)
    if kind == w.C_END:
        return loop_end(m, i, row)
    result = w.GO_ON
    if kind == w.C_NONE:
        result = fail(m, i, row, w.WRONG_OPCODE)
    elif runs:
        if m[th + w.T_OPEN] != 0 and kind not in (w.C_WAIT, w.C_FREE):
            settle(s, i)
        if kind == w.C_BARRIER:
            return barrier(s, i, row)
        if kind == w.C_WORK:
            result = compute(s, i, row, op)
        elif kind == w.C_WAIT:
            result = _wait(s, i, row)
        elif kind in (w.C_COPY, w.C_PULL):
            result = move(s, i, row, kind)
        elif kind == w.C_INC:
            result = _inc(s, i, row)
    if result == w.GO_ON:
        m[th + w.T_PC] = row + 1
    return result


@inner
def _random(m: Ints, n: int) -> int:
    m[w.X_RANDOM] = (m[w.X_RANDOM] * 1103515245 + 12345) & 0x7FFFFFFF
    return int((m[w.X_RANDOM] >> 8) % n)


@inner
def _choose(m: Ints) -> int:
    """Take the next thread: in mode 0 the longest waiting, in 1 the newest, in 2 and up any."""
    queue, size, at, length = m[w.M_RUNNABLE], m[w.M_NODES] * m[w.M_THREADS], m[w.X_QUEUE_AT], m[w.X_QUEUE_LEN]
    last = queue + (at + length - 1) % size
    m[w.X_QUEUE_LEN] -= 1
    if m[w.X_MODE] == 0:
        m[w.X_QUEUE_AT] = (at + 1) % size
        return int(m[queue + at])
    if m[w.X_MODE] >= 2:
        other = queue + (at + _random(m, length)) % size
        m[other], m[last] = m[last], m[other]
    return int(m[last])


@inner
def _room(s: State) -> int:
    """Return which pool could run dry in one instruction, END if none."""
    m = s.m
    nodes = m[w.M_NODES]
    # a wait takes at most all tokens, a barrier joins all threads
    if m[w.X_LOG] + max(m[w.M_PENDING_SIZE], 2 * nodes * m[w.M_THREADS]) + 2 > s.log.size // w.L_WORDS:
        return w.GROW_LOG
    if m[w.X_TOKENS] < nodes + 3 or m[w.X_PENDING] + nodes + 3 > m[w.M_PENDING_SIZE]:
        return w.GROW_TOKENS
    if m[w.X_RECORDS] < nodes + 512:
        return w.GROW_RECORDS
    if m[w.X_HITS] * 2 > m[w.M_HIT_SIZE] and m[w.M_HIT_SIZE] < 1 << 18:
        return w.GROW_HITS
    return w.END


@entry
def run(s: State) -> int:
    """Run until every thread is over or stuck (END), a pool must grow (GROW_*), or the program breaks (BROKEN)."""
    m = s.m
    while True:
        if m[w.X_CURRENT] < 0:
            if m[w.X_PENDING] > 0 and (m[w.X_QUEUE_LEN] == 0 or _random(m, w.LANDING) == 0):
                m[w.X_PENDING] -= 1
                at, last = m[w.M_PENDING] + _random(m, m[w.X_PENDING] + 1), m[w.M_PENDING] + m[w.X_PENDING]
                k = m[at]
                m[at] = m[last]
                deliver(s, k)
                continue
            if m[w.X_QUEUE_LEN] == 0:
                return w.END
            m[w.X_CURRENT] = _choose(m)
            m[w.X_BURST] = STEPS_LIMIT if m[w.X_MODE] < 2 else 1 + _random(m, w.BURST)
        i = m[w.X_CURRENT]
        result = w.GO_ON
        while m[w.X_BURST] > 0 and result == w.GO_ON:
            short = _room(s)
            if short != w.END:
                return short
            m[w.X_STEPS] += 1
            if m[w.X_STEPS] > STEPS_LIMIT or m[w.X_EVENTS] > EVENTS_LIMIT:
                return w.TOO_LONG
            result = _step(s, i)
            m[w.X_BURST] -= 1
        if result == w.FAIL:
            return w.BROKEN
        if result == w.GO_ON:
            make_runnable(m, i)
        m[w.X_CURRENT] = -1


@entry
def shard(s: State, row: Ints, node: int) -> int:
    """Apply one preload or collect to the shadow: UNSET if it reads unwritten bytes, BROKEN if it leaves its object."""
    m = s.m
    i = node * m[w.M_THREADS]
    src, dst = foot_of(m, row[isa.H_SRC]), foot_of(m, row[isa.H_DST])
    out_of = row[isa.H_SRC + 1] + evaluate(m, i, row[isa.H_SRC + 2])
    into = row[isa.H_DST + 1] + evaluate(m, i, row[isa.H_DST + 2])
    if not inside(m, src, out_of):
        m[w.X_ERROR_VIEW], m[w.X_ERROR_VALUE] = row[isa.H_SRC], out_of
        return w.BROKEN
    if not inside(m, dst, into):
        m[w.X_ERROR_VIEW], m[w.X_ERROR_VALUE] = row[isa.H_DST], into
        return w.BROKEN
    mark_written(s, dst, place_of(m, dst, into), node)
    if row[isa.H_DIRECTION] == isa.DIR_COLLECT and not written(s, src, place_of(m, src, out_of), node):
        return w.UNSET
    return w.END
