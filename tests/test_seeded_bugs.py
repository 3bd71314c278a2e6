"""Bugs seeded into a copy of the executor, one at a time: the battery against the slow model must see each of them.

The copy runs under the plain engine, which is the executor's own source without compilation. A bug is a change of text;
one whose text is no longer there fails with its name, so that it is seeded anew where the code went.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
RUN = "from accel.testing.battery import battery; print(battery(15, 40, engine='plain'))"

pytestmark = pytest.mark.slow


class Bug(NamedTuple):
    """What a careless author might write: file below accel/, the right text, the wrong text."""

    name: str
    file: str
    right: str
    wrong: str


BUGS = (
    Bug("a chain runs from its last step to its first", "machine/microkernel.py",
        "for k, left in enumerate(lefts.T):", "for k, left in reversed(list(enumerate(lefts.T))):"),
    Bug("the second panel of k forgets the first", "machine/matmul.py",
        "keep = 1 if value[ACCUMULATE] != 0 or first > 0 else 0", "keep = 1 if value[ACCUMULATE] != 0 else 0"),
    Bug("accumulate starts from zero", "machine/matmul.py",
        "keep = 1 if value[ACCUMULATE] != 0 or first > 0 else 0", "keep = 1 if first > 0 else 0"),
    Bug("bf16 ties go to the odd code", "numerics/scalar.py",
        "even = U(U(size >> U(16)) & ONE)", "even = U(U(U(size >> U(16)) & ONE) ^ ONE)"),
    Bug("arithmetic keeps the payload of a NaN", "numerics/scalar.py",
        "return select(U(U(bits) & MAGNITUDE) > INFINITY, NAN32, U(bits))", "return U(bits)"),
    Bug("the tie of the gap goes down", "numerics/scalar.py",
        "select(size >= select(ieee == ONE, first, middle)", "select(size > select(ieee == ONE, first, middle)"),
    Bug("a reduction folds its chains by halves", "machine/vector.py",
        "chains + 2 * i, chains + 2 * i + 1, 0, 1)", "chains + i, chains + i + width, 0, 1)"),
    Bug("a reduction starts from -0", "machine/vector.py",
        '"vec.reduce_sum": (semantics.add, 0.0)', '"vec.reduce_sum": (semantics.add, -0.0)'),
    Bug("rows are added from the last to the first", "machine/bits.py",
        "for i in range(x[V_SHAPE + 2]):", "for i in range(x[V_SHAPE + 2] - 1, -1, -1):"),
    Bug("a ring wraps one element late", "machine/rings.py",
        "peek(views, row + V_RING_BASE) + size\n",
        "peek(views, row + V_RING_BASE) + size + peek(views, row + s.X_ITEM)\n"),
    Bug("a bias in SRAM loses its highest bit", "machine/codes.py", "BIAS_BITS = 63", "BIAS_BITS = 31"),
    Bug("a random number is one round short", "numerics/scalar.py", "for _ in range(10):", "for _ in range(9):"),
    Bug("a random number forgets where its piece begins", "machine/nests.py",
        "peek(nest, (STRIDES + reads + 1) * WIDTH + n - 1) == peek(code, row + index + d) * size", "True"),
    Bug("int8 is read without its sign", "machine/codes.py", "if dtype == INT8:", "if dtype == -INT8:"),
    Bug("a predicate of >= leaves out 0", "machine/addresses.py", "true = value >= 0", "true = value > 0"),
    Bug("a loop term forgets its modulus", "machine/addresses.py", "term %= exprs[expr, at + L_MOD]", "term += 0"),
    Bug("exp forgets the lower part of ln 2", "isa/transcendentals.py", "r = fma(n, -LN2_LOW, r)", "r = r + ZERO"),
    Bug("a power of two is rounded twice", "isa/transcendentals.py",
        "return np.float32(np.float64(x) * np.int64(biased << FRACTION_64).view(np.float64))",
        "return np.float32(np.float32(x) * np.float32(np.int64(biased << FRACTION_64).view(np.float64)))"),
    Bug("log forgets that mantissas begin at 3/4", "isa/transcendentals.py", "HALF_64 = np.int64(1 << 51)",
        "HALF_64 = np.int64(0)"),
    Bug("tanh loses the sign of -0", "isa/transcendentals.py",
        "with_sign(select(less(abs(x), TANH_SMALL), small, large), x)",
        "select(less(abs(x), TANH_SMALL), small, with_sign(large, x))"),
    Bug("sigmoid keeps what its quotient lost", "isa/transcendentals.py", "r = fma(-q, low, r)", "r = r + ZERO"),
    Bug("erf changes its polynomial too early", "isa/transcendentals.py", "ERF_SMALL, ERF_HIGH, TANH_SMALL = F(1.0)",
        "ERF_SMALL, ERF_HIGH, TANH_SMALL = F(0.5)"),
    Bug("rsqrt leaves out its Newton step", "isa/transcendentals.py", "better = fma(HALF * q, e, q)", "better = q"),
    Bug("the larger of two zeros is the first", "isa/semantics.py",
        "return y if math.copysign(1.0, x) < 0.0 else x", "return x"),
)  # fmt: skip


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """Return a folder with a copy of the package."""
    folder = tmp_path_factory.mktemp("seeded")
    shutil.copytree(ROOT / "accel", folder / "accel", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def verdict(folder):
    """Return what the battery prints of the package in a folder."""
    environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", RUN], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_battery_passes_without_a_bug(copy):
    assert verdict(copy) == "None"


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name.replace(" ", "-"))
def test_the_battery_sees_the_bug(copy, bug):
    path = copy / "accel" / bug.file
    text = path.read_text("utf-8")
    assert bug.right in text, "the code went elsewhere: seed this bug anew"
    path.write_text(text.replace(bug.right, bug.wrong), "utf-8")
    try:
        assert verdict(copy) != "None"
    finally:
        path.write_text(text, "utf-8")


def test_there_are_bugs_of_many_kinds():
    assert len({bug.file for bug in BUGS}) >= 8
