"""Who waits for what when no thread can go on: grouped waits, and the circle of waits that closes."""

from __future__ import annotations

from accel.check import layout as w
from accel.check.layout import State
from accel.check.names import Names
from accel.check.pools import queues_of, threads_of
from accel.check.prepare import Tables
from accel.isa import layout as isa
from accel.isa.table import BY_MNEMONIC

__all__ = ["stuck_threads"]

_INC, _COPY, _BARRIER = BY_MNEMONIC["inc"], BY_MNEMONIC["copy"], BY_MNEMONIC["barrier"]
_GIVERS = ((_INC, "sem", "at"), (_COPY, "done", "to"), (_COPY, "sent", ""))


def stuck_threads(tables: Tables, state: State, names: Names) -> list[tuple[str, int, int, set[int]]]:
    """Return (message, first row, second row, nodes) for each group of threads that wait at one line for one thing."""
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
        else:
            key = int(graph.threads[i, w.T_KEY])
            need, has = int(graph.threads[i, w.T_NEED]), int(graph.queues[key, w.Q_COUNT])
            what = f"waits for {names.sem(sem)} >= {need} at {names.place(row)}, which has {has}"
            cure = "give the token earlier or wait for fewer"
        path, closed = graph.follow(i)
        last = path[-1]
        if closed:
            why = "the waits close a circle: " + " <- ".join(_waiter(graph, names, j) for j in [*path, path[0]])
        else:
            hangs = "" if last == i else f"it hangs on {_waiter(graph, names, last)}: "
            why = f"{hangs}nothing left to run gives it"
        second = int(graph.threads[last if last != i else path[0], w.T_ROW])
        text = f"thread {thread!r} {what}{names.nodes(nodes)}: {why}; {cure}"
        out.append((text, row, second if second != row else -1, nodes))
    return out


def _waiter(graph: _Waits, names: Names, agent: int) -> str:
    """Return `load (0,1) waits for A_free[1]`."""
    th = graph.threads[agent]
    row, col = graph.program.node(agent // graph.program.threads)
    what = f"for {names.sem(int(th[w.T_KEY]) % graph.sems)}" if th[w.T_STATUS] == w.BLOCKED else (
        f"at the barrier of {names.place(int(th[w.T_ROW]))}")  # fmt: skip
    return f"{names.thread(agent)} ({row},{col}) waits {what}"


class _Waits:
    """The wait-for graph, as far as the rows that the stuck threads have still to run tell."""

    def __init__(self, tables: Tables, state: State) -> None:
        self.program, self.tables = tables.program, tables
        self.threads, self.queues = threads_of(state), queues_of(state)
        self.sems = max(1, int(state.m[w.M_SEMS]))
        self.stuck = [i for i, th in enumerate(self.threads.tolist()) if th[w.T_STATUS] in (w.BLOCKED, w.GATHERED)]
        self._rows: dict[tuple[int, int], list[int]] = {}

    def follow(self, agent: int) -> tuple[list[int], bool]:
        """Return the waits from `agent` on, or only their circle if they close one (then the flag is true)."""
        path = [agent]
        while True:
            givers = self._givers(path[-1])
            if not givers:
                return path, False
            for g in givers:
                if g in path:
                    return path[path.index(g) :], True
            path.append(givers[0])

    def _givers(self, agent: int) -> list[int]:
        th = self.threads[agent]
        node = agent // self.program.threads
        if th[w.T_STATUS] == w.GATHERED:
            here = {i // self.program.threads for i in self.stuck if self._gathered_with(i, agent)}
            return [i for i in self.stuck if i // self.program.threads not in here and self._joins(i, node)]
        sem = int(th[w.T_KEY]) % self.sems
        found = [i for i in self.stuck if i != agent and self._gives(i, node, sem)]
        return sorted(found, key=lambda i: (i // self.program.threads != node, i))

    def _gathered_with(self, i: int, agent: int) -> bool:
        a, b = self.threads[i], self.threads[agent]
        return bool(a[w.T_STATUS] == w.GATHERED and a[w.T_KEY] == b[w.T_KEY])

    def _remaining(self, i: int) -> list[int]:
        """Return the rows thread i may still run that give a token or join a barrier."""
        th = self.threads[i]
        first = int(th[w.T_BEGIN]) if th[w.T_DEPTH] else int(th[w.T_PC]) + 1
        known = (first, int(th[w.T_LAST]))
        if known not in self._rows:
            ops = {_INC.opcode, _COPY.opcode, _BARRIER.opcode}
            self._rows[known] = [r for r in range(*known) if int(self.program.code[r, isa.W_OPCODE]) in ops]
        return self._rows[known]

    def _joins(self, i: int, node: int) -> bool:
        code = self.program.code
        barriers = (r for r in self._remaining(i) if code[r, isa.W_OPCODE] == _BARRIER.opcode)
        return any(self._covers(i, int(code[r, _BARRIER.word("at")]), node) for r in barriers)

    def _gives(self, i: int, node: int, sem: int) -> bool:
        for r in self._remaining(i):
            code = self.program.code[r].tolist()
            for row, operand, target in _GIVERS:
                at = row.word(operand)
                if code[isa.W_OPCODE] != row.opcode or code[at] < 0:
                    continue
                index = self._value(i, code[at], code[at + 1])
                if index is not None and index != sem:
                    continue
                stores = row is _COPY and self.tables.foot[code[_COPY.word("dst")], w.F_SPACE] == isa.SPACE_MEMORY
                to = isa.TARGET_SELF if not target or stores else code[row.word(target)]
                if self._covers(i, to, node) and self._may_run(i, code[isa.W_PRED]):
                    return True
        return False

    def _value(self, i: int, constant: int, expr: int) -> int | None:
        """Return constant + expression for thread i, None where it depends on a loop."""
        x = self.program.exprs[expr]
        if expr and x[isa.E_NLOOPS]:
            return None
        params = self.program.params[i // self.program.threads]
        terms = range(int(x[isa.E_NPARAMS])) if expr else range(0)
        return constant + sum(int(x[isa.E_PARAMS + 2 * j + 1] * params[x[isa.E_PARAMS + 2 * j]]) for j in terms)

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
