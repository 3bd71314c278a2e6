"""Vector rows in the executor: seconds an element in every format and kind of row, as ratios to fp32 addition."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest

from accel.machine import execute
from accel.numerics.formats import fmt

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from programs import Asm

ELEMENTS, TRIPS = 8192, 2000
INDEX = (0, 0, 0, 0, 0, 1)
ROWS: dict[str, tuple[str, dict[str, str], dict[str, Any]]] = {
    **{f"add {f}": ("vec.add", {"dst": f, "x": f, "y": f}, {})
       for f in ("fp32", "bf16", "fp16", "cfp8-143", "cfp8-152", "shp16", "uhp16", "int32", "int8")},
    "cast fp32 to int8": ("vec.cast", {"dst": "int8", "x": "fp32"}, {}),
    "cast int32 to bf16": ("vec.cast", {"dst": "bf16", "x": "int32"}, {}),
    "cast_sr fp32 to bf16": ("vec.cast_sr", {"dst": "bf16", "x": "fp32"}, {"stream": 1, "index": INDEX}),
    "random int32": ("vec.random", {"dst": "int32"}, {"stream": 1, "index": INDEX}),
    "compare fp32": ("vec.compare", {"dst": "uint8", "x": "fp32", "y": "fp32"}, {"relation": 3}),
    **{f"{f} fp32": (f"vec.{f}", {"dst": "fp32", "x": "fp32"}, {})
       for f in ("exp", "log", "tanh", "sigmoid", "erf", "rsqrt")},
    "exp bf16": ("vec.exp", {"dst": "bf16", "x": "bf16"}, {}),
    "select bf16": ("vec.select", {"dst": "bf16", "mask": "uint8", "x": "bf16", "y": "bf16"}, {}),
}  # fmt: skip


def program(mnemonic: str, formats: dict[str, str], trips: int, more: dict[str, Any]) -> Any:
    """Return a program that runs one row `trips` times on dense views."""
    p = Asm()
    out, put = p.tensor("y", (ELEMENTS,), formats["dst"], "out"), p.sem("put")
    buffers = {name: p.sram(name, (ELEMENTS,), dtype) for name, dtype in formats.items()}
    views = {
        name: p.view(b, (ELEMENTS,), b.strides, bias=9 if fmt(b.dtype).kind == "cfp" else 0)
        for name, b in buffers.items()
    }
    with p.thread("all"):
        with p.loop(trips):
            p.emit(mnemonic, **views, **more)
        p.copy(p.at(out), p.at(buffers["dst"]), sent=put)
        p.wait(put)
    return p.program()


def seconds(name: str) -> float:
    """Return processor seconds an element: the best of five differences between a long and a short run."""
    mnemonic, formats, more = ROWS[name]
    short, long = (program(mnemonic, formats, trips, more) for trips in (1, TRIPS + 1))
    spent = []
    execute(short, {}, threads=1)
    for _ in range(5):
        times = [time.process_time()]
        for made in (short, long):
            execute(made, {}, threads=1)
            times.append(time.process_time())
        spent.append((times[2] - times[1]) - (times[1] - times[0]))
    return min(spent) / (TRIPS * ELEMENTS)


@pytest.mark.parametrize("name", ROWS)
def test_row(benchmark: Any, name: str) -> None:
    unit, took = seconds("add fp32"), seconds(name)
    benchmark.extra_info |= {"ns_an_element": 1e9 * took, "ratio_to_fp32_add": took / unit}
    benchmark.pedantic(lambda: None, rounds=1)
    print(f"{name}: {1e9 * took:.2f} ns an element, {took / unit:.2f} of fp32 addition")
