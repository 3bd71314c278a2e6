"""Jitted control of a thread: expressions, predicates, targets, loops, barriers."""

from __future__ import annotations

from accel.check import layout as w
from accel.check.compiled import inner
from accel.check.layout import Ints, State
from accel.check.order import learn, own_tick, tell
from accel.check.shadow import hit, site_of
from accel.check.tokens import make_runnable
from accel.isa import layout as isa
from accel.isa.table import BY_MNEMONIC

__all__ = ["barrier", "evaluate", "fail", "holds", "loop_begin", "loop_end", "rectangle"]

_LOOP, _END = BY_MNEMONIC["loop"], BY_MNEMONIC["end"]
BARRIER_AT, LOOP_TRIPS, LOOP_END, END_BEGIN = (
    BY_MNEMONIC["barrier"].word("at"), _LOOP.word("trips"), _LOOP.word("end"), _END.word("begin"),
)  # fmt: skip


@inner
def evaluate(m: Ints, i: int, e: int) -> int:
    """Return expression e for thread i at its present trip counts."""
    if e == 0:
        return 0
    x = m[w.M_EXPRS] + e * isa.EXPR_WORDS
    th = m[w.M_TH] + i * w.T_WORDS
    params = m[w.M_PARAMS] + m[th + w.T_NODE] * m[w.M_PARAM_COUNT]
    value = 0
    for j in range(m[x + isa.E_NPARAMS]):
        at = x + isa.E_PARAMS + 2 * j
        value += m[at + 1] * m[params + m[at]]
    for j in range(m[x + isa.E_NLOOPS]):
        at = x + isa.E_LOOPS + isa.EXPR_LOOP_WORDS * j
        term = m[at + isa.L_MUL] * m[th + w.T_TRIP + m[at + isa.L_DEPTH]] + m[at + isa.L_ADD]
        if m[at + isa.L_MOD] != 0:
            term = term % m[at + isa.L_MOD]
        value += m[at + isa.L_COEF] * term
    return int(value)


@inner
def holds(m: Ints, i: int, p: int) -> bool:
    """Say whether predicate p holds for thread i."""
    x = m[w.M_PREDS] + p * isa.PRED_WORDS
    for j in range(m[x + isa.P_COUNT]):
        at = x + isa.P_TERMS + 3 * j
        value = m[at + 1] + evaluate(m, i, m[at])
        relation = m[at + 2]
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


@inner
def fail(m: Ints, i: int, row: int, what: int) -> int:
    """Note what is broken where, and return FAIL."""
    m[w.X_ERROR_ROW], m[w.X_ERROR_NODE], m[w.X_ERROR_WHAT] = row, m[m[w.M_TH] + i * w.T_WORDS + w.T_NODE], what
    return w.FAIL


@inner
def rectangle(m: Ints, i: int, target: int) -> tuple[int, int, int, int]:
    """Return rows and columns (inclusive) of a target; the last row is -1 where it leaves the mesh."""
    rows, cols = m[w.M_ROWS], m[w.M_COLS]
    if target == isa.TARGET_SELF:
        node = m[m[w.M_TH] + i * w.T_WORDS + w.T_NODE]
        return int(node // cols), int(node // cols), int(node % cols), int(node % cols)
    if target == isa.TARGET_ALL:
        return 0, int(rows - 1), 0, int(cols - 1)
    x = m[w.M_TARGETS] + target * isa.TARGET_WORDS
    r0 = m[x + isa.T_ROW0] + evaluate(m, i, m[x + isa.T_ROW0 + 1])
    r1 = m[x + isa.T_ROW1] + evaluate(m, i, m[x + isa.T_ROW1 + 1])
    c0 = m[x + isa.T_COL0] + evaluate(m, i, m[x + isa.T_COL0 + 1])
    c1 = m[x + isa.T_COL1] + evaluate(m, i, m[x + isa.T_COL1 + 1])
    if r0 < 0 or r1 < r0 or r1 >= rows or c0 < 0 or c1 < c0 or c1 >= cols:
        return 0, -1, 0, -1
    return int(r0), int(r1), int(c0), int(c1)


@inner
def _let_go(s: State, i: int, last: int) -> None:
    """Let the threads that met at a barrier know all that any of them knows, and go on.

    Thread i, which came last and runs already, learns from all others, then they from it; `last` is the one before it,
    plus 1.
    """
    m = s.m
    for turn in range(2):
        if turn == 1:
            tick = own_tick(m, i)
            base = tell(m, i)
        j = last - 1
        while j >= 0:
            th = m[w.M_TH] + j * w.T_WORDS
            if turn == 0:
                own = own_tick(m, j)
                learn(s, i, j, own, tell(m, j), w.NOTHING)
            else:
                learn(s, j, i, tick, base, w.NOTHING)
                m[th + w.T_PC] += 1
                make_runnable(m, j)
            j = m[th + w.T_NEXT] - 1
    m[m[w.M_TH] + i * w.T_WORDS + w.T_PC] += 1


@inner
def _meeting(m: Ints, key: int, r0: int, r1: int, c0: int, c1: int) -> int:
    """Return the address of the link to the barrier of a rectangle that is being joined; a new one if there is none."""
    link = m[w.M_MEETINGS] + r0 * m[w.M_COLS] + c0
    while m[link] != 0:
        if m[m[link] + w.J_KEY] == key:
            return int(link)
        link = m[link] + w.J_NEXT
    j = m[w.X_MEETING_FREE]
    m[w.X_MEETING_FREE] = m[j + w.J_NEXT]
    m[w.X_MEETINGS] -= 1
    missing = 0
    for r in range(r0, r1 + 1):
        for q in range(c0, c1 + 1):
            missing += m[m[w.M_ACTIVE] + r * m[w.M_COLS] + q]
    m[j + w.J_NEXT], m[j + w.J_KEY], m[j + w.J_MISSING], m[j + w.J_LAST] = 0, key, missing, 0
    m[link] = j
    return int(link)


@inner
def barrier(s: State, i: int, row: int) -> int:
    """Join one thread of every active node of the target; the last to come lets all go on."""
    m = s.m
    r0, r1, c0, c1 = rectangle(m, i, m[m[w.M_CODE] + row * isa.CODE_WORDS + BARRIER_AT])
    rows, cols, threads = m[w.M_ROWS], m[w.M_COLS], m[w.M_THREADS]
    node = i // threads
    if r1 < 0:
        return fail(m, i, row, w.WRONG_TARGET)
    if node // cols < r0 or node // cols > r1 or node % cols < c0 or node % cols > c1:
        return fail(m, i, row, w.WRONG_BARRIER)
    key = ((r0 * rows + r1) * cols + c0) * cols + c1
    for j in range(node * threads, (node + 1) * threads):
        other = m[w.M_TH] + j * w.T_WORDS
        if m[other + w.T_STATUS] == w.GATHERED and m[other + w.T_KEY] == key:
            hit(m, w.HIT_BARRIER, w.NOTHING, site_of(m, row), site_of(m, m[other + w.T_ROW]), node, w.NOTHING,
                w.NOTHING, w.NOTHING, w.NOTHING)  # fmt: skip
    link = _meeting(m, key, r0, r1, c0, c1)
    j = m[link]
    m[j + w.J_MISSING] -= 1
    if m[j + w.J_MISSING] > 0:
        th = m[w.M_TH] + i * w.T_WORDS
        m[th + w.T_STATUS], m[th + w.T_KEY], m[th + w.T_ROW] = w.GATHERED, key, row
        m[th + w.T_NEXT] = m[j + w.J_LAST]
        m[j + w.J_LAST] = i + 1
        return w.STOP
    last = m[j + w.J_LAST]
    m[link] = m[j + w.J_NEXT]
    m[j + w.J_NEXT] = m[w.X_MEETING_FREE]
    m[w.X_MEETING_FREE] = j
    m[w.X_MEETINGS] += 1
    _let_go(s, i, last)
    return w.GO_ON


@inner
def loop_begin(m: Ints, i: int, row: int, enter: bool) -> int:
    """Enter a loop, or skip it where its predicate fails or it has no trips."""
    th = m[w.M_TH] + i * w.T_WORDS
    c = m[w.M_CODE] + row * isa.CODE_WORDS
    trips = m[c + LOOP_TRIPS] + evaluate(m, i, m[c + LOOP_TRIPS + 1]) if enter else 0
    end, d = row + m[c + LOOP_END], m[th + w.T_DEPTH]
    if trips < 0:
        m[w.X_ERROR_VALUE] = trips
        return fail(m, i, row, w.WRONG_COUNT)
    if end <= row or end >= m[th + w.T_LAST] or (trips > 0 and d >= isa.DEPTHS):
        return fail(m, i, row, w.WRONG_LOOP)
    if trips == 0:
        m[th + w.T_PC] = end + 1
        return w.GO_ON
    m[th + w.T_BEGIN + d], m[th + w.T_TRIP + d], m[th + w.T_TRIPS + d] = row, 0, trips
    m[th + w.T_DEPTH], m[th + w.T_PC] = d + 1, row + 1
    return w.GO_ON


@inner
def loop_end(m: Ints, i: int, row: int) -> int:
    """Start the next trip, or leave the loop."""
    th = m[w.M_TH] + i * w.T_WORDS
    d = m[th + w.T_DEPTH] - 1
    if d < 0 or m[th + w.T_BEGIN + d] != row - m[m[w.M_CODE] + row * isa.CODE_WORDS + END_BEGIN]:
        return fail(m, i, row, w.WRONG_LOOP)
    m[th + w.T_TRIP + d] += 1
    if m[th + w.T_TRIP + d] < m[th + w.T_TRIPS + d]:
        m[th + w.T_PC] = m[th + w.T_BEGIN + d] + 1
    else:
        m[th + w.T_TRIP + d], m[th + w.T_DEPTH], m[th + w.T_PC] = 0, d, row + 1
    return w.GO_ON
