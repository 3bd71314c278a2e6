"""The debugger's eye: totals of lines, explain, timeline, steps and the allocation map of a program by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from programs import Asm, summa_program

import accel
from accel.errors import InputError, Location
from accel.hardware import chip
from accel.isa.program import Program
from accel.program import Program as Built
from accel.timing import LineTotals, simulate
from accel.timing.trace import KINDS, WAITS

MINI = chip("mini")


def pushed() -> Program:
    """Node (0, 0) pushes 1,024 B to (0, 1), which waits, multiplies and fills; the lines are hand.py:1 to :5."""
    p = Asm(1, 2)
    x, s = p.sram("x", (512,)), p.sem("s")
    a, acc = p.sram("a", (16, 16)), p.sram("acc", (16, 16), "fp32")
    with p.thread("push"):
        p.copy(p.at(x), p.at(x), to=p.target(0, 0, 1, 1), done=s)
    p.next_role([1])
    with p.thread("work"):
        p.wait(s)
        p.matmul(p.mat(acc), p.mat(a), p.mat(a))
        with p.loop(3):
            pass
        p.emit("vec.fill", dst=p.at(acc), imm=0.0)
    return p.program(name="pushed")


@accel.kernel
def sixty(k):  # type: ignore[no-untyped-def]
    """Fill a tile sixty times from one line."""
    tile = k.sram((4, 16), "fp32", "tile")

    @k.thread
    def main():  # type: ignore[no-untyped-def]
        for n in range(60):
            k.vec.fill(tile, float(n))


def built() -> Built:
    return Built(pushed(), MINI)


def line(number: int) -> Location:
    return Location("hand.py", number)


def test_lines_by_hand() -> None:
    timing = simulate(pushed(), MINI)
    # the copy is issued by 4 and there at 21; the matmul takes 40 after its issue; a loop and three ends 4; the fill 24
    assert timing.cycles == 21 + 1 + 40 + 4 + 1 + 24
    copy, wait, matmul, fill = (timing.lines[line(n)] for n in (1, 2, 3, 6))
    none = {"stalls": {}, "path_cycles": 0, "path_share": 0.0}
    zero = dict.fromkeys(LineTotals.__dataclass_fields__, 0) | none | {"instructions": 1}
    assert vars(copy) == zero | {"issue_cycles": 4, "mesh_bytes": 1024, "path_cycles": 4 + 17, "path_share": 21 / 91}
    assert vars(wait) == zero | {"issue_cycles": 1, "stalls": {"wait_mesh": 20}}
    # 16 operand tiles, 16 accesses of the block that leaves: 2 a cycle; 64 B each
    assert vars(matmul) == zero | {
        "issue_cycles": 1, "matrix_cycles": 40, "sram_port_cycles": 16, "sram_bytes": 32 * 64, "path_cycles": 41,
        "path_share": 41 / 91,
    }  # fmt: skip
    assert vars(fill) == zero | {
        "issue_cycles": 1, "vector_cycles": 24, "sram_port_cycles": 16, "sram_bytes": 16 * 64, "path_cycles": 5 + 24,
        "path_share": 29 / 91,
    }  # fmt: skip
    assert list(timing.lines) == [line(3), line(6), line(1), line(2)]
    assert timing.stall_cycles == {line(2): 20}


def test_lines_add_up_to_the_run() -> None:
    program = summa_program(2, 3, 16, 16, 8, 6)
    timing = simulate(program, MINI)
    own = list(timing.lines.values())
    assert sum(x.path_cycles for x in own) == timing.cycles
    assert sum(x.matrix_cycles for x in own) == timing.busy["matrix"].sum()
    assert sum(x.vector_cycles for x in own) == timing.busy["vector"].sum()
    assert sum(x.sram_port_cycles for x in own) == timing.busy["sram_port"].sum()
    assert sum(x.memory_read_bytes for x in own) == timing.bytes["memory_read"]
    assert sum(x.memory_write_bytes for x in own) == timing.bytes["memory_write"]
    assert sum(x.stalled for x in own) == sum(timing.stall_cycles.values())
    # the same from the trace: an independent sum over the slices
    trace = timing.trace()
    length = trace.slices["end"] - trace.slices["start"]
    stalled = [KINDS[k] in WAITS for k in trace.slices["kind"]]
    assert sum(x.stalled for x in own) == length[stalled].sum()
    bound = simulate(program, MINI, fidelity="bound")
    assert {k: v.instructions for k, v in bound.lines.items()} == {k: v.instructions for k, v in timing.lines.items()}


def test_explain_a_line() -> None:
    text = built().explain("hand.py:2")
    assert text.splitlines() == [
        "hand.py:2",
        "  executed 1 times; cycles: issue 1",
        "  stalled 20 thread-cycles: wait_mesh 20",
        "  critical path: 0 cycles, 0.0%",
        "  1 instruction of the program:",
        "         1  role 1 work               wait s, n=1",
    ]
    assert "never executed with an effect" in built().explain("hand.py:4")
    whole = built().explain()
    assert whole.startswith("pushed: 91 cycles on mini\n")
    assert " 45.1%             0            40               0          1  hand.py:3" in whole
    assert whole.count("instruction of the program:") == 4


def test_explain_shows_a_few_instructions_of_every_line_and_tells_where_the_rest_is() -> None:
    program = sixty.build("mini", mesh=(1, 1))
    where = f"test_timing_debugging.py:{next(x for x in program.time().lines if x.line).line}"
    everything, one = program.explain().splitlines(), program.explain(where).splitlines()
    assert everything[-1].strip() == f'... and 57 more; explain("{where}")'
    assert sum("role 0 main" in text for text in everything) == 3
    assert one[-1].strip() == "... and 20 more"
    assert sum("role 0 main" in text for text in one) == 40


def test_explain_shows_the_author_s_source(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("one\nk.fill(acc)  # here\n")
    p = Asm()
    with p.thread("main"):
        p.emit("vec.fill", dst=p.at(p.sram("v", (4, 4), "fp32")), imm=0.0)
    program = Built(p.program(lines=(Location(str(file), 2),)), MINI)
    assert program.explain("mine.py:2").splitlines()[0] == f"{file}:2  k.fill(acc)  # here"
    assert program.explain(f"{file}:2").splitlines()[0] == f"{file}:2  k.fill(acc)  # here"


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("hand.py:99", "nearest lines are 4, 5, 6; give one of those"),
        ("hand.pi:2", "its instructions come from hand.py; did you mean 'hand.py'?; give one of those"),
        ("hand.py", 'it names no line; give "file.py:26"'),
        ("hand.py:x", "it names no line"),
        (17, "it names no line"),
    ],
)
def test_explain_names_what_there_is(where: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        built().explain(where)
    assert message in str(caught.value)


def test_explain_needs_one_file() -> None:
    p = Asm()
    with p.thread("main"):
        p.emit("mark", phase=0)
        p.emit("mark", phase=0)
    program = p.program(lines=(Location("a/x.py", 1), Location("b/x.py", 1)), marks=("m",))
    with pytest.raises(InputError, match=r"a/x.py:1 and b/x.py:1 both end so; give more of the path"):
        Built(program, MINI).explain("x.py:1")
    assert Built(program, MINI).explain("b/x.py:1").startswith("b/x.py:1")


def test_timeline_by_hand() -> None:
    assert built().timeline((0, 1), width=91).splitlines() == [
        "node (0, 1) of pushed, cycles 0 to 91 of 91, 1.0 cycles a column",
        "                  |0                  |20                 |40                 |60                 |80",
        "thread work       i" + "x" * 20 + "i" + "M" * 40 + "i" * 5 + "V" * 24,
        "matrix unit       " + "." * 22 + "M" * 40 + "." * 29,
        "vector unit       " + "." * 67 + "V" * 24,
        "copies in flight  " + "." * 91,
        "i issues, M matrix unit, V vector unit, x waits for the mesh",
    ]
    left = built().timeline((0, 0), width=91, window=(0, 25)).splitlines()
    assert left[2] == "thread push       iiii" + "." * 21
    assert left[-2] == "copies in flight  ...." + "1" * 17 + "...."
    # column i of 20 begins in cycle 91 i // 20: 22 is column 5, 59 column 13, 63 column 14, where 67 to 91 begins late
    narrow = built().timeline((0, 1), width=20).splitlines()
    assert narrow[3:5] == ["matrix unit       .....MMMMMMMMM......", "vector unit       ..............vVVVVV"]


def test_timeline_refuses() -> None:
    with pytest.raises(InputError, match="3 columns wide; use 20 to 1000"):
        built().timeline(width=3)
    with pytest.raises(InputError, match=r"node \(0, 2\)"):
        built().timeline((0, 2))


def test_steps_by_hand() -> None:
    own = list(built().step((0, 1)))
    assert [(s.start, s.end, s.text.split(" ")[0], s.waited) for s in own] == [
        (0, 21, "wait", 20), (21, 62, "matmul", 0), (62, 63, "loop", 0), (63, 64, "end", 0), (64, 65, "end", 0),
        (65, 66, "end", 0), (66, 91, "vec.fill", 0),
    ]  # fmt: skip
    assert own[0].why == "waited 20 cycles: wait_mesh, ended by the copy at hand.py:1 of node (0, 0)"
    assert own[1].line == line(3)
    assert own[1].thread == "work"
    (copy,) = built().step((0, 0))
    assert (copy.start, copy.end, copy.done) == (0, 4, 21)
    assert "done at 21" in str(copy)


def test_steps_say_what_was_off_or_marked() -> None:
    p = Asm()
    with p.thread("main"):
        p.emit("mark", phase=0)
        with p.when(p.predicate((0, 1, 1))):
            p.barrier()
    program = Built(p.program(marks=("here",)), MINI)
    mark, off = program.step()
    assert (mark.start, mark.end, mark.text.split(" ")[0]) == (0, 0, "mark")
    assert off.text.endswith("(switched off)")
    assert (off.start, off.end) == (0, 1)


def test_steps_of_a_busy_unit_and_a_full_queue() -> None:
    p = Asm(1, 2)
    x, acc = p.sram("x", (512,)), p.sram("acc", (16, 16), "fp32")
    with p.thread("one"):
        p.emit("vec.fill", dst=p.at(acc), imm=0.0)
    with p.thread("two"):
        p.emit("vec.fill", dst=p.at(acc), imm=0.0)
    with p.thread("send"):
        for _ in range(2):
            p.copy(p.at(x), p.at(x), to=p.target(0, 0, 1, 1))
    p.next_role([1])
    with p.thread("main"):
        pass
    one, two, *copies = Built(p.program(), MINI.replace(**{"node.copy_queue_depth": 1})).step((0, 0))
    assert (one.end, one.why) == (25, "")
    assert (two.end, two.waited, two.why) == (49, 24, "waited 24 cycles: unit_busy")
    # sent at 20: 16 cycles from 4 on; the second could issue at 8
    assert [(c.start, c.end, c.waited) for c in copies] == [(0, 4, 0), (4, 20, 12)]
    assert copies[1].why == "waited 12 cycles: queue_full, ended by the copy at hand.py:3 of node (0, 0)"


def test_the_allocation_map() -> None:
    p = Asm()
    p.sram("a", (3,), "fp32")
    p.sram("b", (4, 8))
    with p.thread("main"):
        pass
    found = Built(p.program(), MINI).allocation()
    # 12 bytes, then 64 from the next multiple of 64
    assert [(b.name, b.offset, b.nbytes) for b in found.buffers] == [("a", 0, 12), ("b", 64, 64)]
    assert (found.used_bytes, found.high_bytes, found.free_bytes) == (76, 128, 256 * 1024 - 128)
    assert str(found).splitlines() == [
        "hand on mini: 128 of 262,144 B of SRAM a node",
        "    offset      bytes  share  buffer",
        "         0         12   0.0%  a: fp32[3]",
        "        64         64   0.0%  b: bf16[4,8]",
        "                   52   0.0%  (alignment)",
        "       128    262,016 100.0%  (free)",
    ]
