"""GPUs by id: datasheet figures, prices and aliases, each with its source."""

from __future__ import annotations

from typing import NamedTuple

from accel.errors import InputError, nearest

__all__ = ["GPUS", "Gpu", "gpu", "names"]

# Marks: P primary (datasheet, whitepaper), S secondary, M written from memory of the datasheet and not re-read.
_ML = "S: stas00/ml-engineering@744d01e compute/accelerator/README.md (cites vendor datasheets)"
_VOLTA = "M: NVIDIA Volta whitepaper; clock, L2 and bandwidth confirmed by PMC10448217 table 3 (S)"
_CLOUD = "S: mercatus-ai.com, aimultiple.com, May 2026"
_ROUGH = "S: aiinframap.com, rough, +-20-40 %"


class Gpu(NamedTuple):
    """Datasheet figures of one GPU, dense (no structured sparsity).

    `peak_tflops` by number format in 1e12 flop/s: only formats that the matrix engines take, and `fp32` on the vector
    lanes (TF32 off). `sms` counts streaming multiprocessors or compute units. `usd` is the purchase price of one GPU,
    `usd_per_hour` cloud rent of one GPU; None where no source is at hand. `sources` maps a field or "*" to its origin.
    """

    name: str
    title: str
    sms: int
    boost_mhz: int | None
    peak_tflops: dict[str, float]
    memory_gb: float
    memory_gbps: float
    l2_mb: float
    tdp_w: float
    die_mm2: float | None
    process: str
    usd: float | None
    usd_per_hour: float | None
    aliases: tuple[str, ...]
    sources: dict[str, str]

    @property
    def engine_formats(self) -> tuple[str, ...]:
        """Number formats with a datasheet peak."""
        return tuple(self.peak_tflops)


_A100_PEAK = {"fp16": 312.0, "bf16": 312.0, "int8": 624.0, "fp32": 19.5}
_H100_PEAK = {"fp16": 989.0, "bf16": 989.0, "fp8": 1979.0, "int8": 1979.0, "fp32": 67.0}
_SXM4_SOURCES = {
    "*": _ML,
    "boost_mhz": "S: PMC10448217 table 3",
    "tdp_w": "M: NVIDIA A100 datasheet, also S: screenhacker.com",
    "die_mm2": "S: screenhacker.com",
}
_SXM5_SOURCES = {"*": _ML, "boost_mhz": "S: hpctech.co.jp (1,980 MHz maximum)", "die_mm2": "S: screenhacker.com"}

GPUS: tuple[Gpu, ...] = (
    Gpu(
        "v100-sxm2", "NVIDIA V100 SXM2", 80, 1530, {"fp16": 125.0, "int8": 62.8, "fp32": 15.7}, 16, 900, 6, 300, 815,
        "TSMC 12FFN", None, None, ("V100-SXM2-16GB(DGX-1)", "V100-SXM2-16/32GB"),
        {"*": _VOLTA, "peak_tflops": "M: NVIDIA Volta whitepaper; int8 is dp4a on the vector lanes"},
    ),
    Gpu(
        "a100-sxm-40gb", "NVIDIA A100 SXM4 40 GB", 108, 1410, _A100_PEAK, 40, 1555, 40, 400, 826,
        "TSMC N7", None, None, ("A100-SXM4-40GB",), _SXM4_SOURCES,
    ),
    Gpu(
        "a100-sxm-80gb", "NVIDIA A100 SXM4 80 GB", 108, 1410, _A100_PEAK, 80, 2039, 40, 400, 826,
        "TSMC N7", 11500.0, 1.9, ("A100-SXM4-80GB",),
        {**_SXM4_SOURCES, "usd": "S: mercatus-ai.com, used, rough, 8,000-15,000", "usd_per_hour": f"{_CLOUD}; 0.8-3"},
    ),
    Gpu(
        "h100-sxm", "NVIDIA H100 SXM5 80 GB", 132, 1980, _H100_PEAK, 80, 3350, 50, 700, 814,
        "TSMC 4N", 30000.0, 2.95, ("H100-SXM5-80GB", "NVIDIA H100 80GB HBM3", "NVIDIA H100 SXM"),
        {**_SXM5_SOURCES, "usd": f"{_ROUGH}; 18,000-42,000", "usd_per_hour": f"{_CLOUD}; 1.99-5"},
    ),
    Gpu(
        "h200-sxm", "NVIDIA H200 SXM5 141 GB", 132, 1980, _H100_PEAK, 141, 4800, 50, 700, 814,
        "TSMC 4N", 33500.0, 4.75, ("H200-SXM5-141GB", "NVIDIA H200 SXM"),
        {**_SXM5_SOURCES, "usd": f"{_ROUGH}; 32,000-35,000", "usd_per_hour": f"{_CLOUD}; 2.5-7"},
    ),
    Gpu(
        "b200", "NVIDIA B200 SXM 180 GB", 148, None,
        {"fp16": 2250.0, "bf16": 2250.0, "fp8": 4500.0, "int8": 4500.0, "fp32": 80.0}, 180, 8000, 126, 1000, None,
        "TSMC 4NP", 40000.0, None, ("B200-SXM-180GB", "NVIDIA B200 SXM"),
        {"*": _ML, "sms": "M: 148, not published by the maker", "tdp_w": "S: awesomeagents.ai",
         "usd": f"{_ROUGH}; 24,000-56,000"},
    ),
    Gpu(
        "t4", "NVIDIA T4", 40, 1590, {"fp16": 65.0, "int8": 130.0, "fp32": 8.1}, 16, 320, 4, 70, 545,
        "TSMC 12FFN", None, None, ("T4", "NVIDIA T4", "Tesla T4"),
        {"*": "M: NVIDIA T4 datasheet (fp16 65 TFLOPS and 320 GB/s also in the DeepBench rows' roofline columns)"},
    ),
    Gpu(
        "mi210", "AMD Instinct MI210", 104, 1700, {"fp16": 181.0, "bf16": 181.0, "int8": 181.0, "fp32": 22.6},
        64, 1638.4, 8, 300, None, "TSMC N6", None, None, ("MI210", "AMD MI210", "AMD Instinct MI210"),
        {"*": "M: AMD Instinct MI210 datasheet (fp16 181 TFLOPS and 1,638.4 GB/s also in the LLMCompass rows)"},
    ),
)  # fmt: skip

_BY_NAME: dict[str, Gpu] = {row.name: row for row in GPUS}
_BY_ALIAS: dict[str, Gpu] = {key.lower(): row for row in GPUS for key in (row.name, row.title, *row.aliases)}


def names() -> tuple[str, ...]:
    """Return the GPU ids, oldest family first."""
    return tuple(_BY_NAME)


def gpu(name: str) -> Gpu:
    """Return the catalog row whose id or alias is `name` (letter case ignored).

    InputError with the nearest id for anything else. PCIe boards are not aliases of SXM modules: they run at other
    clocks and power limits, so their measurements would be another device's.
    """
    row = _BY_ALIAS.get(str(name).strip().lower())
    if row is None:
        hint = nearest(str(name), _BY_NAME) or f"; use one of {', '.join(_BY_NAME)}"
        raise InputError(f"unknown gpu {name!r}{hint}")
    return row
