"""GEMMs of published networks: what a training step multiplies, layer by layer, and where the shape comes from."""

from __future__ import annotations

from typing import NamedTuple

from accel.problem import Matmul, Problem

__all__ = ["LAYERS", "Product"]

RESNET = (
    "He et al., Deep Residual Learning, CVPR 2016, table 1, batch 256; m = images x output pixels, k = taps x channels"
)
GPT3 = (
    "Brown et al., Language Models are Few-Shot Learners, 2020, table 2.1: d_model 12288, feed-forward 4x; 2048 tokens"
)
DEEPBENCH = "baidu-research/DeepBench @da81ba7, training GEMMs (V100 times measured by its authors)"
CAMERAS = (
    "eight 1280x960 cameras into a RegNet stem (Radosavovic et al., CVPR 2020: 3x3, stride 2, 3 to 32 channels); "
    "m = 8 x 640 x 480 output pixels, k = 3 x 3 x 3"
)


class Product(NamedTuple):
    """One layer to show: the network, the layer, the problem, and the source of its shape."""

    network: str
    name: str
    problem: Problem
    source: str


LAYERS: tuple[Product, ...] = (
    Product("cameras", "8 x 1280x960 stem 3x3/2", Matmul(2457600, 32, 27), CAMERAS),
    Product("resnet50", "conv2 1x1 64-256", Matmul(802816, 256, 64), RESNET),
    Product("resnet50", "conv4 1x1 1024-256", Matmul(50176, 256, 1024), RESNET),
    Product("resnet50", "conv4 3x3 256-256", Matmul(50176, 256, 2304), RESNET),
    Product("resnet50", "conv5 1x1 512-2048", Matmul(12544, 2048, 512), RESNET),
    Product("resnet50", "fc 2048-1000", Matmul(256, 1000, 2048), RESNET),
    Product("deepbench", "1760 x 7000 x 1760", Matmul(1760, 7000, 1760), DEEPBENCH),
    Product("deepbench", "4096 x 7000 x 4096", Matmul(4096, 7000, 4096), DEEPBENCH),
    Product("deepbench", "5124 x 9124 x 1760", Matmul(5124, 9124, 1760), DEEPBENCH),
    Product("gpt3-175b", "attention projection", Matmul(2048, 12288, 12288), GPT3),
    Product("gpt3-175b", "feed-forward up", Matmul(2048, 49152, 12288), GPT3),
)
