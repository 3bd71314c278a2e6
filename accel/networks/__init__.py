"""Networks as problems: the matrix products of published networks, with their sources."""

from accel.networks.gemms import LAYERS, Layer, layers

__all__ = ["LAYERS", "Layer", "layers"]
