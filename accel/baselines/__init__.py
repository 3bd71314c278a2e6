"""GPU baselines: a catalog with sources, measured rows, and a fitted model that states its error."""

from accel.baselines.catalog import Gpu, gpu, names
from accel.baselines.figures import Baseline, estimate

__all__ = ["Baseline", "Gpu", "estimate", "gpu", "names"]
