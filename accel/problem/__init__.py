"""What is to be computed, on any machine: shapes, formats, flops, compulsory bytes and the bound on a chip."""

from accel.problem.attention import Attention
from accel.problem.bound import Bound
from accel.problem.collective import Collective, HaloExchange
from accel.problem.conv import Conv2d
from accel.problem.conv3d import Conv3d
from accel.problem.conv_transpose import ConvTranspose2d
from accel.problem.elementwise import BiasAdd, Elementwise
from accel.problem.grouped_matmul import GroupedMatmul
from accel.problem.losses import CrossEntropy, ElementLoss
from accel.problem.matmul import Matmul
from accel.problem.movement import Concat, Embedding, Slice, Transpose
from accel.problem.norms import BatchNorm, GroupNorm, LayerNorm
from accel.problem.optimizer import Amax, Cast, GradNorm, Optimizer
from accel.problem.pool import Pool2d
from accel.problem.registry import from_dict, kind, kinds
from accel.problem.resize import Resize2d
from accel.problem.rows import Reduce, Softmax
from accel.problem.streaming import StreamingConv
from accel.problem.workload import Operand, Problem

__all__ = [
    "Amax",
    "Attention",
    "BatchNorm",
    "BiasAdd",
    "Bound",
    "Cast",
    "Collective",
    "Concat",
    "Conv2d",
    "Conv3d",
    "ConvTranspose2d",
    "CrossEntropy",
    "ElementLoss",
    "Elementwise",
    "Embedding",
    "GradNorm",
    "GroupNorm",
    "GroupedMatmul",
    "HaloExchange",
    "LayerNorm",
    "Matmul",
    "Operand",
    "Optimizer",
    "Pool2d",
    "Problem",
    "Reduce",
    "Resize2d",
    "Slice",
    "Softmax",
    "StreamingConv",
    "Transpose",
    "from_dict",
    "kind",
    "kinds",
]
