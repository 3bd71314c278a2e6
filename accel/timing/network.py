"""Packets on the mesh: XY multicast trees, links with a free time, finite input buffers with back-pressure.

A packet that reaches a router asks for each link of its tree there. A link starts it at the latest of: its head is
here, the link is free, the next buffer slot at the far end is free. All three are known in most cases, so a hop is one
event. Where the slot is not (its packet waits itself) the request joins the link's list and is woken in the moment the
slot's release becomes known. No deadlock: a packet holds one slot, and each of its branches goes on without the
others, so slot waits for slot only along XY order (east/west before north/south, never back), which has no cycle;
ejection ports always drain, and a memory port drains because its service waits for nothing but its own clocks.
"""

from __future__ import annotations

from accel.timing.compiled import njit
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
    E_READ,
    E_WRITE,
    E_WRITE_TAIL,
    EAST,
    ENTER,
    EV_DONE,
    EV_PACKET,
    EV_PORT,
    EV_SENT,
    INJECT,
    K_BIN,
    K_HOP,
    K_LINK_BYTES,
    K_LINK_WORDS,
    K_MESH_BYTES,
    K_PACKET,
    MOVE_BYTES,
    MOVE_CYCLES,
    MOVE_LANE,
    MOVE_START,
    MOVE_WORDS,
    N_HEAD,
    N_INJECT,
    N_TAIL,
    NORTH,
    P_COPY,
    P_LINK,
    P_NEXT,
    P_NODE,
    P_PARENT,
    P_PENDING,
    P_RELEASE,
    P_SEM,
    P_SIZE,
    P_SLOT,
    Q_WAKE,
    S_EVENTS,
    S_MOVES,
    S_NOW,
    S_SERIAL,
    S_STACK,
    SIZE_BYTES,
    SIZE_CYCLES,
    SOUTH,
    UNKNOWN,
    WEST,
    X_BYTES,
    X_COL,
    X_EJECT,
    X_ENTRY,
    X_FREE,
    X_HEAD,
    X_NODE,
    X_NODE_COL,
    X_NODE_ROW,
    X_RING,
    X_RING_END,
    X_ROUTER,
    X_ROW,
    X_SLOT,
    X_STACK,
    X_TAIL,
    X_WAY,
    Words,
)
from accel.timing.wheel import allocate, push, recycle

__all__ = ["arrive", "enqueue", "freed", "inject", "moved", "occupy", "settle", "wake"]


@njit
def wake(m: Words, port: int, t: int) -> None:
    """Have a memory port look for work in cycle t, unless it does so earlier anyway."""
    pending = m[port + Q_WAKE]
    if pending >= 0 and pending <= t:
        return
    m[port + Q_WAKE] = t
    e = allocate(m, EV_PORT)
    m[e + P_NODE] = port
    push(m, t, e)


@njit
def moved(m: Words, lane: int, start: int, cycles: int, size: int) -> None:
    """Note a transfer in a recording run: as little code as can be, for it stands in the path of every packet."""
    at = m[S_MOVES]
    m[at + MOVE_LANE] = lane
    m[at + MOVE_START] = start
    m[at + MOVE_CYCLES] = cycles
    m[at + MOVE_BYTES] = size
    m[S_MOVES] = at + MOVE_WORDS


@njit
def occupy(m: Words, link: int, t: int, cycles: int, size: int, e: int) -> int:
    """Start packet e on a link whose next slot has a known release, from cycle t on; returns its first cycle."""
    slot = m[link + X_SLOT]
    start = max(t, m[link + X_FREE], m[slot])
    m[link + X_FREE] = start + cycles
    m[slot] = UNKNOWN
    m[link + X_SLOT] = slot + 1 if slot + 1 < m[link + X_RING_END] else link + X_RING
    m[link + X_BYTES] += size >> SIZE_BYTES
    m[e + P_LINK] = link
    m[e + P_SLOT] = slot
    if m[K_BIN] != 0:
        moved(m, link, start, cycles, size)
    return start


@njit
def grant(m: Words, e: int, link: int) -> int:
    """Send a packet over a mesh link; returns the cycle in which its tail has left."""
    size = m[e + P_SIZE]
    cycles = (size >> SIZE_CYCLES) & CYCLES_MASK
    start = occupy(m, link, m[S_NOW], cycles, size, e)
    m[S_EVENTS] += 1
    push(m, start + m[K_HOP], e)
    return start + cycles


@njit
def freed(m: Words, slot: int, link: int, t: int) -> None:
    """The release of a buffer slot of a link is known to be cycle t; whoever waits for it goes on the stack."""
    m[slot] = t
    way = m[link + X_WAY]
    if way == ENTER:
        ready = m[m[link + X_SLOT]]
        if ready != UNKNOWN and m[m[link + X_ENTRY] + E_READ] != 0:
            wake(m, m[m[link + X_ENTRY] + E_PORT], max(m[S_NOW], ready, m[link + X_FREE]))
    elif m[link + X_STACK] < 0:
        waiting = m[m[link + X_NODE] + N_HEAD] if way == INJECT else m[link + X_HEAD]
        if waiting != 0:
            m[link + X_STACK] = m[S_STACK]
            m[S_STACK] = link


@njit
def depart(m: Words, parent: int, end: int) -> None:
    """A branch of `parent` has left its router by `end`; the last one to be known frees the slot."""
    m[parent + P_RELEASE] = max(m[parent + P_RELEASE], end)
    m[parent + P_PENDING] -= 1
    if m[parent + P_PENDING] == 0:
        recycle(m, parent)
        freed(m, m[parent + P_SLOT], m[parent + P_LINK], m[parent + P_RELEASE])


@njit
def settle(m: Words) -> None:
    """Start whoever waited for slots that have become known; each start may free a slot further back."""
    while m[S_STACK] != 0:
        link = m[S_STACK]
        m[S_STACK] = m[link + X_STACK]
        m[link + X_STACK] = -1
        if m[link + X_WAY] == INJECT:
            inject(m, m[link + X_NODE])
            continue
        while m[link + X_HEAD] != 0 and m[m[link + X_SLOT]] != UNKNOWN:
            e = m[link + X_HEAD]
            m[link + X_HEAD] = m[e + P_NEXT]
            parent = m[e + P_PARENT]
            depart(m, parent, grant(m, e, link))


@njit
def inject(m: Words, node: int) -> None:
    """Send packets of the node's copies through its mesh port, in order, as far as buffer slots are known."""
    link = m[node + N_INJECT]
    while m[node + N_HEAD] != 0 and m[m[link + X_SLOT]] != UNKNOWN:
        c = m[node + N_HEAD]
        count = min(m[c + C_LEFT], m[K_PACKET])
        m[c + C_LEFT] -= count
        last = 1 if m[c + C_LEFT] == 0 else 0
        cycles = (count + m[K_LINK_BYTES] - 1) // m[K_LINK_BYTES]
        own = (count + m[K_MESH_BYTES] - 1) // m[K_MESH_BYTES]
        e = allocate(m, EV_PACKET)
        size = (count << SIZE_BYTES) | (cycles << SIZE_CYCLES) | last
        m[e + P_COPY] = c
        m[e + P_SIZE] = size
        start = occupy(m, link, m[S_NOW], own, size, e)
        push(m, start + max(0, own - cycles), e)  # its tail may not overtake the mesh port
        if last == 1:
            m[node + N_HEAD] = m[c + C_NEXT]
            e = allocate(m, EV_SENT)
            m[e + P_COPY] = c
            push(m, start + own, e)


@njit
def enqueue(m: Words, node: int, c: int) -> None:
    """Put a copy at the end of the send queue of the node whose SRAM it reads."""
    m[c + C_NEXT] = 0
    if m[node + N_HEAD] == 0:
        m[node + N_HEAD] = c
    else:
        m[m[node + N_TAIL] + C_NEXT] = c
    m[node + N_TAIL] = c
    inject(m, node)


@njit
def branch(m: Words, parent: int, link: int) -> None:
    """Ask for a link on behalf of a packet at the router before it."""
    e = allocate(m, EV_PACKET)
    m[e + P_COPY] = m[parent + P_COPY]
    m[e + P_SIZE] = m[parent + P_SIZE]
    m[parent + P_PENDING] += 1
    if m[link + X_HEAD] == 0 and m[m[link + X_SLOT]] != UNKNOWN:
        depart(m, parent, grant(m, e, link))
        return
    m[e + P_PARENT] = parent
    m[e + P_NEXT] = 0
    if m[link + X_HEAD] == 0:
        m[link + X_HEAD] = e
    else:
        m[m[link + X_TAIL] + P_NEXT] = e
    m[link + X_TAIL] = e


@njit
def arrive(m: Words, e: int) -> None:
    """The head of packet e is in the buffer of a router: deliver it here and fork it along its tree."""
    c, link = m[e + P_COPY], m[e + P_LINK]
    row, col, way = m[link + X_ROW], m[link + X_COL], m[link + X_WAY]
    writing = m[c + C_KIND] == COPY_WRITE
    if writing:
        here = col == m[c + C_SITE_COL0]
        local = here and row == m[c + C_SITE_ROW0]
    else:
        here = m[c + C_COL0] <= m[link + X_NODE_COL] <= m[c + C_COL1]
        local = here and m[c + C_ROW0] <= m[link + X_NODE_ROW] <= m[c + C_ROW1]
    if writing and local:
        leave(m, e, m[c + C_ENTRY])
        return
    straight = way != SOUTH and way != NORTH  # noqa: PLR1714 - a set costs the compiler more
    east = straight and way != WEST and col < m[c + C_SITE_COL1]
    west = straight and way != EAST and col > m[c + C_SITE_COL0]
    south = here and way != NORTH and row < m[c + C_SITE_ROW1]
    north = here and way != SOUTH and row > m[c + C_SITE_ROW0]
    router, words = m[link + X_ROUTER], m[K_LINK_WORDS]
    end = 0
    if local:
        end = eject(m, e, m[link + X_EJECT], m[link + X_NODE])
    count = (1 if east else 0) + (1 if west else 0) + (1 if south else 0) + (1 if north else 0)
    if count == 1:
        out = router if east else router + words if west else router + 2 * words if south else router + 3 * words
        if m[out + X_HEAD] == 0 and m[m[out + X_SLOT]] != UNKNOWN:
            slot = m[e + P_SLOT]  # the record goes on itself
            end = max(end, grant(m, e, out))
            freed(m, slot, link, end)
            settle(m)
            return
    m[e + P_RELEASE] = end
    m[e + P_PENDING] = 1  # held until every branch has asked
    if east:
        branch(m, e, router)
    if west:
        branch(m, e, router + words)
    if south:
        branch(m, e, router + 2 * words)
    if north:
        branch(m, e, router + 3 * words)
    depart(m, e, 0)
    settle(m)


@njit
def eject(m: Words, e: int, link: int, node: int) -> int:
    """Move a packet into a node through its mesh port, and return when it is in; the last of a copy says so."""
    size = m[e + P_SIZE]
    cycles = max((size >> SIZE_CYCLES) & CYCLES_MASK, ((size >> SIZE_BYTES) + m[K_MESH_BYTES] - 1) // m[K_MESH_BYTES])
    end = max(m[S_NOW], m[link + X_FREE]) + cycles
    m[link + X_FREE] = end
    m[link + X_BYTES] += size >> SIZE_BYTES
    if m[K_BIN] != 0:
        moved(m, link, end - cycles, cycles, size)
    m[S_EVENTS] += 1
    if size & 1:
        done = allocate(m, EV_DONE)
        m[done + P_COPY] = m[e + P_COPY]
        m[done + P_SEM] = node
        push(m, end, done)
    return end


@njit
def leave(m: Words, e: int, entry: int) -> None:
    """Queue a packet at a memory port for writing; it keeps its buffer slot until the port has taken it."""
    m[e + P_PENDING] = m[S_SERIAL]
    m[S_SERIAL] += 1
    m[e + P_NEXT] = 0
    if m[entry + E_WRITE] == 0:
        m[entry + E_WRITE] = e
    else:
        m[m[entry + E_WRITE_TAIL] + P_NEXT] = e
    m[entry + E_WRITE_TAIL] = e
    wake(m, m[entry + E_PORT], m[S_NOW])
