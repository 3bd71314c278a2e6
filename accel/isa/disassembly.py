"""The disassembler: a program as text that assembles back to it, and a listing of one role for reading."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np

from accel.errors import Location
from accel.isa import layout as w
from accel.isa.assembly_maps import TEXT_VERSION, chip_digest
from accel.isa.disassembly_operands import Writer, place_text, quoted, terms_text
from accel.isa.pools import COL, ROW, ZERO
from accel.isa.program import Program, Table
from accel.isa.table import BY_MNEMONIC, BY_OPCODE

__all__ = ["disassemble", "row_text"]

LOOP, END = BY_MNEMONIC["loop"].opcode, BY_MNEMONIC["end"].opcode
MARGIN = 96  # column of the source lines
SHARD = ("preload", "collect")


def disassemble(program: Program, role: int | None = None, chip_name: str = "") -> str:
    """Return the assembly of a sound program: `assemble` gives back the same tables. With `role`, a listing of it.

    chip_name: a name to write in place of the chip's JSON, where the catalog has it to the letter.
    """
    program.require_sound()
    return "\n".join(_Text(program).listing(role) if role is not None else _Text(program).whole(chip_name)) + "\n"


def row_text(program: Program, at: int) -> str:
    """Return the instruction of one code row as text: predicate, mnemonic and operands by name."""
    code = program.code[at].tolist()
    return Writer.of(program).instruction(BY_OPCODE[code[w.W_OPCODE]], code, distances=False)


class _Text:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.writer = Writer(program)
        self.code = program.code.tolist()

    def listing(self, role: int) -> Iterator[str]:
        """Yield what one role does, for reading: rows are numbered, source lines stand behind."""
        p = self.program
        yield f"; {p.name} on a mesh of {p.rows} x {p.cols}, role {role} of {p.roles}"
        yield from (f"; {line[1:]}" for line in self.objects())
        yield ""
        yield self.role_line(role)
        for shard in self.shards_of(role):
            yield f"        {shard}"
        for thread, (first, last) in enumerate(p.spans[role].tolist()):
            if first == last:
                continue
            names = p.thread_names[role]
            yield f"  .thread {quoted(names[thread]) if thread < len(names) else ''}".rstrip()
            for at, text in self.rows(first, last, distances=False):
                yield _beside(f"{at:6d}  {text}", ";", self.place(self.code[at][w.W_LINE]))

    def whole(self, chip_name: str) -> Iterator[str]:
        """Yield the whole program; the body is written first, since it decides which tables must be listed."""
        p = self.program
        flat = not _in_order(p.spans, len(self.code))
        body: list[str] = []
        ordered = bool((np.diff(p.shards[:, w.H_ROLE]) >= 0).all())
        if flat:
            body += ["", ".code", *self.statements(0, len(self.code), distances=True)]
        for role in range(p.roles):
            body += ["", self.role_line(role), *self.values(p.role_of == role)]
            body += [f"  {text}" for text in self.shards_of(role)] if ordered else []
            for thread, (first, last) in enumerate(p.spans[role].tolist()):
                names = p.thread_names[role]
                name = f" {quoted(names[thread])}" if thread < len(names) else ""
                if flat:
                    body.append(f"  .thread{name} rows={first}:{last}")
                elif first != last or name or p.spans[role, thread:, 0].min() != p.spans[role, thread:, 1].max():
                    body += [f"  .thread{name}", *self.statements(first, last, distances=False)]
        if not ordered:
            body += ["", *(f"{text}" for text in self.shards_of(None))]
        yield f"; accel assembly: {p.instructions} instructions, {p.nodes} nodes, {p.roles} roles"
        yield f".accel {TEXT_VERSION}"
        yield f".program {quoted(p.name)}"
        yield from self.chip(chip_name)
        yield f".mesh {p.rows} {p.cols}"
        yield f".threads {p.threads}"
        yield from ([f".flops {p.flops}"] if p.flops else [])
        yield from (f".fact {quoted(key)} {json.dumps(value)}" for key, value in p.facts.items())
        yield from self.objects()
        yield from self.node_values()
        yield from self.tables()
        yield from body

    # --- what a program says about itself ---------------------------------------------------------------------------
    def chip(self, name: str) -> Iterator[str]:
        """Yield the chip by name, as indented JSON, or as a quoted text where it is neither."""
        chip = self.program.chip
        if name:
            yield f".chip {name} sha256={chip_digest(chip)}"
        elif chip.startswith("{\n") and chip.find("\n}") == len(chip) - 2:
            yield f".chip {chip}"
        elif chip:
            yield f".chip text={json.dumps(chip)}"

    def objects(self) -> Iterator[str]:
        """Yield tensors, buffers and semaphores with their places."""
        p = self.program
        for t in p.tensors:
            flags = (
                ("in", t.is_input),
                ("out", t.is_output),
                ("resident", t.resident),
                ("ieee", t.denormals == "ieee"),
            )
            marks = "".join(f" {mark}" for mark, on in flags if on) + (f" bias={t.bias}" if t.bias else "")
            yield f".tensor {quoted(t.name)} {_shape(t.dtype, t.shape)} @{t.address:#x}{marks}"
        yield f".memory {p.memory_bytes}"
        for b in p.buffers:
            yield _beside(f".buffer {quoted(b.name)} {_shape(b.dtype, b.shape)} @{b.offset:#x}", "|", _at(b.line))
        yield f".sram {p.sram_bytes}"
        end, init = 0, [0] * len(p.semaphore_init)
        for s in p.semaphores:
            count = f"[{s.count}]" if s.count != 1 else ""
            place = f" @{s.index}" if s.index != end else ""
            yield _beside(f".sem {quoted(s.name)}{count}{f' = {s.init}' if s.init else ''}{place}", "|", _at(s.line))
            end = max(end, s.index + s.count)
            init[s.index : s.index + s.count] = [s.init] * s.count
        if len(init) != end or init != p.semaphore_init.tolist():
            yield f".init {_runs(p.semaphore_init.tolist())}"

    def node_values(self) -> Iterator[str]:
        """Yield the values of nodes that belong to no role, where they are not zero."""
        p = self.program
        yield from ([f".params {p.params.shape[1]}"] if p.params.shape[1] > 2 else [])
        place = np.stack(np.divmod(np.arange(p.nodes), p.cols), axis=1)
        idle = p.role_of < 0
        for index in range(p.params.shape[1]):
            column = p.params[:, index]
            if index < 2 and not (column == place[:, index]).all():
                yield f".param {('row', 'col')[index]} = [{_runs(column.tolist())}]"
            elif index > 1 and column[idle].any():
                yield f".param p{index} = [{_runs(np.where(idle, column, 0).tolist())}]"

    def tables(self) -> Iterator[str]:
        """Yield the tables whose order, twins or unused entries reading the text would not give back."""
        p, out = self.program, self.writer
        every: Entries_ = ((0, 1, 0, 1, 0, 2, 0, 2), (0, 0, p.rows - 1, 0, 0, 0, p.cols - 1, 0))
        preds, targets = out.preds.natural([()]), out.targets.natural(every)
        if not (preds and targets and out.exprs.natural([ZERO, ROW, COL])):
            yield from (f".expr e{i} = {terms_text(key, 0)}" for i, key in enumerate(out.exprs.keys))
        if not preds:
            yield from (f".pred c{i} = {self.listed_condition(i)}" for i in range(len(out.preds.keys)))
        if not targets:
            yield from (f".target t{i} = {out.rectangle(key)}" for i, key in enumerate(out.targets.keys))
        if not out.views.natural([]):
            for i, key in enumerate(out.views.keys):
                name, _ = out.objects[key[w.V_SPACE]][key[w.V_OBJECT]]
                yield f".view v{i} = {name} {out.descriptor(key, pairs=False)}"
        if not out.marks.natural([]):
            yield from (f".mark {json.dumps(mark)}" for mark in p.marks)
        if not p.lines:
            yield ".lines none"
        elif not self.lines_follow():
            yield from (f".line {place_text(*at)}" for at in p.lines)

    def listed_condition(self, pred: int) -> str:
        """Return the content of a predicate, twin or not."""
        text = self.writer.condition(pred)
        first = self.writer.preds.first[self.writer.preds.keys[pred]]
        return text if first == pred else self.writer.condition(first)

    def lines_follow(self) -> bool:
        """Return whether the source map is what the assembler makes: every line that is used, once, sorted."""
        p = self.program
        used = set(p.code[:, w.W_LINE].tolist()) | set(p.shards[:, w.H_LINE].tolist())
        return list(p.lines) == sorted(set(p.lines)) and used == set(range(len(p.lines)))

    # --- roles ------------------------------------------------------------------------------------------------------
    def role_line(self, role: int) -> str:
        """Return the line that opens a role, with its nodes as rectangles."""
        mine = (self.program.role_of == role).reshape(self.program.rows, self.program.cols)
        nodes = "all" if mine.all() else " ".join(_rectangles(mine)) or "none"
        return f".role {role} nodes {nodes}"

    def values(self, mine: Table) -> Iterator[str]:
        """Yield the node values of a role's nodes, as a sum of row and col where they are one."""
        p = self.program
        nodes = np.flatnonzero(mine)
        for index in range(2, p.params.shape[1]):
            values = p.params[nodes, index]
            if values.any():
                yield f"  .param p{index} = {_affine(nodes, p.cols, values) or f'[{_runs(values.tolist())}]'}"

    def shards_of(self, role: int | None) -> Iterator[str]:
        """Yield the preloads and collects of a role, or all of them with their roles."""
        for shard in self.program.shards.tolist():
            if role is None or shard[w.H_ROLE] == role:
                dst, src = (
                    self.writer.view(shard[at], shard[at + 1], shard[at + 2], False) for at in (w.H_DST, w.H_SRC)
                )
                text = f"{SHARD[shard[w.H_DIRECTION]]} {dst}, {src}"
                text += f" role={shard[w.H_ROLE]}" if role is None else ""
                yield _beside(text, "|", self.place(shard[w.H_LINE]))

    def statements(self, first: int, last: int, distances: bool) -> Iterator[str]:
        """Yield the rows of a thread with the source line behind."""
        for at, text in self.rows(first, last, distances):
            yield _beside(f"    {text}", "|", self.place(self.code[at][w.W_LINE]))

    def rows(self, first: int, last: int, distances: bool) -> Iterator[tuple[int, str]]:
        """Yield number and text of rows, indented by their loops."""
        depth = 0
        for at in range(first, last):
            code = self.code[at]
            depth -= code[w.W_OPCODE] == END
            text = self.writer.instruction(BY_OPCODE[code[w.W_OPCODE]], code, distances)
            yield at, f"{'  ' * max(depth, 0)}{text}"
            depth += code[w.W_OPCODE] == LOOP

    def place(self, line: int) -> str:
        """Return the source line of a row, or its number where another one says the same."""
        if line >= len(self.program.lines):
            return ""
        return place_text(*self.program.lines[line]) if self.writer.lines.mention(line) else f"l{line}"


Entries_ = tuple[tuple[int, ...], ...]


def _beside(text: str, mark: str, place: str) -> str:
    return f"{text:<{MARGIN}s} {mark} {place}" if place else text


def _at(line: Location | None) -> str:
    return place_text(*line) if line is not None else ""


def _shape(dtype: str, shape: tuple[int, ...]) -> str:
    return f"{dtype}[{','.join(map(str, shape))}]"


def _in_order(spans: Table, rows: int) -> bool:
    """Return whether threads take all rows one after another, in order of role and thread."""
    end = 0
    for first, last in spans.reshape(-1, 2).tolist():
        if first != end:
            return False
        end = last
    return end == rows


def _rectangles(mine: Table) -> Iterator[str]:
    """Yield the nodes of a boolean mesh as rectangles, greedily from the top left."""
    left = mine.copy()
    while left.any():
        row, col = (int(v) for v in np.unravel_index(int(np.argmax(left)), left.shape))
        width = int(np.argmin(np.append(left[row, col:], False)))
        height = int(np.argmin(np.append(left[row:, col : col + width].all(axis=1), False)))
        left[row : row + height, col : col + width] = False
        rows = f"{row}" if height == 1 else f"{row}..{row + height - 1}"
        cols = f"{col}" if width == 1 else f"{col}..{col + width - 1}"
        yield f"({rows}, {cols})"


def _runs(values: list[int]) -> str:
    """Return numbers with blanks between them; `4:0` is four zeros."""
    parts: list[str] = []
    at = 0
    while at < len(values):
        end = at
        while end < len(values) and values[end] == values[at]:
            end += 1
        parts += [f"{end - at}:{values[at]}"] if end - at > 2 else [str(values[at])] * (end - at)
        at = end
    return " ".join(parts)


def _affine(nodes: Table, cols: int, values: Table) -> str:
    """Return the sum of row and col that gives these values, empty where none does."""
    row, col = np.divmod(nodes, cols)
    coefs = [0, 0]
    for axis, (along, across) in enumerate(((row, col), (col, row))):
        step = np.flatnonzero((across == across[0]) & (along != along[0]))
        if step.size:
            rise, run = int(values[step[0]] - values[0]), int(along[step[0]] - along[0])
            coefs[axis] = rise // run
    first = int(values[0]) - coefs[0] * int(row[0]) - coefs[1] * int(col[0])
    if max(map(abs, coefs), default=0) > 1 << 40 or not (coefs[0] * row + coefs[1] * col + first == values).all():
        return ""
    terms = tuple((axis, coef) for axis, coef in enumerate(coefs) if coef)
    return terms_text((terms, ()), first)
