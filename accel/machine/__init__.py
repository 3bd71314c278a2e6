"""The executor: a program, its inputs, and the exact bits that come out."""

from accel.machine.executor import Box, Execution, Needed, execute, execute_sample, needed

__all__ = ["Box", "Execution", "Needed", "execute", "execute_sample", "needed"]
