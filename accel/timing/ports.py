"""Memory ports: oldest request first among the routers that can take a packet now; bandwidth kept as exact fractions."""

from __future__ import annotations

from accel.jit import njit
from accel.timing.network import settle, wake
from accel.timing.state import (
    C_ENTRY,
    C_LEFT,
    C_NEXT,
    C_NODE,
    C_SERIAL,
    E_LINK_BYTES,
    E_PORT,
    E_SITE,
    EV_DONE,
    EV_PACKET,
    EV_SENT,
    K_BUFFER,
    K_COLS,
    K_ENTER,
    K_HOP,
    K_LINK_BYTES,
    K_PACKET,
    K_SITE_COLS,
    P_COPY,
    P_KIND,
    P_LINK,
    P_NEXT,
    P_NODE,
    P_PENDING,
    P_RELEASE,
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
    S_STACK,
    SIZE_BYTES,
    SIZE_CYCLES,
    U_FREE_OUT,
    U_READ,
    U_READ_TAIL,
    U_WRITE,
    UNKNOWN,
    X_BYTES,
    X_FREE,
    X_RING,
    X_SLOT,
    State,
    Tables,
)
from accel.timing.wheel import allocate, push

__all__ = ["hops_between", "request", "serve"]

NEVER = 1 << 62


@njit
def hops_between(tab: Tables, site: int, node: int) -> int:
    """Return the links between a physical site and a logical node."""
    cols = tab.config[K_SITE_COLS]
    row = tab.row_site[node // tab.config[K_COLS]]
    col = tab.col_site[node % tab.config[K_COLS]]
    return abs(site // cols - row) + abs(site % cols - col)


@njit
def request(tab: Tables, st: State, c: int) -> None:
    """A read request has come back as data ready to be served: queue it at its router."""
    entry = st.copies[c, C_ENTRY]
    st.copies[c, C_SERIAL] = st.scalars[S_SERIAL]
    st.scalars[S_SERIAL] += 1
    st.copies[c, C_NEXT] = -1
    if st.queues[entry, U_READ] < 0:
        st.queues[entry, U_READ] = c
    else:
        st.copies[st.queues[entry, U_READ_TAIL], C_NEXT] = c
    st.queues[entry, U_READ_TAIL] = c
    wake(st, tab.entries[entry, E_PORT], st.scalars[S_NOW])


@njit
def serve(tab: Tables, st: State, q: int) -> None:
    """Serve packets of a port as long as it is free within this cycle; then say when to look again."""
    port, queues, links, now = st.ports[q], st.queues, st.links, st.scalars[S_NOW]
    if port[Q_WAKE] != now:
        return  # an earlier look has replaced this one
    port[Q_WAKE] = -1
    clock = port[Q_CLOCK]
    while True:
        if port[Q_FREE] >= (now + 1) * clock:
            wake(st, q, port[Q_FREE] // clock)
            return
        best, oldest, soonest, writing = -1, NEVER, NEVER, False
        edge_in = max(now, port[Q_EDGE_IN] // clock)
        edge_out = max(now, port[Q_EDGE_OUT] // clock)
        for entry in range(port[Q_FIRST], port[Q_FIRST] + port[Q_COUNT]):
            c = queues[entry, U_READ]
            if c >= 0:
                link = tab.config[K_ENTER] + entry
                slot = links[link, X_RING + links[link, X_SLOT]]
                if slot != UNKNOWN:
                    ready = max(edge_in, slot, links[link, X_FREE])
                    if ready > now:
                        soonest = min(soonest, ready)
                    elif st.copies[c, C_SERIAL] < oldest:
                        best, oldest, writing = entry, st.copies[c, C_SERIAL], False
            e = queues[entry, U_WRITE]
            if e >= 0:
                ready = max(edge_out, queues[entry, U_FREE_OUT])
                if ready > now:
                    soonest = min(soonest, ready)
                elif st.pool[e, P_PENDING] < oldest:
                    best, oldest, writing = entry, st.pool[e, P_PENDING], True
        if best < 0:
            if soonest < NEVER:
                wake(st, q, soonest)
            return
        if writing:
            write_packet(tab, st, q, best)
        else:
            read_packet(tab, st, q, best)


@njit
def read_packet(tab: Tables, st: State, q: int, entry: int) -> None:
    """Take the next packet of the request at the head of a router's queue into the mesh."""
    port, links, copies, config, now = st.ports[q], st.links, st.copies, tab.config, st.scalars[S_NOW]
    clock = port[Q_CLOCK]
    c = st.queues[entry, U_READ]
    count = min(copies[c, C_LEFT], config[K_PACKET])
    copies[c, C_LEFT] -= count
    last = 1 if copies[c, C_LEFT] == 0 else 0
    begin = max(port[Q_FREE], port[Q_EDGE_IN], now * clock)
    port[Q_FREE] = begin + count * port[Q_COST]
    port[Q_EDGE_IN] = begin + count * port[Q_EDGE_COST]
    port[Q_READ] += count
    link = config[K_ENTER] + entry
    own = -(-count // tab.entries[entry, E_LINK_BYTES])
    cycles = -(-count // config[K_LINK_BYTES])
    finish = max(port[Q_FREE], port[Q_EDGE_IN])
    start = -(-max(begin, finish - own * clock) // clock)  # its tail may not overtake the memory's last byte
    slot = links[link, X_SLOT]
    start = max(start, links[link, X_FREE], links[link, X_RING + slot])
    links[link, X_FREE] = start + own
    links[link, X_RING + slot] = UNKNOWN
    links[link, X_SLOT] = 0 if slot + 1 == config[K_BUFFER] else slot + 1
    links[link, X_BYTES] += count
    e = allocate(st)
    st.pool[e, P_KIND] = EV_PACKET
    st.pool[e, P_COPY] = c
    st.pool[e, P_SIZE] = (count << SIZE_BYTES) | (cycles << SIZE_CYCLES) | last
    st.pool[e, P_LINK] = link
    st.pool[e, P_SLOT] = slot
    push(st, start + max(0, own - cycles), e)
    if last:
        st.queues[entry, U_READ] = copies[c, C_NEXT]
        sent = allocate(st)
        st.pool[sent, P_KIND] = EV_SENT
        st.pool[sent, P_COPY] = c
        push(st, start + own, sent)


@njit
def write_packet(tab: Tables, st: State, q: int, entry: int) -> None:
    """Take the packet at the head of a router's write queue into the memory; the last one is acknowledged."""
    port, pool, now = st.ports[q], st.pool, st.scalars[S_NOW]
    clock = port[Q_CLOCK]
    e = st.queues[entry, U_WRITE]
    st.queues[entry, U_WRITE] = pool[e, P_NEXT]
    count = pool[e, P_SIZE] >> SIZE_BYTES
    begin = max(port[Q_FREE], port[Q_EDGE_OUT], now * clock)
    port[Q_FREE] = begin + count * port[Q_COST]
    port[Q_EDGE_OUT] = begin + count * port[Q_EDGE_COST]
    port[Q_WRITTEN] += count
    st.queues[entry, U_FREE_OUT] = now + -(-count // tab.entries[entry, E_LINK_BYTES])
    end = max(st.queues[entry, U_FREE_OUT], -(-max(port[Q_FREE], port[Q_EDGE_OUT]) // clock))
    st.scalars[S_EVENTS] += 1
    if pool[e, P_SIZE] & 1:
        c = pool[e, P_COPY]
        node = st.copies[c, C_NODE]
        done = allocate(st)
        pool[done, P_KIND] = EV_DONE
        pool[done, P_NODE] = c
        pool[done, P_SEM] = node
        back = hops_between(tab, tab.entries[entry, E_SITE], node) * tab.config[K_HOP]
        push(st, end + port[Q_LATENCY] + back, done)
    pool[e, P_RELEASE] = end
    pool[e, P_NEXT] = st.scalars[S_STACK]
    st.scalars[S_STACK] = e
    settle(tab, st)
