"""Fit the GPU baseline model on measured rows and write the parameters with their held-out errors.

    python benchmarks/fit_baselines.py REFERENCE_FOLDER [--check]

REFERENCE_FOLDER holds gpu_gemm.csv and gpu_conv.csv (columns: accel.baselines.measured). Rows are split by shape
(`accel.baselines.fits.is_scored`): one part is fitted, the other scored. `--check` only recomputes the errors of the
file in the package.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
from pathlib import Path

from accel.baselines.catalog import GPUS, Gpu
from accel.baselines.fits import family, fits, is_scored
from accel.baselines.measured import MeasuredRow, read_rows
from accel.baselines.model import Parameters, as_tiled_work, tiled_seconds

TARGET = Path(__file__).parent.parent / "accel" / "baselines" / "data" / "gpu_fits.toml"

RANGES = {  # search interval of each parameter, geometric
    "compute": (0.3, 1.0),
    "memory": (0.3, 1.0),
    "launch_s": (1e-6, 5e-5),
    "sm_gbps": (5.0, 500.0),
    "tile_s": (1e-8, 1e-5),
    "ramp_s": (1e-8, 5e-5),
}
FEW = 10  # with fewer fitted rows, sm_gbps, tile_s and ramp_s stay at the priors below
L2_SHARE_GBPS = {"a100-sxm-80gb": 7219 / 108}  # measured L2 bandwidth a multiprocessor, PMC10448217
PRIOR_TILE_S = 1e-6
TRIALS = 1500
STARTS = 6
ROUNDS = 18


def seconds(row: MeasuredRow, gpu: Gpu, fitted: Parameters) -> float:
    """Modelled seconds of one measured row."""
    return tiled_seconds(as_tiled_work(row.problem, row.dtype), gpu, row.dtype, fitted)


def loss(rows: list[MeasuredRow], gpu: Gpu, fitted: Parameters) -> float:
    """Mean |ln(modelled / measured)|: a factor too slow counts as much as a factor too fast."""
    return statistics.fmean(abs(math.log(seconds(row, gpu, fitted) / row.seconds)) for row in rows)


def errors_pct(rows: list[MeasuredRow], gpu: Gpu, fitted: Parameters) -> list[float]:
    """|modelled / measured - 1| in percent, ascending."""
    return sorted(100 * abs(seconds(row, gpu, fitted) / row.seconds - 1) for row in rows)


def percentile(ascending: list[float], share: float) -> float:
    """Nearest-rank percentile."""
    return ascending[max(0, math.ceil(share * len(ascending)) - 1)]


def search(rows: list[MeasuredRow], gpu: Gpu, dtype: str) -> Parameters:
    """Seeded random search, then shrinking steps along each parameter."""
    rng = random.Random(20)
    prior = L2_SHARE_GBPS.get(gpu.name, 40.0 * gpu.peak_tflops[dtype] / gpu.sms)
    fixed = {"sm_gbps": prior, "tile_s": PRIOR_TILE_S, "ramp_s": 0.0} if len(rows) < FEW else {}
    free = [name for name in RANGES if name not in fixed]

    def draw() -> Parameters:
        picked = {n: math.exp(rng.uniform(*map(math.log, RANGES[n]))) for n in free}
        return Parameters(**picked, **fixed)

    starts = sorted((draw() for _ in range(TRIALS)), key=lambda p: loss(rows, gpu, p))[:STARTS]
    best = min((descend(rows, gpu, start, free) for start in starts), key=lambda p: loss(rows, gpu, p))
    return Parameters(*(float(f"{value:.4g}") for value in best))


def descend(rows: list[MeasuredRow], gpu: Gpu, best: Parameters, free: list[str]) -> Parameters:
    """Improve `best` by shrinking steps along each free parameter."""
    best_loss = loss(rows, gpu, best)
    for step in (0.5 * 0.75**i for i in range(ROUNDS)):
        for name in free:
            for factor in (math.exp(step), math.exp(-step), math.exp(step / 3), math.exp(-step / 3)):
                low, high = RANGES[name]
                tried = best._replace(**{name: min(high, max(low, getattr(best, name) * factor))})
                tried_loss = loss(rows, gpu, tried)
                if tried_loss < best_loss:
                    best, best_loss = tried, tried_loss
    return best


def families(folder: Path) -> dict[tuple[str, str, str], list[MeasuredRow]]:
    """Rows of catalog GPUs by (gpu id, format, operation); batched products are not the kernels timed here."""
    by_device = {alias.lower(): gpu.name for gpu in GPUS for alias in gpu.aliases}
    found: dict[tuple[str, str, str], list[MeasuredRow]] = {}
    for name in ("gpu_gemm.csv", "gpu_conv.csv"):
        for row in read_rows(folder / name):
            gpu_id = by_device.get(row.device.lower())
            if gpu_id and row.batch == 1:
                found.setdefault((gpu_id, row.dtype, family(row.problem)), []).append(row)
    return {key: rows for key, rows in found.items() if len(rows) >= 8}


def entry(key: tuple[str, str, str], rows: list[MeasuredRow], fitted: Parameters) -> str:
    """One table of the TOML file."""
    gpu = next(g for g in GPUS if g.name == key[0])
    scored = [row for row in rows if is_scored(row)]
    errors = errors_pct(scored, gpu, fitted)
    sources = sorted({row.source.split(" results/")[0].split(" ae/")[0].split(" scripts/")[0] for row in rows})
    parameters = ", ".join(f"{name} = {value!r}" for name, value in fitted._asdict().items())
    return (
        f'[[fit]]\ngpu = "{key[0]}"\ndtype = "{key[1]}"\noperation = "{key[2]}"\n'
        f"parameters = {{ {parameters} }}\nfitted_rows = {len(rows) - len(scored)}\nscored_rows = {len(scored)}\n"
        f"median_error_pct = {statistics.median(errors):.1f}\nmean_error_pct = {statistics.fmean(errors):.1f}\n"
        f'p90_error_pct = {percentile(errors, 0.9):.1f}\nprovenance = "{"; ".join(sources)}"\n'
    )


def main() -> None:
    """Fit, or check, and print one line a family."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    texts = []
    for key, rows in sorted(families(options.folder).items()):
        gpu = next(g for g in GPUS if g.name == key[0])
        fitted = fits()[key].parameters if options.check else search([r for r in rows if not is_scored(r)], gpu, key[1])
        texts.append(entry(key, rows, fitted))
        shown = errors_pct([r for r in rows if not is_scored(r)], gpu, fitted)
        print(f"fitted-row median {statistics.median(shown):.1f} %\n{texts[-1]}", flush=True)
    if not options.check:
        header = "# Written by benchmarks/fit_baselines.py; errors are of rows that were not fitted.\n\n"
        TARGET.write_text(header + "\n".join(texts), encoding="utf-8")


if __name__ == "__main__":
    main()
