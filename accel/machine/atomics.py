"""Counters that threads of the host share: reads and writes that no compiler or processor moves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from accel.jit import intrinsic, ir, types

__all__ = ["add", "publish", "seen"]


def _place(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.gep(context.make_array(sig.args[0])(context, builder, args[0]).data, [args[1]])


def _seen_plain(counters: Any, i: int) -> Any:
    return counters[i]


@intrinsic(plain=_seen_plain)
def seen(typingctx: Any, counters: Any, i: Any) -> tuple[Any, Callable[..., Any]]:
    """Return counters[i] (int64); what the thread that published it wrote before is visible after."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load_atomic(_place(context, builder, sig, args), "acquire", 8)

    return types.int64(counters, types.int64), emit


def _publish_plain(counters: Any, i: int, value: int) -> None:
    counters[i] = value


@intrinsic(plain=_publish_plain)
def publish(typingctx: Any, counters: Any, i: Any, value: Any) -> tuple[Any, Callable[..., Any]]:
    """Set counters[i] (int64), after all that this thread wrote before."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store_atomic(args[2], _place(context, builder, sig, args), "release", 8)
        return context.get_dummy_value()

    return types.void(counters, types.int64, types.int64), emit


def _add_plain(counters: Any, i: int, value: int) -> None:
    counters[i] += value


@intrinsic(plain=_add_plain)
def add(typingctx: Any, counters: Any, i: Any, value: Any) -> tuple[Any, Callable[..., Any]]:
    """Add to counters[i] (int64) in one step, after all that this thread read and wrote before."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        place = _place(context, builder, sig, args)
        builder.atomic_rmw("add", place, builder.bitcast(args[2], ir.IntType(64)), "acq_rel")
        return context.get_dummy_value()

    return types.void(counters, types.int64, types.int64), emit
