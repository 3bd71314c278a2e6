"""Expressions of a sweep over columns: what `accel.sweep.grammar` reads, computed by `accel.sweep.arithmetic`."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from accel.errors import SpecError
from accel.sweep.arithmetic import ARITHMETIC, FUNCTIONS, Column, Faults, Flags, compare, constant, merged, negative
from accel.sweep.grammar import (
    COMPARISONS,
    FLAGS,
    GRAMMAR,
    OPERATORS,
    Expression,
    Refused,
    dotted,
    error_at,
    members,
    read,
    shown,
)

__all__ = ["Expression", "evaluate", "parse"]

Lookup = Callable[[str], Column]


@dataclass(frozen=True)
class _Scope:
    """What a walk over a tree needs: the columns of names, the faults, and how to say where one stands."""

    lookup: Lookup
    faults: Faults
    prefix: str = ""
    before: int = 0

    def at(self, node: ast.expr) -> Faults:
        """Return the faults, which from now on say that they stand at `node`."""
        self.faults.place = f"{self.prefix}column {self.before + node.col_offset + 1}: " if self.prefix else ""
        return self.faults


def parse(text: str, where: str) -> Expression:
    """Return the expression of a text; SpecError with `where`, the column and the rule for what is not in the grammar.

    A leading "=" is taken off. Operations of constants alone that have no result, such as 9**9**9 and 1 / 0, are
    refused here; all others when their values are known.
    """
    expression = read(text, where)
    faults = Faults()
    with np.errstate(all="ignore"):
        for node in ast.walk(expression.tree):
            if isinstance(node, ast.BinOp | ast.Call) and _constant(node):
                try:
                    found = _value(node, _Scope(constant, faults))
                except Refused as refused:
                    raise _refusal(expression, refused) from None
                if found.faults is not None:
                    raise _refusal(expression, Refused(node, faults.texts[int(found.faults[0])]))
    return expression


def _constant(node: ast.expr) -> bool:
    """Return whether only constants and functions of them lie below a node."""
    called = {part.func for part in ast.walk(node) if isinstance(part, ast.Call)}
    return not any(
        isinstance(part, ast.Name | ast.BoolOp | ast.Compare) and part not in called for part in ast.walk(node)
    )


def evaluate(expression: Expression, lookup: Lookup, faults: Faults, what: str = "") -> Column:
    """Return the column of an expression over the columns that `lookup` has for its names.

    Faults get numbers in `faults`, and their texts say where and in which column. SpecError where kinds do not go
    together (text + 1), and where `what` is "a number" or "true or false" and the result is not.
    """
    prefix = f"{expression.where} = {shown(expression.text)}: "
    try:
        with np.errstate(all="ignore"):
            found = _value(expression.tree, _Scope(lookup, faults, prefix, expression.before))
    except Refused as refused:
        raise _refusal(expression, refused) from None
    kinds = {"a number": ("int", "float"), "true or false": ("bool",)}
    if what and found.kind not in kinds[what]:
        raise _refusal(expression, Refused(expression.tree, f"the result is {_KINDS[found.kind]}; it must be {what}"))
    return found


def _refusal(expression: Expression, refused: Refused) -> SpecError:
    at = expression.before + getattr(refused.node, "col_offset", 0)
    return error_at(expression.text, expression.where, at, refused.rule)


_KINDS = {"int": "an integer", "float": "a number", "bool": "true or false", "text": "text", "list": "no plain value"}


def _value(node: ast.expr, scope: _Scope) -> Column:
    name = dotted(node)
    if name is not None:
        return constant(FLAGS[name]) if name in FLAGS else scope.lookup(name)
    if isinstance(node, ast.Constant):
        return constant(node.value)
    if isinstance(node, ast.BinOp):
        sides = (_number(node.left, scope), _number(node.right, scope))
        sign = OPERATORS[type(node.op)]
        if sign == "**" and sides[1].kind != "int":
            raise Refused(node.right, "a power has an integer for its exponent; use sqrt for roots")
        return ARITHMETIC[sign](*sides, scope.at(node.right))
    if isinstance(node, ast.UnaryOp):
        if isinstance(node.op, ast.Not):
            flags = _flags(node.operand, scope)
            return Column("bool", ~flags.values, flags.faults)
        found = _number(node.operand, scope)
        return negative(found) if isinstance(node.op, ast.USub) else found
    if isinstance(node, ast.BoolOp):
        return _joined(node, scope)
    if isinstance(node, ast.Compare):
        return _compared(node, scope)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        given = tuple(_number(one, scope) for one in node.args)
        return FUNCTIONS[node.func.id][1](given, scope.at(node))
    return _refuse(node)


def _refuse(node: ast.expr) -> NoReturn:
    raise Refused(node, f"{type(node).__name__} cannot stand here; {GRAMMAR}")


def _number(node: ast.expr, scope: _Scope) -> Column:
    found = _value(node, scope)
    if not found.number:
        raise Refused(node, f"{_KINDS[found.kind]} stands where a number is needed")
    return found


def _flags(node: ast.expr, scope: _Scope) -> Column:
    found = _value(node, scope)
    if found.kind != "bool":
        raise Refused(node, f"{_KINDS[found.kind]} stands where true or false is needed; compare it, such as x != 0")
    return found


def _joined(node: ast.BoolOp, scope: _Scope) -> Column:
    """Return and, or: what comes after the first that decides takes no part, and neither do its faults."""
    stop = isinstance(node.op, ast.Or)
    whole: Column | None = None
    for part in node.values:
        found = _flags(part, scope)
        whole = found if whole is None else _either(whole, found, stop)
    return whole if whole is not None else _refuse(node)


def _either(left: Column, right: Column, stop: bool) -> Column:
    decided = left.values == stop
    values = np.where(decided, stop, right.values)
    late = None if right.faults is None else np.where(decided, 0, right.faults).astype(np.int32)
    return Column("bool", values, merged(left.faults, late))


def _compared(node: ast.Compare, scope: _Scope) -> Column:
    """Return a chain of comparisons, a < b <= c as a < b and b <= c."""
    left, place = _value(node.left, scope), node.left
    whole: Column | None = None
    for op, after in zip(node.ops, node.comparators, strict=True):
        sign = COMPARISONS[type(op)]
        if sign in ("in", "not in"):
            if len(node.ops) > 1:
                raise Refused(node, "`in` stands alone; join comparisons with and")
            flags, right = _contained(left, members(after), place), left
            flags = ~flags if sign == "not in" else flags
        else:
            right = _value(after, scope)
            flags = _pair(sign, left, right, after)
        found = Column("bool", flags, merged(left.faults, right.faults))
        whole = found if whole is None else _either(whole, found, stop=False)
        left, place = right, after
    return whole if whole is not None else _refuse(node)


def _contained(left: Column, constants: Iterable[bool | float | str], place: ast.expr) -> Flags:
    found: Flags = np.zeros(1, np.bool_)
    for value in constants:
        found = found | _pair("==", left, constant(value), place)
    return found


def _pair(sign: str, left: Column, right: Column, place: ast.expr) -> Flags:
    kinds = {"number" if side.number else side.kind for side in (left, right)}
    if len(kinds) > 1 or "list" in kinds:
        raise Refused(place, f"{_KINDS[left.kind]} and {_KINDS[right.kind]} cannot be compared")
    if not left.number and sign not in ("==", "!="):
        raise Refused(place, f"{_KINDS[left.kind]} has no order; compare it by == or !=")
    return compare(sign, left, right)
