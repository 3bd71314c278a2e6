"""What is to be computed, on any machine: shapes, formats, flops, compulsory bytes and the bound on a chip."""

from accel.problem.bound import Bound
from accel.problem.conv import Conv2d
from accel.problem.conv3d import Conv3d
from accel.problem.matmul import Matmul
from accel.problem.registry import from_dict, kind, kinds
from accel.problem.workload import Operand, Problem

__all__ = ["Bound", "Conv2d", "Conv3d", "Matmul", "Operand", "Problem", "from_dict", "kind", "kinds"]
