"""Jitted walk of a program's control flow, without data: threads run, tokens fly, accesses are recorded."""

from __future__ import annotations

from accel.check import layout as w
from accel.check.clocks import slot_of, take_snapshot
from accel.check.layout import Ints, State, Tables
from accel.check.shadow import access, add_epoch, check_read, drop_epochs, hit, kept, mark_written, written
from accel.check.tokens import deliver, fire, make_runnable, take
from accel.isa import layout as isa
from accel.isa.table import BY_MNEMONIC
from accel.jit import njit

__all__ = ["evaluate", "run", "shard"]

_WAIT, _INC, _BARRIER = BY_MNEMONIC["wait"], BY_MNEMONIC["inc"], BY_MNEMONIC["barrier"]
_LOOP, _END, _COPY = BY_MNEMONIC["loop"], BY_MNEMONIC["end"], BY_MNEMONIC["copy"]
WAIT_SEM, WAIT_N = _WAIT.word("sem"), _WAIT.word("n")
INC_SEM, INC_N, INC_AT = _INC.word("sem"), _INC.word("n"), _INC.word("at")
BARRIER_AT, LOOP_TRIPS, LOOP_END, END_BEGIN = _BARRIER.word("at"), _LOOP.word("trips"), _LOOP.word("end"), _END.word("begin")
COPY_DST, COPY_SRC, COPY_TO = _COPY.word("dst"), _COPY.word("src"), _COPY.word("to")
COPY_DONE, COPY_SENT = _COPY.word("done"), _COPY.word("sent")
STEPS_LIMIT = 400_000_000
GO_ON, STOP, FAIL = 0, 1, 2


@njit
def evaluate(t: Tables, s: State, i: int, e: int) -> int:
    """Return expression e for thread i at its present trip counts."""
    if e == 0:
        return 0
    x = t.exprs[e]
    node = s.threads[i, w.T_NODE]
    value = 0
    for j in range(x[isa.E_NPARAMS]):
        value += x[isa.E_PARAMS + 2 * j + 1] * t.params[node, x[isa.E_PARAMS + 2 * j]]
    for j in range(x[isa.E_NLOOPS]):
        at = isa.E_LOOPS + isa.EXPR_LOOP_WORDS * j
        term = x[at + isa.L_MUL] * s.threads[i, w.T_TRIP + x[at + isa.L_DEPTH]] + x[at + isa.L_ADD]
        if x[at + isa.L_MOD] != 0:
            term = term % x[at + isa.L_MOD]
        value += x[at + isa.L_COEF] * term
    return int(value)


@njit
def _holds(t: Tables, s: State, i: int, p: int) -> bool:
    x = t.preds[p]
    for j in range(x[isa.P_COUNT]):
        at = isa.P_TERMS + 3 * j
        value = x[at + 1] + evaluate(t, s, i, x[at])
        relation = x[at + 2]
        if relation == isa.REL_EQ:
            if value != 0:
                return False
        elif relation == isa.REL_NE:
            if value == 0:
                return False
        elif relation == isa.REL_LT:
            if value >= 0:
                return False
        elif value < 0:
            return False
    return True


@njit
def _fail(s: State, i: int, row: int, what: int) -> int:
    s.top[w.X_ERROR_ROW], s.top[w.X_ERROR_NODE], s.top[w.X_ERROR_WHAT] = row, s.threads[i, w.T_NODE], what
    return FAIL


@njit
def _rectangle(t: Tables, s: State, i: int, target: int) -> tuple[int, int, int, int]:
    """Return rows and columns (inclusive) of a target; the last row is -1 where it leaves the mesh."""
    node = s.threads[i, w.T_NODE]
    rows, cols = t.geom[w.G_ROWS], t.geom[w.G_COLS]
    if target == isa.TARGET_SELF:
        return int(node // cols), int(node // cols), int(node % cols), int(node % cols)
    if target == isa.TARGET_ALL:
        return 0, int(rows - 1), 0, int(cols - 1)
    x = t.targets[target]
    r0 = x[isa.T_ROW0] + evaluate(t, s, i, x[isa.T_ROW0 + 1])
    r1 = x[isa.T_ROW1] + evaluate(t, s, i, x[isa.T_ROW1 + 1])
    c0 = x[isa.T_COL0] + evaluate(t, s, i, x[isa.T_COL0 + 1])
    c1 = x[isa.T_COL1] + evaluate(t, s, i, x[isa.T_COL1 + 1])
    if r0 < 0 or r1 < r0 or r1 >= rows or c0 < 0 or c1 < c0 or c1 >= cols:
        return 0, -1, 0, -1
    return int(r0), int(r1), int(c0), int(c1)


@njit
def _inside(t: Tables, view: int, address: int) -> bool:
    low = address + t.foot[view, w.F_OFF]
    return bool(low >= t.foot[view, w.F_LOW] and low + t.foot[view, w.F_SPAN] <= t.foot[view, w.F_HIGH])


@njit
def _work(t: Tables, s: State, i: int, row: int) -> int:
    """A matrix or vector instruction: reads, then writes, all in the order of its thread."""
    c = t.code[row]
    op = t.ops[c[isa.W_OPCODE]]
    node = s.threads[i, w.T_NODE]
    for j in range(op[w.O_VIEWS]):
        word, direction = op[w.O_VIEW + 2 * j], op[w.O_VIEW + 2 * j + 1]
        view = c[word]
        address = c[word + 1] + evaluate(t, s, i, c[word + 2])
        if not _inside(t, view, address):
            return _fail(s, i, row, w.WRONG_ADDRESS)
        if direction == 1 or (direction == 3 and (op[w.O_KEEP] == 0 or c[op[w.O_KEEP]] != 0)):
            check_read(t, s, view, address, node, row)
        if direction == 1:
            access(t, s, i, view, address, node, i, s.clocks[i, i], 0, row, -1)
    for j in range(op[w.O_VIEWS]):
        word, direction = op[w.O_VIEW + 2 * j], op[w.O_VIEW + 2 * j + 1]
        if direction != 1:
            view = c[word]
            address = c[word + 1] + evaluate(t, s, i, c[word + 2])
            access(t, s, i, view, address, node, i, s.clocks[i, i], 1, row, -1)
            mark_written(t, s, view, address, node)
    return GO_ON


@njit
def _send(t: Tables, s: State, k: int, hold: bool) -> None:
    """Let a copy's token arrive at once, or keep it in flight for a while in the shuffled schedules."""
    if hold:
        s.pending[s.top[w.X_PENDING]] = k
        s.top[w.X_PENDING] += 1
    else:
        deliver(t, s, k)


@njit
def _copy(t: Tables, s: State, i: int, row: int) -> int:
    """A copy: its read and each of its writes are events of agents of their own."""
    c = t.code[row]
    node, sems = s.threads[i, w.T_NODE], t.geom[w.G_SEMS]
    dst, src = c[COPY_DST], c[COPY_SRC]
    into = c[COPY_DST + 1] + evaluate(t, s, i, c[COPY_DST + 2])
    out_of = c[COPY_SRC + 1] + evaluate(t, s, i, c[COPY_SRC + 2])
    if not _inside(t, dst, into) or not _inside(t, src, out_of):
        return _fail(s, i, row, w.WRONG_ADDRESS)
    stores = t.foot[dst, w.F_SPACE] == isa.SPACE_MEMORY
    r0, r1, c0, c1 = _rectangle(t, s, i, isa.TARGET_SELF if stores else c[COPY_TO])
    if r1 < 0:
        return _fail(s, i, row, w.WRONG_TARGET)
    done, sent = c[COPY_DONE], c[COPY_SENT]
    if done >= 0:
        done += evaluate(t, s, i, c[COPY_DONE + 1])
        if done < 0 or done >= sems:
            return _fail(s, i, row, w.WRONG_SEM)
    if sent >= 0:
        sent += evaluate(t, s, i, c[COPY_SENT + 1])
        if sent < 0 or sent >= sems:
            return _fail(s, i, row, w.WRONG_SEM)
    if done < 0 and not (stores and sent >= 0):
        hit(s, w.HIT_UNAWAITED, t.foot[dst, w.F_GROUP], t.sites[row], -1, node, 0, 0, 0, 0)
    owner_tick = s.clocks[i, i]
    base = take_snapshot(s, i) if done >= 0 or sent >= 0 else -1
    width = c1 - c0 + 1
    targets = (r1 - r0 + 1) * width
    epochs = -1
    for j in range(targets):
        comp, tick = w.NEVER, 0
        if done >= 0:
            comp = slot_of(t, s, i, (r0 + j // width) * t.geom[w.G_COLS] + c0 + j % width)
            tick = s.slot_tick[comp]
        s.scratch[j, 0], s.scratch[j, 1] = comp, tick
        if kept(t, src):
            epochs = add_epoch(s, epochs, comp, tick)
    check_read(t, s, src, out_of, node, row)
    comp, tick = w.NEVER, 0
    if sent >= 0:
        comp = slot_of(t, s, i, node)
        tick = s.slot_tick[comp]
    access(t, s, i, src, out_of, node, comp, tick, 0, row, epochs)
    drop_epochs(s, epochs)
    shuffled = s.top[w.X_MODE] >= 2
    if sent >= 0:
        k = fire(t, s, node * sems + sent, base, i, owner_tick, comp, tick, row, 1, w.TOKEN_SENT)
        _send(t, s, k, shuffled and sent != done)
    for j in range(targets):
        there = (r0 + j // width) * t.geom[w.G_COLS] + c0 + j % width
        access(t, s, i, dst, into, there, s.scratch[j, 0], s.scratch[j, 1], 1, row, -1)
        mark_written(t, s, dst, into, there)
        if done >= 0:
            k = fire(t, s, there * sems + done, base, i, owner_tick, s.scratch[j, 0], s.scratch[j, 1], row, 1,
                     w.TOKEN_DONE)  # fmt: skip
            _send(t, s, k, shuffled and sent != done)
    return GO_ON


@njit
def _inc(t: Tables, s: State, i: int, row: int) -> int:
    c = t.code[row]
    sem = c[INC_SEM] + evaluate(t, s, i, c[INC_SEM + 1])
    n = c[INC_N] + evaluate(t, s, i, c[INC_N + 1])
    r0, r1, c0, c1 = _rectangle(t, s, i, c[INC_AT])
    if sem < 0 or sem >= t.geom[w.G_SEMS]:
        return _fail(s, i, row, w.WRONG_SEM)
    if r1 < 0:
        return _fail(s, i, row, w.WRONG_TARGET)
    if n < 0:
        return _fail(s, i, row, w.WRONG_COUNT)
    if n == 0:
        return GO_ON
    tick = s.clocks[i, i]
    base = take_snapshot(s, i)
    for r in range(r0, r1 + 1):
        for q in range(c0, c1 + 1):
            key = (r * t.geom[w.G_COLS] + q) * t.geom[w.G_SEMS] + sem
            deliver(t, s, fire(t, s, key, base, i, tick, i, tick, row, n, w.TOKEN_INC))
    return GO_ON


@njit
def _wait(t: Tables, s: State, i: int, row: int) -> int:
    c = t.code[row]
    sem = c[WAIT_SEM] + evaluate(t, s, i, c[WAIT_SEM + 1])
    n = c[WAIT_N] + evaluate(t, s, i, c[WAIT_N + 1])
    if sem < 0 or sem >= t.geom[w.G_SEMS]:
        return _fail(s, i, row, w.WRONG_SEM)
    if n < 0:
        return _fail(s, i, row, w.WRONG_COUNT)
    if n == 0:
        return GO_ON
    key = s.threads[i, w.T_NODE] * t.geom[w.G_SEMS] + sem
    s.threads[i, w.T_ROW] = row
    if s.queues[key, w.Q_COUNT] < n:
        s.threads[i, w.T_STATUS], s.threads[i, w.T_KEY], s.threads[i, w.T_NEED] = w.BLOCKED, key, n
        return STOP
    take(t, s, i, key, n, row)
    return GO_ON


@njit
def _barrier(t: Tables, s: State, i: int, row: int) -> int:
    """Join one thread of every active node of the target; the last to come lets all go on."""
    r0, r1, c0, c1 = _rectangle(t, s, i, t.code[row, BARRIER_AT])
    node, rows, cols = s.threads[i, w.T_NODE], t.geom[w.G_ROWS], t.geom[w.G_COLS]
    if r1 < 0:
        return _fail(s, i, row, w.WRONG_TARGET)
    if node // cols < r0 or node // cols > r1 or node % cols < c0 or node % cols > c1:
        return _fail(s, i, row, w.WRONG_BARRIER)
    key = ((r0 * rows + r1) * cols + c0) * cols + c1
    s.threads[i, w.T_STATUS], s.threads[i, w.T_KEY], s.threads[i, w.T_ROW] = w.GATHERED, key, row
    threads = t.geom[w.G_THREADS]
    waiting = 0
    for j in range(s.threads.shape[0]):
        if s.threads[j, w.T_STATUS] == w.GATHERED and s.threads[j, w.T_KEY] == key:
            waiting += 1
            if j != i and j // threads == node:
                hit(s, w.HIT_BARRIER, 0, t.sites[row], t.sites[s.threads[j, w.T_ROW]], node, 0, 0, 0, 0)
    wanted = 0
    for r in range(r0, r1 + 1):
        for q in range(c0, c1 + 1):
            wanted += t.active[r * cols + q]
    if waiting < wanted:
        return STOP
    spare = s.threads.shape[0]
    comps = s.top[w.X_COMPS]
    for c in range(comps):
        s.clocks[spare, c] = 0
    for j in range(spare):
        if s.threads[j, w.T_STATUS] == w.GATHERED and s.threads[j, w.T_KEY] == key:
            for c in range(comps):
                s.clocks[spare, c] = max(s.clocks[spare, c], s.clocks[j, c])
    for j in range(spare):
        if s.threads[j, w.T_STATUS] == w.GATHERED and s.threads[j, w.T_KEY] == key:
            for c in range(comps):
                s.clocks[j, c] = s.clocks[spare, c]
            s.clocks[j, j] += 1
            s.threads[j, w.T_PC] += 1
            if j != i:
                make_runnable(s, j)
    s.threads[i, w.T_STATUS] = w.READY
    return GO_ON


@njit
def _loop(t: Tables, s: State, i: int, row: int, holds: bool) -> int:
    th = s.threads[i]
    c = t.code[row]
    trips = c[LOOP_TRIPS] + evaluate(t, s, i, c[LOOP_TRIPS + 1]) if holds else 0
    end = row + c[LOOP_END]
    if end <= row or end >= th[w.T_LAST] or (trips > 0 and th[w.T_DEPTH] >= isa.DEPTHS):
        return _fail(s, i, row, w.WRONG_LOOP)
    if trips <= 0:
        th[w.T_PC] = end + 1
        return GO_ON
    d = th[w.T_DEPTH]
    th[w.T_BEGIN + d], th[w.T_TRIP + d], th[w.T_TRIPS + d] = row, 0, trips
    th[w.T_DEPTH] = d + 1
    th[w.T_PC] = row + 1
    return GO_ON


@njit
def _end(t: Tables, s: State, i: int, row: int) -> int:
    th = s.threads[i]
    d = th[w.T_DEPTH] - 1
    if d < 0 or th[w.T_BEGIN + d] != row - t.code[row, END_BEGIN]:
        return _fail(s, i, row, w.WRONG_LOOP)
    th[w.T_TRIP + d] += 1
    if th[w.T_TRIP + d] < th[w.T_TRIPS + d]:
        th[w.T_PC] = th[w.T_BEGIN + d] + 1
    else:
        th[w.T_TRIP + d] = 0
        th[w.T_DEPTH] = d
        th[w.T_PC] = row + 1
    return GO_ON


@njit
def _step(t: Tables, s: State, i: int) -> int:
    """Run one instruction of thread i; STOP when it blocks or is over, FAIL when the row breaks the machine."""
    th = s.threads[i]
    row = th[w.T_PC]
    if row >= th[w.T_LAST]:
        th[w.T_STATUS] = w.OVER
        return STOP
    kind = t.ops[t.code[row, isa.W_OPCODE], w.O_CLASS]
    pred = t.code[row, isa.W_PRED]
    holds = pred == 0 or _holds(t, s, i, pred)
    if kind == w.C_LOOP:
        return _loop(t, s, i, row, holds)
    if kind == w.C_END:
        return _end(t, s, i, row)
    if kind == w.C_NONE:
        return _fail(s, i, row, w.WRONG_OPCODE)
    if holds:
        if kind == w.C_BARRIER:
            return _barrier(t, s, i, row)
        result = GO_ON
        if kind == w.C_WORK:
            result = _work(t, s, i, row)
        elif kind == w.C_WAIT:
            result = _wait(t, s, i, row)
        elif kind == w.C_COPY:
            result = _copy(t, s, i, row)
        elif kind == w.C_INC:
            result = _inc(t, s, i, row)
        if result != GO_ON:
            return result
    th[w.T_PC] = row + 1
    return GO_ON


@njit
def _random(s: State, n: int) -> int:
    s.top[w.X_RANDOM] = (s.top[w.X_RANDOM] * 1103515245 + 12345) & 0x7FFFFFFF
    return int((s.top[w.X_RANDOM] >> 8) % n)


@njit
def _land(t: Tables, s: State) -> None:
    """Let one of the copies in flight arrive."""
    at = _random(s, s.top[w.X_PENDING])
    k = s.pending[at]
    s.top[w.X_PENDING] -= 1
    s.pending[at] = s.pending[s.top[w.X_PENDING]]
    deliver(t, s, k)


@njit
def _choose(s: State) -> int:
    """Take the next thread: 0 the longest waiting, 1 the newest, 2 and up any."""
    size, at, length = s.runnable.shape[0], s.top[w.X_QUEUE_AT], s.top[w.X_QUEUE_LEN]
    last = (at + length - 1) % size
    s.top[w.X_QUEUE_LEN] -= 1
    if s.top[w.X_MODE] == 0:
        s.top[w.X_QUEUE_AT] = (at + 1) % size
        return int(s.runnable[at])
    if s.top[w.X_MODE] >= 2:
        other = (at + _random(s, length)) % size
        s.runnable[other], s.runnable[last] = s.runnable[last], s.runnable[other]
    return int(s.runnable[last])


@njit
def _room(t: Tables, s: State) -> int:
    """Return which pool could run dry in one instruction, 0 if none."""
    nodes = t.geom[w.G_NODES]
    if s.top[w.X_COMPS] + nodes + 2 > s.clocks.shape[1]:
        return w.GROW_COMPS
    if s.top[w.X_SNAPS] < 2:
        return w.GROW_SNAPS
    if s.top[w.X_TOKENS] < nodes + 3:
        return w.GROW_TOKENS
    if s.top[w.X_RECORDS] < nodes + 256:
        return w.GROW_RECORDS
    if s.top[w.X_EPOCHS] < 66 * nodes + 8:
        return w.GROW_EPOCHS
    if s.top[w.X_HITS] * 2 > s.hits.shape[0] and s.hits.shape[0] < 1 << 18:
        return w.GROW_HITS
    return 0


@njit
def run(t: Tables, s: State) -> int:
    """Run until every thread is over or stuck (END), a pool must grow (GROW_*), or the program breaks (BROKEN)."""
    top = s.top
    while True:
        if top[w.X_CURRENT] < 0:
            if top[w.X_PENDING] > 0 and (top[w.X_QUEUE_LEN] == 0 or _random(s, 4) == 0):
                _land(t, s)
                continue
            if top[w.X_QUEUE_LEN] == 0:
                return w.END
            top[w.X_CURRENT] = _choose(s)
            top[w.X_BURST] = 1 << 62 if top[w.X_MODE] < 2 else 1 + _random(s, 8)
        i = top[w.X_CURRENT]
        while top[w.X_BURST] > 0:
            short = _room(t, s)
            if short != 0:
                return short
            top[w.X_STEPS] += 1
            if top[w.X_STEPS] > STEPS_LIMIT:
                return w.TOO_LONG
            result = _step(t, s, i)
            if result == FAIL:
                return w.BROKEN
            if result == STOP:
                break
            top[w.X_BURST] -= 1
        if top[w.X_BURST] == 0:
            make_runnable(s, i)
        top[w.X_CURRENT] = -1


@njit
def shard(t: Tables, s: State, row: Ints, node: int) -> int:
    """Apply one preload or collect to the shadow: UNSET if it reads unwritten bytes, BROKEN if it leaves its object."""
    i = node * t.geom[w.G_THREADS]
    src, dst = row[isa.H_SRC], row[isa.H_DST]
    out_of = row[isa.H_SRC + 1] + evaluate(t, s, i, row[isa.H_SRC + 2])
    into = row[isa.H_DST + 1] + evaluate(t, s, i, row[isa.H_DST + 2])
    if not _inside(t, src, out_of) or not _inside(t, dst, into):
        return w.BROKEN
    mark_written(t, s, dst, into, node)
    if row[isa.H_DIRECTION] == isa.DIR_COLLECT and not written(t, s, src, out_of, node):
        return w.UNSET
    return w.END
