"""The kernel language: plain Python, traced once per role, becomes a Program."""

from accel.lang.binding import Kernel, TensorSpec, kernel, tensor
from accel.lang.expr import Expr
from accel.lang.fifo import Fifo
from accel.lang.k import K
from accel.lang.pred import Pred
from accel.lang.sync import Sem, SemRef, Target
from accel.lang.tracer import SRAM_ALIGN
from accel.lang.views import Buffer, TensorRef, View

Loop = Expr  # the index that `k.loop` yields

__all__ = [
    "SRAM_ALIGN", "Buffer", "Expr", "Fifo", "K", "Kernel", "Loop", "Pred", "Sem", "SemRef", "Target", "TensorRef",
    "TensorSpec", "View", "kernel", "tensor",
]  # fmt: skip
