"""The filters of a forward convolution on their way in: chunks of the chain, multicast to all nodes that share them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from accel.kernels.parts.conv_tiling import Tiling
from accel.kernels.parts.matmul_formats import buffer
from accel.lang import K, TensorRef

if TYPE_CHECKING:
    from accel.lang import View

__all__ = ["Filters"]


class Filters:
    """`stages` chunks of w as a matrix (depth, filters); one node in turn sends a chunk to all of its part of the mesh.

    A resident w lies in pieces of rows, dealt over those nodes; every owner of a piece of the chunk sends its own.
    """

    def __init__(self, k: K, w: TensorRef, tiling: Tiling) -> None:
        T = tiling
        self.k, self.tiling = k, T
        flat: View = w
        while flat.ndim > 2:
            flat = flat.merge(0)
        self.w, self.chunks = flat, T.chunks
        self.buffer = buffer(k, (T.stages, T.chunk_depth, T.filters), w, "filters")
        self.full, self.free = k.sem(T.stages, "filters_full"), k.sem(T.stages, "filters_free")
        self.per_chunk = -(-T.chunk_depth // T.piece)
        self.begun = k.sem(name="begun") if T.patient else None
        self.home = None
        if w.resident:
            homes = -(-len(self.chunks) * self.per_chunk // T.members)
            self.home = buffer(k, (homes, T.piece, T.filters), w, "w_home")

    def place(self, *, first: Any, count: int, part: Any, member: Any) -> None:
        """Say which filters this node works on, and who it is: member `member` of part `part` of the mesh."""
        T = self.tiling
        self.first, self.count = first, count
        rows, self.part = T.grid_rows // T.parts, part
        # Owners follow each other down a column: what they send then leaves by both directions of every column.
        self.turn = member % T.grid_cols * rows + member // T.grid_cols
        self.nodes = self.k.rect(part * rows, part * rows + rows, 0, T.grid_cols)
        if self.home is None:
            return
        total = len(self.chunks) * self.per_chunk
        for index in range(-(-total // T.members)):
            number = self.turn + index * T.members
            if number >= total:
                return
            low, high = self._rows(number // self.per_chunk, number % self.per_chunk)
            length = int(high - low)
            if length > 0:
                self.k.preload(self.home[index, :length, :count], self.w[low : low + length, first : first + count])

    def start(self, j: Any) -> Any:
        """Return the first row of w, as a matrix, of chunk j."""
        T = self.tiling
        if not T.deep:
            return j * T.chunk_depth
        each = -(-T.shape.group_c // T.deep)
        return j // each * T.shape.group_c + j % each * T.deep

    def depth(self, j: Any) -> Any:
        """Return the rows of chunk j."""
        T = self.tiling
        if not T.deep:
            return _least(T.chunk_depth, T.shape.depth - j * T.chunk_depth)
        return _least(T.deep, T.shape.group_c - j % -(-T.shape.group_c // T.deep) * T.deep)

    def view(self, g: int) -> View:
        """Return chunk number g, counted over all tiles, as (depth, filters)."""
        j = g % len(self.chunks)
        return self.buffer[g % self.tiling.stages, : self.depth(j), : self.count]

    def load(self, tiles: int) -> None:
        """Send what this node has to send: every chunk for every tile, or once if filters are kept."""
        T, chunks = self.tiling, len(self.chunks)
        late = set[int]()
        for g in range(chunks if T.kept else tiles * chunks):
            j, slot = g % chunks, g % T.stages
            for owner, low, high, source in self._sources(g):
                with self.k.when(self.turn == owner):
                    if self.begun is not None and g > 0 and owner not in late:
                        self.k.wait(self.begun)
                        self.k.inc(self.begun)  # for the end of this thread
                    if g >= T.stages:
                        self.k.wait(self.free[slot], T.members)
                    panel = self.buffer[slot, low - self.start(j) : high - self.start(j), : self.count]
                    self.k.copy(panel, source, to=self.nodes, done=self.full[slot])
                if g > 0:
                    late.add(owner)
        if self.begun is not None:
            self.k.wait(self.begun)  # some nodes send nothing late, and no token may be left

    def begin(self) -> None:
        """Say that the rows of the first tile are here."""
        if self.begun is not None:
            self.k.inc(self.begun)

    def wait(self, g: int) -> None:
        """Wait for chunk number g."""
        T, chunks = self.tiling, len(self.chunks)
        if T.kept and g >= chunks:
            return
        copies = 1
        if self.home is not None:
            copies = -(-self.depth(g % chunks) // T.piece)
        self.k.wait(self.full[g % T.stages], copies)

    def done(self, g: int, tiles: int) -> None:
        """Give the buffer of chunk number g back to whoever fills it next."""
        T = self.tiling
        later = g + T.stages
        if T.kept or later >= tiles * len(self.chunks):
            return
        for owner in self._owners(later):
            rows = T.grid_rows // T.parts
            self.k.inc(self.free[g % T.stages], at=T.node(self.part, owner % rows * T.grid_cols + owner // rows))

    def _owners(self, g: int) -> list[int]:
        T, j = self.tiling, g % len(self.chunks)
        if self.home is None:
            return [g % T.members]
        copies = -(-self.depth(j) // T.piece)
        return [(j * self.per_chunk + p) % T.members for p in range(copies)]

    def _rows(self, j: Any, p: Any) -> tuple[Any, Any]:
        low = self.start(j) + p * self.tiling.piece
        return low, low + _least(self.tiling.piece, self.depth(j) - p * self.tiling.piece)

    def _sources(self, g: int) -> list[tuple[int, int, int, View]]:
        """Return (owner, first row, past the last row, where they lie) of every copy of chunk number g."""
        j, columns = g % len(self.chunks), slice(self.first, self.first + self.count)
        if self.home is None:
            low, high = self.start(j), self.start(j) + self.depth(j)
            return [(owner, low, high, self.w[low:high, columns]) for owner in self._owners(g)]
        found = []
        for p, owner in enumerate(self._owners(g)):
            low, high = self._rows(j, p)
            index = (j * self.per_chunk + p) // self.tiling.members
            found.append((owner, low, high, self.home[index, : high - low, : self.count]))
        return found


def _least(size: int, left: Any) -> int:
    """Return the smaller of the two; nodes that disagree become roles of their own."""
    return size if left >= size else int(left)
