"""What `accel warm` compiles: one tiny program that uses every unit, taken through every engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from accel.lang import K, TensorSpec, tensor
from accel.program import kernel

if TYPE_CHECKING:
    from accel.program import Program

__all__ = ["every_unit", "warm_up"]

SIZE = 16


@kernel
def every_unit(k: K, a: TensorSpec, y: TensorSpec, z: TensorSpec) -> None:
    """y = relu(a @ a) on node (0, 0), z its sums over columns: a copy, a matrix, elementwise and reducing rows."""
    A, acc = k.sram(a.shape, "bf16", "A"), k.sram(a.shape, "fp32", "acc")
    held, out, sums = k.sram(a.shape, "fp32", "held"), k.sram(a.shape, "bf16", "out"), k.sram(z.shape, "fp32", "sums")
    loaded, stored = k.sem(name="loaded"), k.sem(name="stored")
    if k.row + k.col != 0:
        return

    @k.thread
    def work() -> None:
        k.copy(A, a[:], done=loaded)
        k.wait(loaded)
        k.matmul(acc, A, A)
        k.vec.relu(acc, acc)
        k.vec.copy(held, acc)
        k.vec.cast(out, held)
        k.vec.reduce_sum(sums, held)
        k.copy(y[:], out, sent=stored)
        k.copy(z[:], sums, sent=stored)
        k.wait(stored, 2)


def program() -> Program:
    """Return the program of `every_unit` for the smallest chip."""
    return every_unit.build(
        "mini", a=tensor((SIZE, SIZE), "bf16"), y=tensor((SIZE, SIZE), "bf16"), z=tensor((SIZE, 1), "fp32")
    )


def warm_up() -> None:
    """Execute (in order, adversarially, in part), time and check the program."""
    from accel.cli.inputs import random_inputs
    from accel.machine.parallel import compile_threads

    made = program()
    inputs = random_inputs(made, 0, hard=False)
    made.run(inputs)
    compile_threads()
    made.run(inputs, schedule=1)
    made.run(inputs, sample=made.sample_outputs(1))
    made.time("packet")
    made.findings(schedules=1)
