"""Kernels that must fail: slices, indices and other views; `test_lang_errors` runs them."""

from __future__ import annotations

from lang_misuse import case

from accel.errors import BoundsError, TraceError


@case(BoundsError, "'x' (8, 8): dimension 0 is taken from 9 to 12 on node (3, 0), but it is 8 long")
def slice_beyond_the_tensor(k, x):
    x[k.row * 3 : k.row * 3 + 3]  # here


@case(BoundsError, "'x' (8, 8): dimension 1 is taken from -1 to 0 on node (0, 0), but it is 8 long")
def index_before_the_tensor(k, x):
    x[0, k.col - 1]  # here


@case(BoundsError, "'x' (8, 8): dimension 0 is taken from 9 to 10 on node (0, 0) at i = 9, but it is 8 long")
def index_beyond_in_a_loop(k, x):
    for i in k.loop(10):
        x[i]  # here


@case(BoundsError, "'x' (8, 8): dimension 0 is taken from 8 to 9, but it is 8 long")
def index_beyond(k, x):
    x[8]  # here


@case(BoundsError, "'x' (8, 8): the slice 3:3 of dimension 0 has 0 elements")
def empty_slice(k, x):
    x[3:3]  # here


@case(BoundsError, "3 indices into 'x', which has 2 dimensions (8, 8)")
def too_many_indices(k, x):
    x[0, 0, 0]  # here


@case(TraceError, "dimension 0 of 'x' cannot be indexed by 1.5")
def fractional_index(k, x):
    x[1.5]  # here


@case(TraceError, "slice step -1 of 'x': a step is a positive int")
def backward_step(k, x):
    x[::-1]  # here


@case(TraceError, "a slice of 'x' is i + 1 long, which changes from trip to trip")
def length_by_trip(k, x):
    for i in k.loop(3):
        x[0 : i + 1]  # here


@case(TraceError, "axes (0, 0) do not permute the 2 dimensions of 'x'")
def not_a_permutation(k, x):
    x.transpose(0, 0)  # here


@case(TraceError, "dimension 0 of 'x' (8, 8) cannot be split by 3; use a divisor of it")
def uneven_split(k, x):
    x.split(0, 3)  # here


@case(TraceError, "dimensions 0 and 1 of 'x' (8, 4) are not one run of elements and cannot be merged")
def merge_of_columns(k, x):
    x[:, :4].merge(0)  # here


@case(TraceError, "'x' (8, 8) has no dimension 1 followed by another to merge")
def merge_of_the_last(k, x):
    x.merge(1)  # here


@case(TraceError, "a window of 9 elements does not fit dimension 1 of 'x' (8, 8)")
def window_too_wide(k, x):
    x.window(1, 5, dilation=2)  # here


@case(TraceError, "'x' (8, 8) has no windows of 3 by 0 and 1 along 0; sizes start at 1")
def window_without_step(k, x):
    x.window(0, 3, step=0)  # here


@case(TraceError, "'x' (8, 8) has no dimension 2 to reverse; name one of its 2")
def flip_of_no_dimension(k, x):
    x.flip(2)  # here


@case(TraceError, "a view of 'b' with 5 dimensions (2, 2, 2, 2, 2) does not fit a descriptor of 4")
def five_dimensions(k, x):
    b = k.sram((2, 2, 2, 2, 2), "bf16", "b")
    k.vec.relu(b, b)  # here
