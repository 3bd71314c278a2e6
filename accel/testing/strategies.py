"""Hypothesis strategies: formats, hard arrays, single instructions, whole legal programs, small chips."""

from __future__ import annotations

from typing import Any

from accel.errors import UnsupportedError
from accel.hardware.catalog import chip
from accel.testing.choices import Choices
from accel.testing.hard_values import KINDS, hard_codes
from accel.testing.legal_programs import Case, instruction, legal_program
from accel.testing.pool import ALL_FLOATS, ALL_INTEGERS, Limits

try:
    from hypothesis import strategies as st
except ImportError:
    raise UnsupportedError(
        "Cannot import accel.testing.strategies because Hypothesis is not installed; "
        "use `pip install accel-codesign[testing]`"
    ) from None

__all__ = ["chips", "formats", "hard_arrays", "instructions", "legal_programs"]


def _choices(draw: Any) -> Choices:
    return Choices(lambda low, high: int(draw(st.integers(low, high))))


def formats() -> st.SearchStrategy[str]:
    """Names of all number formats."""
    return st.sampled_from(ALL_FLOATS + ALL_INTEGERS)


@st.composite
def hard_arrays(draw: Any, dtype: str, shape: tuple[int, ...]) -> Any:
    """Arrays of storage codes of format `dtype` in a shape, full of the values that break arithmetic."""
    return hard_codes(dtype, shape, draw(st.integers(0, 1 << 30)), draw(st.sampled_from(KINDS)))


@st.composite
def instructions(draw: Any, mnemonic: str = "", limits: Limits | None = None) -> Case:
    """One compute instruction on one node, its buffers loaded and stored; mnemonic: "" for any that limits allow."""
    return instruction(_choices(draw), mnemonic, limits)


@st.composite
def legal_programs(draw: Any, limits: Limits | None = None, chip_json: str = "") -> Case:
    """Whole programs without hazards, over several nodes and threads; they shrink to few blocks and simple views.

    limits: what they may use; chip_json: the chip that they say they are for.
    """
    return legal_program(_choices(draw), limits, chip_json)


@st.composite
def chips(draw: Any) -> Any:
    """Small chips of 4 x 4 nodes, each a `mini` with some fields changed; every legal program fits on them."""
    c = _choices(draw)
    changes = {
        "noc.link_bytes_per_cycle": c.pick((64, 16, 128)),
        "noc.packet_bytes": c.pick((1024, 256)),
        "noc.buffer_packets": c.pick((4, 1, 16)),
        "node.copy_queue_depth": c.pick((16, 1, 2)),
        "node.vector.bytes_per_cycle": c.pick((64, 16, 128)),
        "ports.west.latency_cycles": c.pick((40, 0, 500)),
    }
    return chip("mini").replace(**{path: value for path, value in changes.items() if c.one_in(2)})
