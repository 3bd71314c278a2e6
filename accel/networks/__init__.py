"""Networks as problems: published networks layer by layer, and the matrix products of the demonstration."""

from accel.networks.catalog import Layer, names, network, parameters, title, weights
from accel.networks.gemms import LAYERS, Product

__all__ = ["LAYERS", "Layer", "Product", "names", "network", "parameters", "title", "weights"]
