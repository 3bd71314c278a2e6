"""The validated record behind every hardware description: typed fields, ranges, dotted paths in errors."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Self, TypeVar, cast, get_args, get_origin, get_type_hints

import msgspec

from accel.errors import SpecError, nearest

__all__ = [
    "Bytes",
    "Count",
    "Cycles",
    "Natural",
    "Positive",
    "Range",
    "Share",
    "Spec",
    "build",
    "field_types",
    "fitted",
    "plain",
]

# Ceilings are sanity, not policy: two orders of magnitude above anything built, low enough that products stay in int64.
Count = Annotated[int, msgspec.Meta(ge=1, le=1 << 16)]
Natural = Annotated[int, msgspec.Meta(ge=0, le=1 << 16)]
Cycles = Annotated[int, msgspec.Meta(ge=0, le=1 << 24)]
Bytes = Annotated[int, msgspec.Meta(ge=1, le=1 << 48)]
Positive = Annotated[float, msgspec.Meta(gt=0.0, le=1e12)]
Share = Annotated[float, msgspec.Meta(gt=0.0, le=1.0)]


S = TypeVar("S", bound="Spec")


@functools.cache
def field_types(cls: type[Spec]) -> dict[str, Any]:
    """Resolved type of every field of `cls`, ranges included, in declaration order."""
    hints = get_type_hints(cls, include_extras=True)
    return {name: hints[name] for name in cls.__struct_fields__}


class _SpecType(msgspec.StructMeta):
    """Turns Python's complaint about a constructor's keywords into the SpecError that a file with them would get."""

    def __call__(cls, *args: Any, **fields: Any) -> Any:  # noqa: N805 - the instance of a metaclass is a class
        known = cast("type[Spec]", cls)
        if args:
            raise SpecError(f"{cls.__name__} takes its fields by name; they are {', '.join(known.__struct_fields__)}")
        _require_keys(known, fields, known.at)
        return super().__call__(**fields)


class Spec(msgspec.Struct, metaclass=_SpecType, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all hardware records: immutable, keyword-only, checked on every construction.

    A wrong type, a value out of range or a NaN raises SpecError with the dotted path (`node.sram_bytes`).
    """

    # Where a record of this class sits in its owner; a class has one place, so errors know their full path.
    at: ClassVar[str] = ""

    def __post_init__(self) -> None:
        for name, kind in field_types(type(self)).items():
            value = getattr(self, name)
            checked = fitted(value, kind, self.path(name))
            if checked is not value:
                msgspec.structs.force_setattr(self, name, checked)
        self.verify()

    def verify(self) -> None:
        """Check what no single field can show; a subclass raises SpecError through `refuse`."""

    def path(self, name: str) -> str:
        """Dotted path of a field as errors and `replace` name it."""
        return f"{self.at}.{name}" if self.at else name

    def refuse(self, name: str, rule: str) -> SpecError:
        """SpecError about field `name`; `rule` says what is wrong and the way out."""
        return SpecError(f"{self.path(name)}: {rule}")

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Build from plain data (parsed TOML or JSON), everything checked; SpecError names the path."""
        return build(cls, data, cls.at)

    def to_dict(self) -> dict[str, Any]:
        """Plain data (dicts, lists, numbers, strings) that `from_dict` takes back unchanged."""
        return cast("dict[str, Any]", plain(self))


class Range(Spec, frozen=True, kw_only=True):
    """A figure with its uncertainty, low <= nominal <= high; a plain number stands for all three."""

    at: ClassVar[str] = ""
    nominal: float
    low: float
    high: float

    def verify(self) -> None:
        """Order and sign of the three figures."""
        if not 0.0 <= self.low <= self.nominal <= self.high <= 1e12:
            raise SpecError(
                f"range low={self.low!r}, nominal={self.nominal!r}, high={self.high!r} is out of order; "
                "give 0 <= low <= nominal <= high <= 1e12"
            )


def plain(value: Any) -> Any:
    """`value` as fresh dicts, lists, numbers and strings; tuples become lists, as TOML and JSON read them."""
    return msgspec.json.decode(msgspec.json.encode(value))


def build(cls: type[S], data: Any, path: str) -> S:
    """Build `cls` from plain data found at dotted `path`; unknown, missing and wrong keys raise SpecError."""
    if isinstance(data, cls):
        return data
    if cls is Range and isinstance(data, int | float) and not isinstance(data, bool):
        data = {"nominal": data, "low": data, "high": data}
    where = path or cls.__name__
    if not isinstance(data, Mapping):
        raise SpecError(f"{where} = {_short(data)} cannot be used; give a table with {', '.join(field_types(cls))}")
    _require_keys(cls, data, path)
    kinds = field_types(cls)
    values = {key: _nested(value, kinds[key], f"{path}.{key}" if path else key) for key, value in data.items()}
    try:
        return cls(**values)
    except SpecError as error:
        if cls is Range:  # a Range does not know which field it is
            raise SpecError(f"{where}: {error}") from None
        raise


def _require_keys(cls: type[Spec], data: Mapping[str, Any], path: str) -> None:
    """Raise SpecError for a key that `cls` does not have, or one that it needs and `data` lacks."""
    kinds = field_types(cls)
    for key in data:
        if key not in kinds:
            dotted = f"{path}.{key}" if path else str(key)
            hint = nearest(str(key), kinds) or f"; the keys here are {', '.join(kinds)}"
            raise SpecError(f"unknown key {dotted!r}{hint}")
    missing = [name for name in _required(cls) if name not in data]
    if missing:
        dotted = f"{path}.{missing[0]}" if path else missing[0]
        raise SpecError(f"missing key {dotted!r}; every {cls.__name__} states it")


@functools.cache
def _required(cls: type[Spec]) -> tuple[str, ...]:
    """Return the fields without a default, in declaration order; a sweep asks for every record of every chip."""
    required = {field.encode_name for field in msgspec.structs.fields(cls) if field.required}
    return tuple(name for name in field_types(cls) if name in required)


def _nested(value: Any, kind: Any, path: str) -> Any:
    """Records inside `value` built with their path; everything else is left for the owner's own check."""
    if isinstance(kind, type) and issubclass(kind, Spec):
        return build(kind, value, path)
    if get_origin(kind) is tuple and isinstance(value, Sequence) and not isinstance(value, str):
        item = get_args(kind)[0]
        if isinstance(item, type) and issubclass(item, Spec):
            return tuple(build(item, entry, f"{path}[{i}]") for i, entry in enumerate(value))
    if get_origin(kind) is dict and isinstance(value, Mapping):
        item = get_args(kind)[1]
        if isinstance(item, type) and issubclass(item, Spec):
            return {key: build(item, entry, f"{path}.{key}") for key, entry in value.items()}
    return value


def fitted(value: Any, kind: Any, path: str) -> Any:
    """`value` as the field's type, or SpecError with path, value, rule and way out."""
    value = _nested(value, kind, path)
    if isinstance(kind, type) and issubclass(kind, Spec):
        return value
    if not isinstance(value, int | float | str | tuple | list | dict) and hasattr(value, "__index__"):
        value = operator.index(value)  # a NumPy integer from a sweep axis
    try:
        checked = msgspec.convert(value, kind)
    except (msgspec.ValidationError, OverflowError) as error:
        rule = str(error).partition(" - at ")[0].replace("Expected `int`", "give an integer")
        rule = rule.replace("Expected `float`", "give a number").replace("Expected ", "give ").replace("`", "")
        raise SpecError(f"{path} = {_short(value)} cannot be used; {rule}") from None
    if isinstance(checked, float) and not math.isfinite(checked):
        raise SpecError(f"{path} = {checked!r} cannot be used; give a finite number")
    return checked


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
