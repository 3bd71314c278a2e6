"""Calls by address: a jitted function that its callers neither contain nor recompile, made only when it is wanted.

Compiled code holds no address (it is kept on disk); the caller passes a table of them that each process fills anew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from accel.jit import cgutils, intrinsic, types

__all__ = ["address", "link"]


def address(function: Any, signature: tuple[Any, ...]) -> int:
    """Return where the code of a jitted function for these argument types begins; compiles or loads it."""
    if not hasattr(function, "overloads"):  # compilation is switched off in this process: the call goes to `.plain`
        return 0
    function.compile(signature)
    result = function.overloads[signature]
    return int(result.library.get_pointer_to_function(result.fndesc.llvm_func_name))


def link(functions: tuple[Any, ...], signature: tuple[Any, ...]) -> Callable[..., None]:
    """Return call(table, at, which, arguments): functions[which](*arguments) by its address table[at + which].

    All functions take arguments of the types of `signature` (a call site with others does not compile) and return
    nothing.
    """

    def call_plain(table: Any, at: int, which: int, arguments: tuple[Any, ...]) -> None:
        functions[which].plain(*arguments)

    @intrinsic(plain=call_plain)
    def call(typingctx: Any, table: Any, at: Any, which: Any, arguments: Any) -> tuple[Any, Callable[..., Any]] | None:
        if tuple(arguments.types) != signature:
            return None

        def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            data = context.make_array(sig.args[0])(context, builder, args[0]).data
            place = builder.load(builder.gep(data, [builder.add(args[1], args[2])]))
            convention = context.call_conv
            kind = convention.get_function_type(types.void, signature)
            callee = builder.inttoptr(place, kind.as_pointer())
            given = cgutils.unpack_tuple(builder, args[3], len(signature))
            status, _ = convention.call_function(builder, callee, types.void, signature, given)
            with cgutils.if_unlikely(builder, status.is_error):
                convention.return_status_propagate(builder, status)
            return context.get_dummy_value()

        return types.void(table, types.int64, types.int64, arguments), emit

    return call
