"""Views: strided windows of a buffer or tensor, indexed like NumPy arrays, with bounds checked for every node."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

from accel.errors import BoundsError, TraceError
from accel.isa import layout as w
from accel.lang.expr import Expr
from accel.lang.reach import check_bounds, check_length
from accel.lang.symbols import Sym, Term

if TYPE_CHECKING:
    from accel.lang.ring import Ring
    from accel.lang.tracer import Tracer

__all__ = ["PLAIN", "Buffer", "Index", "Layout", "TensorRef", "View", "plain_index", "slice_length"]

Index = int | Expr | slice
PLAIN = (0, 0, 0, 0)  # of most views: no ring (base, bytes), no bias word, no bias scalar


class Layout:
    """What a view looks like wherever it starts: owner, format, shape and byte strides; one object a trace.

    guard: the predicate terms without which the view may leave its array (it was taken inside a k.when).
    more: ring base and bytes, bias word, 1 + SRAM offset of the bias scalar (`accel.isa.layout`).
    """

    __slots__ = (
        "derived",
        "dtype",
        "esize",
        "guard",
        "ints",
        "more",
        "name",
        "obj",
        "plain_id",
        "shape",
        "space",
        "strides",
        "tracer",
    )

    def __init__(self, tracer: Tracer, space: int, obj: int, name: str, dtype: str, esize: int,
                 shape: tuple[int, ...], strides: tuple[int, ...],
                 more: tuple[int, int, int, int] = PLAIN) -> None:  # fmt: skip
        self.more = more
        self.tracer, self.space, self.obj, self.name = tracer, space, obj, name
        self.dtype, self.esize, self.shape, self.strides = dtype, esize, shape, strides
        self.derived: dict[tuple[Any, ...], Layout] = {}
        self.ints: dict[int, tuple[Layout, int]] = {}
        self.plain_id = -1
        self.guard: tuple[Term, ...] = ()

    def __str__(self) -> str:
        return f"{self.name!r} {self.shape}"

    def derive(self, takes: tuple[Any, ...]) -> Layout:
        """Return the layout after indexing: per dimension -1 (dropped), a length, or (length, step)."""
        found = self.derived.get(takes)
        if found is None:
            shape: list[int] = []
            strides: list[int] = []
            for take, stride in zip(takes, self.strides, strict=False):
                if isinstance(take, tuple):
                    shape.append(take[0])
                    strides.append(stride * take[1])
                elif take >= 0:
                    shape.append(take)
                    strides.append(stride)
            shape += self.shape[len(takes) :]
            strides += self.strides[len(takes) :]
            found = self.derived[takes] = self.tracer.layout(self, tuple(shape), tuple(strides))
        return found

    def squeezed(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return shape and strides without dimensions of one element."""
        kept = [(n, s) for n, s in zip(self.shape, self.strides, strict=True) if n != 1]
        return tuple(n for n, _ in kept), tuple(s for _, s in kept)

    def view_id(self, shape: tuple[int, ...], strides: tuple[int, ...]) -> int:
        """Return the id of a descriptor with these dimensions, at most four."""
        if len(shape) > w.DIMS:
            raise TraceError(
                f"a view of {self.name!r} with {len(shape)} dimensions {shape} does not fit a descriptor of {w.DIMS}; "
                "index some of them with an int, or move it in several instructions"
            )
        lead = w.DIMS - len(shape)
        return self.tracer.tables.views.id((
            self.space, self.tracer.code_of(self.dtype), self.obj, max(len(shape), 1),
            (1,) * lead + shape, (0,) * lead + strides, self.more,
        ))  # fmt: skip

    def plain(self) -> int:
        """Return the id of the descriptor without dimensions of one element."""
        if self.plain_id < 0:
            self.plain_id = self.view_id(*self.squeezed())
        return self.plain_id


class View:
    """A window of SRAM or of a tensor: what instructions take. Index it like a NumPy array.

    Ints and per-node expressions drop a dimension, slices keep it. A slice never clips: leaving the window is an
    error, for the worst node of the role. The length of a slice must be the same on all nodes of a role; where it
    is not, the role splits by length.
    """

    __slots__ = ("c", "lay", "s")

    def __init__(self, lay: Layout, c: int, s: Sym) -> None:
        self.lay = lay
        self.c = c
        self.s = s

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the extents in elements."""
        return self.lay.shape

    @property
    def dtype(self) -> str:
        """Return the name of the number format."""
        return self.lay.dtype

    @property
    def bias(self) -> int:
        """Return the exponent bias of a configurable format, so that another buffer can have the same; 0 of others."""
        return self.lay.more[2] & ~w.BIAS_IEEE

    @property
    def denormals(self) -> str:
        """Return the rule of a configurable format's denormals, "gap" or "ieee"."""
        return "ieee" if self.lay.more[2] & w.BIAS_IEEE else "gap"

    @property
    def ndim(self) -> int:
        """Return the number of dimensions."""
        return len(self.lay.shape)

    @property
    def T(self) -> View:
        """Return the view with its dimensions in reverse order; no data moves."""
        return self.transpose(*reversed(range(self.ndim)))

    def __len__(self) -> int:
        if not self.lay.shape:
            raise TypeError(f"a view of one element of {self.lay.name!r} has no length")
        return self.lay.shape[0]

    def transpose(self, *axes: int) -> View:
        """Return the view with its dimensions permuted; no data moves. TraceError if `axes` is not a permutation."""
        lay = self.lay
        if sorted(axes) != list(range(len(lay.shape))):
            raise TraceError(
                f"axes {axes} do not permute the {len(lay.shape)} dimensions of {lay.name!r}; name each once"
            )
        return View(
            lay.tracer.layout(lay, tuple(lay.shape[a] for a in axes), tuple(lay.strides[a] for a in axes)),
            self.c,
            self.s,
        )

    def split(self, axis: int, inner: int) -> View:
        """Return the view with dimension `axis` cut in two, (n // inner, inner); no data moves.

        The way to give `k.matmul` a two-level M, N or K. TraceError unless `inner` divides the dimension.
        """
        lay = self.lay
        axis = operator.index(axis) + (len(lay.shape) if axis < 0 else 0)
        if not 0 <= axis < len(lay.shape) or inner < 1 or lay.shape[axis] % inner:
            raise TraceError(f"dimension {axis} of {lay} cannot be split by {inner}; use a divisor of it")
        n, stride = lay.shape[axis], lay.strides[axis]
        shape = (*lay.shape[:axis], n // inner, inner, *lay.shape[axis + 1 :])
        strides = (*lay.strides[:axis], stride * inner, stride, *lay.strides[axis + 1 :])
        return View(lay.tracer.layout(lay, shape, strides), self.c, self.s)

    def merge(self, axis: int) -> View:
        """Return the view with dimensions `axis` and `axis` + 1 as one, outer first; no data moves.

        TraceError unless stepping over the end of the inner one is a step of the outer one.
        """
        lay = self.lay
        axis = operator.index(axis) + (len(lay.shape) if axis < 0 else 0)
        if not 0 <= axis < len(lay.shape) - 1:
            raise TraceError(f"{lay} has no dimension {axis} followed by another to merge; name the outer one of two")
        (outer, inner), (far, near) = lay.shape[axis : axis + 2], lay.strides[axis : axis + 2]
        if outer > 1 and inner > 1 and far != inner * near:
            raise TraceError(
                f"dimensions {axis} and {axis + 1} of {lay} are not one run of elements and cannot be merged; "
                "keep both, or merge a part that is contiguous"
            )
        stride = near if inner > 1 else far
        shape = (*lay.shape[:axis], outer * inner, *lay.shape[axis + 2 :])
        strides = (*lay.strides[:axis], stride, *lay.strides[axis + 2 :])
        return View(lay.tracer.layout(lay, shape, strides), self.c, self.s)

    def window(self, axis: int, size: int, step: int = 1, dilation: int = 1) -> View:
        """Return the view with dimension `axis` replaced by (places, size): windows that may overlap; no data moves.

        Element [i, j] of the two is element i * step + j * dilation of `axis`: the outputs and taps of a convolution.
        As many places as fit. TraceError if none does.
        """
        lay = self.lay
        axis = operator.index(axis) + (len(lay.shape) if axis < 0 else 0)
        if not 0 <= axis < len(lay.shape) or min(size, step, dilation) < 1:
            raise TraceError(f"{lay} has no windows of {size} by {step} and {dilation} along {axis}; sizes start at 1")
        reach, n, stride = dilation * (size - 1) + 1, lay.shape[axis], lay.strides[axis]
        if reach > n:
            raise TraceError(f"a window of {reach} elements does not fit dimension {axis} of {lay}; use a smaller one")
        shape = (*lay.shape[:axis], (n - reach) // step + 1, size, *lay.shape[axis + 1 :])
        strides = (*lay.strides[:axis], stride * step, stride * dilation, *lay.strides[axis + 1 :])
        return View(lay.tracer.layout(lay, shape, strides), self.c, self.s)

    def flip(self, axis: int) -> View:
        """Return the view with dimension `axis` in reverse order, as taps run against inputs; no data moves."""
        lay = self.lay
        axis = operator.index(axis) + (len(lay.shape) if axis < 0 else 0)
        if not 0 <= axis < len(lay.shape):
            raise TraceError(f"{lay} has no dimension {axis} to reverse; name one of its {len(lay.shape)}")
        stride = lay.strides[axis]
        strides = (*lay.strides[:axis], -stride, *lay.strides[axis + 1 :])
        return View(lay.tracer.layout(lay, lay.shape, strides), self.c + (lay.shape[axis] - 1) * stride, self.s)

    def ring(self) -> Ring:
        """Return the SRAM window as a ring along its first dimension: index n is slot n modulo its length.

        For frame buffers in which the newest frame replaces the oldest; see `Ring`.
        """
        from accel.lang.ring import Ring

        return Ring(self)

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, key: Index | tuple[Any, ...]) -> View:
        lay = self.lay
        if key.__class__ is int:
            hit = lay.ints.get(key)
            if hit is not None:
                return View(hit[0], self.c + hit[1], self.s)
        items: tuple[Any, ...] = key if isinstance(key, tuple) else (key,)
        if len(items) > len(lay.shape) or any(item is Ellipsis for item in items):
            items = _expand(lay, items)
        c, s, strides = self.c, self.s, lay.strides
        takes: list[Any] = []
        guarded: tuple[Term, ...] = ()
        for dim, item in enumerate(items):
            stride = strides[dim]
            if isinstance(item, slice):
                start, take, limits = _window(lay, dim, item)
                if limits:
                    guarded += limits
                takes.append(take)
            else:
                start = item if isinstance(item, Expr) else _index(lay, dim, item)
                if isinstance(start, Expr) and not 0 <= start.c + start.s.lo <= start.c + start.s.hi < lay.shape[dim]:
                    guarded += check_bounds(lay.tracer, lay, dim, start, 1)
                takes.append(-1)
            if isinstance(start, Expr):
                c += start.c * stride
                at = start.s.muls.get(stride) or start.s.mul(stride)
                s = s.adds.get(at) or s.add(at)
            else:
                c += start * stride
        found = lay.derived.get(tuple(takes)) or lay.derive(tuple(takes))
        if key.__class__ is int and not lay.tracer.active.dead:
            lay.ints[key] = (found, c - self.c)
        if guarded:
            found = lay.tracer.layout(found, found.shape, found.strides, guarded)
        return View(found, c, s)

    def _no_arithmetic(self, _: object) -> Any:
        raise TraceError(f"{self.lay.name!r} is a view, which has no arithmetic; use k.vec.add(dst, x, y) and the like")

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _no_arithmetic

    def __matmul__(self, _: object) -> Any:
        raise TraceError(f"{self.lay.name!r} is a view, which has no @; use k.matmul(acc, a, b)")

    def __setitem__(self, key: object, value: object) -> None:
        raise TraceError(
            f"{self.lay.name!r} cannot be assigned to; use k.vec.fill, k.vec.copy or k.copy, destination first"
        )

    def __repr__(self) -> str:
        where = "SRAM" if self.lay.space == w.SPACE_SRAM else "memory"
        return f"<view of {self.lay.name!r} in {where}: {self.lay.dtype} {self.lay.shape}>"


class Buffer(View):
    """A static SRAM allocation (`k.sram`), at the same place on every node; indexing gives views."""

    __slots__ = ()

    @property
    def name(self) -> str:
        """Return the name it was allocated under."""
        return self.lay.name


class TensorRef(View):
    """A tensor argument of the kernel, in the chip's memory or resident in SRAM shards; indexing gives views."""

    __slots__ = ("resident",)

    def __init__(self, lay: Layout, c: int, s: Sym, resident: bool) -> None:
        super().__init__(lay, c, s)
        self.resident = resident

    @property
    def name(self) -> str:
        """Return the name of the kernel's parameter."""
        return self.lay.name


def _expand(lay: Layout, items: tuple[Any, ...]) -> tuple[Any, ...]:
    """Replace one Ellipsis by the full slices it stands for; too many indices are an error."""
    dots = [i for i, item in enumerate(items) if item is Ellipsis]
    if len(items) - len(dots) > len(lay.shape) or len(dots) > 1:
        raise BoundsError(
            f"{len(items) - len(dots)} indices into {lay.name!r}, which has {len(lay.shape)} dimensions {lay.shape}; "
            "give at most one index a dimension"
        )
    if not dots:
        return items
    full = (slice(None),) * (len(lay.shape) - len(items) + 1)
    return (*items[: dots[0]], *full, *items[dots[0] + 1 :])


def _index(lay: Layout, dim: int, item: object) -> int:
    """Return an index that is the same on all nodes, counted from the front and inside the dimension."""
    number, size = plain_index(lay, dim, item), lay.shape[dim]
    number += size if number < 0 else 0
    if not 0 <= number < size:
        check_bounds(lay.tracer, lay, dim, number, 1)
    return number


def plain_index(lay: Layout, dim: int, item: object) -> int:
    """Return an index that is an int on all nodes; TraceError for anything else."""
    if isinstance(item, bool) or not hasattr(item, "__index__"):
        raise TraceError(
            f"dimension {dim} of {lay.name!r} cannot be indexed by {item!r}; "
            "use an int, a slice, k.row, k.col or a loop index"
        )
    return operator.index(item)


def _window(lay: Layout, dim: int, item: slice) -> tuple[int | Expr, Any, tuple[Term, ...]]:
    """Return where a slice starts, what it takes - a length, or (length, step) - and under which conditions."""
    limits: tuple[Term, ...] = ()
    start, stop, step, size = item.start, item.stop, item.step, lay.shape[dim]
    if start is None:
        start = 0
    if stop is None:
        stop = size
    if isinstance(start, Expr):
        length = stop.c - start.c if isinstance(stop, Expr) and stop.s is start.s else slice_length(lay, start, stop)
        if start.c + start.s.lo < 0 or start.c + start.s.hi + length > size:
            limits = check_bounds(lay.tracer, lay, dim, start, length)
    else:
        if start.__class__ is not int:
            start = plain_index(lay, dim, start)
        if isinstance(stop, Expr):
            length = slice_length(lay, start, stop)
        else:
            if stop.__class__ is not int:
                stop = plain_index(lay, dim, stop)
            start += size if start < 0 else 0
            length = stop + (size if stop < 0 else 0) - start
        if start < 0 or start + length > size:
            limits = check_bounds(lay.tracer, lay, dim, start, length)
    if length < 1:
        length = check_length(lay.tracer, lay, dim, item, length)
    if step is None:
        return start, length, limits
    if not isinstance(step, int) or step < 1:
        raise TraceError(f"slice step {step!r} of {lay.name!r}: a step is a positive int")
    return start, (-(-length // step), step), limits


def slice_length(lay: Layout, start: int | Expr, stop: int | Expr) -> int:
    """Return the length of a slice, the same on all nodes of the role: otherwise the role splits by length."""
    difference = stop - start
    if isinstance(difference, Expr):
        if difference.s.loops:
            raise TraceError(
                f"a slice of {lay.name!r} is {difference} long, which changes from trip to trip, and a descriptor has "
                "one shape; use range(), or slices of one length"
            )
        return difference.split()
    return difference
