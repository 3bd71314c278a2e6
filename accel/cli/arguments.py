"""Options that several verbs share, and the small grammars of their values."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import click

from accel.errors import InputError

__all__ = [
    "SEEDS",
    "KernelOptions",
    "kernel_options",
    "parse_mesh",
    "parse_names",
    "parse_numbers",
    "parse_params",
    "parse_tensors",
    "with_options",
]

SEEDS = 1 << 64  # seeds are 64-bit keys: 0 to 2^64 - 1
F = TypeVar("F", bound=Callable[..., Any])
_TENSOR = r"(\w+)=([\w-]+)\[(\d{1,15}(?:[,x]\d{1,15})*)\](?:<(\d{1,15}))?"
_TOPS = {"int8": 1 << 7, "uint8": 1 << 8, "int32": 1 << 31}  # one more than the largest number of each


class KernelOptions(NamedTuple):
    """What names one program: the kernel, its shape or tensors, parameters and chip; None where not given."""

    kernel: str
    chip: str
    shape: str | None
    dtype: str | None
    out_dtype: str | None
    trans_a: bool
    trans_b: bool
    variant: str | None
    direction: str | None
    stride: str | None
    pad: str | None
    dilation: str | None
    groups: int | None
    resident: str | None
    arg: tuple[str, ...]
    param: tuple[str, ...]
    mesh: str | None

    def given(self) -> dict[str, bool]:
        """Return which options are set, by their spelling."""
        return {f"--{name.replace('_', '-')}": bool(getattr(self, name)) for name in self._fields[2:]}


_OPTIONS = (
    click.option(
        "--chip", default="d1", metavar="NAME|FILE.toml", show_default=True, help="Catalog chip or TOML file."
    ),
    click.option("--shape", metavar="MxNxK|N,H,W,...", help="Sizes of a library kernel's problem, in its order."),
    click.option("--dtype", metavar="FORMAT", help="Number format of the inputs (default bf16)."),
    click.option(
        "--out-dtype",
        metavar="FORMAT",
        help="Number format of the result (default: as --dtype; int32 for integers, bf16 for 8-bit floats).",
    ),
    click.option("--trans-a", is_flag=True, help="a is stored transposed (k, m)."),
    click.option("--trans-b", is_flag=True, help="b is stored transposed (n, k)."),
    click.option("--variant", metavar="NAME", help="Version of the library kernel (default: its best)."),
    click.option("--direction", metavar="fwd|bwd", help="Forward or a gradient: bwd; of convolutions dgrad or wgrad."),
    click.option("--stride", metavar="S[,S]", help="Stride of a window, one number or one a dimension."),
    click.option("--pad", metavar="P[,P]", help="Padding on each side, one number or one a dimension."),
    click.option("--dilation", metavar="D[,D]", help="Dilation of a filter, one number or one a dimension."),
    click.option("--groups", type=int, metavar="G", help="Groups of channels of a convolution."),
    click.option("--resident", metavar="a,b,c", help="Tensors that already lie in the nodes' SRAM."),
    click.option(
        "--arg",
        multiple=True,
        metavar="NAME=FMT[SHAPE]",
        help="Tensor of a file.py:fn kernel: a=bf16[512,512]; 'ids=int32[64]<1000' for inputs from 0 to 999.",
    ),
    click.option(
        "--param", multiple=True, metavar="NAME=VALUE", help="Field of the problem, or parameter of the kernel: bm=64."
    ),
    click.option("--mesh", metavar="RxC", help="Top-left part of the mesh for a file.py:fn kernel."),
)


def with_options(command: F, options: Sequence[Callable[[F], F]]) -> F:
    """Add options to a command, in the order in which its help shows them."""
    for option in reversed(options):
        command = option(command)
    return command


def kernel_options(command: F) -> F:
    """Add KERNEL and the options that build its program."""
    return click.argument("kernel", metavar="KERNEL")(with_options(command, _OPTIONS))


def parse_names(text: str | None) -> tuple[str, ...]:
    """Return the names of a comma-separated list, spaces dropped; InputError for a list with an empty place."""
    if text is None:
        return ()
    names = tuple(part.strip() for part in text.split(","))
    if not all(names):
        raise InputError(f"list {text!r} has an empty place; give names with one comma between them")
    return names


def parse_numbers(option: str, text: str) -> int | tuple[int, ...]:
    """Return the int of "2", or the ints of "2,1" or "1x2x2"; InputError for anything else."""
    parts = re.split("[x,]", text.strip().lower())
    if not all(re.fullmatch(r"\s*[0-9]{1,15}\s*", part, re.ASCII) for part in parts):
        raise InputError(f"{option} {text!r} is no whole number and no list of them; give for example {option} 2,1")
    numbers = tuple(int(part) for part in parts)
    return numbers[0] if len(numbers) == 1 else numbers


def parse_tensors(texts: tuple[str, ...]) -> dict[str, tuple[tuple[int, ...], str, int | None]]:
    """Return {name: (shape, format, bound)} of "a=bf16[512,512]" options; InputError for anything else.

    bound: of "ids=int32[64]<1000", the whole number that inputs stay below, None where none is given.
    """
    tensors: dict[str, tuple[tuple[int, ...], str, int | None]] = {}
    for text in texts:
        match = re.fullmatch(_TENSOR, text.replace(" ", ""), re.ASCII)
        if match is None:
            raise InputError(f"--arg {text!r} is not NAME=FORMAT[SHAPE]; give for example --arg 'a=bf16[512,512]'")
        name, dtype, shape, bound = match.groups()
        if name in tensors:
            raise InputError(f"--arg {name!r} is given twice; give each tensor once")
        top = _TOPS.get(dtype)
        if bound is not None and (top is None or not 1 <= int(bound) <= top):
            way = f"a bound is 1 to {top:,} here" if top else "only integer formats take a bound"
            raise InputError(f"--arg {text!r} bounds its inputs by {bound}; {way}")
        tensors[name] = (tuple(int(size) for size in re.split("[,x]", shape)), dtype, int(bound) if bound else None)
    return tensors


def parse_params(texts: tuple[str, ...]) -> dict[str, int | float | bool | str]:
    """Return {name: value} of "bm=64" options; values are Python literals, a bare word is text."""
    params: dict[str, int | float | bool | str] = {}
    for text in texts:
        name, equals, written = text.partition("=")
        if not equals or not name.strip().isidentifier() or not written.strip():
            raise InputError(f"--param {text!r} is not NAME=VALUE; give for example --param bm=64")
        name, written = name.strip(), written.strip()
        if name in params:
            raise InputError(f"--param {name!r} is given twice; give each parameter once")
        try:
            value = ast.literal_eval(written)
        except (ValueError, SyntaxError):
            value = written
        if not isinstance(value, int | float | bool | str):
            raise InputError(f"--param {name}={written} is no int, float, bool or text; give one of those")
        params[name] = value
    return params


def parse_mesh(text: str | None) -> tuple[int, int] | None:
    """Return (rows, cols) of "RxC"; InputError for anything else."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,6})[x,](\d{1,6})", text.strip().lower(), re.ASCII)
    if match is None:
        raise InputError(f"--mesh {text!r} is not RxC; give rows and columns such as --mesh 2x4")
    return int(match[1]), int(match[2])
