"""mutants(program): every plausible mistake of its author, one at a time; a test that is worth its time sees them."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, overload

import numpy as np

from accel.errors import AccelError, InputError, Location, nearest
from accel.isa import Program as Data
from accel.isa import layout as w
from accel.isa.codec import bits_of_float, float_of_bits
from accel.isa.fitting import NARROW
from accel.isa.schema import Direction, Kind
from accel.isa.table import BY_MNEMONIC, opcode
from accel.numerics.formats import by_code, fmt
from accel.program import Program
from accel.testing.edits import BARRIER, COPY, INC, LOOP, MATMUL, PULL, WAIT, Editor
from accel.testing.idle import IdleRows
from accel.testing.needed import NeededOrder

__all__ = ["KINDS", "Mutant", "Mutants", "mutants", "mutants_of"]


class Mutant(NamedTuple):
    """A program with one mistake.

    kind: a name of `KINDS`. lines: the author's lines that it is about. synchronisation: a mistake of waits, tokens,
    counts or peers, which the checker must see whatever the numbers are; otherwise one of arithmetic, addresses or of
    where data go, which may be free of hazards and wrong.
    """

    kind: str
    program: Program
    lines: tuple[Location, ...]
    description: str
    synchronisation: bool

    def __str__(self) -> str:
        return f"{self.lines[0] if self.lines else self.program.name}: {self.kind}: {self.description}"


class Mutants(Sequence[Mutant]):
    """Mutants in order; `left_out`: edits of waits and tokens that are none, as they keep every needed order."""

    def __init__(self, made: Iterable[Mutant], left_out: Iterable[Mutant] = ()) -> None:
        self._made, self.left_out = tuple(made), tuple(left_out)

    @overload
    def __getitem__(self, index: int) -> Mutant: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Mutant, ...]: ...

    def __getitem__(self, index: int | slice) -> Mutant | tuple[Mutant, ...]:
        return self._made[index]

    def __len__(self) -> int:
        return len(self._made)

    def __repr__(self) -> str:
        return f"<{len(self)} mutants; {len(self.left_out)} edits left out that keep every needed order>"


Edit: TypeAlias = "tuple[str, tuple[int, ...], Data]"  # description, rows it is about, the program
SWAPS = {
    "vec.add": "vec.sub", "vec.sub": "vec.add", "vec.mul": "vec.add", "vec.div": "vec.mul", "vec.max": "vec.min",
    "vec.min": "vec.max", "vec.addi": "vec.muli", "vec.muli": "vec.addi", "vec.maxi": "vec.mini",
    "vec.mini": "vec.maxi", "vec.neg": "vec.abs", "vec.abs": "vec.neg", "vec.relu": "vec.abs",
    "vec.exp": "vec.neg", "vec.log": "vec.abs", "vec.tanh": "vec.sigmoid", "vec.sigmoid": "vec.tanh",
    "vec.erf": "vec.tanh", "vec.rsqrt": "vec.sqrt", "vec.sqrt": "vec.rsqrt",
    "vec.reduce_sum": "vec.reduce_max", "vec.reduce_max": "vec.reduce_min", "vec.reduce_min": "vec.reduce_max",
}  # fmt: skip
EXCHANGES = {"vec.sub": ("x", "y"), "vec.div": ("x", "y"), "vec.fma": ("y", "z"), "vec.select": ("x", "y")}


# --- synchronisation -------------------------------------------------------------------------------------------------
def _missing(op: int) -> Callable[[Editor], Iterator[Edit]]:
    def edits(e: Editor) -> Iterator[Edit]:
        for row in e.rows(op):
            what = e.sem_name(int(e.code[row, e.word(row, "sem")])) if op != BARRIER else "all its nodes"
            yield f"without the {e.entry(row).mnemonic} of {what}", (row,), e.without(row)

    return edits


def _missing_token(name: str) -> Callable[[Editor], Iterator[Edit]]:
    def edits(e: Editor) -> Iterator[Edit]:
        for row in e.rows(COPY, PULL):
            word = e.word(row, name)
            if e.code[row, word] >= 0:
                text = f"{e.entry(row).mnemonic} without {name}={e.sem_name(int(e.code[row, word]))}"
                yield text, (row,), e.changed((row, word, -1), (row, word + 1, 0))

    return edits


def _wrong_slot(e: Editor) -> Iterator[Edit]:
    for row in e.rows(WAIT, INC, COPY, PULL):
        for operand, word in e.semaphores(row):
            other = e.next_slot(row, word)
            if other is not None:
                name, _, _ = e.group(int(e.code[row, word]))
                text = f"{operand.name} of the {e.entry(row).mnemonic} is the next slot of {name}"
                yield text, (row,), e.changed(*other[0], **other[1])


def _wrong_peer(e: Editor) -> Iterator[Edit]:
    return _other_nodes(e, {INC: "at"})


def _wrong_node(e: Editor) -> Iterator[Edit]:
    """Data that go to, or come from, another node: where all nodes do alike, tokens still go with them."""
    return _other_nodes(e, {COPY: "to", PULL: "of"})


def _other_nodes(e: Editor, names: dict[int, str]) -> Iterator[Edit]:
    if e.program.nodes == 1:
        return
    for row in e.rows(*names):
        name = names[int(e.code[row, w.W_OPCODE])]
        if name == "to" and not e.is_sram(row, e.word(row, "dst")):
            continue  # memory has no peer
        word = e.word(row, name)
        mine = int(e.code[row, word])
        if not e.same_nodes(row, mine, w.TARGET_SELF):
            yield f"{e.entry(row).mnemonic} {name} this node itself", (row,), e.changed((row, word, w.TARGET_SELF))
        others = [t for t in e.fixed_targets() if t > w.TARGET_ALL and not e.same_nodes(row, mine, t)]
        for target in others[:1]:
            yield f"{e.entry(row).mnemonic} {name} other nodes", (row,), e.changed((row, word, target))


def _wrong_count(e: Editor) -> Iterator[Edit]:
    for row in e.rows(WAIT, INC):
        word, name = e.word(row, "n"), e.sem_name(int(e.code[row, e.word(row, "sem")]))
        for n in (int(e.code[row, word]) + 1, int(e.code[row, word]) - 1):
            if n > 0:
                was = int(e.code[row, word])
                yield f"{e.entry(row).mnemonic} of {n} in place of {was} for {name}", (row,), e.changed((row, word, n))
    init = e.program.semaphore_init
    awaited = {n for r in e.rows(WAIT) for n in e.same_group(int(e.code[r, e.word(r, "sem")]))}
    for sem in sorted(awaited.intersection(np.flatnonzero(init).tolist())):
        for count in (int(init[sem]) + 1, int(init[sem]) - 1):
            changed = init.copy()
            changed[sem] = count
            text = f"{e.sem_name(sem)} starts at {count} in place of {int(init[sem])}"
            yield text, (), e.with_code(e.code, semaphore_init=changed)


def _missing_pair(e: Editor) -> Iterator[Edit]:
    """Matching waits and incs: the first of each, and all of a semaphore."""
    for sem in sorted({int(e.code[r, e.word(r, "sem")]) for r in e.rows(WAIT)}):
        waits, incs = ([r for r in e.rows(op) if e.code[r, e.word(r, "sem")] == sem] for op in (WAIT, INC))
        tokens = [(r, word) for r in e.rows(COPY, PULL) for _, word in e.semaphores(r) if e.code[r, word] == sem]
        for wait, inc in zip(waits, incs, strict=False):
            yield f"without a matching wait and inc of {e.sem_name(sem)}", (wait, inc), e.without(wait, inc)
        if waits and (incs or tokens):
            code = e.code.copy()
            for row in (*waits, *incs):
                e.blank(code, row)
            for row, word in tokens:
                code[row, word : word + 2] = -1, 0
            rows = (*waits, *incs, *(row for row, _ in tokens))
            yield f"without any wait for {e.sem_name(sem)} and what gives it", rows, e.with_code(code)


def _guarded(e: Editor, sem: int) -> set[int]:
    """Return the buffers that a wait for a semaphore is about: what its givers wrote, sent or worked on."""
    found: set[int] = set()
    first = e.group(sem)[1]
    same = range(first, first + e.group(sem)[2])
    for row in e.rows(COPY, PULL):
        for operand, word in e.semaphores(row):
            if int(e.code[row, word]) in same:
                side = e.word(row, "dst" if operand.name == "done" else "src")
                if e.is_sram(row, side):
                    found.add(int(e.program.views[e.code[row, side], w.V_OBJECT]))
    for row in e.rows(INC):
        if int(e.code[row, e.word(row, "sem")]) in same:
            found |= _worked_on(e, row)
    return found


def _worked_on(e: Editor, inc: int) -> set[int]:
    """Return the buffers of the last row before an inc that touches any."""
    for row in range(inc - 1, e.segment_of(inc).start - 1, -1):
        if e.buffers(row):
            return e.buffers(row)
    return set()


def _wait_past_use(e: Editor) -> Iterator[Edit]:
    for wait in e.rows(WAIT):
        sem = int(e.code[wait, e.word(wait, "sem")])
        guarded = _guarded(e, sem)
        for row in range(wait + 1, e.segment_of(wait).stop):
            if e.code[row, w.W_OPCODE] == WAIT and e.code[row, e.word(row, "sem")] == sem:
                break  # the next round of the same semaphore
            if e.buffers(row) & guarded:
                text = f"the wait for {e.sem_name(sem)} after the {e.entry(row).mnemonic} that it is for"
                yield text, (wait, row), e.moved(wait, row)
                break


def _inc_before_use(e: Editor) -> Iterator[Edit]:
    """Before the last row that works on what the waits for it are about; on anything, where that is in no buffer."""
    for inc in e.rows(INC):
        sem = int(e.code[inc, e.word(inc, "sem")])
        before = range(inc - 1, e.segment_of(inc).start - 1, -1)
        followed = _followed(e, sem)
        used = [row for row in before if e.buffers(row)]
        row = next((row for row in used if e.buffers(row) & followed), used[0] if used else None)
        if row is not None:
            yield f"the inc of {e.sem_name(sem)} before the {e.entry(row).mnemonic}", (inc, row), e.moved(inc, row)


def _followed(e: Editor, sem: int) -> set[int]:
    """Return the buffers of the rows that follow the waits for a semaphore, or for one declared with it, at once."""
    _, first, count = e.group(sem)
    found: set[int] = set()
    for wait in e.rows(WAIT):
        if first <= int(e.code[wait, e.word(wait, "sem")]) < first + count:
            after = range(wait + 1, e.segment_of(wait).stop)
            found |= next((e.buffers(row) for row in after if e.buffers(row)), set())
    return found


def _merged_slots(e: Editor) -> Iterator[Edit]:
    """All semaphores of a group are its first one, with all that they start with."""
    for s in e.program.semaphores:
        uses = [
            (row, word) for row in e.rows(WAIT, INC, COPY, PULL) for _, word in e.semaphores(row)
            if s.index <= e.code[row, word] < s.index + s.count
        ]  # fmt: skip
        used = {tuple(e.code[row, word : word + 2].tolist()) for row, word in uses}
        if s.count < 2 or not uses or (len(used) == 1 and not next(iter(used))[1]):
            continue
        code, init = e.code.copy(), e.program.semaphore_init.copy()
        for row, word in uses:
            code[row, word : word + 2] = s.index, 0
        init[s.index] = init[s.index : s.index + s.count].sum()
        init[s.index + 1 : s.index + s.count] = 0
        rows = tuple(row for row, _ in uses)
        yield f"the {s.count} slots of {s.name} are one semaphore", rows, e.with_code(code, semaphore_init=init)


# --- arithmetic and addresses ----------------------------------------------------------------------------------------
def _missing_work(e: Editor) -> Iterator[Edit]:
    for rows in e.by_line(row for row in range(len(e.code)) if e.works(row)):
        yield f"without the {e.entry(rows[0]).mnemonic}", rows, e.without(*rows)


def _dropped_step(e: Editor) -> Iterator[Edit]:
    """One product, or one summand, too few."""
    for row in e.rows(MATMUL):
        a, b = e.word(row, "a"), e.word(row, "b")
        shape = e.program.views[e.code[row, a], w.V_SHAPE : w.V_SHAPE + w.DIMS]
        for outer, dim in ((2, 0), (3, 1)):  # the K pair: last two of a, first two of b
            if shape[outer] > 1:
                yield "a matmul without its last k", (row,), e.reshaped(row, [(a, outer), (b, dim)])
    for row in e.rows(*(opcode(m) for m in BY_MNEMONIC if m.startswith("vec.reduce"))):
        x = e.word(row, "x")
        if e.program.views[e.code[row, x], w.V_SHAPE + w.DIMS - 1] > 1:
            yield "a reduction without its last summand", (row,), e.reshaped(row, [(x, w.DIMS - 1)])


def _flipped_accumulate(e: Editor) -> Iterator[Edit]:
    for rows in e.by_line(e.rows(MATMUL), "accumulate"):
        word = e.word(rows[0], "accumulate")
        now = 1 - int(e.code[rows[0], word])
        if now and any(e.dtype(row, "dst") in NARROW for row in rows):
            continue  # sums that left in 16 bits cannot go on: no program says so
        yield f"accumulate={bool(now)} in place of {not now}", rows, e.changed(*((row, word, now) for row in rows))


def _swapped_tile(e: Editor) -> Iterator[Edit]:
    """A view one tile further on, or one back, in the same buffer."""
    for row in range(len(e.code)):
        for operand, word in e.views(row):
            view = e.program.extended_views[e.code[row, word]]
            if view[w.V_SPACE] != w.SPACE_SRAM or operand.direction is Direction.NONE:
                continue
            extent = int(view[w.X_HIGH] - view[w.X_LOW])
            for shift in (extent, -extent):
                if e.fits(row, word, shift) and not view[w.V_RING_BYTES]:
                    text = f"{operand.name} of the {e.entry(row).mnemonic} is the tile beside in {e.place(row, word)}"
                    yield text, (row,), e.changed((row, word + 1, int(e.code[row, word + 1]) + shift))
                    break


def _shifted_halo(e: Editor) -> Iterator[Edit]:
    """A view one element, or one row, beside what is meant."""
    for row in range(len(e.code)):
        if int(e.code[row, w.W_OPCODE]) == opcode("vec.fill"):
            continue  # all of it is one number, and a margin around what is needed is no mistake
        for operand, word in e.views(row):
            view = e.program.extended_views[e.code[row, word]]
            shape, strides = (view[x : x + w.DIMS].tolist() for x in (w.V_SHAPE, w.V_STRIDE))
            steps = {int(view[w.X_ITEM]), *(abs(s) for n, s in zip(shape, strides, strict=True) if n > 1 and s)}
            for step in sorted(steps)[:2]:
                for shift in (step, -step):
                    if e.fits(row, word, shift):
                        text = (
                            f"{operand.name} of the {e.entry(row).mnemonic} is {shift:+d} bytes off in "
                            f"{e.place(row, word)}"
                        )
                        yield text, (row,), e.changed((row, word + 1, int(e.code[row, word + 1]) + shift))
                        break


def _folds_one(e: Editor, row: int) -> bool:
    """Return whether a row reduces single numbers: the largest, the least and the sum of one are the same."""
    if not e.entry(row).mnemonic.startswith("vec.reduce"):
        return False
    return bool(e.program.views[e.code[row, e.word(row, "x")], w.V_SHAPE + w.DIMS - 1] == 1)


def _wrong_operator(e: Editor) -> Iterator[Edit]:
    for rows in e.by_line(row for row in range(len(e.code)) if e.works(row)):
        name = e.entry(rows[0]).mnemonic
        if name in SWAPS and not all(_folds_one(e, row) for row in rows):
            code = opcode(SWAPS[name])
            yield f"{SWAPS[name]} in place of {name}", rows, e.changed(*((row, w.W_OPCODE, code) for row in rows))
        if name in EXCHANGES:
            x, y = (e.word(rows[0], o) for o in EXCHANGES[name])
            words = [
                (row, to + i, int(e.code[row, of + i])) for row in rows for to, of in ((x, y), (y, x)) for i in range(3)
            ]
            if any(int(e.code[row, word]) != value for row, word, value in words):
                yield f"{name} with {EXCHANGES[name][0]} and {EXCHANGES[name][1]} exchanged", rows, e.changed(*words)
    for name in ("vec.compare", "vec.comparei"):
        for rows in e.by_line(e.rows(opcode(name)), "relation"):
            word = e.word(rows[0], "relation")
            was = int(e.code[rows[0], word])
            now = was % 6 + 1
            yield f"relation {now} in place of {was}", rows, e.changed(*((row, word, now) for row in rows))


def _wrong_number(e: Editor) -> Iterator[Edit]:
    numbered = [row for row in range(len(e.code)) if any(o.kind is Kind.FLOAT for o in e.entry(row).operands)]
    for rows in e.by_line(numbered, "imm"):
        word = e.word(rows[0], "imm")
        bits = int(e.code[rows[0], word])
        if _is_whole(e, rows[0]):
            now = (bits + 1) & 0xFFFFFFFF
            yield f"{now} in place of {bits}", rows, e.changed(*((row, word, now) for row in rows))
            continue
        was = float_of_bits(bits)
        now = bits_of_float(2 * was + 1 if np.isfinite(was) else 1.0)
        yield f"{float_of_bits(now)} in place of {was}", rows, e.changed(*((row, word, now) for row in rows))


def _is_whole(e: Editor, row: int) -> bool:
    """Return whether a row computes in integers, so that its number is one, too."""
    dtypes = [int(e.program.views[e.code[row, word], w.V_DTYPE]) for _, word in e.views(row)]
    return all(fmt(by_code(d).name).kind == "int" for d in dtypes)


def _short_loop(e: Editor) -> Iterator[Edit]:
    for row in e.rows(LOOP):
        word = e.word(row, "trips")
        trips = int(e.code[row, word])
        if trips > 1:
            yield f"{trips - 1} trips in place of {trips}", (row,), e.changed((row, word, trips - 1))


# kind -> (is it about synchronisation, its edits)
KINDS: dict[str, tuple[bool, Callable[[Editor], Iterator[Edit]]]] = {
    "missing wait": (True, _missing(WAIT)),
    "missing inc": (True, _missing(INC)),
    "missing barrier": (True, _missing(BARRIER)),
    "missing done": (True, _missing_token("done")),
    "missing sent": (True, _missing_token("sent")),
    "wrong slot": (True, _wrong_slot),
    "wrong peer": (True, _wrong_peer),
    "off-by-one count": (True, _wrong_count),
    "missing pair": (True, _missing_pair),
    "wait past its use": (True, _wait_past_use),
    "inc before its use": (True, _inc_before_use),
    "merged slots": (True, _merged_slots),
    "wrong node": (False, _wrong_node),
    "missing instruction": (False, _missing_work),
    "dropped step": (False, _dropped_step),
    "flipped accumulate": (False, _flipped_accumulate),
    "swapped tile": (False, _swapped_tile),
    "shifted halo": (False, _shifted_halo),
    "wrong operator": (False, _wrong_operator),
    "wrong number": (False, _wrong_number),
    "short loop": (False, _short_loop),
}


def mutants(
    program: Program, *, kinds: Iterable[str] = (), most: int | None = None, seed: int = 0,
    inputs: Iterable[Mapping[str, Any]] = (),
) -> Mutants:  # fmt: skip
    """Return programs with one mistake each: every one that `KINDS` can make of `program`.

    kinds: names of `KINDS`, empty for all. most: at most so many, of every kind alike, drawn by `seed` (default: all).
    inputs: sets of arrays by name that tell which data reach no output (default: drawn; give those of your test where
    not any number will do).
    A wrong operator or number, a flipped accumulate and a missing instruction are mistakes of a line, wherever it was
    unrolled to; the others are of one instruction. Left out are edits that the machine refuses before a run (a view
    outside its buffer, formats that do not go together), mistakes of arithmetic in what no output depends on, what
    is no mistake by construction (the least in place of the largest of one number), and edits of waits and tokens that
    are proven to keep every order that the program needs (`NeededOrder`; they are the result's `left_out`); each
    program comes once. InputError for an unknown kind, and for anything but a program.
    """
    return mutants_of(NeededOrder(program), kinds, most, seed, inputs)


def mutants_of(
    order: NeededOrder, kinds: Iterable[str], most: int | None, seed: int, inputs: Iterable[Mapping[str, Any]]
) -> Mutants:
    """Return `mutants` of the program of `order`, which remembers what the checker finds in them."""
    given: object = order.program
    if not isinstance(given, Program):
        raise InputError(f"mutants are made of a program, got {given!r}; build the kernel first")
    chosen = [kinds] if isinstance(kinds, str) else list(kinds)
    for kind in chosen:
        if kind not in KINDS:
            raise InputError(f"no kind of mutant {kind!r}{nearest(str(kind), KINDS)}; use {', '.join(KINDS)}")
    if most is not None and (type(most) is not int or most < 1):
        raise InputError(f"most must be a whole number of at least 1, got {most!r}")
    found = _edited(given, chosen or list(KINDS), inputs)
    left_out: list[Mutant] = []

    def mistakes(members: Iterable[Mutant]) -> Iterator[Mutant]:
        for mutant in members:
            if mutant.synchronisation and order.kept(mutant.program):
                left_out.append(mutant)
            else:
                yield mutant

    if most is None:
        made = [m for members in found.values() for m in mistakes(members)]
        return Mutants(made, left_out)
    rng = random.Random(seed)
    for members in found.values():
        rng.shuffle(members)
    share, kept = most, []
    queues = sorted(found.values(), key=len)
    for number, members in enumerate(queues):  # small kinds whole, the rest shared by the large ones
        taken = list(itertools.islice(mistakes(members), share // (len(queues) - number)))
        kept += taken
        share -= len(taken)
    return Mutants(kept, left_out)


def _edited(program: Program, kinds: Iterable[str], inputs: Iterable[Mapping[str, Any]]) -> dict[str, list[Mutant]]:
    """Return by kind what the machine takes and what is about data that reach an output, each program once."""
    editor = Editor(program.isa)
    idle = IdleRows(program, editor, inputs)
    found: dict[str, list[Mutant]] = {}
    seen = {_content(program.isa)}
    for kind in kinds:
        synchronisation, edits = KINDS[kind]
        for text, rows, data in edits(editor):
            if _content(data) in seen or not _sound(data):
                continue
            if not synchronisation and not any(editor.live(row) for row in rows):
                continue  # a node without work computes it too, and nobody reads that
            if not synchronisation and idle.harmless(rows, data):
                continue
            seen.add(_content(data))
            made = Mutant(kind, Program(data, program.chip), editor.lines(rows), text, synchronisation)
            found.setdefault(kind, []).append(made)
    return found


def _content(data: Data) -> bytes:
    parts = (data.code, data.views, data.exprs, data.semaphore_init)
    return b"".join(part.tobytes() for part in parts)


def _sound(data: Data) -> bool:
    try:
        data.require_sound()
    except AccelError:
        return False
    return True
