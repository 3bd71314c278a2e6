"""The HTML page of a demonstration: one self-contained file, no script, prints as it looks."""

from __future__ import annotations

import html
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from accel.comparison import USD_RULE, Comparison
from accel.files import write_whole
from accel.report.showcase import Shown

__all__ = ["render", "write"]

# Okabe and Ito's palette for colour-blind readers, then greys; one colour a cause of the ledger, in its order.
COLOURS = {
    "useful": "#009e73", "tile_quantisation": "#f0e442", "accumulator": "#e69f00", "sram_port": "#d55e00",
    "issue": "#cc79a7", "vector": "#8e6bbf", "wait_memory": "#0072b2", "wait_mesh": "#56b4e9", "wait_peer": "#9ecae9",
    "imbalance": "#8a8a8a", "prologue": "#a9a9a9", "epilogue": "#c4c4c4", "unused_nodes": "#dedede",
}  # fmt: skip
STYLE = """
:root{color-scheme:light}body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:78rem;padding:0 1rem;
color:#1b1b1b;background:#fff}h1{font-size:1.6rem;margin:0}h2{font-size:1.1rem;margin:2.2rem 0 .4rem}
p{max-width:60rem}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:.32rem .6rem;text-align:right;border-bottom:1px solid #e5e5e5;vertical-align:top}
td{white-space:nowrap}
th:first-child,td:first-child{text-align:left;white-space:normal;min-width:13rem}
td small{white-space:normal}
thead th{border-bottom:2px solid #444;font-weight:600}
small{color:#666}.bar{display:flex;height:1.05rem;min-width:16rem;border-radius:2px;overflow:hidden}
.bar i{display:block}.key span{display:inline-block;margin:0 1rem .3rem 0;white-space:nowrap}
.key b{display:inline-block;width:.8rem;height:.8rem;margin-right:.35rem;border-radius:2px;vertical-align:-1px}
.good{color:#00694d}.bad{color:#b00020;font-weight:700}.scroll{overflow-x:auto}
@media print{body{margin:0;font-size:10px}.bar{-webkit-print-color-adjust:exact;print-color-adjust:exact}}
"""


HEAD = """<!doctype html><html lang=en><head><meta charset=utf-8>
<title>{title}</title>
<meta name=viewport content="width=device-width"><style>{style}</style></head><body><h1>{title}</h1>
<p>Every program below was executed bit by bit and compared with an independent NumPy oracle, and timed from the
same instructions. Utilization is over all enabled nodes of the chip.</p>
"""
LAYERS_HEAD = """<h2>Layers</h2><div class=scroll><table><thead><tr><th>layer<th>m x n x k<th>bits<th>cycles<th>time
<th>TFLOP/s<th>utilization<th>of bound<th>J<th>simulated in</tr></thead><tbody>
"""
BASELINES_HEAD = """<h2>GPU baselines</h2><div class=scroll><table><thead><tr><th>layer<th>GPU<th>format<th>time
<th>TFLOP/s<th>utilization<th>time / chip<th>source<th>error</tr></thead><tbody>
"""
NOTES = """<p><small>A baseline is <em>measured</em> (a published run of exactly this shape), <em>model</em> (fitted;
the error is the median on rows that were not fitted) or <em>uncalibrated</em> (the datasheet's roofline with
the A100's fitted shares of it; no error known).
{usd}.</small></p><h2>Made by</h2><table><tbody>
"""
END = "</tbody></table></div>\n"


def render(shown: Sequence[Shown], *, title: str, facts: Iterable[tuple[str, str]]) -> str:
    """Return the page: layers with bits, cycles and utilization, GPUs beside them, and where the cycles went."""
    swatches = (
        f"<span><b style='background:{colour}'></b>{_text(_cause(name))}</span>\n" for name, colour in COLOURS.items()
    )
    made = (f"<tr><td>{_text(name)}<td style='text-align:left'>{_text(value)}</tr>\n" for name, value in facts)
    parts = [
        HEAD.format(title=_text(title), style=STYLE), LAYERS_HEAD, *map(_layer, shown), END,
        "<h2>Where the cycles went</h2><p class=key>", *swatches, "</p><div class=scroll><table><tbody>\n",
        *map(_ledger, shown), END, BASELINES_HEAD, *map(_baselines, shown), END, NOTES.format(usd=_text(USD_RULE)),
        *made, "</tbody></table></body></html>\n",
    ]  # fmt: skip
    return "".join(parts)


def write(text: str, path: str | os.PathLike[str]) -> Path:
    """Write a page whole or not at all; InputError if the place cannot be written."""
    write_whole(path, text.encode(), "report")
    return Path(path)


def _layer(shown: Shown) -> str:
    chip, problem = shown.comparison.chip, shown.layer.problem
    verdict = "bad" if shown.verified.wrong else "good"
    cells = (
        f"{_name(shown)}<br><small>{_text(shown.layer.source)}</small>",
        f"{problem.m} x {problem.n} x {problem.k}",
        f"<span class={verdict}>{_text(str(shown.verified))}</span>",
        f"{chip.cycles:,}", _seconds(chip.seconds), f"{chip.tflops:.1f}", f"{chip.utilization:.1%}",
        f"{chip.bound_seconds / chip.seconds:.1%}", f"{chip.energy_j:.3g}",
        f"{shown.seconds_time + shown.seconds_run:.1f} s",
    )  # fmt: skip
    return "<tr><td>" + "<td>".join(cells) + "</tr>"


def _ledger(shown: Shown) -> str:
    losses = shown.comparison.chip.losses
    bars = "".join(
        f"<i style='width:{100 * share:.4f}%;background:{COLOURS[cause]}' title='{_cause(cause)} {share:.2%}'></i>"
        for cause, share in losses.items()
    )
    largest = sorted((c for c in losses if c != "useful"), key=lambda c: -losses[c])[:2]
    said = ", ".join(f"{_cause(c)} {losses[c]:.1%}" for c in largest)
    cells = (_name(shown), f"useful {losses['useful']:.1%}", f"<small>{said}</small>")
    return "<tr><td>{}<td style='width:52%'><div class=bar>{}</div><td>{}<td>{}</tr>\n".format(
        cells[0], bars, *cells[1:]
    )


def _cause(name: str) -> str:
    return name.replace("_", " ")


def _baselines(shown: Shown) -> str:
    compared: Comparison = shown.comparison
    rows = []
    for row in compared.baselines:
        error = "unknown" if row.error_pct is None else f"{row.error_pct:.0f} %"
        cells = (
            _name(shown), _text(row.name), _text(row.dtype), _seconds(row.seconds), f"{row.tflops:.1f}",
            f"{row.utilization:.1%}", f"{compared.speedup[row.name]:.2f}x",
            f"{_text(row.source)}<br><small>{_text(row.note)}</small>", error,
        )  # fmt: skip
        rows.append("<tr><td>" + "<td>".join(cells) + "</tr>")
    return "".join(rows)


def _name(shown: Shown) -> str:
    return f"{_text(shown.layer.network)}: {_text(shown.layer.name)}"


def _seconds(value: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        if value * scale >= 1:
            return f"{value * scale:.3g} {unit}"
    return f"{value * 1e9:.3g} ns"


def _text(value: str) -> str:
    return html.escape(value)
