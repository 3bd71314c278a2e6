"""Kernels that must fail: random numbers, masks, biases, rings and pulls; `test_lang_errors` runs them."""

from __future__ import annotations

from lang_misuse import case

from accel.errors import TraceError, UnsupportedError


@case(TraceError, "k.vec.random: stream=None; name the random stream by an int")
def random_without_a_stream(k, x):
    k.vec.random(k.sram((8,), "fp32"))  # here


@case(TraceError, "k.vec.random: an index is an int, k.row, k.col, a loop index or a sum of them, not <view of 'x'")
def index_of_a_view(k, x):
    k.vec.random(k.sram((8,), "fp32"), stream=1, index=x[0])  # here


@case(TraceError, "k.element: an index is an int, k.row, k.col, a loop index or a sum of them, not 1.5")
def element_of_a_float(k, x):
    k.element((8, 8), 1.5)  # here


@case(TraceError, "the shape of the whole tensor of a k.element is 'x'; give a tuple of ints")
def element_of_a_name(k, x):
    k.element("x")  # here


@case(TraceError, "k.vec.iota: 'i' (2, 8) is larger than the tensor (1, 8) it is a part of")
def iota_that_runs_into_the_next_row(k, x):
    k.vec.iota(k.sram((2, 8), "int32", "i"), k.element((1, 8)))  # here


@case(UnsupportedError, "k.vec.random: 'u' is bf16, and dst is fp32 or int32; write to a buffer of that")
def random_in_bf16(k, x):
    k.vec.random(k.sram((8,), "bf16", "u"), stream=1)  # here


@case(
    TraceError, "k.vec.select takes views of SRAM buffers, not 0.0; k.vec.fill a buffer with it, one element is enough"
)
def select_of_a_number(k, x):
    f, m = k.sram((8,), "fp32", "f"), k.sram((8,), "uint8", "m")
    k.vec.select(f, m, f, 0.0)  # here


@case(TraceError, "k.vec.fill: 300 is outside uint8; keep it in 0 .. 255")
def fill_beyond_uint8(k, x):
    k.vec.fill(k.sram((8,), "uint8"), 300)  # here


@case(TraceError, "k.vec.fill: -129 is outside int8; keep it in -128 .. 127")
def fill_beyond_int8(k, x):
    k.vec.fill(k.sram((8,), "int8"), -129)  # here


@case(TraceError, "k.vec.copy moves bits: 'r' and 'q' are cfp8-143 of different bias or denormals; k.vec.cast to one")
def move_to_another_bias(k, x):
    q, r = k.sram((8,), "cfp8-143", "q", bias=7), k.sram((8,), "cfp8-143", "r", bias=3)
    k.vec.copy(r, q)  # here


@case(TraceError, "k.vec.select moves bits: 'q' and 'r' are shp16 of different bias or denormals")
def select_of_other_denormals(k, x):
    q, r = k.sram((8,), "shp16", "q", bias=7), k.sram((8,), "shp16", "r", bias=7, denormals="ieee")
    k.vec.select(q, k.sram((8,), "uint8", "m"), q, r)  # here


@case(TraceError, "'c' (2, 8) cannot be a ring: 256 bytes, 2 slots every 128, wrap outside its buffer")
def ring_of_more_than_the_buffer(k, x):
    k.sram((3, 16), "fp32", "c")[::2, 8:].ring()  # here


@case(TraceError, "k.pull takes one node as of=, not k.row_nodes(); name it (row, col)")
def pull_of_a_row(k, x):
    a, b = k.sram((8,), "fp32"), k.sram((8,), "fp32")
    k.pull(b, a, of=k.row_nodes())  # here


@case(TraceError, "k.vec has no 'where'")
def name_of_another_language(k, x):
    k.vec.where(x, x, x, x)  # here


@case(TraceError, "preload, collect, vec; use k.vec.gather")
def a_vector_instruction_of_k(k, x):
    k.gather(x, x, x)  # here


@case(TraceError, "instruction 0 was vec.muli(dst=0/0/0, x=0/0/0, imm=0.5) on the first trip")
def number_that_changes(k, x):
    f, n = k.sram((8,), "fp32"), 1.0
    for _ in k.loop(3):
        n /= 2
        k.vec.mul(f, f, n)  # here


@case(TraceError, "imm=-3) on the first trip and vec.fill(dst=0/0/0, imm=-6) on the second")
def whole_number_that_changes(k, x):
    f, n = k.sram((8,), "int32"), -3
    for _ in k.loop(3):
        k.vec.fill(f, n)  # here
        n *= 2


@case(TraceError, "buffer 'q': its bias row differs between nodes, and a buffer means the same on all")
def bias_of_each_row(k, x):
    k.sram((8,), "cfp8-143", "q", bias=k.row)  # here
