"""A sweep that is a dict as TOML, its axes in the order of the dict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["in_toml"]


def in_toml(data: Mapping[str, Any]) -> str:
    """Return the TOML of a sweep given as plain data.

    What writes TOML puts lists before tables, but the order of axes numbers the points: each axis is one line here,
    whether it is a list or a range. TypeError or ValueError for what TOML does not hold.
    """
    import tomli_w

    axes = data.get("axes")
    if not isinstance(axes, Mapping):
        return tomli_w.dumps(dict(data))
    rest = tomli_w.dumps({name: value for name, value in data.items() if name != "axes"})
    return "\n".join((rest, "[axes]", *(_line(name, value) for name, value in axes.items()), ""))


def _line(name: str, value: Any) -> str:
    import tomli_w

    if not isinstance(value, Mapping):
        return tomli_w.dumps({name: value}).rstrip("\n")
    key = tomli_w.dumps({name: 0}).removesuffix(" = 0\n")
    return f"{key} = {{{', '.join(_line(own, one) for own, one in value.items())}}}"
