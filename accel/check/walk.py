"""Jitted walk of a program's control flow, without data: threads run, tokens fly, accesses are recorded."""

from __future__ import annotations

from accel.check import layout as w
from accel.check.compiled import entry, inner
from accel.check.control import barrier, evaluate, fail, holds, loop_begin, loop_end, rectangle
from accel.check.layout import Ints, State
from accel.check.order import own_tick, tell
from accel.check.shadow import (
    access,
    check_read,
    hit,
    mark_written,
    own_overlap,
    site_of,
    written,
)  # fmt: skip
from accel.check.tokens import deliver, fire, make_runnable, queue_of, take
from accel.isa import layout as isa
from accel.isa.schema import Direction
from accel.isa.table import BY_MNEMONIC

__all__ = ["STEPS_LIMIT", "run", "shard"]

_WAIT, _INC, _COPY = BY_MNEMONIC["wait"], BY_MNEMONIC["inc"], BY_MNEMONIC["copy"]
WAIT_SEM, WAIT_N, INC_SEM, INC_N, INC_AT = (
    _WAIT.word("sem"), _WAIT.word("n"), _INC.word("sem"), _INC.word("n"), _INC.word("at"),
)  # fmt: skip
COPY_DST, COPY_SRC, COPY_TO, COPY_DONE, COPY_SENT = map(_COPY.word, ("dst", "src", "to", "done", "sent"))
IS_READ, IS_UPDATE = int(Direction.READ), int(Direction.UPDATE)
STEPS_LIMIT = 400_000_000
EVENTS_LIMIT = 2_000_000_000  # what a log entry can name


@inner
def _foot(m: Ints, view: int) -> int:
    return int(m[w.M_FOOT] + view * w.F_WORDS)


@inner
def _inside(m: Ints, foot: int, address: int) -> bool:
    low = address + m[foot + w.F_OFF]
    return bool(low >= m[foot + w.F_LOW] and low + m[foot + w.F_SPAN] <= m[foot + w.F_HIGH])


@inner
def _work(s: State, i: int, row: int, op: int) -> int:
    """A matrix or vector instruction: reads, then writes, all in the order of its thread."""
    m = s.m
    c = m[w.M_CODE] + row * isa.CODE_WORDS
    node, tick = i // m[w.M_THREADS], own_tick(m, i)
    replaces = m[op + w.O_KEEP] != 0 and m[c + m[op + w.O_KEEP]] == 0  # a matmul that does not accumulate
    for phase in range(2):
        for j in range(m[op + w.O_VIEWS]):
            word, direction = c + m[op + w.O_VIEW + 2 * j], m[op + w.O_VIEW + 2 * j + 1]
            foot = _foot(m, m[word])
            address = m[word + 1] + evaluate(m, i, m[word + 2])
            if not _inside(m, foot, address):
                return fail(m, i, row, w.WRONG_ADDRESS)
            if phase == 0 and (direction == IS_READ or (direction == IS_UPDATE and not replaces)):
                check_read(s, foot, address, node, row)
            if phase == (0 if direction == IS_READ else 1):
                access(s, i, foot, address, node, i, tick, phase, row)
                if phase == 1:
                    mark_written(s, foot, address, node)
                    for k in range(m[op + w.O_VIEWS]):
                        other = c + m[op + w.O_VIEW + 2 * k]
                        if m[op + w.O_VIEW + 2 * k + 1] == IS_READ:
                            low = m[other + 1] + evaluate(m, i, m[other + 2])
                            if m[other] != m[word] or low != address:
                                own_overlap(m, foot, address, _foot(m, m[other]), low, node, row)
    return w.GO_ON


@inner
def _send(s: State, k: int, hold: bool) -> None:
    """Let a copy's token arrive at once, or keep it in flight for a while in the shuffled schedules."""
    if hold:
        m = s.m
        m[m[w.M_PENDING] + m[w.X_PENDING]] = k
        m[w.X_PENDING] += 1
    else:
        deliver(s, k)


@inner
def _copy(s: State, i: int, row: int) -> int:
    """A copy: its read and each of its writes are events of agents of their own."""
    m = s.m
    c = m[w.M_CODE] + row * isa.CODE_WORDS
    node, sems = i // m[w.M_THREADS], m[w.M_SEMS]
    dst, src = _foot(m, m[c + COPY_DST]), _foot(m, m[c + COPY_SRC])
    into = m[c + COPY_DST + 1] + evaluate(m, i, m[c + COPY_DST + 2])
    out_of = m[c + COPY_SRC + 1] + evaluate(m, i, m[c + COPY_SRC + 2])
    if not _inside(m, dst, into) or not _inside(m, src, out_of):
        return fail(m, i, row, w.WRONG_ADDRESS)
    stores = m[dst + w.F_SPACE] == isa.SPACE_MEMORY
    r0, r1, c0, c1 = rectangle(m, i, isa.TARGET_SELF if stores else m[c + COPY_TO])
    if r1 < 0:
        return fail(m, i, row, w.WRONG_TARGET)
    done, sent = m[c + COPY_DONE], m[c + COPY_SENT]
    if done >= 0:
        done += evaluate(m, i, m[c + COPY_DONE + 1])
    if sent >= 0:
        sent += evaluate(m, i, m[c + COPY_SENT + 1])
    if done < -1 or done >= sems or sent < -1 or sent >= sems:
        return fail(m, i, row, w.WRONG_SEM)
    if done < 0 and not (stores and sent >= 0):
        hit(m, w.HIT_UNAWAITED, m[dst + w.F_GROUP], site_of(m, row), w.NO_ROW, node, w.NOTHING, w.NOTHING, w.NOTHING,
            w.NOTHING)  # fmt: skip
    owner_tick = own_tick(m, i)
    base = tell(m, i) if done >= 0 or sent >= 0 else 0
    width = c1 - c0 + 1
    targets = (r1 - r0 + 1) * width
    first = m[w.X_EVENTS]  # its writes are the events from here on, then comes its read
    m[w.X_EVENTS] += targets + 1
    comp = w.COPIED if sent >= 0 else w.NEVER
    check_read(s, src, out_of, node, row)
    many = targets if done >= 0 else 0
    own = access(s, i, src, out_of, node, comp, first + targets, w.READ, row, first, many)
    if m[c + COPY_DST] == m[c + COPY_SRC] and into == out_of:
        own = -own  # a multicast that includes its issuer rewrites these bytes with themselves
    hold = m[w.X_MODE] >= 2 and sent != done
    if sent >= 0:
        key = node * sems + sent
        _send(s, fire(m, key, base, i, owner_tick, comp, first + targets, row, w.WRITE, w.TOKEN_SENT), hold)
    comp = w.COPIED if done >= 0 else w.NEVER
    for j in range(targets):
        there = (r0 + j // width) * m[w.M_COLS] + c0 + j % width
        access(s, i, dst, into, there, comp, first + j, w.WRITE, row, w.NOTHING, w.NOTHING, own)
        mark_written(s, dst, into, there)
        if done >= 0:
            key = there * sems + done
            _send(s, fire(m, key, base, i, owner_tick, comp, first + j, row, w.WRITE, w.TOKEN_DONE), hold)
    return w.GO_ON


@inner
def _inc(s: State, i: int, row: int) -> int:
    m = s.m
    c = m[w.M_CODE] + row * isa.CODE_WORDS
    sem = m[c + INC_SEM] + evaluate(m, i, m[c + INC_SEM + 1])
    n = m[c + INC_N] + evaluate(m, i, m[c + INC_N + 1])
    r0, r1, c0, c1 = rectangle(m, i, m[c + INC_AT])
    if sem < 0 or sem >= m[w.M_SEMS]:
        return fail(m, i, row, w.WRONG_SEM)
    if r1 < 0:
        return fail(m, i, row, w.WRONG_TARGET)
    if n < 0:
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
        return fail(m, i, row, w.WRONG_SEM)
    if n < 0:
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
        if kind == w.C_BARRIER:
            return barrier(s, i, row)
        if kind == w.C_WORK:
            result = _work(s, i, row, op)
        elif kind == w.C_WAIT:
            result = _wait(s, i, row)
        elif kind == w.C_COPY:
            result = _copy(s, i, row)
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
    src, dst = _foot(m, row[isa.H_SRC]), _foot(m, row[isa.H_DST])
    out_of = row[isa.H_SRC + 1] + evaluate(m, i, row[isa.H_SRC + 2])
    into = row[isa.H_DST + 1] + evaluate(m, i, row[isa.H_DST + 2])
    if not _inside(m, src, out_of) or not _inside(m, dst, into):
        return w.BROKEN
    mark_written(s, dst, into, node)
    if row[isa.H_DIRECTION] == isa.DIR_COLLECT and not written(s, src, out_of, node):
        return w.UNSET
    return w.END
