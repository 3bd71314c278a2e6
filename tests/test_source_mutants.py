"""Kernels of the library with one mistake in their text: the battery on their examples flags every one of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
ASK = """
import sys
from accel.errors import AccelError
from accel.testing import kernel_property
held = kernel_property(sys.argv[1], schedules=2).property
try:
    for stage in held.stages:
        held.stage(stage)
except (AssertionError, AccelError) as error:
    print("flagged", str(error).splitlines()[0])
"""


class Mistake(NamedTuple):
    """`text` in `file` of kernels/ becomes `wrong`; `kernel` is a name of the catalog whose examples must tell."""

    kernel: str
    file: str
    text: str
    wrong: str


# Each once got past the battery: what it lacked then is in a comment.
QUICK = (
    # functions in fp32, where the rounding of every step is seen
    Mistake("silu", "parts/elementwise_steps.py", "v.fma(t, t, x, x)", "v.mul(t, t, x)\n    v.add(t, t, x)"),
    # a definition that shares no constant with the kernel
    Mistake(
        "gelu", "parts/elementwise_steps.py", "ROOT_HALF, DENSITY = 0.7071067811865476", "ROOT_HALF, DENSITY = 0.70711"
    ),
)
LONGER = (
    # as little SRAM as it takes: filters in chunks, several blocks a team
    Mistake("conv2d", "parts/conv_forward.py", "accumulate=not fresh or done > 0", "accumulate=done > 0"),
    Mistake("conv2d", "parts/conv_forward.py", "accumulate=not (fresh and start == 0)", "accumulate=not fresh"),
    Mistake("conv2d", "parts/conv_forward.py", "window(2, s.w.taps, s.w.stride)", "window(2, s.w.taps, 1)"),
    Mistake("matmul", "parts/matmul_results.py", "k.wait(self.inbox_free[p % 2], teams - 1)",
            "k.wait(self.inbox_free[p % 2], teams - 2) if teams > 2 else None"),
    # several rows of filters in a piece, taps dealt along a dilated filter row
    Mistake("conv2d", "parts/conv_weight_gradient.py", "(r0 + r) * ha.dilation, s0 * wa.dilation\n",
            "(r0 + r) * ha.dilation, s0\n"),
    Mistake("conv2d", "parts/conv_weight_gradient.py", "q * steps[2] + s0 * axes[2].dilation", "q * steps[2] + s0"),
    Mistake("conv3d", "parts/conv_weight_tiling.py", "(order & 1 or last)", "True"),
    Mistake("conv3d", "parts/conv_weight_tiling.py", "carry(parts, tiles[image * chains + chain], chain, chains)",
            "carry(parts, tiles[image * chains + chain], image * chains + chain, images * chains)"),
    # resident operands
    Mistake("matmul", "parts/matmul_panels.py", "depth = slice(chain.first + piece * T.piece, chain.first + piece",
            "depth = slice(piece * T.piece, piece"),
    Mistake("conv2d", "parts/conv_data_work.py", "cut.shard, min(cut.shard, form.k - holder * cut.shard)",
            "cut.shard, cut.shard"),
    # sums of three numbers whose order shows, differences near 2^-149, squares that overflow, what is just equal
    Mistake("max_pool", "pooling.py", "for number, where in reversed(_pairs(target)):",
            "for number, where in _pairs(target):"),
    Mistake("l1_loss", "losses.py", "k.vec.mul(d, d, HUGE)\n                        k.vec.mul(d, d, HUGE)",
            "k.vec.mul(d, d, HUGE)"),
    Mistake("grad_norm", "grad_norm.py", "v.mul(t, t, inverse)\n                v.mul(t, t, t)",
            "v.mul(t, t, t)\n                v.mul(t, t, inverse)\n                v.mul(t, t, inverse)"),
    Mistake("grad_norm", "grad_norm.py", 'v.compare(grown, steps, ">=", p.interval)',
            'v.compare(grown, steps, ">", p.interval)'),
    Mistake("amax", "amax.py", 'v.compare(fits, table, ">=", wanted)', 'v.compare(fits, table, ">", wanted)'),
    Mistake("layernorm", "parts/column_sums.py", """        for place in range(self._top - 1, 0, -1):
            self.join(self._term(place - 1), self._term(place - 1), self._term(place))
""", """        for place in range(1, self._top):
            self.join(self._term(0), self._term(0), self._term(place))
"""),
    # groups longer than a piece of a sum
    Mistake("groupnorm", "groupnorm.py", "range(0, self.each, PIECE)",
            "range(0, self.each - self.each % PIECE or 1, PIECE)"),
    # steps with an overflow, labels that are no class
    Mistake("sgd", "parts/optimizer_steps.py", "v.select(new, skip, w, t)", "v.copy(new, t)"),
    Mistake("cross_entropy", "cross_entropy.py", 'k.vec.compare(inside, labels, ">=", 0)',
            'k.vec.compare(inside, labels, ">=", -9)'),
    # what was always seen
    Mistake("conv2d", "parts/conv_frames.py", "(offset - s.h.pad)", "(offset - s.w.pad)"),
    Mistake("dropout", "elementwise.py", "k.element((size,), piece.left)", "k.element((size,), piece.left + 1)"),
    Mistake("batchnorm", "batchnorm.py", "(x.shape[1], x.shape[1] - 1, 1.0)", "(x.shape[1], x.shape[1], 1.0)"),
    Mistake("adamw", "parts/optimizer_steps.py", 'v.div(s["step"], s["step"], c1)', "pass"),
    Mistake("all_reduce", "parts/collective_steps.py", "first=-1, into=self._add", "first=0, into=self._add"),
    Mistake("attention", "parts/attention_forward.py", "self.mask[r, r + 1 :], 0", "self.mask[r, r:], 0"),
)  # fmt: skip


def asked(mistake: Mistake, tree: Path) -> str:
    """What the battery says of a copy of the package with this mistake."""
    skipped = shutil.ignore_patterns("__pycache__", "kernels")
    shutil.copytree(ROOT / "accel", tree / "accel", ignore=skipped)
    shutil.copytree(ROOT / "kernels", tree / "accel" / "kernels", ignore=shutil.ignore_patterns("__pycache__"))
    file = tree / "accel" / "kernels" / mistake.file
    text = file.read_text(encoding="utf-8")
    assert mistake.text in text
    file.write_text(text.replace(mistake.text, mistake.wrong), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", ASK, mistake.kernel], cwd=tree, env={**os.environ, "PYTHONPATH": str(tree)},
        capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert not done.returncode, done.stderr[-2000:]
    return done.stdout


def test_without_a_mistake_nothing_is_flagged(tmp_path: Path) -> None:
    assert asked(QUICK[0]._replace(wrong=QUICK[0].text), tmp_path) == ""


@pytest.mark.parametrize("mistake", QUICK, ids=lambda m: f"{m.kernel}-{m.text[:24]}")
def test_a_mistake_is_flagged(mistake: Mistake, tmp_path: Path) -> None:
    assert asked(mistake, tmp_path).startswith("flagged")


@pytest.mark.nightly
@pytest.mark.parametrize("mistake", LONGER, ids=lambda m: f"{m.kernel}-{m.text[:24]}")
def test_other_mistakes_are_flagged(mistake: Mistake, tmp_path: Path) -> None:
    assert asked(mistake, tmp_path).startswith("flagged")
