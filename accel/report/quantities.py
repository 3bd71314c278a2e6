"""Numbers with units, as short text of three or four digits."""

from __future__ import annotations

__all__ = ["bytes_text", "energy", "number", "percent", "rate", "ratio", "seconds", "usd"]


def number(value: float, digits: int = 3) -> str:
    """Return a number with `digits` significant digits and thousands set apart."""
    if value == 0:
        return "0"
    rounded = float(f"{value:.{digits}g}")
    if abs(rounded) >= 10 ** (digits - 1):
        return f"{rounded:,.0f}"
    return f"{rounded:#.{digits}g}"


def _scaled(value: float, unit: str, scales: tuple[tuple[float, str], ...]) -> str:
    for scale, prefix in scales:
        if abs(value) >= scale * 0.9995:
            return f"{number(value / scale)} {prefix}{unit}"
    scale, prefix = scales[-1]
    return f"{number(value / scale)} {prefix}{unit}"


def seconds(value: float) -> str:
    """Return a time: 1.23 ms."""
    return _scaled(value, "s", ((1.0, ""), (1e-3, "m"), (1e-6, "u"), (1e-9, "n")))


def energy(joules: float) -> str:
    """Return an energy: 45.1 mJ."""
    return _scaled(joules, "J", ((1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "u"), (1e-9, "n")))


def rate(flops_per_s: float) -> str:
    """Return a rate of operations: 312 TFLOPS."""
    return _scaled(flops_per_s, "FLOPS", ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M")))


def bytes_text(count: float) -> str:
    """Return a size in binary units: 1.25 MiB."""
    return _scaled(count, "B", ((2.0**40, "Ti"), (2.0**30, "Gi"), (2.0**20, "Mi"), (2.0**10, "Ki"), (1.0, "")))


def percent(share: float) -> str:
    """Return a share as a percentage with one decimal."""
    return f"{100 * share:.1f} %"


def usd(value: float | None) -> str:
    """Return a price: 0.00123 USD would show as 1.23 mUSD; a dash where there is none."""
    scales = ((1.0, ""), (1e-3, "m"), (1e-6, "u"), (1e-9, "n"), (1e-12, "p"))
    return "-" if value is None else _scaled(value, "USD", scales)


def ratio(value: float) -> str:
    """Return a factor: 2.31 x."""
    return f"{number(value)} x"
