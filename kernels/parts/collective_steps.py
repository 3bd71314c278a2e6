"""What collectives are made of: rings that add up and spread, exchanges by halves, everyone to everyone."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from accel.kernels.parts.collective_groups import Group
from accel.lang import K

if TYPE_CHECKING:
    from accel.lang import View

__all__ = ["Direct", "Halves", "Ring"]

Part = Callable[[Any], "View"]  # number of a member -> its part of this node's data, (..., width)


class Ring:
    """Messages round the ring of a group, cut in `slices`, so that one is added while the next arrives.

    Every slot has a semaphore, and a message is sent again to a slot only after its reader has given it back. That what
    was sent may change needs no token: whoever writes there has heard, round the ring, of the one who received it.
    """

    def __init__(
        self, k: K, group: Group, shape: tuple[int, ...], dtype: str, slices: int, name: str, *, adds: bool = True
    ) -> None:
        self.k, self.group, self.slices = k, group, max(1, min(slices, shape[-1]))
        self.width, self.slots = shape[-1], 2 * self.slices
        self.piece = -(-self.width // self.slices)
        used = adds and group.size > 1
        self.inbox = k.sram((self.slots, *shape[:-1], self.piece), dtype, f"{name}_inbox") if used else None
        self.full, self.free = k.sem(self.slots, f"{name}_full"), k.sem(self.slots, f"{name}_free")
        self.go = k.sem(1, f"{name}_go")
        self.next = group.node(group.at(group.place + 1))
        self.before = group.node(group.at(group.place - 1))

    def reduce_scatter(self, part: Part, width: int) -> None:
        """Add up: the sum of part j starts at the member after j and ends, once round, at member j.

        part: of this node's data; its own becomes the sum. width: of this segment.
        """
        self._round(part, width, first=-1, into=self._add)

    def all_gather(self, part: Part, width: int) -> None:
        """Spread: every member's own part goes once round and stays everywhere."""
        self._round(part, width, first=0, into=None)

    def _add(self, mine: View, arrived: View) -> None:
        self.k.vec.add(mine, arrived, mine)

    def _round(self, part: Part, width: int, *, first: int, into: Any) -> None:
        k, steps = self.k, self.group.size - 1
        cuts = [(low, min(width, low + self.piece)) for low in range(0, width, self.piece)]
        total = steps * len(cuts)
        if not total:
            return
        k.inc(self.go, at=self.before)  # this node is ready to be written to
        k.wait(self.go)
        for s, cut in enumerate(cuts):
            self._send(part, s, cut, first, into)
        for t in range(steps):
            for s, cut in enumerate(cuts):
                g = t * len(cuts) + s
                slot = g % self.slots
                k.wait(self.full[slot])
                if into is not None:
                    mine = part(self.group.at(self.group.place + first - 1 - t))[..., cut[0] : cut[1]]
                    into(mine, self._inside(slot, cut))
                if g + self.slots < total:
                    k.inc(self.free[slot], at=self.before)
                if t + 1 < steps:
                    self._send(part, g + len(cuts), cut, first - 1 - t, into)

    def _send(self, part: Part, g: int, cut: tuple[int, int], behind: int, into: Any) -> None:
        """Send a slice of the part that is `behind` places from here, as message g."""
        k, slot = self.k, g % self.slots
        source = part(self.group.at(self.group.place + behind))[..., cut[0] : cut[1]]
        if g >= self.slots:
            k.wait(self.free[slot])
        target = self._inside(slot, cut) if into is not None else source
        k.copy(target, source, to=self.next, done=self.full[slot])

    def _inside(self, slot: int, cut: tuple[int, int]) -> View:
        assert self.inbox is not None
        view: View = self.inbox[slot, ..., : cut[1] - cut[0]]
        return view


class Halves:
    """Recursive halving and doubling among 2^q members: partners at distance 1, 2, 4, ... (and back) exchange halves.

    At distance d a member keeps the parts whose number agrees with its own in the bit of d. Sums are those of a tree of
    neighbours: (0, 1), (2, 3), then pairs of these, and so on.
    """

    def __init__(self, k: K, group: Group, width: int, dtype: str) -> None:
        self.k, self.group, self.levels = k, group, group.size.bit_length() - 1
        self.inbox = [k.sram((group.size >> x + 1, width), dtype, f"half_{x}") for x in range(self.levels)]
        self.full, self.back = k.sem(max(1, self.levels), "half_full"), k.sem(max(1, self.levels), "half_back")

    def _some(self, data: View, first: Any, step: int, width: int) -> View:
        count = self.group.size // step
        return data[first : first + (count - 1) * step + 1 : step, :width]

    def _partner(self, level: int) -> tuple[Any, Any]:
        bit = self.group.member // 2**level % 2
        return bit, self.group.node(self.group.member + 2**level - bit * 2 ** (level + 1))

    def reduce_scatter(self, data: View, width: int) -> None:
        """Add up rows of `data` (size, width): row j of member j becomes the sum."""
        for level in range(self.levels):
            bit, node = self._partner(level)
            low, step = self.group.member % 2**level, 2 ** (level + 1)
            given = self._some(data, low + (1 - bit) * 2**level, step, width)
            kept = self._some(data, low + bit * 2**level, step, width)
            self.k.copy(self.inbox[level][:, :width], given, to=node, done=self.full[level])
            self.k.wait(self.full[level])
            self.k.vec.add(kept, kept, self.inbox[level][:, :width])

    def all_gather(self, data: View, width: int) -> None:
        """Spread the rows of `data`: row j comes from member j."""
        for level in reversed(range(self.levels)):
            _, node = self._partner(level)
            mine = self._some(data, self.group.member % 2 ** (level + 1), 2 ** (level + 1), width)
            self.k.copy(mine, mine, to=node, done=self.back[level])
            self.k.wait(self.back[level])


class Direct:
    """Everyone to everyone in one step: parts go straight to the member they belong to, or to all by multicast."""

    def __init__(self, k: K, group: Group) -> None:
        self.k, self.group = k, group
        self.got, self.all = k.sem(1, "got"), k.sem(1, "spread")

    def exchange(self, inbox: View, data: View, width: int) -> None:
        """Row i of `inbox` (size, width) becomes this member's row of `data` of member i."""
        k, group = self.k, self.group
        mine = group.member
        k.vec.copy(inbox[mine, :width], data[mine, :width])
        for step in range(1, group.size):
            other = (mine + step) % group.size
            k.copy(inbox[mine, :width], data[other, :width], to=group.node(other), done=self.got)
        if group.size > 1:
            k.wait(self.got, group.size - 1)

    def add_up(self, inbox: View, width: int) -> None:
        """Add the rows of `inbox` into row 0: neighbours, level by level; a last odd one passes through."""
        size, gap = self.group.size, 1
        while gap < size:
            last = (size - gap - 1) // (2 * gap) * 2 * gap + 1
            one, two = inbox[0 : last : 2 * gap, :width], inbox[gap : gap + last : 2 * gap, :width]
            self.k.vec.add(one, one, two)
            gap *= 2

    def all_gather(self, data: View, width: int) -> None:
        """Spread the rows of `data`: every member multicasts its own."""
        own = data[self.group.member, :width]
        self.k.copy(own, own, to=self.group.everyone, done=self.all)
        self.k.wait(self.all, self.group.size)
