"""Allocation map: what lies where in the SRAM of every node, as data and as text."""

from __future__ import annotations

from dataclasses import dataclass

from accel.isa.program import Buffer, Program

__all__ = ["Allocation", "allocation_of"]


@dataclass(frozen=True)
class Allocation:
    """The SRAM of a node, the same on all: buffers in order of their offset, bytes in use, gaps and free.

    capacity_bytes: SRAM of a node of the chip; used_bytes: of buffers; high_bytes: one past the last byte in use, so
    the difference of the two is lost to alignment.
    """

    program: str
    chip: str
    capacity_bytes: int
    used_bytes: int
    high_bytes: int
    buffers: tuple[Buffer, ...]

    @property
    def free_bytes(self) -> int:
        """Return the bytes behind the last buffer."""
        return self.capacity_bytes - self.high_bytes

    def __str__(self) -> str:
        """Return the map as text, one line a buffer with its share of the SRAM, then what is free."""
        names = [f"{b.name}: {b.dtype}[{','.join(map(str, b.shape))}]" for b in self.buffers]
        wide = max([len(name) for name in names] + [len("(alignment)")])
        lines = [
            f"{self.program} on {self.chip}: {self.high_bytes:,} of {self.capacity_bytes:,} B of SRAM a node",
            f"{'offset':>10} {'bytes':>10} {'share':>6}  buffer",
        ]
        for name, b in zip(names, self.buffers, strict=True):
            share = b.nbytes / self.capacity_bytes
            lines.append(f"{b.offset:>10,} {b.nbytes:>10,} {share:>6.1%}  {name:<{wide}}  {b.line or ''}".rstrip())
        gaps = self.high_bytes - self.used_bytes
        if gaps > 0:
            lines.append(f"{'':>10} {gaps:>10,} {gaps / self.capacity_bytes:>6.1%}  (alignment)")
        share = self.free_bytes / self.capacity_bytes
        lines.append(f"{self.high_bytes:>10,} {self.free_bytes:>10,} {share:>6.1%}  (free)")
        return "\n".join(lines)


def allocation_of(program: Program, chip: str, capacity_bytes: int) -> Allocation:
    """Return the allocation map of a program on a chip whose nodes have so many bytes of SRAM."""
    buffers = tuple(sorted(program.buffers, key=lambda b: (b.offset, b.name)))
    used = sum(b.nbytes for b in buffers)
    return Allocation(program.name, chip, capacity_bytes, used, program.sram_bytes, buffers)
