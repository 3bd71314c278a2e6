"""Programs whose cycles are kept in tests/golden/cycles.json, and the table of the README that follows from them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import accel
from accel.baselines import estimate
from accel.comparison import build
from accel.kernels import matmul
from accel.networks import Product
from accel.program import Program
from accel.report.showcase import DEMO

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden" / "cycles.json"
README = ROOT / "README.md"
TABLE_BEGIN, TABLE_END = "<!-- table: python tests/golden/update.py -->\n", "<!-- end of table -->\n"
SHOWN = (
    "8 x 1280x960 stem 3x3/2",
    "conv4 3x3 256-256",
    "conv4 3x3, data gradient",
    "conv4 3x3, weight gradient",
    "1760 x 7000 x 1760",
    "attention projection",
    "attention",
)
GPUS = ("v100-sxm2", "a100-sxm-80gb")


@accel.kernel
def add(k: Any, x: Any, y: Any, z: Any, *, n: int) -> None:
    """z = x + y, as in the tutorial."""
    first = (k.row * k.mesh[1] + k.col) * n
    X, Y = k.sram((n,), "fp32", "X"), k.sram((n,), "fp32", "Y")
    loaded, stored = k.sem(name="loaded"), k.sem(name="stored")

    @k.thread
    def work() -> None:
        k.copy(X, x[first : first + n], done=loaded)
        k.copy(Y, y[first : first + n], done=loaded)
        k.wait(loaded, 2)
        k.vec.add(X, X, Y)
        k.copy(z[first : first + n], X, sent=stored)
        k.wait(stored)


def _matmul(chip: str, m: int, n: int, k: int, **options: Any) -> Callable[[], Program]:
    return lambda: matmul.build(chip, m=m, n=n, k=k, **options)


def _add() -> Program:
    vector = accel.tensor((1024,), "fp32")
    return add.build("mini", x=vector, y=vector, z=vector, n=64)


def _layer(layer: Product) -> Callable[[], Program]:
    return lambda: build(layer.problem, "d1")


LAYERS_SHOWN = {layer.name: layer for layer in DEMO if layer.name in SHOWN}
PROGRAMS: dict[str, Callable[[], Program]] = {
    "mini: z = x + y of the tutorial": _add,
    "mini: matmul 64x48x32": _matmul("mini", 64, 48, 32),
    "mini: matmul 61x47x67, ragged": _matmul("mini", 61, 47, 67),
    "mini: matmul 256x256x512": _matmul("mini", 256, 256, 512),
    "mini: matmul 256x256x512, one_node": _matmul("mini", 256, 256, 512, version="one_node"),
    "mini: matmul 256x256x512, summa": _matmul("mini", 256, 256, 512, version="summa"),
    "mini: matmul 128x128x128, a b c resident": _matmul("mini", 128, 128, 128, resident=("a", "b", "c")),
    "mini: matmul 96x80x64, fp32 out, both transposed": _matmul(
        "mini", 96, 80, 64, out_dtype="fp32", trans_a=True, trans_b=True
    ),
    "d1: matmul 1024x1024x1024": _matmul("d1", 1024, 1024, 1024),
    "d1: matmul 2048x2048x2048, a b c resident": _matmul("d1", 2048, 2048, 2048, resident=("a", "b", "c")),
    **{f"d1: {name}": _layer(layer) for name, layer in LAYERS_SHOWN.items()},
}


def golden() -> dict[str, int]:
    """Return the kept cycles by name."""
    cycles: dict[str, int] = json.loads(GOLDEN.read_text("utf-8"))["cycles"]
    return cycles


def readme_table(cycles: dict[str, int]) -> str:
    """Return the table of the README: layers on d1 by their cycles, next to the GPUs' own figures."""
    chip = accel.chip("d1")
    lines = [
        "| layer | problem | `d1` | of its peak | V100 | A100 80 GB |\n",
        "|---|---|---|---|---|---|\n",
    ]
    for name in SHOWN:
        layer = LAYERS_SHOWN[name]
        p, count = layer.problem, cycles[f"d1: {name}"]
        share = p.flops / (count * chip.peak_flops_per_cycle("bf16"))
        cells = []
        for row in (estimate(p, gpu, None) for gpu in GPUS):
            error = f", error {row.error_pct:.0f} %" if row.error_pct is not None else ""
            cells.append(f"{row.seconds * 1e6:,.0f} us ({row.source}{error})")
        lines.append(
            f"| {layer.network}: {name} | {p.label} | **{count / chip.clock_hz * 1e6:,.0f} us** "
            f"| {100 * share:.1f} % | {' | '.join(cells)} |\n"
        )
    return "".join(lines)
