"""The grammar of expressions in a sweep: read by Python's parser, walked by hand and never executed as Python.

Numbers, text in quotes, true and false; names with dots; + - * / // % **; comparisons, also chained; `in` a list of
constants; and, or, not; min max abs ceil floor log2 sqrt. Anything else is refused with its column. What an expression
computes is defined by `accel.sweep.arithmetic`.
"""

from __future__ import annotations

import ast
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

from accel.errors import SpecError, nearest
from accel.sweep.arithmetic import FUNCTIONS, LIMIT

__all__ = [
    "COMPARISONS",
    "FLAGS",
    "GRAMMAR",
    "LONGEST",
    "OPERATORS",
    "Expression",
    "Refused",
    "dotted",
    "error_at",
    "members",
    "read",
    "shown",
]

LONGEST = 2000  # characters
LONGEST_NAME = 100  # characters of a name with dots
DEEPEST = 100  # operations inside each other

OPERATORS: dict[type[ast.operator], str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%", ast.Pow: "**",
}  # fmt: skip
COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.In: "in",
    ast.NotIn: "not in",
}  # fmt: skip
_WORDS = {
    ast.Lambda: "a lambda", ast.ListComp: "a comprehension", ast.SetComp: "a comprehension",
    ast.DictComp: "a comprehension", ast.GeneratorExp: "a comprehension", ast.NamedExpr: "an assignment",
    ast.JoinedStr: "an f-string", ast.Subscript: "an index", ast.IfExp: "if and else", ast.Dict: "a dict",
    ast.Set: "a set", ast.UnaryOp: "that sign", ast.BinOp: "that sign", ast.Compare: "`is`", ast.Starred: "a star",
    ast.Await: "await", ast.Yield: "yield", ast.YieldFrom: "yield",
}  # fmt: skip
GRAMMAR = "use numbers, names, + - * / // % **, comparisons, in, and, or, not and min max abs ceil floor log2 sqrt"
FLAGS = {"true": True, "false": False}


@dataclass(frozen=True)
class Expression:
    """An expression that keeps to the grammar: its text, where it stands for errors, its tree and the names in it."""

    text: str
    where: str
    tree: ast.expr
    names: tuple[str, ...]
    before: int  # characters of the text before the tree, which columns of errors count too


class Refused(Exception):  # noqa: N818 - it never leaves this package
    """What is wrong, and at which node."""

    def __init__(self, node: ast.AST | None, rule: str) -> None:
        super().__init__(rule)
        self.node, self.rule = node, rule


def read(text: str, where: str) -> Expression:
    """Return the expression of a text; SpecError with `where`, the column and the rule for what is not in the grammar.

    A leading "=" is taken off.
    """
    if len(text) > LONGEST:
        raise SpecError(f"{where} has {len(text):,} characters; give an expression of at most {LONGEST:,}")
    before = len(text) - len(text.lstrip(" "))
    if text[before : before + 1] == "=":
        before += 1
    body = text[before:]
    before += len(body) - len(body.lstrip(" "))
    body = body.strip(" ")
    if not body:
        raise SpecError(f"{where} is an empty expression; {GRAMMAR}")
    for at, sign in enumerate(body):
        if not " " <= sign <= "~" or sign in "\\#":  # what Python would read as something else than what is seen
            raise error_at(text, where, before + at, f"the character {sign!a} cannot stand in an expression")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # "1in x" and its like
            tree = ast.parse(body, mode="eval").body
    except SyntaxError as error:
        message = (error.msg or "not an expression").partition(". ")[0]
        raise error_at(text, where, before + max(0, (error.offset or 1) - 1), message) from None
    except (ValueError, RecursionError, MemoryError):
        raise SpecError(f"{where} = {shown(text)} is nested too deeply; write it flatter") from None
    try:
        names = tuple(dict.fromkeys(_checked(tree, DEEPEST)))
    except Refused as refused:
        raise error_at(text, where, before + getattr(refused.node, "col_offset", 0), refused.rule) from None
    return Expression(text, where, tree, names, before)


def shown(text: str) -> str:
    """Return a text as errors show it, printable and cut short."""
    return ascii(text if len(text) <= 120 else text[:117] + "...")


def error_at(text: str, where: str, at: int, rule: str) -> SpecError:
    """Return the SpecError about column `at` (from 0) of an expression."""
    return SpecError(f"{where} = {shown(text)}: column {at + 1}: {rule}")


def _checked(node: ast.expr, depth: int) -> Iterator[str]:
    """Yield the names in a tree; Refused for what is not in the grammar."""
    if depth == 0:
        raise Refused(node, f"more than {DEEPEST} operations lie inside each other; write it flatter")
    name = dotted(node)
    if name is not None:
        if len(name) > LONGEST_NAME:
            raise Refused(node, f"a name of {len(name):,} characters; no name has more than {LONGEST_NAME}")
        if name not in FLAGS:
            yield name
    elif isinstance(node, ast.Constant):
        _check_constant(node)
    elif isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        yield from _checked(node.left, depth - 1)
        yield from _checked(node.right, depth - 1)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd | ast.Not):
        yield from _checked(node.operand, depth - 1)
    elif isinstance(node, ast.BoolOp):
        for value in node.values:
            yield from _checked(value, depth - 1)
    elif isinstance(node, ast.Compare) and all(type(op) in COMPARISONS for op in node.ops):
        yield from _checked(node.left, depth - 1)
        for op, right in zip(node.ops, node.comparators, strict=True):
            if isinstance(op, ast.In | ast.NotIn):
                members(right)
            else:
                yield from _checked(right, depth - 1)
    elif isinstance(node, ast.Call):
        _check_call(node)
        for value in node.args:
            yield from _checked(value, depth - 1)
    else:
        what = next((word for kind, word in _WORDS.items() if isinstance(node, kind)), type(node).__name__.lower())
        raise Refused(node, f"{what} cannot stand here; {GRAMMAR}")


def dotted(node: ast.expr) -> str | None:
    """Return the name with dots that a node is, None for anything else. Nothing is looked up on any object."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name):
        return ".".join([node.id, *reversed(parts)])
    if parts:
        raise Refused(node, f"a dot follows something that is no name; {GRAMMAR}")
    return None


def _check_constant(node: ast.Constant) -> bool | int | float | str:
    value = node.value
    if isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        if value >= LIMIT:
            raise Refused(node, "an integer of 2^62 or more; write a float such as 1e20")
    elif not isinstance(value, float):
        raise Refused(node, f"{'an ellipsis' if value is ... else type(value).__name__} cannot stand here; {GRAMMAR}")
    elif not math.isfinite(value):
        raise Refused(node, "a float beyond 1.8e308; write a smaller one")
    return value


def _check_call(node: ast.Call) -> None:
    name = node.func.id if isinstance(node.func, ast.Name) else ""
    if name not in FUNCTIONS:
        called = dotted(node.func) or "that"
        hint = nearest(called, FUNCTIONS) or f"; use {', '.join(FUNCTIONS)}"
        raise Refused(node, f"{called} cannot be called{hint}")
    most = FUNCTIONS[name][0]
    least = 1 if most == 1 else 2
    if node.keywords or any(isinstance(value, ast.Starred) for value in node.args):
        raise Refused(node, f"{name} takes plain values only")
    if not least <= len(node.args) <= most:
        wanted = "one value" if most == 1 else f"{least} to {most} values"
        raise Refused(node, f"{name} takes {wanted}, not {len(node.args)}")


def members(node: ast.expr) -> tuple[bool | int | float | str, ...]:
    """Return the constants of the list after `in`; Refused for anything else."""
    if not isinstance(node, ast.Tuple | ast.List) or not node.elts:
        raise Refused(node, "after `in` stands a list of constants, such as (32, 64)")
    found: list[bool | int | float | str] = []
    for one in node.elts:
        sign = isinstance(one, ast.UnaryOp) and isinstance(one.op, ast.USub)
        inner = one.operand if isinstance(one, ast.UnaryOp) and sign else one
        if not isinstance(inner, ast.Constant):
            raise Refused(one, "a list after `in` holds constants only")
        value = _check_constant(inner)
        if sign and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise Refused(one, "a minus goes before numbers only")
        found.append(-value if sign and isinstance(value, int | float) else value)
    if len({str if isinstance(v, str) else bool if isinstance(v, bool) else float for v in found}) > 1:
        raise Refused(node, "a list after `in` holds constants of one kind")
    return tuple(found)
