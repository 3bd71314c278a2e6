"""Kernels that must fail: capacity, copies, units and synchronisation; `test_lang_errors` runs them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import accel
from accel.errors import AccelError, BoundsError, CapacityError, InputError, TraceError, UnsupportedError

MINI = accel.chip("mini")  # 4 x 4 nodes, 256 KiB of SRAM, 4 threads, 256 semaphores
CASES: list[tuple[Callable[..., Any], type[AccelError], str]] = []
STALE: dict[str, Any] = {}


def case(error: type[AccelError], text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a kernel over x (8, 8) bf16 in memory that must fail with `text`, on its line marked `# here`."""

    def add(fn: Callable[..., Any]) -> Callable[..., Any]:
        CASES.append((fn, error, text))
        return fn

    return add


# --- capacity -------------------------------------------------------------------------------------------------------
@case(CapacityError, "SRAM overflow: 'big' (400, 400) in bf16 needs 320,000 B, 262,016 B are free of 262,144")
def sram_overflow(k, x):
    k.sram((64,), "bf16", "small")
    k.sram((400, 400), "bf16", "big")  # here


@case(CapacityError, "semaphore 'more' needs 7, 6 are free of 256 on a node of 'mini'")
def too_many_semaphores(k, x):
    k.sem(250)
    k.sem(7, "more")  # here


@case(CapacityError, "thread 'fifth' is number 5, and a node of 'mini' runs 4")
def too_many_threads(k, x):
    for name in ("a", "b", "c", "d"):

        def work():
            k.barrier()

        work.__name__ = name
        k.thread(work)

    @k.thread  # here
    def fifth():
        k.barrier()


# --- allocation -----------------------------------------------------------------------------------------------------
@case(TraceError, "buffer 'one' is not the same on nodes (0, 0) and (1, 0), and every node has one map")
def allocation_in_a_branch(k, x):
    if k.row == 0:
        k.sram((8,), "bf16", "one")  # here
    k.sram((8,), "bf16", "two")


@case(TraceError, "buffer 'b' is allocated inside a k.loop; allocate before the loop")
def allocation_in_a_loop(k, x):
    for _ in k.loop(2):
        k.sram((8,), "bf16", "b")  # here


@case(TraceError, "two buffers are named 'b'")
def buffer_twice(k, x):
    k.sram((8,), "bf16", "b")
    k.sram((8,), "bf16", "b")  # here


@case(TraceError, "two semaphores are named 's'")
def semaphore_twice(k, x):
    k.sem(1, "s")
    k.sem(1, "s")  # here


@case(TraceError, "semaphore 's': n = 0, init = 0; n is at least 1")
def no_semaphore(k, x):
    k.sem(0, "s")  # here


@case(TraceError, "k.sem('s'): the first argument is how many; write k.sem(name='s')")
def semaphore_named_first(k, x):
    k.sem("s")  # here


@case(TraceError, "the shape of buffer 'b' is (0, 4); every dimension is at least 1")
def empty_buffer(k, x):
    k.sram((0, 4), "bf16", "b")  # here


@case(TraceError, "the shape of buffer 'b' is 2.5; give a tuple of ints")
def fractional_buffer(k, x):
    k.sram(2.5, "bf16", "b")  # here


@case(InputError, "unknown number format 'bf61'; did you mean 'bf16'?")
def unknown_format(k, x):
    k.sram((4,), "bf61")  # here


# --- copies ---------------------------------------------------------------------------------------------------------
@case(TraceError, "k.copy moves bits: 'b' is fp32, 'x' is bf16; k.vec.cast in SRAM first")
def copy_between_formats(k, x):
    k.copy(k.sram((8, 8), "fp32", "b"), x)  # here


@case(TraceError, "k.copy of 'x' (8, 8) into 'b' (8, 4); shapes must be equal up to ones")
def copy_between_shapes(k, x):
    k.copy(k.sram((8, 4), "bf16", "b"), x)  # here


@case(TraceError, "k.copy from tensor 'x' to tensor 'x'; go through a k.sram buffer")
def copy_in_memory(k, x):
    k.copy(x[0], x[1])  # here


@case(TraceError, "a copy to the tensor 'x' has no other node to go to; leave out to=")
def store_elsewhere(k, x):
    k.copy(x, k.sram((8, 8), "bf16", "b"), to=(0, 0))  # here


@case(TraceError, "k.copy takes views of buffers and tensors, not 3; index a k.sram buffer or a tensor")
def copy_of_a_number(k, x):
    k.copy(x, 3)  # here


@case(TraceError, "k.preload touches 'x', which lies in memory; use k.copy, or build with resident='x'")
def preload_from_memory(k, x):
    k.preload(k.sram((8, 8), "bf16", "b"), x)  # here


@case(TraceError, "k.preload takes a buffer, then a tensor; got 'x', then 'b'")
def preload_the_wrong_way(k, x):
    k.preload(x, k.sram((8, 8), "bf16", "b"))  # here


@case(TraceError, "k.collect is not an instruction; call it outside threads, k.loop and k.when")
def collect_in_a_thread(k, x):
    b = k.sram((8, 8), "bf16", "b")

    @k.thread
    def work():
        k.collect(x, b)  # here


# --- matrix and vector unit -----------------------------------------------------------------------------------------
@case(TraceError, "k.matmul works on SRAM, and 'x' is a tensor in memory")
def matmul_from_memory(k, x):
    k.matmul(k.sram((8, 8), "fp32"), x, x)  # here


@case(TraceError, "k.matmul takes views of SRAM buffers, not None")
def matmul_of_nothing(k, x):
    k.matmul(k.sram((8, 8), "fp32"), None, x)  # here


@case(TraceError, "k.matmul accumulates bf16 in fp32, and 'acc' is cfp8-143")
def matmul_into_cfp8(k, x):
    b = k.sram((8, 8), "bf16", "b")
    k.matmul(k.sram((8, 8), "cfp8-143", "acc"), b, b)  # here


@case(TraceError, "k.matmul cannot accumulate in 'acc': its sums leave rounded to bf16; accumulate in an fp32 buffer")
def matmul_accumulates_in_bf16(k, x):
    b = k.sram((8, 8), "bf16", "b")
    k.matmul(k.sram((8, 8), "bf16", "acc"), b, b, accumulate=True)  # here


@case(TraceError, "k.matmul of 'b' in bf16 and 'f' in fp32; k.vec.cast one of them")
def matmul_of_two_formats(k, x):
    b, f = k.sram((8, 8), "bf16", "b"), k.sram((8, 8), "fp32", "f")
    k.matmul(f, b, f)  # here


@case(UnsupportedError, "the matrix unit of 'mini' does not take fp32 ('f'); k.vec.cast to bf16")
def matmul_in_fp32(k, x):
    f = k.sram((8, 8), "fp32", "f")
    k.matmul(f, f, f)  # here


@case(TraceError, "k.matmul shapes do not fit in K: 'acc' (4, 8) = 'a' (4, 6) @ 'b' (8, 8); K is [6] in one and [8]")
def matmul_of_unequal_depths(k, x):
    a, b = k.sram((4, 6), "bf16", "a"), k.sram((8, 8), "bf16", "b")
    k.matmul(k.sram((4, 8), "fp32", "acc"), a, b)  # here


@case(TraceError, "k.matmul cannot tell M, N and K from ranks: 'acc' (4,) = 'a' (4, 8) @ 'b' (8, 8)")
def matmul_of_odd_ranks(k, x):
    a, b = k.sram((4, 8), "bf16", "a"), k.sram((8, 8), "bf16", "b")
    k.matmul(k.sram((4,), "fp32", "acc"), a, b)  # here


@case(TraceError, "k.vec.add never converts: 'b' is bf16, 'f' is fp32; k.vec.cast to one format first")
def add_of_two_formats(k, x):
    b, f = k.sram((8, 8), "bf16", "b"), k.sram((8, 8), "fp32", "f")
    k.vec.add(f, b, f)  # here


@case(TraceError, "k.vec.mul: 'b' (3,) does not stretch to 'f' (8, 8)")
def multiply_of_two_shapes(k, x):
    f, b = k.sram((8, 8), "fp32", "f"), k.sram((3,), "fp32", "b")
    k.vec.mul(f, f, b)  # here


@case(TraceError, "k.vec.relu works on SRAM, and 'x' is a tensor in memory; k.copy it first")
def vector_in_memory(k, x):
    k.vec.relu(x, x)  # here


@case(TraceError, "k.vec.relu takes views of SRAM buffers, not 1.0")
def vector_of_a_number(k, x):
    k.vec.relu(k.sram((8,), "bf16"), 1.0)  # here


@case(UnsupportedError, "k.vec.sqrt computes in floats, and 'i' is int32; k.vec.cast first")
def root_of_integers(k, x):
    i = k.sram((8,), "int32", "i")
    k.vec.sqrt(i, i)  # here


@case(TraceError, "k.vec.add computes in integers here and takes an int, not 0.5")
def half_an_integer(k, x):
    i = k.sram((8,), "int32", "i")
    k.vec.add(i, i, 0.5)  # here


@case(TraceError, "k.vec.add: 4294967296 is outside int32; keep it in -2^31 .. 2^31 - 1")
def number_beyond_int32(k, x):
    i = k.sram((8,), "int32", "i")
    k.vec.add(i, i, 1 << 32)  # here


@case(TraceError, "k.vec.compare: relation '=>'; use one of == != < <= > >=")
def unknown_relation(k, x):
    f, m = k.sram((8,), "fp32", "f"), k.sram((8,), "uint8", "m")
    k.vec.compare(m, f, "=>", 0.0)  # here


@case(UnsupportedError, "k.vec.compare: 'f' is fp32, and dst is uint8; write to a buffer of that")
def mask_of_floats(k, x):
    f = k.sram((8,), "fp32", "f")
    k.vec.compare(f, f, "<", f)  # here


@case(UnsupportedError, "k.vec.gather: 'f' is fp32, and index is int32; k.vec.cast to that")
def index_of_floats(k, x):
    f, t = k.sram((8,), "fp32", "f"), k.sram((8, 4), "fp32", "t")
    k.vec.gather(t, t, f)  # here


@case(UnsupportedError, "k.vec.scatter_add: 'n' is int32, and x is bf16 or cfp8-143 or cfp8-152 or fp16 or fp32")
def sum_of_integer_rows(k, x):
    i, n = k.sram((8,), "int32", "i"), k.sram((8, 4), "int32", "n")
    k.vec.scatter_add(n, n, i)  # here


@case(TraceError, "k.vec.gather of rows of 't' (8, 4) by 'i' (3,) into 't' (8, 4)")
def too_few_indices(k, x):
    i, t = k.sram((3,), "int32", "i"), k.sram((8, 4), "fp32", "t")
    k.vec.gather(t, t, i)  # here


@case(TraceError, "k.vec.transpose of 't' (8, 4) into 't' (8, 4); the last two dimensions change places")
def transpose_in_place(k, x):
    t = k.sram((8, 4), "fp32", "t")
    k.vec.transpose(t, t)  # here


@case(TraceError, "k.vec.cast: rounding='up'; use 'nearest' or 'stochastic'")
def unknown_rounding(k, x):
    f, b = k.sram((8,), "fp32", "f"), k.sram((8,), "bf16", "b")
    k.vec.cast(b, f, rounding="up")  # here


@case(TraceError, "k.vec.cast: stream=None; name the random stream by an int from 0 to 4294967295")
def no_stream(k, x):
    f, b = k.sram((8,), "fp32", "f"), k.sram((8,), "bf16", "b")
    k.vec.cast(b, f, rounding="stochastic")  # here


@case(TraceError, "k.vec.cast to nearest draws no random numbers")
def stream_to_nearest(k, x):
    f, b = k.sram((8,), "fp32", "f"), k.sram((8,), "bf16", "b")
    k.vec.cast(b, f, stream=3)  # here


@case(TraceError, "k.element of a tensor of shape (8, 8) takes at most 2 indices, got 3")
def element_of_too_many(k, x):
    k.element(x.shape, 1, 2, 3)  # here


@case(TraceError, "buffer 'f' is fp32, whose exponent bias is fixed; leave out bias= and denormals=")
def bias_of_fp32(k, x):
    k.sram((8,), "fp32", "f", bias=3)  # here


@case(TraceError, "buffer 'q': bias=64; a bias is 0 to 63")
def bias_too_large(k, x):
    k.sram((8,), "cfp8-143", "q", bias=64)  # here


@case(TraceError, "buffer 'q': its bias scalar is 'f' (1,) in fp32; use a k.sram((1,), 'uint8') at a fixed place")
def bias_in_fp32(k, x):
    k.sram((8,), "cfp8-143", "q", bias=k.sram((1,), "fp32", "f"))  # here


@case(
    TraceError, "k.copy moves bits: 'q' and 'p' are cfp8-143 of different bias or denormals; k.vec.cast in SRAM first"
)
def bits_of_another_bias(k, x):
    p, q = k.sram((8,), "cfp8-143", "p", bias=3), k.sram((8,), "cfp8-143", "q", bias=4)
    k.copy(q, p)  # here


@case(TraceError, "k.pull moves from the SRAM of another node, and 'x' is a tensor; use k.copy")
def pull_of_a_tensor(k, x):
    k.pull(k.sram((8, 8), "bf16", "b"), x, of=(0, 0))  # here


@case(TraceError, "'x' (8, 8) cannot be a ring: a ring is a k.sram buffer")
def ring_of_a_tensor(k, x):
    x.ring()  # here


@case(TraceError, "'f' (2, 8) cannot be a ring: it lies at another place on each node or trip, or in a ring")
def ring_in_a_ring(k, x):
    k.sram((4, 8), "fp32", "f").ring()[1:3].ring()  # here


@case(TraceError, "'g' (8,) cannot be a ring: it lies at another place on each node or trip, or in a ring")
def ring_at_another_place_on_each_node(k, x):
    k.sram((4, 8), "fp32", "g")[k.row].ring()  # here


@case(TraceError, "cannot be a ring: its slots overlap; make the first dimension the outermost one")
def ring_of_columns(k, x):
    k.sram((2, 2), "fp32", "f").T.ring()  # here


@case(BoundsError, "5 slots of the ring 'f' (4, 8): a slice takes 1 to 4")
def ring_too_short(k, x):
    k.sram((4, 8), "fp32", "f").ring()[0:5]  # here


@case(TraceError, "a slice of the ring 'f' states where it starts and stops, and has no step")
def ring_without_ends(k, x):
    k.sram((4, 8), "fp32", "f").ring()[:]  # here


@case(TraceError, "k.when takes a comparison of node values or loop indices, not 3")
def when_of_a_number(k, x):
    with k.when(3):  # here
        k.barrier()


@case(TraceError, "k.probe looks at a view of a k.sram buffer, not <view of 'x' in memory")
def probe_of_a_tensor(k, x):
    k.probe(x, "x")  # here


@case(TraceError, "k.vec.div takes a view as second operand, not 3.0; k.vec.fill a buffer with it")
def divide_by_a_number(k, x):
    f = k.sram((8,), "fp32")
    k.vec.div(f, f, 3.0)  # here


@case(TraceError, "k.vec.fill: 1e+39 is beyond the range of fp32")
def fill_beyond_fp32(k, x):
    k.vec.fill(k.sram((8,), "fp32"), 1e39)  # here


@case(TraceError, "k.vec.fill: -1e+39 is beyond the range of fp32; use a smaller number or float('inf')")
def fill_below_fp32(k, x):
    k.vec.fill(k.sram((8,), "fp32"), -1e39)  # here


@case(TraceError, "k.vec.fill takes a number or a view here, not 'one'")
def fill_with_text(k, x):
    k.vec.fill(k.sram((8,), "fp32"), "one")  # here


@case(TraceError, "k.vec.reduce_sum of 'f' (8, 8) gives (8, 1), and 'g' is (1, 8)")
def reduce_the_wrong_way(k, x):
    f, g = k.sram((8, 8), "fp32", "f"), k.sram((1, 8), "fp32", "g")
    k.vec.reduce_sum(g, f)  # here


# --- semaphores and targets -----------------------------------------------------------------------------------------
@case(BoundsError, "semaphore s[2] reaches index 2, and there are 2")
def semaphore_index(k, x):
    s = k.sem(2, "s")
    k.wait(s[2])  # here


@case(BoundsError, "semaphore s[row] reaches index 3 on node (3, 0), and there are 3")
def semaphore_index_by_node(k, x):
    s = k.sem(3, "s")
    k.wait(s[k.row])  # here


@case(TraceError, "'s' is 2 semaphores; index it, s[i]")
def semaphore_without_index(k, x):
    k.wait(k.sem(2, "s"))  # here


@case(TraceError, "a semaphore is wanted here, not 5")
def wait_for_a_number(k, x):
    k.wait(5)  # here


@case(TraceError, "k.wait of 0 tokens on node (0, 0); a count is from 1 to 65535")
def wait_for_nothing(k, x):
    k.wait(k.sem(), k.row)  # here


@case(TraceError, "k.inc of 65536 tokens; a count is from 1 to 65535")
def inc_by_too_much(k, x):
    k.inc(k.sem(), 1 << 16)  # here


@case(BoundsError, "the target reaches column 4 on node (0, 3), and the mesh is 4 x 4")
def target_off_the_mesh(k, x):
    k.inc(k.sem(), at=(k.row, k.col + 1))  # here


@case(TraceError, "the target holds no node: it runs from 2 to before 2")
def target_of_nobody(k, x):
    k.barrier(k.rect(2, 2, 0, 4))  # here


@case(TraceError, "a target is (row, col), k.row_nodes(), k.col_nodes(), k.all_nodes() or k.rect(...), not 3")
def target_of_a_number(k, x):
    k.barrier(3)  # here
