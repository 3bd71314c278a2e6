"""Instruction set: the table and what derives from it, and Program, the data every engine works on."""

from accel.isa.program import Program

__all__ = ["Program"]
