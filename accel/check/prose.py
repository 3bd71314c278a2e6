"""Findings in words: one line each, both sides, an order of events that goes wrong, and the way out."""

from __future__ import annotations

from dataclasses import dataclass, field

from accel.check import layout as w
from accel.check.names import Names
from accel.errors import Finding, Location, Side
from accel.isa import layout as isa
from accel.isa.table import BY_MNEMONIC

__all__ = ["Entry", "told"]

_COPY = BY_MNEMONIC["copy"]  # a pull is laid out like it
_DONE, _SENT, _DST = _COPY.word("done"), _COPY.word("sent"), _COPY.word("dst")
READ_WRITE, WRITE_READ = 1, 2  # 2 * (the first access writes) + (the second writes)
_FIRING = {w.TOKEN_INC: "", w.TOKEN_DONE: "done of ", w.TOKEN_SENT: "sent of "}


@dataclass
class Entry:
    """One finding in the making; it is put in words when all its nodes are known."""

    kind: str  # as in Finding, or "rivals", "barrier": both are ambiguous
    first: int
    second: int
    facts: tuple[int, ...]
    nodes: set[int] = field(default_factory=set)
    slots: set[int] = field(default_factory=set)
    text: str = ""  # of a deadlock or an unwritten output, written where it was found
    why: tuple[str, ...] = ()
    thing: str = ""
    walk: int = 0
    at: Location | None = None  # of a collect, which is no row of code


def told(e: Entry, names: Names) -> Finding:
    """Return the finding of an entry."""
    return {
        "race": _race, "uninitialised": _uninitialised, "ambiguous": _ambiguous, "rivals": _rivals,
        "barrier": _barrier, "unawaited": _unawaited, "leftover": _leftover, "overflow": _overflow,
        "deadlock": _given, "unwritten": _given,
    }[e.kind](e, names)  # fmt: skip


def _finding(e: Entry, n: Names, text: str, fix: str, *, thing: str, sides: tuple[Side, ...] = (),
             why: tuple[str, ...] = (), kind: str = "", cure: str = "") -> Finding:  # fmt: skip
    """`text` with its nodes and a short cure is the message; `fix` says the same at length, with names and lines."""
    nodes = tuple(n.program.node(x) for x in sorted(e.nodes))
    first = e.at or n.line(e.first)
    return Finding(kind or e.kind, f"{text}; {cure or fix}", first, n.line(e.second), nodes, thing, sides, why, fix)


def _race(e: Entry, n: Names) -> Finding:
    obj, way, address, itself, across = e.facts
    name = n.bytes_of(obj, e.slots, address)
    if itself:
        return _finding(
            e, n, f"{n.site(e.first)} reads and writes parts of {name} that overlap{n.nodes(e.nodes)}, and its "
            "elements come in no promised order", "write to another buffer, or exactly in place", thing=name,
            sides=(n.side(f"reads and writes {name}", e.first),),
            why=(f"an element of {name} is written", "and read afterwards, where the old value was meant"),
        )  # fmt: skip
    late, early = "write" if way & 1 else "read", "write" if way >> 1 else "read"
    copy = n.mnemonic(e.second) in ("copy", "pull")
    if way == READ_WRITE:
        cure = "wait for the copy's sent before overwriting its source" if copy else (
            "wait for the reader's token before overwriting")  # fmt: skip
    elif way == WRITE_READ:
        cure = "wait for the copy's done before reading" if copy else "wait for the writer's token before reading"
    else:
        cure = "wait for the first write's token before the second, or write to different places"
    again = "another node's run of it" if across else "another run of it"
    other = f"by {n.site(e.second)}" if e.first != e.second else f"by {again}"
    text = f"{late} of {name} by {n.site(e.first)} races with the {early} {other}{n.nodes(e.nodes)}"
    sides = (n.side(early, e.second), n.side(late, e.first)) if e.first != e.second else (n.side(late, e.first),)
    why, fix = _clash(e, n, way, name, again), _order(e, n, way, copy, bool(across))
    return _finding(e, n, text, fix, thing=name, sides=sides, why=why, cure=cure)


def _clash(e: Entry, n: Names, way: int, name: str, again: str) -> tuple[str, ...]:
    """Two events in an order that nothing forbids."""
    first, second = n.site(e.second), n.site(e.first)
    if e.first == e.second:
        second = again
    if n.mnemonic(e.second) in ("copy", "pull"):
        begun = f"{first} is issued and goes on by itself, still {'writing' if way >> 1 else 'reading'} {name}"
        done = {WRITE_READ: f"{second} reads {name}: old bytes, or half of the new ones",
                READ_WRITE: f"{second} writes {name}: the copy sends the new bytes instead of the old"}  # fmt: skip
        return begun, done.get(way, f"{second} writes {name} too: what stays is whatever came last")
    if way == WRITE_READ:
        return f"{second} reads {name} before {first} has written it: old bytes", f"{first} writes {name}"
    if way == READ_WRITE:
        return f"{second} writes {name} before {first} has read it", f"{first} reads {name}: the new bytes, not its own"
    return f"{second} writes {name} first", f"{first} writes {name}: what stays is whatever came last"


def _order(e: Entry, n: Names, way: int, copy: bool, across: bool) -> str:
    """Which token to wait for, where."""
    if across and way not in (READ_WRITE, WRITE_READ):
        return "let one node write it, or let each node write a part of its own"
    early, late = n.brief(e.second, e.first), n.brief(e.first, e.second)
    if e.first == e.second:
        late = "it is issued again" if copy else "it runs again"
    if not copy:
        whose = n.runner(e.second)
        thread = f"thread {whose!r}" if whose else "its thread"
        return f"let {thread} give a token after {early} (k.inc at the node that needs it); k.wait for it before {late}"
    word, which = (_SENT, "sent") if way == READ_WRITE else (_DONE, "done")
    sem = n.semaphore(e.second, word)
    if sem:
        return f"k.wait({sem}), the {which}= of {early}, before {late}; on another node, pass the token on with k.inc"
    return f"give {which}= to the copy of {early}, and k.wait for it before {late}"


def _uninitialised(e: Entry, n: Names) -> Finding:
    obj, address = e.facts
    if e.at is not None or e.first < 0:
        name = n.bytes_of(obj, (), n.groups[obj].low)
        return _finding(e, n, f"the collect reads bytes of {name} that nothing has written{n.nodes(e.nodes)}",
                        "write them before the end", thing=name, sides=(Side("collect", e.at),))  # fmt: skip
    name = n.bytes_of(obj, e.slots, address)
    return _finding(
        e, n, f"read of {name} by {n.site(e.first)} finds bytes that nothing has written{n.nodes(e.nodes)}",
        "copy, fill or preload them first", thing=name, sides=(n.side("read", e.first),),
        why=(f"no instruction has written all bytes of {name} that this one reads",
             "so it computes with whatever the SRAM or memory held before"),
    )  # fmt: skip


def _ambiguous(e: Entry, n: Names) -> Finding:
    sem, taken, kind, taken_kind = e.facts
    name, wait = n.sem(sem), n.place(e.first)
    thief = _FIRING[kind] + n.site(e.second)
    meant = "an earlier one of it" if taken == e.second and kind == taken_kind else _FIRING[taken_kind] + n.site(taken)
    givers = dict.fromkeys((e.second, taken))
    sides = (n.side(f"waits for {name}", e.first), *(n.side(f"gives {name}", row) for row in givers))
    return _finding(
        e, n, f"the wait for {name} at {wait} may take a token of {thief} instead of {meant}{n.nodes(e.nodes)}, as "
        "nothing orders them", "use a semaphore for each slot and giver, or wait for all at once",
        thing=name, sides=sides, why=(f"{thief} comes first, and lets the wait at {wait} pass",
             f"the thread goes on as if it had waited for {meant}, which is still to come"),
    )  # fmt: skip


def _rivals(e: Entry, n: Names) -> Finding:
    node, first, second = e.facts[1:]
    threads = n.program.threads
    a, b = (n.thread(node * threads + x) for x in sorted((first, second)))
    name = n.sem(e.facts[0])
    return _finding(
        e, n, f"threads {a!r} and {b!r} wait for {name} in no order{n.nodes(e.nodes)}, so either may take the other's "
        f"token ({n.place(e.first)})", "give each thread its own semaphore", thing=name, kind="ambiguous",
        sides=(n.side(f"waits for {name}", e.first),),
        why=(f"thread {b!r} takes the token that was meant for {a!r}", f"thread {a!r} waits for the other one"),
    )  # fmt: skip


def _barrier(e: Entry, n: Names) -> Finding:
    return _finding(
        e, n, f"two threads of one node join the barrier at {n.place(e.first)} at once{n.nodes(e.nodes)}",
        "let one thread of each node join it", thing="barrier", kind="ambiguous",
        sides=(n.side("joins the barrier", e.first),) + ((n.side("joins it too", e.second),) if e.second >= 0 else ()),
        why=("both threads of a node arrive, and one of them counts for a node that has not",
             "the barrier opens before every node is there"),
    )  # fmt: skip


def _unawaited(e: Entry, n: Names) -> Finding:
    done, sent = n.semaphore(e.first, _DONE), n.semaphore(e.first, _SENT)
    code = n.program.code[e.first]
    stores = n.program.views[code[_DST], isa.V_SPACE] == isa.SPACE_MEMORY
    use = "before its source changes" if stores else "before using its data"
    if done or (stores and sent):
        fix = f"k.wait({done or sent}), its {'done' if done else 'sent'}=, {use}"
    else:
        fix = f"give it {'sent=' if stores else 'done='} and wait for that {use}"
    return _finding(
        e, n, f"nothing waits for {n.site(e.first)}{n.nodes(e.nodes)}", fix, thing=n.mnemonic(e.first),
        sides=_sides(e, n, "moves by itself", "ends without a wait for it"),
        why=("the thread goes on at once; the copy may still be under way at the end of the program",
             "nobody can know when its bytes are there"),
    )  # fmt: skip


def _leftover(e: Entry, n: Names) -> Finding:
    sem, over = e.facts
    name = n.sem(sem)
    many = f"{over} token{'s' if over > 1 else ''}"
    return _finding(
        e, n, f"{name} still holds {many} of {n.site(e.first)} at the end{n.nodes(e.nodes)}",
        f"k.wait({name}) where it arrives, or do not give it", thing=name,
        sides=_sides(e, n, f"gives {name}", f"ends without a wait for {name}"),
        cure="wait for each token or do not give it",
        why=(f"every wait for {name} has been served, and {many} {'are' if over > 1 else 'is'} left",
             "so a wait is missing, or a token goes to a node that does not wait for it"),
    )  # fmt: skip


def _sides(e: Entry, n: Names, first: str, end: str) -> tuple[Side, ...]:
    """Return both sides of a hazard of tokens; `end` is said of a line that does nothing to them."""
    if e.second < 0:
        return (n.side(first, e.first),)
    name = n.sem(e.facts[0]) if e.facts else e.thing
    mnemonic = n.mnemonic(e.second)
    does = end if mnemonic not in ("wait", "inc", "copy", "pull") or not e.facts else (
        f"waits for {name}" if mnemonic == "wait" else f"gives {name}")  # fmt: skip
    return n.side(first, e.first), n.side(does, e.second)


def _overflow(e: Entry, n: Names) -> Finding:
    name, bits = n.sem(e.facts[0]), e.facts[1]
    return _finding(
        e, n, f"{n.site(e.first)} lifts {name} above {(1 << bits) - 1}, the most {bits} bits hold{n.nodes(e.nodes)}",
        "wait for tokens in between", thing=name, sides=(n.side(f"gives {name}", e.first),),
        why=("the giver runs ahead of the thread that takes the tokens", "the counter wraps and tokens are lost"),
    )  # fmt: skip


def _given(e: Entry, n: Names) -> Finding:
    text, _, fix = e.text.rpartition("; ")
    does = {"wait": "waits", "barrier": "waits", "inc": "gives", "copy": "gives", "pull": "gives"}
    sides = [n.side("waits", e.first)] if e.first >= 0 else []
    if 0 <= e.second != e.first:
        sides.append(n.side(does.get(n.mnemonic(e.second), "ends without a token for it"), e.second))
    return _finding(e, n, text, fix, thing=e.thing, sides=tuple(sides), why=e.why)
