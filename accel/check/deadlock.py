"""Who waits for what when no thread can go on: grouped waits, and the circle of waits that closes."""

from __future__ import annotations

import itertools
from typing import NamedTuple, TypeAlias

from accel.check import layout as w
from accel.check.layout import State
from accel.check.names import Names
from accel.check.pools import queues_of, threads_of
from accel.check.prepare import Tables
from accel.isa import layout as isa
from accel.isa.table import BY_MNEMONIC

__all__ = ["stuck_threads"]

_INC, _COPY, _PULL, _BARRIER = (BY_MNEMONIC[name] for name in ("inc", "copy", "pull", "barrier"))
_GIVERS = (
    (_INC, "sem", "at"), (_COPY, "done", "to"), (_COPY, "sent", ""), (_PULL, "done", ""), (_PULL, "sent", "of"),
)  # fmt: skip


Stuck: TypeAlias = tuple[str, str, tuple[str, ...], int, int, set[int], int]


def stuck_threads(tables: Tables, state: State, names: Names) -> list[Stuck]:
    """Return what groups of threads wait at one line for one thing.

    Each is (message, what for, who waits for whom, first row, second row, nodes, semaphore), the last
    -1 for a barrier.
    """
    program = tables.program
    graph = _Waits(tables, state)
    groups: dict[tuple[int, int, str], list[int]] = {}
    for i in graph.stuck:
        th = graph.threads[i]
        sem = int(th[w.T_KEY]) % graph.sems if th[w.T_STATUS] == w.BLOCKED else -1
        groups.setdefault((int(tables.sites[th[w.T_ROW]]), sem, names.thread(i)), []).append(i)
    out = []
    for (row, sem, thread), agents in groups.items():
        nodes = {i // program.threads for i in agents}
        i = agents[0]
        if sem < 0:
            what, cure = f"waits at the barrier of {names.place(row)}", "let every node of it join"
            thing = "barrier"
        else:
            key = int(graph.threads[i, w.T_KEY])
            need, has = int(graph.threads[i, w.T_NEED]), int(graph.queues[key, w.Q_COUNT])
            thing = names.sem(sem)
            what = f"waits for {thing} >= {need} at {names.place(row)}, which has {has}"
            cure = "give the token earlier or wait for fewer"
        path, closed = graph.follow(i)
        last = path[-1]
        if closed:
            because = "the waits close a circle: " + " <- ".join(_waiter(graph, names, j) for j in [*path, path[0]])
        else:
            hangs = "" if last == i else f"it hangs on {_waiter(graph, names, last)}: "
            because = f"{hangs}nothing left to run gives it"
            spare = graph.spare(int(graph.threads[last, w.T_KEY])) if last == i and sem >= 0 else ""
            if spare:
                because += f", while {thing} of {spare} for nobody"
                cure = "give the token to the node that waits: sent= of a pull fires on the node that it reads"
        second = int(graph.threads[last if last != i else path[0], w.T_ROW])
        text = f"thread {thread!r} {what}{names.nodes(nodes)}: {because}; {cure}"
        why = tuple(f"{_waiter(graph, names, j)}, at {names.place(int(graph.threads[j, w.T_ROW]))}" for j in path)
        why += ("which waits for the first of these" if closed else "and nothing left to run gives that",)
        out.append((text, f"{thing} for {thread}", why, row, second if second != row else -1, nodes, sem))
    return out


def _waiter(graph: _Waits, names: Names, agent: int) -> str:
    """Return `load (0,1) waits for A_free[1]`."""
    th = graph.threads[agent]
    row, col = graph.program.node(agent // graph.program.threads)
    what = f"for {names.sem(int(th[w.T_KEY]) % graph.sems)}" if th[w.T_STATUS] == w.BLOCKED else (
        f"at the barrier of {names.place(int(th[w.T_ROW]))}")  # fmt: skip
    return f"{names.thread(agent)} ({row},{col}) waits {what}"


class _Rest(NamedTuple):
    """Tokens that the rows from one place on give: (target, predicate) by semaphore, varying ones, barriers."""

    by_sem: dict[int, dict[tuple[int, int], None]]
    varying: list[tuple[int, int, int, int]]  # index, expression, target, predicate
    barriers: list[int]


class _Waits:
    """The wait-for graph, as far as the rows that the stuck threads have still to run tell."""

    def __init__(self, tables: Tables, state: State) -> None:
        self.program, self.tables = tables.program, tables
        self.threads, self.queues = threads_of(state), queues_of(state)
        self.sems = max(1, int(state.m[w.M_SEMS]))
        self.stuck = [i for i, th in enumerate(self.threads.tolist()) if th[w.T_STATUS] in (w.BLOCKED, w.GATHERED)]
        self._rests: dict[tuple[int, int], _Rest] = {}
        self._values: dict[tuple[int, int], int | None] = {}

    def follow(self, agent: int) -> tuple[list[int], bool]:
        """Return the waits from `agent` on, or only their circle if they close one (then the flag is true)."""
        path = [agent]
        while True:
            giver = self._giver(path[-1], path)
            if giver is None:
                return path, False
            if giver in path:
                return path[path.index(giver) :], True
            path.append(giver)

    def spare(self, key: int) -> str:
        """Return which other node has tokens of the semaphore of queue `key` that no thread of it waits for, as text.

        `(0,1) holds 2`, with the number of further such nodes; empty where there are none.
        """
        home, sem = divmod(key, self.sems)
        held = self.queues[sem :: self.sems, w.Q_COUNT][: self.program.nodes].copy()
        held[home] = 0
        for i in self.stuck:
            th = self.threads[i]
            if th[w.T_STATUS] == w.BLOCKED and int(th[w.T_KEY]) % self.sems == sem:
                held[i // self.program.threads] = 0
        nodes = held.nonzero()[0]
        if not len(nodes):
            return ""
        (row, col), more = self.program.node(int(nodes[0])), f" and {len(nodes) - 1} more" if len(nodes) > 1 else ""
        return f"({row},{col}){more} holds {int(held[nodes[0]])}"

    def _giver(self, agent: int, path: list[int]) -> int | None:
        """Return a stuck thread that could let `agent` go on: one of the path if any, then one of its own node."""
        th, threads = self.threads[agent], self.program.threads
        node = agent // threads
        own = (i for i in range(node * threads, (node + 1) * threads) if i != agent and self._is_stuck(i))
        order = itertools.chain(path[:-1], own, self.stuck)
        if th[w.T_STATUS] == w.GATHERED:
            here = {i // threads for i in self.stuck if self._gathered_with(i, agent)}
            return next((i for i in order if i // threads not in here and self._joins(i, node)), None)
        sem = int(th[w.T_KEY]) % self.sems
        return next((i for i in order if i != agent and self._gives(i, node, sem)), None)

    def _is_stuck(self, i: int) -> bool:
        return bool(self.threads[i, w.T_STATUS] in (w.BLOCKED, w.GATHERED))

    def _gathered_with(self, i: int, agent: int) -> bool:
        a, b = self.threads[i], self.threads[agent]
        return bool(a[w.T_STATUS] == w.GATHERED and a[w.T_KEY] == b[w.T_KEY])

    def _rest(self, i: int) -> _Rest:
        """Return what thread i may still give, from its place or the begin of its outermost loop on."""
        th = self.threads[i]
        known = (int(th[w.T_BEGIN]) if th[w.T_DEPTH] else int(th[w.T_PC]) + 1, int(th[w.T_LAST]))
        if known not in self._rests:
            rest = self._rests[known] = _Rest({}, [], [])
            for code in self.program.code[slice(*known)].tolist():
                if code[isa.W_OPCODE] == _BARRIER.opcode:
                    rest.barriers.append(code[_BARRIER.word("at")])
                for row, operand, target in _GIVERS:
                    at = row.word(operand)
                    if code[isa.W_OPCODE] != row.opcode or code[at] < 0:
                        continue
                    stores = row is _COPY and self.tables.foot[code[_COPY.word("dst")], w.F_SPACE] == isa.SPACE_MEMORY
                    to = isa.TARGET_SELF if not target or stores else code[row.word(target)]
                    if code[at + 1]:
                        rest.varying.append((code[at], code[at + 1], to, code[isa.W_PRED]))
                    else:
                        rest.by_sem.setdefault(code[at], {})[to, code[isa.W_PRED]] = None
        return self._rests[known]

    def _joins(self, i: int, node: int) -> bool:
        return any(self._covers(i, to, node) for to in self._rest(i).barriers)

    def _gives(self, i: int, node: int, sem: int) -> bool:
        rest = self._rest(i)
        if any(self._covers(i, to, node) and self._may_run(i, pred) for to, pred in rest.by_sem.get(sem, ())):
            return True
        return any(
            self._value(i, index, expr) in (None, sem) and self._covers(i, to, node) and self._may_run(i, pred)
            for index, expr, to, pred in rest.varying
        )

    def _value(self, i: int, constant: int, expr: int) -> int | None:
        """Return constant + expression for thread i, None where it depends on a loop."""
        if not expr:
            return constant
        node = i // self.program.threads
        if (node, expr) not in self._values:
            x, params = self.program.exprs[expr].tolist(), self.program.params[node].tolist()
            terms = (x[at + 1] * params[x[at]] for at in range(isa.E_PARAMS, isa.E_PARAMS + 2 * x[isa.E_NPARAMS], 2))
            self._values[node, expr] = None if x[isa.E_NLOOPS] else sum(terms)
        value = self._values[node, expr]
        return None if value is None else constant + value

    def _covers(self, i: int, target: int, node: int) -> bool:
        if target == isa.TARGET_SELF:
            return i // self.program.threads == node
        if target == isa.TARGET_ALL:
            return True
        x = self.program.targets[target].tolist()
        r0, r1, c0, c1 = (self._value(i, x[at], x[at + 1]) for at in (isa.T_ROW0, isa.T_ROW1, isa.T_COL0, isa.T_COL1))
        row, col = self.program.node(node)
        return not (
            (r0 is not None and row < r0) or (r1 is not None and row > r1)
            or (c0 is not None and col < c0) or (c1 is not None and col > c1)
        )  # fmt: skip

    def _may_run(self, i: int, pred: int) -> bool:
        x = self.program.preds[pred].tolist() if pred else [0]
        for j in range(x[isa.P_COUNT]):
            expr, constant, relation = x[isa.P_TERMS + 3 * j : isa.P_TERMS + 3 * j + 3]
            value = self._value(i, constant, expr)
            if value is None:
                continue
            holds = {isa.REL_EQ: value == 0, isa.REL_NE: value != 0, isa.REL_LT: value < 0, isa.REL_GE: value >= 0}
            if not holds[relation]:
                return False
        return True
