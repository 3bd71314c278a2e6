"""Start of a copy: its source, route and destinations, evaluated on the issuing thread."""

from __future__ import annotations

from accel.isa.layout import CODE_WORDS
from accel.isa.table import BY_MNEMONIC
from accel.timing.compiled import njit
from accel.timing.decode import fail, operand, rectangle
from accel.timing.network import enqueue
from accel.timing.ports import hops_to_entry
from accel.timing.state import (
    BAD_OWNER,
    BAD_SEMAPHORE,
    BAD_TARGET,
    C_COL0,
    C_COL1,
    C_DONE,
    C_ENTRY,
    C_FROM,
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
    COPY_MESH,
    COPY_PULL,
    COPY_READ,
    COPY_WRITE,
    E_COL,
    E_PORT,
    E_ROW,
    ENTRY_WORDS,
    EV_REQUEST,
    G_KIND,
    G_REF,
    K_COLS,
    K_HEADER,
    K_HOP,
    K_INTERLEAVE,
    K_PORTS,
    K_SEMAPHORES,
    LOG_COPY_MEMORY,
    LOG_COPY_MESH,
    N_COL,
    N_COPIES,
    N_ROW,
    N_SITE_COL,
    N_SITE_ROW,
    NODE_WORDS,
    O_CODE,
    O_COL_SITE,
    O_NODES,
    O_PORTS,
    O_ROW_SITE,
    O_ROWS,
    P_COPY,
    PORT_WORDS,
    Q_COUNT,
    Q_FIRST,
    Q_INTERLEAVE,
    Q_LATENCY,
    R_BYTES,
    R_COPY,
    ROW_WORDS,
    S_COPY_COUNT,
    S_COPY_FREE,
    S_NOW,
    SIDE_BITS,
    T_NODE,
    T_PC,
    Log,
    Words,
)
from accel.timing.wheel import allocate, push

__all__ = ["copy_entry", "start_copy", "target_of"]

_COPY = BY_MNEMONIC["copy"]
DST, SRC, TO = _COPY.word("dst"), _COPY.word("src"), _COPY.word("to")
DONE_SEM, SENT_SEM = _COPY.word("done"), _COPY.word("sent")


@njit
def copy_entry(m: Words, th: int, kind: int, row: int, col: int) -> int:
    """Return the port router of the memory copy at the thread's counter.

    The one in physical row `row`, else (or row -1) by address block plus `col`, the first column of the destination:
    panels for neighbouring columns lie in one block of a row-major tensor and would otherwise share one link. Blocks
    of the first port's interleave rotate over the ports; a copy is served by the port of its first byte, and the blocks
    of one port rotate over its routers.
    """
    word = (SRC if kind == COPY_READ else DST) + 1
    address = operand(m, m[O_CODE] + m[th + T_PC] * CODE_WORDS + word, th)
    port = m[O_PORTS] + (address // m[K_INTERLEAVE]) % m[K_PORTS] * PORT_WORDS
    first, count = m[port + Q_FIRST], m[port + Q_COUNT]
    if row >= 0:
        for i in range(count):
            if m[first + i * ENTRY_WORDS + E_ROW] == row:
                return first + i * ENTRY_WORDS
    return first + (address // m[port + Q_INTERLEAVE] // m[K_PORTS] + col) % count * ENTRY_WORDS


@njit
def target_of(m: Words, th: int, kind: int) -> tuple[int, int, int, int]:
    """Return the target rectangle of the copy at the thread's counter; first row -1 where the run ends in an error."""
    node = m[th + T_NODE]
    r0, r1, c0, c1 = rectangle(m, m[m[O_CODE] + m[th + T_PC] * CODE_WORDS + TO], th)
    alone = r0 == r1 and c0 == c1
    if r0 < 0 or (kind == COPY_WRITE and not (alone and r0 == m[node + N_ROW] and c0 == m[node + N_COL])):
        fail(m, BAD_TARGET, th, 0)
        return -1, -1, -1, -1
    if kind == COPY_PULL and not alone:
        fail(m, BAD_OWNER, th, 0)
        return -1, -1, -1, -1
    return r0, r1, c0, c1


@njit
def semaphore(m: Words, at: int, th: int) -> int:
    """Return the semaphore that a copy's operand at address `at` names, -1 if it names none."""
    if m[at] < 0:
        return -1
    sem = operand(m, at, th)
    if sem < 0 or sem >= m[K_SEMAPHORES]:
        fail(m, BAD_SEMAPHORE, th, sem)
        return -1
    return sem


@njit
def start_copy(m: Words, g: Log, th: int, entry: int) -> None:
    """Start the copy at the thread's counter: into its node's send queue, or as a request on its way to a port."""
    node, pc = m[th + T_NODE], m[th + T_PC]
    code, row = m[O_CODE] + pc * CODE_WORDS, m[O_ROWS] + pc * ROW_WORDS
    kind = m[row + R_COPY]
    r0, r1, c0, c1 = target_of(m, th, kind)
    if r0 < 0:
        return
    done, sent = semaphore(m, code + DONE_SEM, th), semaphore(m, code + SENT_SEM, th)
    in_mesh = kind == COPY_MESH or kind == COPY_PULL  # noqa: PLR1714 - a set costs the compiler more
    g[entry, G_KIND] = LOG_COPY_MESH if in_mesh else LOG_COPY_MEMORY
    g[entry, G_REF] = -2 - (((r0 << SIDE_BITS | r1) << SIDE_BITS | c0) << SIDE_BITS | c1)
    c = m[S_COPY_FREE]
    m[S_COPY_FREE] = m[c + C_NEXT]
    m[S_COPY_COUNT] -= 1
    m[c + C_NEXT] = 0
    m[c + C_NODE] = node
    m[c + C_FROM] = node
    m[c + C_LOG] = entry
    m[c + C_KIND] = kind
    m[c + C_LEFT] = m[row + R_BYTES]
    m[c + C_DONE] = done
    m[c + C_SENT] = sent
    if kind == COPY_PULL:  # its target is where it reads, and it arrives where it was issued
        m[c + C_FROM] = m[O_NODES] + (r0 * m[K_COLS] + c0) * NODE_WORDS
        r0, r1, c0, c1 = m[node + N_ROW], m[node + N_ROW], m[node + N_COL], m[node + N_COL]
    m[c + C_ROW0] = r0
    m[c + C_ROW1] = r1
    m[c + C_COL0] = c0
    m[c + C_COL1] = c1
    m[c + C_LIVE] = 1 + (1 if kind == COPY_WRITE else (r1 - r0 + 1) * (c1 - c0 + 1))
    m[node + N_COPIES] += 1
    span(m, m[O_ROW_SITE], r0, r1, c + C_SITE_ROW0, c + C_SITE_ROW1)
    span(m, m[O_COL_SITE], c0, c1, c + C_SITE_COL0, c + C_SITE_COL1)
    if kind == COPY_READ:
        at = copy_entry(m, th, kind, m[c + C_SITE_ROW0] if r0 == r1 else -1, m[c + C_SITE_COL0])
        m[c + C_ENTRY] = at
        e = allocate(m, EV_REQUEST)
        m[e + P_COPY] = c
        push(m, m[S_NOW] + hops_to_entry(m, node, at) * m[K_HOP] + m[m[at + E_PORT] + Q_LATENCY], e)
        return
    if kind == COPY_PULL:
        owner = m[c + C_FROM]
        down = abs(m[node + N_SITE_ROW] - m[owner + N_SITE_ROW])
        across = abs(m[node + N_SITE_COL] - m[owner + N_SITE_COL])
        e = allocate(m, EV_REQUEST)
        m[e + P_COPY] = c
        push(m, m[S_NOW] + (down + across) * m[K_HOP] + m[K_HEADER], e)
        return
    if kind == COPY_WRITE:
        at = copy_entry(m, th, kind, m[node + N_SITE_ROW], m[node + N_SITE_COL])
        m[c + C_ENTRY] = at
        m[c + C_SITE_ROW0] = m[at + E_ROW]
        m[c + C_SITE_ROW1] = m[at + E_ROW]
        m[c + C_SITE_COL0] = m[at + E_COL]
        m[c + C_SITE_COL1] = m[at + E_COL]
    enqueue(m, node, c)


@njit
def span(m: Words, sites: int, first: int, last: int, low: int, high: int) -> None:
    """Write the least and the greatest physical index of a range of logical ones to the words `low` and `high`."""
    m[low] = m[sites + first]
    m[high] = m[sites + first]
    for i in range(first + 1, last + 1):
        m[low] = min(m[low], m[sites + i])
        m[high] = max(m[high], m[sites + i])
