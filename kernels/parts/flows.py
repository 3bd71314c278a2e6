"""Tensors streamed through a node: pieces loaded ahead, computed on, stored behind.

A kernel that reads its tensors once or a few times and writes others says three things: which *items* a node works on
(a block of rows, the channels of an image), into which *pieces* an item is cut, and what one *sweep* over the pieces
reads and writes. `Stream` makes three threads of that. `load` fills slots as soon as they are free, `compute` is the
kernel's own arithmetic, `store` empties the slots of the results. An input that several sweeps of an item read is
*held* in SRAM from the first to the last of them where it fits, otherwise loaded again for each sweep.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from accel.lang import K

if TYPE_CHECKING:
    from accel.lang import View

    Arithmetic = Callable[[Iterator["Piece"]], None]

__all__ = ["Piece", "Stream", "Sweep"]


@dataclass(frozen=True)
class Sweep:
    """One pass over the pieces of an item: the names of the inputs it reads and of the outputs it writes."""

    reads: tuple[str, ...]
    writes: tuple[str, ...] = ()


class Piece:
    """A part of the work: rows `top` to `top + height`, columns `left` to `left + width`; `piece["x"]` is its slot.

    `number` counts the pieces of an item (or the items of a node); `image` is the index of a third, outermost
    dimension. `top`, `left`, `image` and `number` may differ between nodes and trips; sizes are ints.
    """

    __slots__ = ("height", "image", "left", "number", "stream", "top", "views", "width")

    def __init__(
        self, stream: Stream, number: Any, top: Any, height: int, left: Any, width: int, image: Any = 0
    ) -> None:
        self.stream, self.number, self.image = stream, number, image
        self.top, self.height, self.left, self.width = top, height, left, width
        self.views: dict[str, View] = {}

    def __getitem__(self, name: str) -> View:
        constant = self.stream.constants.get(name)
        return self.views[name] if constant is None else constant[self.left : self.left + self.width]

    @property
    def rows(self) -> slice:
        """Return the rows as a slice of the whole tensor."""
        return slice(self.top, self.top + self.height)

    @property
    def columns(self) -> slice:
        """Return the columns as a slice of the whole tensor."""
        return slice(self.left, self.left + self.width)

    def sweep(self, number: int) -> Iterator[Piece]:
        """Yield the pieces of this item with the views of sweep `number`, loaded; slots are given back after use."""
        stream = self.stream
        plan = stream.sweeps[number]
        reads = [name for name in plan.reads if name not in stream.constants]
        for piece in stream.pieces(self):
            for name in reads:
                place, fresh = stream.place(name, number, self, piece), stream.fresh(name, number)
                piece.views[name] = stream.slots(name, number).acquire(place, piece, fresh)
            for name in plan.writes:
                piece.views[name] = stream.flows[name].reserve(stream.place(name, number, self, piece), piece)
            yield piece
            for name in reads:
                if stream.spent(name, number):
                    stream.slots(name, number).release(stream.place(name, number, self, piece))
            for name in plan.writes[:1]:  # says that the others are there, too
                stream.flows[name].commit(stream.place(name, number, self, piece))


class Flow:
    """The slots of one tensor: `depth` of `shape`, each with a semaphore for "full" and one for "free"."""

    def __init__(
        self, k: K, name: str, tensor: View, shape: tuple[int, ...], depth: int, window: Callable[[Piece], Any],
        bias: Any = None,
    ) -> None:  # fmt: skip
        self.k, self.tensor, self.depth, self.window = k, tensor, depth, window
        self.buffer = k.sram((depth, *shape), tensor.dtype, name, bias=bias)
        self.full, self.free = k.sem(depth, f"{name}_full"), k.sem(depth, f"{name}_free", 1)

    def slot(self, place: Any, piece: Piece) -> tuple[View, View]:
        """Return the part of the slot that the piece fills, and the window of the tensor."""
        far: View = self.tensor[self.window(piece)]
        near: View = self.buffer[(place % self.depth, *(slice(0, size) for size in far.shape))]
        return near, far

    def load(self, place: Any, piece: Piece) -> None:
        """Fill a slot from memory, once it is free."""
        near, far = self.slot(place, piece)
        self.k.wait(self.free[place % self.depth])
        self.k.copy(near, far, done=self.full[place % self.depth])

    def acquire(self, place: Any, piece: Piece, fresh: bool) -> View:
        """Return the loaded slot; `fresh` waits for its copy, which nobody did before."""
        if fresh:
            self.k.wait(self.full[place % self.depth])
        return self.slot(place, piece)[0]

    def release(self, place: Any) -> None:
        """Let the slot be filled again."""
        self.k.inc(self.free[place % self.depth])

    def reserve(self, place: Any, piece: Piece) -> View:
        """Return an empty slot for a result."""
        self.k.wait(self.free[place % self.depth])
        return self.slot(place, piece)[0]

    def commit(self, place: Any) -> None:
        """Hand the result to the thread that stores, and with it all results of the same piece."""
        self.k.inc(self.full[place % self.depth])

    def store(self, place: Any, piece: Piece, told: bool) -> None:
        """Send a result to memory; its slot is free when it has left. told: one handed over with it came before."""
        near, far = self.slot(place, piece)
        if not told:
            self.k.wait(self.full[place % self.depth])
        self.k.copy(far, near, sent=self.free[place % self.depth])


class Stream:
    """Items, pieces and sweeps of a node; a subclass says what they are by `items` and `pieces`.

    per_item: pieces of an item, one number on a node. held: inputs stay in SRAM between the sweeps. late: the first
    sweep that belongs to the thread `finish`; what is loaded again for it has slots of its own, since two threads that
    wait on one semaphore would take each other's tokens.
    """

    def __init__(self, k: K, sweeps: Sequence[Sweep], held: bool, per_item: int, late: int = 0) -> None:
        self.k, self.sweeps, self.held, self.per_item, self.late = k, tuple(sweeps), held, per_item, late
        self.prefix = ""  # of names of buffers and semaphores, where a kernel has several streams
        self.unrolled = False  # whether a kernel's arithmetic differs from item to item, so that no loop can hold it
        self.flows: dict[str, Flow] = {}
        self.item_reads: list[str] = []
        self.item_writes: list[str] = []
        self.constants: dict[str, View] = {}
        self._sources: dict[str, View] = {}
        self._users = {
            name: [s for s, sweep in enumerate(self.sweeps) if name in (*sweep.reads, *sweep.writes)]
            for sweep in self.sweeps
            for name in (*sweep.reads, *sweep.writes)
        }

    # --- what flows -------------------------------------------------------------------------------------------------
    def flow(
        self, name: str, tensor: View, shape: tuple[int, ...], depth: int, window: Callable[[Piece], Any],
        *, per: str = "piece", out: bool = False, bias: Any = None,
    ) -> None:  # fmt: skip
        """Stream `tensor`: slots of `shape`, and which window of the tensor a piece (or, per="item", an item) is.

        bias: of slots in a configurable format, as `k.sram` takes it.
        """
        self.flows[name] = Flow(self.k, self.prefix + name, tensor, shape, depth, window, bias)
        if self._late(name, self._users.get(name, [0])[-1]):
            self.flows[f"{name} again"] = Flow(self.k, f"{self.prefix}{name}_again", tensor, shape, depth, window, bias)
        if per == "item":
            (self.item_writes if out else self.item_reads).append(name)

    def constant(self, name: str, tensor: View) -> View:
        """Keep the whole of `tensor` on every node: node (0, 0) fetches it once for all. Returns the buffer."""
        self.constants[name] = self.k.sram(tensor.shape, tensor.dtype, name)
        self._sources[name] = tensor
        return self.constants[name]

    # --- to be said by subclasses -----------------------------------------------------------------------------------
    def items(self) -> Iterator[Piece]:
        """Yield the items of this node in order; every thread runs through them."""
        raise TypeError(f"{type(self).__name__} yields no items; use RowStream or ColumnStream")

    def pieces(self, item: Piece) -> Iterator[Piece]:
        """Yield the pieces of an item in order; every sweep runs through them."""
        raise TypeError(f"{type(self).__name__} cuts no {item}; use RowStream or ColumnStream")

    # --- which slot -------------------------------------------------------------------------------------------------
    def fresh(self, name: str, sweep: int) -> bool:
        """Return whether sweep `sweep` is the one for which the input was loaded."""
        return not self.held or self._users[name][0] == sweep

    def spent(self, name: str, sweep: int) -> bool:
        """Return whether nobody reads the input's slot after sweep `sweep`."""
        return not self.held or self._users[name][-1] == sweep

    def slots(self, name: str, sweep: int) -> Flow:
        """Return the slots through which sweep `sweep` sees the tensor `name`."""
        return self.flows[f"{name} again" if self._late(name, sweep) else name]

    def _late(self, name: str, sweep: int) -> bool:
        return not self.held and 0 < self.late <= sweep and any(user < self.late for user in self._users[name])

    def place(self, name: str, sweep: int, item: Piece, piece: Piece) -> Any:
        """Return how many pieces of the tensor `name` came through these slots before this one."""
        late = self._late(name, sweep)
        users = [sweep] if self.held else [user for user in self._users[name] if self._late(name, user) == late]
        return item.number * (self.per_item * len(users)) + users.index(sweep) * self.per_item + piece.number

    # --- the threads ------------------------------------------------------------------------------------------------
    def start(
        self, compute: Arithmetic, finish: Arithmetic | None = None, *, then: tuple[Stream, Arithmetic] | None = None
    ) -> None:
        """Declare the threads load, compute and store; `compute(items)` is the kernel's arithmetic.

        finish: the arithmetic of the last sweeps as a thread of its own, so that the results of one item leave while
        the sums of the next are taken. It gets from `compute` what it needs by a `k.fifo`, which also orders the two:
        it must not touch a slot before the first of that has come, and no tensors that belong to a whole item.
        then: another stream, without constants, that the same threads go on with, and its arithmetic.
        """
        k, stages = self.k, [(self, compute), *([] if then is None else [then])]
        here = k.sem(name="constants") if self.constants else None

        @k.thread
        def load() -> None:
            if here is not None:
                with k.when((k.row == 0) & (k.col == 0)):
                    for name, source in self._sources.items():
                        k.copy(self.constants[name], source, to=k.all_nodes(), done=here)
            for stream, _ in stages:
                stream._load()

        def arithmetic() -> None:
            if here is not None:
                k.wait(here, len(self.constants))
            for stream, work in stages:
                work(stream._used())

        arithmetic.__name__ = "compute"
        k.thread(arithmetic)
        if finish is not None:

            def last() -> None:
                finish(self.items())

            last.__name__ = "finish"
            k.thread(last)
        leaving = [s for s, _ in stages if s.item_writes or any(sweep.writes for sweep in s.sweeps)]
        if leaving:

            @k.thread
            def store() -> None:
                for stream in leaving:
                    stream._store()

    def _load(self) -> None:
        for item in self.items():
            for name in self.item_reads:
                self.flows[name].load(item.number, item)
            for number, sweep in enumerate(self.sweeps):
                wanted = [name for name in sweep.reads if name not in self.constants and self.fresh(name, number)]
                for piece in self.pieces(item) if wanted else ():
                    for name in wanted:
                        self.slots(name, number).load(self.place(name, number, item, piece), piece)

    def _used(self) -> Iterator[Piece]:
        """Yield the items with the slots that belong to a whole item."""
        for item in self.items():
            for name in self.item_reads:
                item.views[name] = self.flows[name].acquire(item.number, item, True)
            for name in self.item_writes:
                item.views[name] = self.flows[name].reserve(item.number, item)
            yield item
            for name in self.item_reads:
                self.flows[name].release(item.number)
            for name in self.item_writes[:1]:
                self.flows[name].commit(item.number)

    def _store(self) -> None:
        """Send results to memory in the order in which they are made."""
        for item in self.items():
            for number, sweep in enumerate(self.sweeps):
                for piece in self.pieces(item) if sweep.writes else ():
                    for name in sweep.writes:
                        place = self.place(name, number, item, piece)
                        self.flows[name].store(place, piece, name != sweep.writes[0])
            for name in self.item_writes:
                self.flows[name].store(item.number, item, name != self.item_writes[0])
