"""Memory ports: oldest request first among the routers that can take a packet now; rates are exact fractions."""

from __future__ import annotations

from accel.timing.compiled import njit
from accel.timing.network import enqueue, freed, moved, occupy, settle, wake
from accel.timing.state import (
    C_ENTRY,
    C_FROM,
    C_KIND,
    C_LEFT,
    C_NEXT,
    C_NODE,
    C_SERIAL,
    COPY_PULL,
    CYCLES_MASK,
    E_COL,
    E_FREE_OUT,
    E_LINK,
    E_LINK_BYTES,
    E_PORT,
    E_READ,
    E_READ_TAIL,
    E_ROW,
    E_WRITE,
    ENTRY_WORDS,
    EV_DONE,
    EV_PACKET,
    EV_SENT,
    K_BIN,
    K_HOP,
    K_LINK_BYTES,
    K_PACKET,
    N_SITE_COL,
    N_SITE_ROW,
    P_COPY,
    P_LINK,
    P_NEXT,
    P_PENDING,
    P_SEM,
    P_SIZE,
    P_SLOT,
    Q_CLOCK,
    Q_COST,
    Q_COUNT,
    Q_EDGE_COST,
    Q_EDGE_IN,
    Q_EDGE_OUT,
    Q_FIRST,
    Q_FREE,
    Q_LATENCY,
    Q_READ,
    Q_WAKE,
    Q_WRITTEN,
    S_EVENTS,
    S_NOW,
    S_SERIAL,
    SIZE_BYTES,
    SIZE_CYCLES,
    UNKNOWN,
    X_FREE,
    X_SLOT,
    Words,
)
from accel.timing.wheel import allocate, push, recycle

__all__ = ["hops_to_entry", "request", "serve"]

NEVER = 1 << 62


@njit
def hops_to_entry(m: Words, node: int, entry: int) -> int:
    """Return the links between a node and a port router."""
    return abs(m[entry + E_ROW] - m[node + N_SITE_ROW]) + abs(m[entry + E_COL] - m[node + N_SITE_COL])


@njit
def request(m: Words, c: int) -> None:
    """A request has reached where its data lies: queue it at its port's router, or at the node that a pull reads."""
    if m[c + C_KIND] == COPY_PULL:
        enqueue(m, m[c + C_FROM], c)
        return
    entry = m[c + C_ENTRY]
    m[c + C_SERIAL] = m[S_SERIAL]
    m[S_SERIAL] += 1
    m[c + C_NEXT] = 0
    if m[entry + E_READ] == 0:
        m[entry + E_READ] = c
    else:
        m[m[entry + E_READ_TAIL] + C_NEXT] = c
    m[entry + E_READ_TAIL] = c
    wake(m, m[entry + E_PORT], m[S_NOW])


@njit
def serve(m: Words, port: int) -> None:
    """Serve packets of a port as long as it is free within this cycle; then say when to look again."""
    now, clock = m[S_NOW], m[port + Q_CLOCK]
    if m[port + Q_WAKE] != now:
        return  # an earlier look has replaced this one
    m[port + Q_WAKE] = -1
    while True:
        if m[port + Q_FREE] >= (now + 1) * clock:
            wake(m, port, m[port + Q_FREE] // clock)
            return
        best, oldest, soonest, writing = 0, NEVER, NEVER, False
        edge_in = max(now, m[port + Q_EDGE_IN] // clock)
        edge_out = max(now, m[port + Q_EDGE_OUT] // clock)
        entry = m[port + Q_FIRST]
        for _ in range(m[port + Q_COUNT]):
            c = m[entry + E_READ]
            if c != 0:
                link = m[entry + E_LINK]
                slot = m[m[link + X_SLOT]]
                if slot != UNKNOWN:
                    # the link must be free when the head can leave, which may be later than when the memory begins
                    ready = max(edge_in, max(slot, m[link + X_FREE]) - head_delay(m, port, entry, c))
                    if ready > now:
                        soonest = min(soonest, ready)
                    elif m[c + C_SERIAL] < oldest:
                        best, oldest, writing = entry, m[c + C_SERIAL], False
            e = m[entry + E_WRITE]
            if e != 0:
                ready = max(edge_out, m[entry + E_FREE_OUT])
                if ready > now:
                    soonest = min(soonest, ready)
                elif m[e + P_PENDING] < oldest:
                    best, oldest, writing = entry, m[e + P_PENDING], True
            entry += ENTRY_WORDS
        if best == 0:
            if soonest < NEVER:
                wake(m, port, soonest)
            return
        if writing:
            write_packet(m, port, best)
        else:
            read_packet(m, port, best)


@njit
def head_delay(m: Words, port: int, entry: int, c: int) -> int:
    """Return for how many cycles the next packet of a read stays behind the memory, which is slower than its link."""
    count = min(m[c + C_LEFT], m[K_PACKET])
    own = (count + m[entry + E_LINK_BYTES] - 1) // m[entry + E_LINK_BYTES]
    clock = m[port + Q_CLOCK]
    begin = max(m[port + Q_FREE], m[port + Q_EDGE_IN], m[S_NOW] * clock)
    finish = begin + count * max(m[port + Q_COST], m[port + Q_EDGE_COST])
    return max(0, (max(begin, finish - own * clock) + clock - 1) // clock - m[S_NOW])


@njit
def read_packet(m: Words, port: int, entry: int) -> None:
    """Take the next packet of the request at the head of a router's queue into the mesh."""
    now, clock, link = m[S_NOW], m[port + Q_CLOCK], m[entry + E_LINK]
    c = m[entry + E_READ]
    count = min(m[c + C_LEFT], m[K_PACKET])
    m[c + C_LEFT] -= count
    last = 1 if m[c + C_LEFT] == 0 else 0
    begin = max(m[port + Q_FREE], m[port + Q_EDGE_IN], now * clock)
    m[port + Q_FREE] = begin + count * m[port + Q_COST]
    m[port + Q_EDGE_IN] = begin + count * m[port + Q_EDGE_COST]
    m[port + Q_READ] += count
    own = (count + m[entry + E_LINK_BYTES] - 1) // m[entry + E_LINK_BYTES]
    cycles = (count + m[K_LINK_BYTES] - 1) // m[K_LINK_BYTES]
    finish = max(m[port + Q_FREE], m[port + Q_EDGE_IN])
    head = (max(begin, finish - own * clock) + clock - 1) // clock  # its tail may not overtake the memory's last byte
    e = allocate(m, EV_PACKET)
    size = (count << SIZE_BYTES) | (cycles << SIZE_CYCLES) | last
    m[e + P_COPY] = c
    m[e + P_SIZE] = size
    start = occupy(m, link, head, own, size, e)
    push(m, start + max(0, own - cycles), e)
    if last == 1:
        m[entry + E_READ] = m[c + C_NEXT]
        e = allocate(m, EV_SENT)
        m[e + P_COPY] = c
        push(m, start + own, e)


@njit
def write_packet(m: Words, port: int, entry: int) -> None:
    """Take the packet at the head of a router's write queue into the memory; the last one is acknowledged."""
    now, clock = m[S_NOW], m[port + Q_CLOCK]
    e = m[entry + E_WRITE]
    m[entry + E_WRITE] = m[e + P_NEXT]
    count = m[e + P_SIZE] >> SIZE_BYTES
    begin = max(m[port + Q_FREE], m[port + Q_EDGE_OUT], now * clock)
    m[port + Q_FREE] = begin + count * m[port + Q_COST]
    m[port + Q_EDGE_OUT] = begin + count * m[port + Q_EDGE_COST]
    m[port + Q_WRITTEN] += count
    m[entry + E_FREE_OUT] = now + (count + m[entry + E_LINK_BYTES] - 1) // m[entry + E_LINK_BYTES]
    tail = now + ((m[e + P_SIZE] >> SIZE_CYCLES) & CYCLES_MASK)  # the last byte comes in at the mesh's rate
    end = max(tail, m[entry + E_FREE_OUT], (max(m[port + Q_FREE], m[port + Q_EDGE_OUT]) + clock - 1) // clock)
    m[S_EVENTS] += 1
    if m[K_BIN] != 0:  # what the memory takes has no link of its own: its lanes lie behind those of the links
        moved(m, entry, begin // clock, max(1, end - begin // clock), m[e + P_SIZE])
    if m[e + P_SIZE] & 1:
        c = m[e + P_COPY]
        node = m[c + C_NODE]
        done = allocate(m, EV_DONE)
        m[done + P_COPY] = c
        m[done + P_SEM] = node
        push(m, end + m[port + Q_LATENCY] + hops_to_entry(m, node, entry) * m[K_HOP], done)
    recycle(m, e)
    freed(m, m[e + P_SLOT], m[e + P_LINK], end)
    settle(m)
