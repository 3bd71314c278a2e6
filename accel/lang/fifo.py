"""`k.fifo`: a queue of slots between two threads of a node, written as the waits, copies and incs it stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from accel.errors import TraceError
from accel.lang.expr import Int
from accel.lang.sync import Sem, SemRef
from accel.lang.views import Buffer, View

if TYPE_CHECKING:
    from accel.lang.k import K

__all__ = ["Fifo", "Slot"]


class Fifo:
    """`depth` slots in SRAM that one thread fills (`with f.put() as slot:`) and one drains (`with f.get() as slot:`).

    put: waits for `free[s]`; copies into the slot fire `full[s]` by themselves (a `done=` of your own is an error), and
    where the block holds none, an inc of `full[s]` follows it. get: waits for `tokens` of `full[s]`; an inc of
    `free[s]` follows the block, or, where the block's last instruction is its only copy out of the slot, that copy's
    `sent`. tokens: how many copies fill a slot. In a k.loop pass the loop index, `f.put(i)`: the slot is i % depth.
    """

    __slots__ = ("_count", "buffer", "depth", "free", "full", "k", "name", "tokens")

    def __init__(self, k: K, buffer: Buffer, tokens: int) -> None:
        if tokens < 1:
            raise TraceError(f"fifo {buffer.name!r}: tokens = {tokens}; a slot is filled by at least one copy")
        self.k, self.buffer, self.depth, self.tokens, self.name = k, buffer, buffer.shape[0], tokens, buffer.name
        self.full: Sem = k.sem(self.depth, f"{buffer.name}_full")
        self.free: Sem = k.sem(self.depth, f"{buffer.name}_free", 1)
        self._count = {"put": 0, "get": 0}

    def put(self, index: Int | None = None) -> Slot:
        """Return the context that fills the next slot, or slot `index % depth`."""
        return Slot(self, self._slot("put", index), "put")

    def get(self, index: Int | None = None) -> Slot:
        """Return the context that drains the next slot, or slot `index % depth`."""
        return Slot(self, self._slot("get", index), "get")

    def _slot(self, what: str, index: Int | None) -> Int:
        if index is None:
            if self.k.in_loop:
                raise TraceError(
                    f"{self.name}.{what}() inside a k.loop cannot count slots; pass the index: {self.name}.{what}(i)"
                )
            index = self._count[what]
            self._count[what] += 1
        return index % self.depth


class Slot:
    """One put or get of a fifo: `with` gives the slot's view."""

    __slots__ = ("_copies", "_fifo", "_index", "_what", "free", "full", "view")

    def __init__(self, fifo: Fifo, index: Int, what: str) -> None:
        self._fifo, self._index, self._what, self._copies = fifo, index, what, 0

    def __enter__(self) -> View:
        fifo, k = self._fifo, self._fifo.k
        self.full: SemRef = fifo.full[self._index]
        self.free: SemRef = fifo.free[self._index]
        self.view = fifo.buffer[self._index]
        if self._what == "put":
            k.wait(self.free)
        else:
            k.wait(self.full, fifo.tokens)
        k.track(self, entered=True)
        return self.view

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        fifo, k = self._fifo, self._fifo.k
        k.track(self, entered=False)
        if kind is not None:
            return
        if self._what == "put":
            if self._copies == 0 and fifo.tokens == 1:
                k.inc(self.full)
            elif self._copies != fifo.tokens:
                raise TraceError(
                    f"{self._copies} copies fill a slot of {fifo.name!r}, which counts on {fifo.tokens}; "
                    f"give k.fifo(..., tokens={self._copies or 1})"
                )
        elif self._copies == 0:
            k.inc(self.free)
        elif self._copies > 1 or not k.patch_sent(self.free):
            raise TraceError(
                f"a copy out of a slot of {fifo.name!r} is followed by other instructions; give it sent= and k.wait "
                "for it inside the block, or make it the last and only one"
            )

    def adopt(self, dst: View, src: View, done: Sem | SemRef | None, sent: Sem | SemRef | None) -> tuple[
        Sem | SemRef | None, Sem | SemRef | None
    ]:  # fmt: skip
        """Supply the semaphore of a copy that fills this slot; count the copies that leave it."""
        lay = self._fifo.buffer.lay
        if self._what == "put" and dst.lay.space == lay.space and dst.lay.obj == lay.obj:
            if done is not None:
                raise TraceError(
                    f"a copy into a slot of {self._fifo.name!r} has a done= of its own; the fifo supplies it"
                )
            self._copies += 1
            return self.full, sent
        if self._what == "get" and src.lay.space == lay.space and src.lay.obj == lay.obj and sent is None:
            self._copies += 1
        return done, sent
