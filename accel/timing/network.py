"""Packets on the mesh: XY multicast trees, links with a free time, finite input buffers with back-pressure.

A packet that reaches a router asks for each link of its tree there. A link starts it at the latest of: its head is here,
the link is free, the next buffer slot at the far end is free. All three are known in most cases, so a hop is one event.
Where the slot is not (its packet waits itself) the request joins the link's list and is woken in the moment the slot's
release becomes known. No deadlock: a packet holds one slot, and each of its branches goes on without the others, so
slot waits for slot only along XY order (east/west before north/south, never back), which has no cycle; ejection ports
always drain, and a memory port drains because its service waits for nothing but its own clocks.
"""

from __future__ import annotations

from accel.jit import njit
from accel.timing.state import (
    C_COL0,
    C_COL1,
    C_ENTRY,
    C_KIND,
    C_LEFT,
    C_NEXT,
    C_ROW0,
    C_ROW1,
    C_SITE_COL0,
    C_SITE_COL1,
    C_SITE_ROW0,
    C_SITE_ROW1,
    COPY_WRITE,
    CYCLES_MASK,
    E_PORT,
    EAST,
    EV_DONE,
    EV_PACKET,
    EV_PORT,
    EV_SENT,
    K_BUFFER,
    K_COLS,
    K_EJECT,
    K_ENTER,
    K_HOP,
    K_INJECT,
    K_LINK_BYTES,
    K_MESH_BYTES,
    K_PACKET,
    K_SITE_COLS,
    N_HEAD,
    N_TAIL,
    NORTH,
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
    Q_WAKE,
    S_EVENTS,
    S_NOW,
    S_SERIAL,
    S_STACK,
    SIZE_BYTES,
    SIZE_CYCLES,
    SOUTH,
    U_WRITE,
    U_WRITE_TAIL,
    UNKNOWN,
    WEST,
    X_BYTES,
    X_FREE,
    X_HEAD,
    X_RING,
    X_SITE,
    X_SLOT,
    X_TAIL,
    State,
    Tables,
)
from accel.timing.wheel import allocate, push, recycle

__all__ = ["arrive", "inject", "settle", "wake"]


@njit
def wake(st: State, port: int, t: int) -> None:
    """Have a memory port look for work in cycle t, unless it does so earlier anyway."""
    pending = st.ports[port, Q_WAKE]
    if pending >= 0 and pending <= t:
        return
    st.ports[port, Q_WAKE] = t
    e = allocate(st)
    st.pool[e, P_KIND] = EV_PORT
    st.pool[e, P_NODE] = port
    push(st, t, e)


@njit
def grant(tab: Tables, st: State, e: int, link: int, t: int) -> int:
    """Start packet e on a link whose next slot has a known release; returns the cycle in which its tail leaves."""
    links, pool = st.links, st.pool
    size = pool[e, P_SIZE]
    slot = links[link, X_SLOT]
    start = max(t, links[link, X_FREE], links[link, X_RING + slot])
    end = start + ((size >> SIZE_CYCLES) & CYCLES_MASK)
    links[link, X_FREE] = end
    links[link, X_RING + slot] = UNKNOWN
    links[link, X_SLOT] = 0 if slot + 1 == tab.config[K_BUFFER] else slot + 1
    links[link, X_BYTES] += size >> SIZE_BYTES
    pool[e, P_LINK] = link
    pool[e, P_SLOT] = slot
    st.scalars[S_EVENTS] += 1
    push(st, start + tab.config[K_HOP], e)
    return end


@njit
def depart(st: State, parent: int, end: int) -> None:
    """A branch of `parent` leaves its router by `end`; the last one to be known makes the slot's release known."""
    pool = st.pool
    pool[parent, P_RELEASE] = max(pool[parent, P_RELEASE], end)
    pool[parent, P_PENDING] -= 1
    if pool[parent, P_PENDING] == 0:
        pool[parent, P_NEXT] = st.scalars[S_STACK]
        st.scalars[S_STACK] = parent


@njit
def branch(tab: Tables, st: State, parent: int, link: int) -> None:
    """Ask for a link on behalf of a packet at the router before it."""
    links, pool = st.links, st.pool
    e = allocate(st)
    pool[e, P_KIND] = EV_PACKET
    pool[e, P_COPY] = pool[parent, P_COPY]
    pool[e, P_SIZE] = pool[parent, P_SIZE]
    if links[link, X_HEAD] < 0 and links[link, X_RING + links[link, X_SLOT]] != UNKNOWN:
        depart(st, parent, grant(tab, st, e, link, st.scalars[S_NOW]))
        return
    pool[e, P_SLOT] = parent
    pool[e, P_NEXT] = -1
    if links[link, X_HEAD] < 0:
        links[link, X_HEAD] = e
    else:
        pool[links[link, X_TAIL], P_NEXT] = e
    links[link, X_TAIL] = e


@njit
def settle(tab: Tables, st: State) -> None:
    """Free the slots of all packets whose departure became known, and start whoever waited for them."""
    links, pool, config = st.links, st.pool, tab.config
    while st.scalars[S_STACK] >= 0:
        e = st.scalars[S_STACK]
        st.scalars[S_STACK] = pool[e, P_NEXT]
        link = pool[e, P_LINK]
        links[link, X_RING + pool[e, P_SLOT]] = pool[e, P_RELEASE]
        recycle(st, e)
        if link < config[K_INJECT]:
            while links[link, X_HEAD] >= 0 and links[link, X_RING + links[link, X_SLOT]] != UNKNOWN:
                waiting = links[link, X_HEAD]
                links[link, X_HEAD] = pool[waiting, P_NEXT]
                parent = pool[waiting, P_SLOT]
                depart(st, parent, grant(tab, st, waiting, link, st.scalars[S_NOW]))
        elif link < config[K_ENTER]:
            site = links[link, X_SITE]
            row = tab.site_row[site // config[K_SITE_COLS]]
            inject(tab, st, row * config[K_COLS] + tab.site_col[site % config[K_SITE_COLS]])
        else:
            ready = links[link, X_RING + links[link, X_SLOT]]
            if ready != UNKNOWN:
                t = max(st.scalars[S_NOW], ready, links[link, X_FREE])
                wake(st, tab.entries[link - config[K_ENTER], E_PORT], t)


@njit
def inject(tab: Tables, st: State, node: int) -> None:
    """Send packets of the node's copies through its mesh port, in order, as far as buffer slots are known."""
    links, pool, copies, config = st.links, st.pool, st.copies, tab.config
    site = tab.row_site[node // config[K_COLS]] * config[K_SITE_COLS] + tab.col_site[node % config[K_COLS]]
    link = config[K_INJECT] + site
    while st.nodes[node, N_HEAD] >= 0:
        slot = links[link, X_SLOT]
        ready = links[link, X_RING + slot]
        if ready == UNKNOWN:
            return
        c = st.nodes[node, N_HEAD]
        count = min(copies[c, C_LEFT], config[K_PACKET])
        copies[c, C_LEFT] -= count
        last = 1 if copies[c, C_LEFT] == 0 else 0
        cycles = -(-count // config[K_LINK_BYTES])
        own = -(-count // config[K_MESH_BYTES])
        start = max(st.scalars[S_NOW], links[link, X_FREE], ready)
        links[link, X_FREE] = start + own
        links[link, X_RING + slot] = UNKNOWN
        links[link, X_SLOT] = 0 if slot + 1 == config[K_BUFFER] else slot + 1
        links[link, X_BYTES] += count
        e = allocate(st)
        pool[e, P_KIND] = EV_PACKET
        pool[e, P_COPY] = c
        pool[e, P_SIZE] = (count << SIZE_BYTES) | (cycles << SIZE_CYCLES) | last
        pool[e, P_LINK] = link
        pool[e, P_SLOT] = slot
        push(st, start + max(0, own - cycles), e)
        if last:
            st.nodes[node, N_HEAD] = copies[c, C_NEXT]
            if copies[c, C_NEXT] < 0:
                st.nodes[node, N_TAIL] = -1
            sent = allocate(st)
            pool[sent, P_KIND] = EV_SENT
            pool[sent, P_COPY] = c
            push(st, start + own, sent)


@njit
def arrive(tab: Tables, st: State, e: int) -> None:
    """The head of packet e is in the buffer of a router: deliver it here and fork it along its tree."""
    links, pool, config = st.links, st.pool, tab.config
    copy = st.copies[pool[e, P_COPY]]
    link = pool[e, P_LINK]
    site = links[link, X_SITE]
    row = site // config[K_SITE_COLS]
    col = site - row * config[K_SITE_COLS]
    heading = link & 3 if link < config[K_INJECT] else -1
    pool[e, P_RELEASE] = 0
    pool[e, P_PENDING] = 1  # held until every branch has asked
    leaving = copy[C_KIND] == COPY_WRITE
    if leaving:
        here = col == copy[C_SITE_COL0]
    else:
        here = copy[C_COL0] <= tab.site_col[col] <= copy[C_COL1]
    base = 4 * site
    if heading < SOUTH:
        if heading != WEST and col < copy[C_SITE_COL1]:
            pool[e, P_PENDING] += 1
            branch(tab, st, e, base + EAST)
        if heading != EAST and col > copy[C_SITE_COL0]:
            pool[e, P_PENDING] += 1
            branch(tab, st, e, base + WEST)
    if here:
        if heading != NORTH and row < copy[C_SITE_ROW1]:
            pool[e, P_PENDING] += 1
            branch(tab, st, e, base + SOUTH)
        if heading != SOUTH and row > copy[C_SITE_ROW0]:
            pool[e, P_PENDING] += 1
            branch(tab, st, e, base + NORTH)
        if leaving:
            if row == copy[C_SITE_ROW0]:
                leave(tab, st, e, copy[C_ENTRY])
                return
        elif copy[C_ROW0] <= tab.site_row[row] <= copy[C_ROW1]:
            eject(tab, st, e, site, tab.site_row[row] * config[K_COLS] + tab.site_col[col])
    depart(st, e, 0)
    settle(tab, st)


@njit
def eject(tab: Tables, st: State, e: int, site: int, node: int) -> None:
    """Move a packet into a node through its mesh port; the last of a copy schedules its arrival."""
    links, pool, config = st.links, st.pool, tab.config
    size = pool[e, P_SIZE]
    link = config[K_EJECT] + site
    cycles = max((size >> SIZE_CYCLES) & CYCLES_MASK, -(-(size >> SIZE_BYTES) // config[K_MESH_BYTES]))
    end = max(st.scalars[S_NOW], links[link, X_FREE]) + cycles
    links[link, X_FREE] = end
    links[link, X_BYTES] += size >> SIZE_BYTES
    pool[e, P_RELEASE] = max(pool[e, P_RELEASE], end)
    st.scalars[S_EVENTS] += 1
    if size & 1:
        done = allocate(st)
        pool[done, P_KIND] = EV_DONE
        pool[done, P_NODE] = pool[e, P_COPY]
        pool[done, P_SEM] = node
        push(st, end, done)


@njit
def leave(tab: Tables, st: State, e: int, entry: int) -> None:
    """Queue a packet at a memory port for writing; it keeps its buffer slot until the port has taken it."""
    queues, pool = st.queues, st.pool
    pool[e, P_PENDING] = st.scalars[S_SERIAL]
    st.scalars[S_SERIAL] += 1
    pool[e, P_NEXT] = -1
    if queues[entry, U_WRITE] < 0:
        queues[entry, U_WRITE] = e
    else:
        pool[queues[entry, U_WRITE_TAIL], P_NEXT] = e
    queues[entry, U_WRITE_TAIL] = e
    wake(st, tab.entries[entry, E_PORT], st.scalars[S_NOW])
