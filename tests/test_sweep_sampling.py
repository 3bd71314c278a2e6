"""Samples of a sweep against their description: permutations, random combinations, Latin hypercubes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accel.sweep import Space
from accel.sweep.sampling import Sampling, permuted, places

NAMES = ("noc.hop_cycles", "noc.semaphore_cycles", "noc.barrier_cycles", "node.issue_cycles", "node.copy_issue_cycles")
MATMUL = '[problem]\nkind = "matmul"\nm = 64\nn = 48\nk = 32\n[chip]\nbase = "mini"\n'


def axes_of(*lists: list[int]) -> str:
    return "[axes]\n" + "".join(f'"{name}" = {values}\n' for name, values in zip(NAMES, lists, strict=False))


def philox(counter: list[int], key: list[int]) -> list[int]:
    """Philox4x32-10 as its paper has it, in Python's integers."""
    c, k = list(counter), list(key)
    for _ in range(10):
        p, q = c[0] * 0xD2511F53, c[2] * 0xCD9E8D57
        c = [(q >> 32) ^ c[1] ^ k[0], q & 0xFFFFFFFF, (p >> 32) ^ c[3] ^ k[1], p & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


def shuffled(index: int, size: int, seed: int, stream: int) -> int:
    """The permutation of `accel.sweep.sampling` as its text says it."""
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    while True:
        left, right = index >> half, index & ((1 << half) - 1)
        for turn in range(6):
            a, b, _, _ = philox([right & 0xFFFFFFFF, right >> 32, stream, turn], [seed & 0xFFFFFFFF, seed >> 32])
            left, right = right, left ^ ((a | b << 32) & ((1 << half) - 1))
        index = left << half | right
        if index < size:
            return index


def test_the_oracle_of_random_numbers_has_the_published_answers() -> None:
    """Known answers of Random123, kat_vectors, philox4x32 10."""
    assert philox([0] * 4, [0] * 2) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    assert philox([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2) == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]


@given(st.integers(1, 1 << 61), st.integers(0, (1 << 63) - 1), st.integers(0, 60), st.data())
@settings(deadline=None, max_examples=60)
def test_permutations_are_the_documented_ones(size: int, seed: int, stream: int, data: st.DataObject) -> None:
    indices = data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=5))
    found = permuted(np.array(indices), size, seed, stream)
    assert found.tolist() == [shuffled(index, size, seed, stream) for index in indices]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 16, 17, 255, 1000, 4097])
def test_permutations_take_every_place_once(size: int) -> None:
    assert sorted(permuted(np.arange(size), size, 3, 1).tolist()) == list(range(size))


def test_a_random_sample_has_no_combination_twice_and_all_of_them_in_the_end() -> None:
    body = MATMUL + axes_of([1, 2, 3], [4, 5], [6, 7, 8, 9])
    every = {tuple(Space.from_toml(body).values(i).values()) for i in range(24)}
    for seed in (0, 1):
        space = Space.from_toml(body + f"[sample]\nmethod = 'random'\ncount = 24\nseed = {seed}\n")
        assert {tuple(space.values(i).values()) for i in range(24)} == every
    some = Space.from_toml(body + "[sample]\nmethod = 'random'\ncount = 7\nseed = 1\n")
    assert [some.values(i) for i in range(7)] == [space.values(i) for i in range(7)]  # a longer sample begins the same
    assert some.order().tolist() == list(range(7))


def test_random_samples_spread_over_a_huge_space() -> None:
    body = MATMUL + axes_of(*[list(range(1000))] * 5) + "[sample]\nmethod = 'random'\ncount = 20000\nseed = 5\n"
    for column in Space.from_toml(body).columns(np.arange(20000)).values():
        parts = np.bincount(column // 100, minlength=10)  # 2000 each; standard deviation 42
        assert parts.min() > 1700
        assert parts.max() < 2300


@given(st.lists(st.integers(1, 40), min_size=1, max_size=3), st.integers(1, 60), st.integers(0, 1 << 40))
@settings(deadline=None, max_examples=150)
def test_a_latin_hypercube_is_stratified_in_every_dimension(sizes: list[int], count: int, seed: int) -> None:
    count = min(count, int(np.prod(sizes)))
    found = places(Sampling("latin_hypercube", count, seed), sizes, np.arange(count))
    for dimension, (size, column) in enumerate(zip(sizes, found, strict=True)):
        times = Counter(column.tolist())
        assert set(times) <= set(range(size))
        if count >= size:
            middles = [(2 * shuffled(i, count, seed, dimension + 1) + 1) * size // (2 * count) for i in range(count)]
            assert column.tolist() == middles
            assert {times[place] for place in range(size)} <= {count // size, -(-count // size)}
        else:
            assert set(times.values()) == {1}
            slices = {place * count // size for place in column.tolist()}  # the slice in which its left end lies
            assert slices == set(range(count))


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=4),
    st.sampled_from(["product", "random", "latin_hypercube"]),
    st.integers(0, 1 << 62),
    st.data(),
)
@settings(deadline=None, max_examples=60)
def test_columns_and_legality_of_any_sample_are_those_of_single_points(
    sizes: list[int], method: str, seed: int, data: st.DataObject
) -> None:
    every = int(np.prod(sizes))
    text = MATMUL + axes_of(*(list(range(1, size + 1)) for size in sizes))
    if method != "product":
        count = data.draw(st.integers(1, every))
        text += f"[sample]\nmethod = '{method}'\ncount = {count}\nseed = {seed}\n"
    text += "[constraints]\neven = 'noc.hop_cycles % 2 == 0 or noc.hop_cycles * 3 < 10'\n"
    space = Space.from_toml(text)
    indices = data.draw(st.lists(st.integers(0, len(space) - 1), max_size=8))
    columns, (legal, _) = space.columns(indices), space.legal(indices)
    for at, index in enumerate(indices):
        values = space.values(index)
        assert {name: column[at] for name, column in columns.items()} == values
        assert legal[at] == (values["noc.hop_cycles"] % 2 == 0 or values["noc.hop_cycles"] * 3 < 10)
        if legal[at]:
            assert space.resolve(index).chip.noc.hop_cycles == values["noc.hop_cycles"]
