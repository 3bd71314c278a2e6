"""The HTML page of a demonstration: one self-contained file, no script, prints as it looks."""

from __future__ import annotations

import html
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from accel.files import write_whole
from accel.report.quantities import energy, percent, seconds
from accel.report.showcase import Shown

__all__ = ["render", "write"]

# Okabe and Ito's palette for colour-blind readers, then greys; one colour a cause of the ledger, in its order.
COLOURS = {
    "useful": "#009e73", "tile_quantisation": "#f0e442", "accumulator": "#e69f00", "sram_port": "#d55e00",
    "issue": "#cc79a7", "vector": "#8e6bbf", "wait_memory": "#0072b2", "wait_mesh": "#56b4e9", "wait_peer": "#9ecae9",
    "imbalance": "#8a8a8a", "prologue": "#a9a9a9", "epilogue": "#c4c4c4", "unused_nodes": "#dedede",
}  # fmt: skip
STYLE = """
:root{color-scheme:light}body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:86em;padding:0 1em;
color:#1b1b1b;background:#fff}h1{font-size:1.6em;margin:0}h2{font-size:1.15em;margin:2em 0 .4em}
p,.notes{max-width:62em}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:.32em .6em;text-align:right;border-bottom:1px solid #e5e5e5;vertical-align:top}
td,th{white-space:nowrap}tr{break-inside:avoid}h2{break-after:avoid}
th:first-child,td:first-child{text-align:left;white-space:normal;min-width:15em}
td.text,th.text{text-align:left;white-space:normal}td.left{text-align:left}.wide{width:44%}
thead th{border-bottom:2px solid #444;font-weight:600;vertical-align:bottom}
small{color:#666}.bar{display:flex;height:1.05em;min-width:16em;margin-top:.2em;border-radius:2px;overflow:hidden}
.bar i{display:block}.key span{display:inline-block;margin:0 1em .3em 0;white-space:nowrap}
.key b{display:inline-block;width:.8em;height:.8em;margin-right:.35em;border-radius:2px;vertical-align:-1px}
.good{color:#00694d}.bad{color:#b00020;font-weight:700}.scroll{overflow-x:auto}
.notes{padding-left:1.2em;font-size:.87em;color:#555}
@page{size:landscape;margin:12mm}
@media print{body{margin:0;padding:0;max-width:none;font-size:10.5px}.scroll{overflow:visible}
.bar,.key b{-webkit-print-color-adjust:exact;print-color-adjust:exact}}
"""


HEAD = """<!doctype html><html lang=en><head><meta charset=utf-8>
<title>{title}</title>
<meta name=viewport content="width=device-width"><style>{style}</style></head><body><h1>{title}</h1>
<p>One program a layer: what was timed is what was executed. Its outputs were compared with an independent NumPy oracle
bit for bit: all of them for small layers, those of randomly drawn stores for large ones. Cycles come from a model of
the chip that has never been compared with hardware, energy from literature figures. Utilization is over all enabled
nodes; no kernel can be faster than the bound.</p>
"""
LAYERS_HEAD = """<h2>Layers</h2><div class=scroll><table><thead><tr><th>layer<th>m x n x k<th>outputs verified
<th>hazards<th>cycles
<th>time<th>TFLOPS<th>utilization<th>of bound<th>energy<th>simulated in</tr></thead><tbody>
"""
BASELINES_HEAD = """<h2>Next to GPUs</h2><p>Time of the layer and how many times that of the chip it is (below 1 the GPU
is faster); under it the format, the utilization of the GPU, and where the time comes from.</p>
<div class=scroll><table><thead><tr><th>layer<th>{names}</tr></thead><tbody>
"""
LEDGER_HEAD = (
    """<h2>Where the cycles went</h2><p>Shares of all cycles of all enabled nodes, by cause.</p><p class=key>"""
)
SOURCES = """<p><small>A baseline is <em>measured</em> (a published run of exactly this shape), <em>model</em> (fitted;
the error is the median on rows that were not fitted) or <em>uncalibrated</em> (the datasheet's roofline with
the A100's fitted shares of it; no error known).</small></p>
"""
MADE_HEAD = """<h2>Made by</h2><table><tbody>
"""
FEW = 3  # layers that a note names; one about more of them names none
END = "</tbody></table></div>\n"


def render(shown: Sequence[Shown], *, title: str, facts: Iterable[tuple[str, str]]) -> str:
    """Return the page: layers with bits, cycles and utilization, GPUs beside them, and where the cycles went."""
    swatches = (
        f"<span><b style='background:{colour}'></b>{_text(_cause(name))}</span>\n" for name, colour in COLOURS.items()
    )
    made = (f"<tr><td>{_text(name)}<td class=text>{_text(value)}</tr>\n" for name, value in facts)
    parts = [
        HEAD.format(title=_text(title), style=STYLE), LAYERS_HEAD, *map(_layer, shown), END,
        _baselines_head(shown), *map(_baselines, shown), END, SOURCES, *_notes(shown),
        LEDGER_HEAD, *swatches, "</p><div class=scroll><table><tbody>\n", *map(_ledger, shown), END,
        MADE_HEAD, *made, "</tbody></table></body></html>\n",
    ]  # fmt: skip
    return "".join(parts)


def write(text: str, path: str | os.PathLike[str]) -> Path:
    """Write a page whole or not at all; InputError if the place cannot be written."""
    write_whole(path, text.encode(), "report")
    return Path(path)


def _layer(shown: Shown) -> str:
    chip, problem, bits = shown.comparison.chip, shown.layer.problem, shown.verified
    verdict = f"<span class=bad>{bits.wrong:,} WRONG</span>" if bits.wrong else "<span class=good>bit-equal</span>"
    cells = (
        f"{_name(shown)}<br><small>{_text(shown.layer.source)}</small>",
        f"{problem.m} x {problem.n} x {problem.k}",
        f"{verdict}<br><small>{bits.checked:,} of {bits.total:,}</small>",
        f"<span class=bad>{shown.hazards:,} FOUND</span>" if shown.hazards else "<span class=good>none</span>",
        f"{chip.cycles:,}", seconds(chip.seconds), f"{chip.tflops:.1f}", percent(chip.utilization),
        percent(chip.bound_seconds / chip.seconds), energy(chip.energy_j),
        f"{shown.seconds_time + shown.seconds_run:.1f} s",
    )  # fmt: skip
    return "<tr><td>" + "<td>".join(cells) + "</tr>\n"


def _ledger(shown: Shown) -> str:
    losses = shown.comparison.chip.losses
    bars = "".join(
        f"<i style='width:{100 * share:.4f}%;background:{COLOURS[cause]}' title='{_cause(cause)} {percent(share)}'></i>"
        for cause, share in losses.items()
    )
    largest = sorted((c for c in losses if c != "useful"), key=lambda c: -losses[c])[:2]
    said = ", ".join(f"{_cause(c)} {percent(losses[c])}" for c in largest)
    return (
        f"<tr><td>{_name(shown)}<td class=wide><div class=bar>{bars}</div>"
        f"<td>useful {percent(losses['useful'])}<td class=left><small>{said}</small></tr>\n"
    )


def _cause(name: str) -> str:
    return name.replace("_", " ")


def _baselines_head(shown: Sequence[Shown]) -> str:
    names = [shown[0].comparison.chip.name, *(row.name for row in shown[0].comparison.baselines)] if shown else []
    return BASELINES_HEAD.format(names="<th>".join(map(_text, names)))


def _baselines(shown: Shown) -> str:
    compared = shown.comparison
    cells = [
        _name(shown),
        f"<strong>{seconds(compared.chip.seconds)}</strong><br><small>{_text(compared.chip.dtype)}</small>",
    ]
    for row in compared.baselines:
        error = "" if row.error_pct is None else f", error {row.error_pct:.0f} %"
        cells.append(
            f"{seconds(row.seconds)} &nbsp; {compared.speedup[row.name]:.2f}x<br><small>{_text(row.dtype)}, "
            f"{percent(row.utilization)}, {_text(row.source)}{error}</small>"
        )
    return "<tr><td>" + "<td>".join(cells) + "</tr>\n"


def _notes(shown: Sequence[Shown]) -> Iterator[str]:
    """Yield the notes of all baselines, each once, with the layers it is about where they are few."""
    about: dict[tuple[str, str], list[str]] = {}
    for one in shown:
        for row in one.comparison.baselines:
            about.setdefault((f"{row.name}, {row.source}", row.note), []).append(_name(one))
    yield "<ul class=notes>\n"
    for (who, note), names in sorted(about.items()):
        where = f" ({'; '.join(names)})" if len(names) <= FEW < len(shown) else ""
        yield f"<li>{_text(who)}{where}: {_text(note)}</li>\n"
    yield "</ul>\n"


def _name(shown: Shown) -> str:
    return f"{_text(shown.layer.network)}: {_text(shown.layer.name)}"


def _text(value: str) -> str:
    return html.escape(value)
