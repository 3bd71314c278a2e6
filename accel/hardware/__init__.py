"""Chips as data: specification, catalog, video formats, energy and cost."""

from accel.hardware.catalog import chip, names
from accel.hardware.frames import FrameFormat, sram_bytes_for
from accel.hardware.parts import (
    CostSpec,
    EnergySpec,
    HostSpec,
    MatrixSpec,
    MeshSpec,
    NocSpec,
    NodeSpec,
    PortSpec,
    VectorSpec,
)
from accel.hardware.power import FullLoad, full_load_power
from accel.hardware.schema import Range
from accel.hardware.spec import ChipSpec, paths_of

__all__ = [
    "ChipSpec",
    "CostSpec",
    "EnergySpec",
    "FrameFormat",
    "FullLoad",
    "HostSpec",
    "MatrixSpec",
    "MeshSpec",
    "NocSpec",
    "NodeSpec",
    "PortSpec",
    "Range",
    "VectorSpec",
    "chip",
    "full_load_power",
    "names",
    "paths_of",
    "sram_bytes_for",
]
