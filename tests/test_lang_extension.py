"""The kernel language: rings, pulls, probes, masks, logical indices and biases as the rows and views they become."""

from __future__ import annotations

from typing import Any

import numpy as np
from tracing import trace

import accel
from accel.isa import layout as w
from accel.isa.codec import decode
from accel.isa.program import Program
from accel.lang import tensor
from accel.numerics.formats import fmt


def rows(program: Program) -> list[tuple[str, dict[str, Any]]]:
    return [(i.mnemonic, i.operands) for i in map(decode, program.code)]


def view(program: Program, operand: tuple[int, int, int]) -> dict[str, Any]:
    words = program.views[operand[0]].tolist()
    return {
        "shape": words[w.V_SHAPE : w.V_SHAPE + 4], "stride": words[w.V_STRIDE : w.V_STRIDE + 4],
        "ring": (words[w.V_RING_BASE], words[w.V_RING_BYTES]), "bias": words[w.V_BIAS], "scalar": words[w.V_SCALAR],
        "address": operand[1], "expr": operand[2],
    }  # fmt: skip


def test_ring_addresses_run_on_and_the_view_says_where_they_wrap() -> None:
    def kernel(k, x):
        k.sram((3,), "fp32", "pad")
        frames = k.sram((4, 6, 8), "bf16", "frames")
        ring, out = frames.ring(), k.sram((3, 6, 8), "bf16", "out")
        for i in k.loop(9):
            k.vec.copy(out, ring[i : i + 3])
            k.vec.copy(out[0, 2], ring[i + 1, 2])
        k.vec.copy(out[0], ring[-1])

    program = trace(kernel, x=tensor((8, 8)))
    base, slot = 64, 6 * 8 * 2
    copies = [operands for name, operands in rows(program) if name == "vec.copy"]
    whole, line, last = (view(program, operands["x"]) for operands in copies)
    assert whole["ring"] == line["ring"] == last["ring"] == (base, 4 * slot)
    assert (whole["shape"], whole["stride"]) == ([1, 3, 6, 8], [0, slot, 16, 2])
    assert (whole["address"], line["address"], last["address"]) == (base, base + slot + 32, base + 3 * slot)
    loops = program.exprs[whole["expr"]]
    assert loops[w.E_NLOOPS] == 1
    assert loops[w.E_LOOPS + w.L_COEF] * loops[w.E_LOOPS + w.L_MUL] == slot
    assert view(program, copies[0]["dst"])["ring"] == (0, 0)
    assert line["shape"] == [1, 1, 1, 8]


def test_ring_of_a_window_of_columns_wraps_inside_its_buffer() -> None:
    def kernel(k, x):
        frames = k.sram((4, 8), "fp32", "frames")
        k.vec.neg(k.sram((2, 4), "fp32", "out"), frames[:, 4:].ring()[3:5])

    program = trace(kernel, x=tensor((8, 8)))
    ((_, operands),) = rows(program)
    window = view(program, operands["x"])
    base, size = window["ring"]
    assert (base, size) == (0, 4 * 32)  # the whole of frames, so that slot 4 begins where slot 0 does
    # where slots 3 and 4, elements 0 and 3 of each, come to lie
    bytes_of = [base + (window["address"] + 32 * slot + 4 * i - base) % size for slot in (0, 1) for i in (0, 3)]
    assert bytes_of == [3 * 32 + 16, 3 * 32 + 28, 16, 28]


def test_ring_of_a_part_keeps_its_offset() -> None:
    def kernel(k, x):
        both = k.sram((2, 4, 8), "fp32", "both")
        k.vec.neg(both[1].ring()[2:5], both[0].ring()[6:9])

    program = trace(kernel, x=tensor((8, 8)))
    ((_, operands),) = rows(program)
    assert view(program, operands["dst"])["ring"] == (128, 128)
    assert view(program, operands["dst"])["address"] == 128 + 2 * 32
    assert view(program, operands["x"])["address"] == 2 * 32  # 6 modulo 4


def test_pull_names_its_owner_and_fires_both_semaphores() -> None:
    def kernel(k, x):
        a, b = k.sram((8,), "fp32", "a"), k.sram((8,), "fp32", "b")
        here, there = k.sem(name="here"), k.sem(name="there")
        k.pull(b, a, of=(k.row, 0), done=here, sent=there)
        k.pull(b, a, of=(0, 0), done=here)
        k.wait(here, 2)

    program = trace(kernel, x=tensor((8, 8)))
    (first, one), (second, two) = rows(program)[:2]
    assert first == second == "pull"
    assert (one["done"], one["sent"]) == ((0, 0), (1, 0))
    assert two["sent"] == (-1, 0)
    assert program.targets[one["of"]].tolist() == [0, 1, 0, 1, 0, 0, 0, 0]  # row, row, column 0
    assert program.targets[two["of"]].tolist() == [0, 0, 0, 0, 0, 0, 0, 0]


def test_logical_index_counts_in_the_whole_tensor() -> None:
    def kernel(k, c):
        f, b, m = k.sram((4, 8), "fp32", "f"), k.sram((4, 8), "bf16", "b"), k.sram((1, 8), "int32", "m")
        k.vec.cast(b, f, rounding="stochastic", stream=7, index=k.element(c.shape, 3, k.row * 4, k.col * 8))
        k.vec.random(f, stream=2**32 - 1)
        k.vec.iota(m, 5)
        k.vec.iota(m[0], k.element((10, 10), 2, 3))

    program = trace(kernel, c=tensor((5, 16, 32)))
    (_, cast), (_, random), (_, iota), (_, part) = rows(program)
    assert cast["stream"] == 7
    assert cast["index"][0] == 3 * 16 * 32
    assert cast["index"][2:] == (0, 0, 32, 1)
    terms = program.exprs[cast["index"][1]]
    assert sorted([tuple(terms[2:4]), tuple(terms[4:6])]) == [(0, 4 * 32), (1, 8)]  # row and column
    assert (random["stream"], random["index"]) == (2**32 - 1, (0, 0, 0, 0, 8, 1))
    assert iota["index"] == (5, 0, 0, 0, 0, 1)
    assert part["index"] == (23, 0, 0, 0, 0, 1)


def test_integer_rows_carry_the_bits_of_an_int32() -> None:
    def kernel(k, x):
        i = k.sram((8,), "int32", "i")
        k.vec.sub(i, i, 3)
        k.vec.sub(i, i, -(1 << 31))
        k.vec.fill(i, -1)
        k.vec.add(i, i, i)

    program = trace(kernel, x=tensor((8, 8)))
    word = [int(row[9]) for row in program.code[:2]]
    assert word == [(-3) & 0xFFFFFFFF, 1 << 31]
    assert int(program.code[2][6]) == 0xFFFFFFFF
    assert rows(program)[3][0] == "vec.add"


def test_masks_select_and_rows_by_index() -> None:
    def kernel(k, x):
        f, m, i = k.sram((6, 8), "fp32", "f"), k.sram((6, 8), "uint8", "m"), k.sram((3,), "int32", "i")
        t, few = k.sram((8, 6), "fp32", "t"), k.sram((3, 8), "fp32", "few")
        k.vec.compare(m, f, ">=", 0.5)
        k.vec.compare(m, f, "!=", f)
        k.vec.select(f, m, f, f[0])
        k.vec.transpose(t, f)
        k.vec.gather(few, f, i)
        k.vec.scatter_add(f, few, i)

    program = trace(kernel, x=tensor((8, 8)))
    found = rows(program)
    assert [name for name, _ in found] == [
        "vec.comparei", "vec.compare", "vec.select", "vec.transpose", "vec.gather", "vec.scatter_add",
    ]  # fmt: skip
    assert (found[0][1]["imm"], found[0][1]["relation"], found[1][1]["relation"]) == (0.5, 6, 2)
    assert view(program, found[2][1]["y"])["stride"] == [0, 0, 0, 4]
    assert view(program, found[4][1]["x"])["shape"] == [1, 1, 6, 8]
    assert view(program, found[4][1]["index"])["shape"] == [1, 1, 1, 3]
    program.require_sound()


def test_bias_is_a_number_a_default_or_a_scalar() -> None:
    def kernel(k, x, y):
        s = k.sram((1,), "uint8", "s")
        p, q = k.sram((8, 8), "cfp8-143", "p", bias=11, denormals="ieee"), k.sram((8,), "cfp8-152", "q")
        r, f = k.sram((8,), "cfp8-143", "r", bias=s), k.sram((8,), "fp32", "f")
        k.copy(p, x)
        k.copy(s, y)
        k.vec.cast(q, f)
        k.vec.cast(r, f)

    spec = tensor((8, 8), "cfp8-143", bias=11, denormals="ieee")
    program = trace(kernel, x=spec, y=tensor((1,), "uint8"))
    copies = rows(program)
    assert view(program, copies[0][1]["dst"])["bias"] == view(program, copies[0][1]["src"])["bias"] == 11 + 256
    assert view(program, copies[2][1]["dst"])["bias"] == 15
    scalar = view(program, copies[3][1]["dst"])
    assert (scalar["bias"], scalar["scalar"]) == (0, 1 + program.buffers[0].offset)
    assert [(t.bias, t.denormals) for t in program.tensors] == [(11, "ieee"), (0, "gap")]
    program.require_sound()


def test_default_bias_is_that_of_ieee() -> None:
    assert {name: fmt(name).default_bias for name in ("cfp8-143", "cfp8-152", "shp16", "uhp16", "bf16", "int8")} == {
        "cfp8-143": 7, "cfp8-152": 15, "shp16": 15, "uhp16": 31, "bf16": 0, "int8": 0,
    }  # fmt: skip


def test_probe_keeps_name_and_view() -> None:
    def kernel(k, x):
        f = k.sram((4, 8), "fp32", "f")
        k.mark("begin")
        k.probe(f[1:3], "middle")
        k.probe(f[0], "middle")

    program = trace(kernel, x=tensor((8, 8)))
    assert program.marks == ("begin", "middle")
    assert [operands["name"] for name, operands in rows(program) if name == "probe"] == [1, 1]
    assert view(program, rows(program)[1][1]["x"])["shape"] == [1, 1, 2, 8]


def test_a_bias_scalar_keeps_its_rule_in_text() -> None:
    @accel.kernel
    def kernel(k, x):
        s, f = k.sram((1,), "uint8", "s"), k.sram((8,), "fp32", "f")
        k.vec.cast(k.sram((8,), "cfp8-143", "q", bias=s), f)
        k.vec.cast(k.sram((8,), "cfp8-143", "p", bias=s, denormals="ieee"), f)

    program = kernel.build("mini", x=accel.tensor((8,)))
    again = accel.assemble(program.asm()).isa
    biased = again.views[again.views[:, w.V_SCALAR] > 0]
    assert biased[:, [w.V_BIAS, w.V_SCALAR]].tolist() == [[0, 1], [w.BIAS_IEEE, 1]]


def test_windows_are_the_outputs_and_taps_of_a_convolution() -> None:
    def kernel(k, x):
        rows = k.sram((9, 11, 4), "bf16", "rows")
        w, acc = k.sram((3, 12, 8), "bf16", "w"), k.sram((4, 5, 8), "fp32", "acc")
        taps = rows.window(0, 3, step=2).window(2, 3, step=2)  # (4, 3, 5, 3, 4)
        k.matmul(acc, taps.merge(3).transpose(0, 2, 1, 3), w)
        k.vec.relu(acc, acc)
        k.vec.copy(rows[:3, :1], rows.window(0, 3, dilation=4)[0, :, :1])
        k.vec.relu(rows.merge(0), rows.merge(0))

    program = trace(kernel, x=tensor((8, 8)))
    (_, product), _, (_, dilated), (_, flat) = rows(program)
    pixel, line = 4 * 2, 11 * 4 * 2
    a = view(program, product["a"])
    assert (a["shape"], a["stride"]) == ([4, 5, 3, 12], [2 * line, 2 * pixel, line, 2])
    assert view(program, dilated["x"])["stride"][2:] == [4 * line, 2]
    assert view(program, flat["x"])["shape"] == [1, 1, 99, 4]


def test_a_reversed_dimension_starts_at_its_last_element() -> None:
    def copied(k, x, y):
        b, c = k.sram((8, 4), "fp32", "b"), k.sram((8, 4), "fp32", "c")
        here = k.sem()
        k.copy(b, x.flip(0), done=here)
        k.wait(here)
        k.vec.neg(c, b.flip(1))
        k.copy(y, c, sent=here)
        k.wait(here)

    x = np.arange(32, dtype=np.float32).reshape(8, 4)
    program = accel.kernel(copied).build("mini", mesh=(1, 1), x=tensor((8, 4), "fp32"), y=tensor((8, 4), "fp32"))
    assert (program.run(x=x)["y"] == -x[::-1, ::-1]).all()
