"""Assembly text: what the disassembler prints assembles back to the same tables; small programs typed by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import accel
from accel.errors import AccelError, ProgramError
from accel.isa import layout as w
from accel.isa.assembly import assemble
from accel.isa.disassembly import disassemble
from accel.isa.program import Buffer, Location, Semaphore
from accel.isa.program import Program as Data
from accel.kernels import matmul
from tests.programs import Asm, copy_program, matmul_program, summa_program


def chips(name: str) -> str:
    return accel.chip(name).to_json()


def differences(one: Data, two: Data) -> list[str]:
    """Return the fields in which two programs differ, tables by every word."""
    found = []
    for field in dataclasses.fields(Data):
        x, y = getattr(one, field.name), getattr(two, field.name)
        same = x.shape == y.shape and bool((x == y).all()) if isinstance(x, np.ndarray) else x == y
        if not same:
            found.append(field.name)
    return found


@accel.kernel
def rolling(k, x, y, *, steps):  # type: ignore[no-untyped-def]
    """Roles, node values that are no sum of row and col, loops, guards, predicates on loop indices, rectangles."""
    rows, _ = k.mesh
    b = k.sram((2, 8, 8), "fp32", "two slots")
    full, free, kept = k.sem(2, "full"), k.sem(2, "free", init=1), k.sem(name="kept")
    where = (k.row * 3 + k.col * k.col) % rows

    @k.thread
    def load() -> None:
        for i in k.loop(steps):
            k.wait(free[i % 2])
            k.copy(b[i % 2], x[where * 8 : where * 8 + 8], done=full[i % 2])

    @k.thread
    def work() -> None:
        for i in k.loop(steps):
            k.wait(full[i % 2])
            k.vec.add(b[i % 2], b[i % 2], 0.1)
            with k.when((i < 2) & (k.row > 0)):
                k.vec.relu(b[i % 2], b[i % 2])
            k.inc(free[i % 2])
        if k.col == 0:
            k.vec.mul(b[0, 0:1], b[0, 0:1], -2.5e-40)
        k.copy(y[(k.row * 4 + k.col) * 8 : (k.row * 4 + k.col) * 8 + 8], b[0], sent=kept)
        k.wait(kept)


def traced() -> Data:
    tensor = accel.tensor((128, 8), "fp32")
    return rolling.build("mini", x=tensor, y=tensor, steps=5, facts={"a b": 'said "so"'}, flops=12).isa


def odd() -> Data:
    """A sound program that no tracer makes: twins and unused entries in tables, shared rows, clashing names."""
    a = Asm(2, 2, name="odd one; really")
    x = a.tensor("same", (4, 4), "fp32", "in")
    y = a.tensor("y|", (4, 4), "fp32", "out", resident=True)
    b, c = a.sram("same", (4, 4), "fp32"), a.sram("twin", (4, 4), "fp32")
    d = a.sram("twin", (4, 4), "fp32")
    s, t = a.sem("s", 3, init=2), a.sem("s", 1)
    a.sem("none")
    value = a.param([5, -7, 5, 1 << 39])
    e = a.expr(params=[(value, -3), (0, 0)], loops=[(0, -2, -3, 7, 5), (1, 1, 2, 0, 0), (0, 1, 1, -4, 0)])
    a.preload(a.at(b), a.at(x))
    with a.thread("one"), a.loop(2), a.loop(3, expr=0):
        with a.when(a.predicate((e, 3, w.REL_GE), (0, -1, w.REL_LT))):
            a.emit("vec.fill", dst=a.at(c), imm=-0.0)
        a.emit("vec.fill", dst=a.view(d, (1, 4, 1, 4), (0, 16, 0, 4)), imm=float("inf"))
        a.emit("vec.add", dst=a.at(c), x=a.at(c), y=a.at(d))
        a.inc(s + 1, at=a.target(0, 1, 1, 1))
        a.inc(t)
        a.emit("mark", phase=1)
    a.collect(a.at(y), a.at(c))
    program = a.program(marks=("unused", "phase two", "phase two"), lines=(Location("b c.py", 2),) * 2)
    code, spans, views = program.code.copy(), program.spans.copy(), program.views.copy()
    code[:, w.W_LINE] %= 2
    spans[0, 1] = spans[0, 0]  # two threads run the same rows
    views = np.concatenate([views, views[:2]])
    exprs = np.concatenate([program.exprs, program.exprs[-1:]])
    views[0, w.V_NDIM] = 2
    code[0, w.W_FIRST + 1] = 0
    return dataclasses.replace(
        program, code=code, spans=spans, views=views, exprs=exprs, thread_names=(("one", ""),),
        semaphores=(*program.semaphores[:2], Semaphore("none", 4, 1, 0, Location("<stdin>", 3))),
        semaphore_init=np.array([2, 2, 9, 0, 0]),
        buffers=(*program.buffers, Buffer('"quoted"\\', "bf16", (), 0, 2, Location("C:\\x y.py", 1))),
    )  # fmt: skip


def every_kind() -> Data:
    """One row of every instruction of the table, operands drawn in word order from fixed views."""
    a = Asm(2, 2)
    floats, table = a.sram("f", (8, 8), "fp32"), a.sram("t", (8, 8), "fp32")
    bytes_, ints = a.sram("u", (8, 8), "uint8"), a.sram("i", (1, 8), "int32")
    s = a.sem("s")
    f, g, u, i = a.at(floats), a.at(table), a.at(bytes_), a.at(ints)
    column = a.view(floats, (8, 1), (32, 4))
    with a.thread("all"):
        a.emit("vec.cast_sr", dst=u, x=f, stream=2**32 - 1, index=(-5, 0, 0, 0, 64, 1))
        a.emit("vec.compare", dst=u, x=f, y=g, relation=3)
        a.emit("vec.comparei", dst=u, x=f, imm=0.1, relation=6)
        a.emit("vec.comparei", dst=u, x=u, imm=float_of(7), relation=1)
        a.emit("vec.select", dst=f, mask=u, x=f, y=g)
        a.emit("vec.transpose", dst=f, x=g)
        a.emit("vec.iota", dst=f, index=(3, 0, 9, 8, 7, 6))
        a.emit("vec.random", dst=f, stream=1, index=(0, 0, 0, 0, 0, 0))
        a.emit("vec.gather", dst=f, x=g, index=i)
        a.emit("vec.scatter_add", dst=f, x=g, index=i)
        a.emit("vec.fill", dst=i, imm=float_of(-1))
        a.emit("vec.reduce_sum", dst=column, x=f)
        a.emit("pull", dst=f, src=g, of=a.target(0, 0, 1, 1), done=(s, 0), sent=(-1, 0))
        a.wait(s)
        a.emit("probe", x=f, name=0)
        a.barrier(w.TARGET_ALL)
    return a.program(marks=("seen",))


def float_of(value: int) -> float:
    """Return the number whose fp32 bits are those of an int32, for words that hold one."""
    return float(np.array([value], np.int32).view(np.float32)[0])


def biased() -> Data:
    """Configurable formats: biases by number and from SRAM, both rules for denormals, rings."""
    a = Asm()
    x = a.tensor("x", (4, 4), "cfp8-143", "in", bias=7, denormals="ieee")
    b, c, s = a.sram("b", (4, 4), "cfp8-143"), a.sram("c", (8, 4), "shp16"), a.sram("scale", (4,), "uint8")
    done = a.sem("done")
    with a.thread("t"):
        a.copy(a.at(b), a.at(x), done=done)
        a.wait(done)
        a.emit("vec.cast", dst=a.at(c, slice(0, 4)), x=a.at(b))
    program = a.program()
    views = program.views.copy()
    views[1, w.V_BIAS] = 7 + w.BIAS_IEEE
    views[0, w.V_BIAS] = 5
    views[2, w.V_SCALAR] = 1 + program.buffers[s.index].offset + 2
    views[2, w.V_BIAS] = w.BIAS_IEEE
    views[2, w.V_RING_BASE], views[2, w.V_RING_BYTES] = program.buffers[c.index].offset + 8, 40
    return dataclasses.replace(program, views=views)


PROGRAMS: dict[str, Callable[[], Data]] = {
    "copy": lambda: copy_program(2, 3),
    "matmul": lambda: matmul_program(8, 9, 10),
    "summa": lambda: summa_program(3, 2, 8, 8, 16, 5),
    "library": lambda: matmul.build("mini", m=70, n=50, k=130).isa,
    "library on d1": lambda: matmul.build("d1", m=512, n=512, k=512).isa,
    "split nodes": lambda: matmul.build("mini", m=64, n=64, k=64, resident=("a", "b")).isa,
    "another chip": lambda: (
        matmul.build(accel.chip("mini").replace(**{"node.sram_bytes": 1 << 17}), m=32, n=32, k=32).isa
    ),
    "traced": traced,
    "odd": odd,
    "biased": biased,
    "every kind": every_kind,
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_text_is_the_same_program(name: str) -> None:
    program = PROGRAMS[name]()
    text = disassemble(program)
    again = assemble(text, chips=chips)
    assert differences(program, again) == []
    assert disassemble(again) == text


def test_the_public_call_names_catalog_chips_and_keeps_others_whole() -> None:
    program = matmul.build("mini", m=8, n=8, k=8)
    text = program.asm()
    assert ".chip mini sha256=" in text
    assert differences(accel.assemble(text).isa, program.isa) == []
    other = matmul.build(accel.chip("mini").replace(clock_hz=2_000_000_000), m=8, n=8, k=8)
    assert ".chip {" in other.asm()
    assert accel.assemble(other.asm()).chip == other.chip
    assert accel.assemble(text, "d1").chip.name == "d1"


HAND = """
; doubles a vector: 4 nodes, 16 numbers each
.chip mini
.mesh 2 2
.tensor x fp32[64] in
.tensor y fp32[64] out
.buffer b fp32[16]
.sem here
.sem gone

copy b, x+128*row+64*col fp32[16], done=here
wait here, 1
vec.add b, b, b
copy y+128*row+64*col fp32[16], b, sent=gone
wait gone, 1
"""


def test_a_program_typed_by_hand_runs_is_timed_and_is_clean() -> None:
    program = accel.assemble(HAND, source="double.asm")
    x = np.arange(64, dtype=np.float32)
    assert (program.run(x=x)["y"] == 2 * x).all()
    assert program.time().cycles > 0
    program.check()
    assert program.isa.thread_names == (("main",),)
    assert {str(at) for at in program.isa.lines} == {f"double.asm:{n}" for n in range(11, 16)}


def test_loops_guards_and_node_values_by_hand() -> None:
    program = accel.assemble("""
.chip mini
.mesh 1 3
.tensor y fp32[3] out
.buffer n fp32[1]
.sem gone
.role 0 nodes (0, 0..2)
.param p2 = [7 2:-1]
.thread main
  vec.fill n, 0
  loop 4
    @(i0 >= 1 & i0 <= 2) vec.addi n, n, 10
    @(p2 > 0) vec.addi n, n, imm=1
  end
  copy y+4*col fp32[1], n, sent=gone
  wait gone, n=1
""")
    assert program.run()["y"].tolist() == [24, 20, 20]


@pytest.mark.parametrize(
    ("relation", "holds"),
    [("==", [2]), ("!=", [0, 1, 3]), ("<", [0, 1]), ("<=", [0, 1, 2]), (">", [3]), (">=", [2, 3])],
)
def test_a_guard_holds_on_the_nodes_that_it_names(relation: str, holds: list[int]) -> None:
    text = f"""
.chip mini
.mesh 1 4
.tensor y uint8[4] out
.buffer n uint8[1]
.sem gone
.role 0 nodes all
.thread main
  vec.fill n, 0
  @(col {relation} 2) vec.addi n, n, 1
  copy y+col uint8[1], n, sent=gone
  wait gone, n=1
"""
    assert np.flatnonzero(accel.assemble(text).run()["y"]).tolist() == holds


@pytest.mark.parametrize(
    "bits", [0, 0x80000000, 1, 0x007FFFFF, 0x7F7FFFFF, 0x7F800000, 0xFF800000, 0x7FC00000, 0x7FC00001, 0x3DCCCCCD]
)
def test_immediates_keep_their_bits(bits: int) -> None:
    a = Asm()
    b = a.sram("b", (4,), "fp32")
    with a.thread("t"):
        a.emit("vec.fill", dst=a.at(b), imm=0.0)
    program = a.program()
    code = program.code.copy()
    code[0, w.W_FIRST + 3] = bits
    program = dataclasses.replace(program, code=code)
    assert differences(program, assemble(disassemble(program))) == []


TABLES = ("code", "params", "views", "exprs", "preds", "targets", "shards", "semaphore_init", "role_of", "spans")
WILD = st.sampled_from([0, 1, 2, 3, 4, 5, 7, 8, 16, 63, 64, 100, 255, -1, -2, -64, 1 << 20, 1 << 39])


@pytest.fixture(scope="module")
def sound_programs() -> list[Data]:
    return [make() for name, make in PROGRAMS.items() if name != "library on d1"]


@given(st.data())
def test_a_changed_program_that_is_still_sound_round_trips(sound_programs: list[Data], data: Any) -> None:
    """Whatever an engine would follow has a text: any word of any table changed, as long as the program is sound."""
    program = data.draw(st.sampled_from(sound_programs))
    for _ in range(data.draw(st.integers(1, 4))):
        name = data.draw(st.sampled_from(TABLES))
        table = getattr(program, name).copy()
        if table.size:
            at = data.draw(st.integers(0, table.size - 1))
            table.reshape(-1)[at] = data.draw(st.one_of(WILD, st.sampled_from(sorted(set(table.reshape(-1).tolist())))))
            program = dataclasses.replace(program, **{name: table})
    try:
        program.require_sound()
        text = disassemble(program)
    except AccelError:
        return  # refused for what it is, before any text
    again = assemble(text, chips=chips)
    assert differences(program, again) == []


def test_words_that_mean_nothing_must_be_zero() -> None:
    program = copy_program()
    code = program.code.copy()
    code[0, 15] = 3
    with pytest.raises(ProgramError, match="table 'code' holds 3 in a word that must be 0"):
        disassemble(dataclasses.replace(program, code=code))
