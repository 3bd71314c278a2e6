"""Jitted matrix, vector and copy instructions: what they read and write, and the events and tokens of copies."""

from __future__ import annotations

from accel.check import layout as w
from accel.check.compiled import inner
from accel.check.control import evaluate, fail, rectangle
from accel.check.layout import Ints, State
from accel.check.order import own_tick, tell
from accel.check.shadow import access, check_read, hit, mark_written, own_overlap, place_of, site_of
from accel.check.tokens import deliver, fire
from accel.isa import layout as isa
from accel.isa.schema import Direction
from accel.isa.table import BY_MNEMONIC

__all__ = ["compute", "foot_of", "inside", "move"]

_COPY = BY_MNEMONIC["copy"]
COPY_DST, COPY_SRC, COPY_TO, COPY_DONE, COPY_SENT = map(_COPY.word, ("dst", "src", "to", "done", "sent"))
# A pull is laid out like a copy, with the node it reads from in place of the target.
assert [BY_MNEMONIC["pull"].word(o) for o in ("dst", "src", "of", "done", "sent")] == [
    COPY_DST, COPY_SRC, COPY_TO, COPY_DONE, COPY_SENT]  # fmt: skip
IS_READ, IS_UPDATE = int(Direction.READ), int(Direction.UPDATE)


@inner
def foot_of(m: Ints, view: int) -> int:
    """Return the address of the footprint of a view."""
    return int(m[w.M_FOOT] + view * w.F_WORDS)


@inner
def inside(m: Ints, foot: int, address: int) -> bool:
    """Say whether a view at `address` lies in its buffer or tensor; a view of a ring always does."""
    low = address + m[foot + w.F_OFF]
    within = low >= m[foot + w.F_LOW] and low + m[foot + w.F_SPAN] <= m[foot + w.F_HIGH]
    return bool(m[foot + w.F_RING] > 0 or within)


@inner
def _place(m: Ints, i: int, row: int, word: int, j: int) -> bool:
    """Put the place of the view whose words begin at `word` into slot j; False where it leaves its object."""
    foot = foot_of(m, m[word])
    address = m[word + 1] + evaluate(m, i, m[word + 2])
    wrong = w.NOTHING
    if not inside(m, foot, address):
        wrong = w.WRONG_ADDRESS
    elif address & ((1 << m[foot + w.F_ITEM]) - 1) != 0:
        wrong = w.WRONG_ALIGNMENT
    if wrong != w.NOTHING:
        m[w.X_ERROR_VIEW], m[w.X_ERROR_VALUE] = m[word], address
        fail(m, i, row, wrong)
        return False
    m[w.X_PLACES + j] = place_of(m, foot, address)
    return True


@inner
def _scalar(m: Ints, foot: int) -> int:
    """Return the address of the footprint of the byte that holds a view's bias, 0 if the view states it itself."""
    return foot_of(m, m[foot + w.F_SCALAR]) if m[foot + w.F_SCALAR] != 0 else 0


@inner
def _reads(s: State, i: int, row: int, foot: int, low: int) -> None:
    node = i // s.m[w.M_THREADS]
    check_read(s, foot, low, node, row)
    access(s, i, foot, low, node, i, own_tick(s.m, i), w.READ, row)


@inner
def compute(s: State, i: int, row: int, op: int) -> int:
    """A matrix or vector instruction, or a probe: reads, then writes, all in the order of its thread."""
    m = s.m
    c = m[w.M_CODE] + row * isa.CODE_WORDS
    node, views = i // m[w.M_THREADS], m[op + w.O_VIEWS]
    replaces = m[op + w.O_KEEP] != 0 and m[c + m[op + w.O_KEEP]] == 0  # a matmul that does not accumulate
    for j in range(views):
        if not _place(m, i, row, c + m[op + w.O_VIEW + 3 * j], j):
            return w.FAIL
    for j in range(views):
        v = op + w.O_VIEW + 3 * j
        foot, low, direction = foot_of(m, m[c + m[v]]), m[w.X_PLACES + j], m[v + 1]
        if m[v + 2] != 0 and m[foot + w.F_SCALAR] != 0:
            _reads(s, i, row, _scalar(m, foot), m[foot + w.F_SCALAR_AT])
        if direction == IS_READ:
            _reads(s, i, row, foot, low)
        elif direction == IS_UPDATE and not replaces:
            check_read(s, foot, low, node, row)
    for j in range(views):
        v = op + w.O_VIEW + 3 * j
        foot, low = foot_of(m, m[c + m[v]]), m[w.X_PLACES + j]
        if m[v + 1] != IS_READ:
            access(s, i, foot, low, node, i, own_tick(m, i), w.WRITE, row)
            mark_written(s, foot, low, node)
            for k in range(views):
                u = op + w.O_VIEW + 3 * k
                other, there = foot_of(m, m[c + m[u]]), m[w.X_PLACES + k]
                in_place = m[op + w.O_PLACE] != 0 and foot == other and low == there
                if m[u + 1] == IS_READ and not in_place:
                    own_overlap(m, foot, low, other, there, node, row)
                if m[u + 2] != 0 and m[other + w.F_SCALAR] != 0:
                    own_overlap(m, foot, low, _scalar(m, other), m[other + w.F_SCALAR_AT], node, row)
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
def _semaphore(m: Ints, i: int, row: int, word: int) -> int:
    """Return the semaphore of an operand, -1 for none, -2 for one that the program does not have."""
    if m[word] == -1:
        return -1
    sem = m[word] + evaluate(m, i, m[word + 1])
    if sem < 0 or sem >= m[w.M_SEMS]:
        m[w.X_ERROR_VALUE] = sem
        fail(m, i, row, w.WRONG_SEM)
        return -2
    return int(sem)


@inner
def move(s: State, i: int, row: int, kind: int) -> int:
    """A copy or a pull: its read and each of its writes are events of agents of their own.

    A copy reads here and writes on every node of its target; a pull reads on the node it names and writes here. Its
    `sent` fires where it reads, `done` wherever it writes.
    """
    m = s.m
    c = m[w.M_CODE] + row * isa.CODE_WORDS
    node, sems, cols = i // m[w.M_THREADS], m[w.M_SEMS], m[w.M_COLS]
    dst, src = foot_of(m, m[c + COPY_DST]), foot_of(m, m[c + COPY_SRC])
    if not _place(m, i, row, c + COPY_DST, 0) or not _place(m, i, row, c + COPY_SRC, 1):
        return w.FAIL
    into, out_of = m[w.X_PLACES], m[w.X_PLACES + 1]
    done, sent = _semaphore(m, i, row, c + COPY_DONE), _semaphore(m, i, row, c + COPY_SENT)
    if done < -1 or sent < -1:
        return w.FAIL
    stores = m[dst + w.F_SPACE] == isa.SPACE_MEMORY
    r0, r1, c0, c1 = rectangle(m, i, m[c + COPY_TO])
    there = r0 * cols + c0
    alone = r0 == r1 and c0 == c1
    if r1 < 0 or (stores and not (alone and there == node)) or (kind == w.C_PULL and not alone):
        return fail(m, i, row, w.WRONG_TARGET)
    reader = there if kind == w.C_PULL else node
    if kind == w.C_PULL:
        r0, c0, r1, c1 = node // cols, node % cols, node // cols, node % cols
    if done < 0 and not (stores and sent >= 0):
        hit(m, w.HIT_UNAWAITED, m[dst + w.F_GROUP], site_of(m, row), w.NO_ROW, node, w.NOTHING, w.NOTHING, w.NOTHING,
            w.NOTHING)  # fmt: skip
    tick = own_tick(m, i)
    base = tell(m, i) if done >= 0 or sent >= 0 else 0
    width = c1 - c0 + 1
    targets = (r1 - r0 + 1) * width
    first = m[w.X_EVENTS]  # its writes are the events from here on, then comes its read
    m[w.X_EVENTS] += targets + 1
    check_read(s, src, out_of, reader, row)
    comp = w.COPIED if sent >= 0 else w.NEVER
    many = targets if done >= 0 else 0
    own = access(s, i, src, out_of, reader, comp, first + targets, w.READ, row, first, many)
    if dst == src and into == out_of:
        own = -own  # a multicast that includes its issuer rewrites these bytes with themselves
    hold = m[w.X_MODE] >= 2 and (sent != done or reader != node)
    if sent >= 0:
        key = reader * sems + sent
        _send(s, fire(m, key, base, i, tick, comp, first + targets, row, w.WRITE, w.TOKEN_SENT), hold)
    comp = w.COPIED if done >= 0 else w.NEVER
    for j in range(targets):
        there = (r0 + j // width) * cols + c0 + j % width
        access(s, i, dst, into, there, comp, first + j, w.WRITE, row, w.NOTHING, w.NOTHING, own)
        mark_written(s, dst, into, there)
        if done >= 0:
            key = there * sems + done
            _send(s, fire(m, key, base, i, tick, comp, first + j, row, w.WRITE, w.TOKEN_DONE), hold)
    return w.GO_ON
