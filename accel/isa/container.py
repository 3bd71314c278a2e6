"""The program file: a magic, a JSON header, raw little-endian tables and a checksum; data, never executed."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import asdict
from typing import Any

import msgspec
import numpy as np

from accel.errors import Location, ProgramError
from accel.files import read_whole, write_whole
from accel.isa.layout import CODE_WORDS, EXPR_WORDS, PRED_WORDS, SHARD_WORDS, TARGET_WORDS, VIEW_WORDS
from accel.isa.program import FORMAT_VERSION, Buffer, Program, Semaphore, Tensor

__all__ = ["from_bytes", "read", "to_bytes", "write"]

MAGIC = b"accelprg"
LARGEST_FILE = 4 << 30  # bytes; the tables of a program are read whole
TABLES = {
    "code": CODE_WORDS, "spans": None, "role_of": 0, "params": None, "views": VIEW_WORDS, "exprs": EXPR_WORDS,
    "preds": PRED_WORDS, "targets": TARGET_WORDS, "shards": SHARD_WORDS, "semaphore_init": 0,
}  # fmt: skip
PLAIN = (
    "name",
    "rows",
    "cols",
    "threads",
    "thread_names",
    "sram_bytes",
    "memory_bytes",
    "marks",
    "chip",
    "flops",
    "facts",
)


KINDS = {
    "int": "a whole number", "str": "text", "array": "a list", "object": "an object", "bool": "true or false",
}  # fmt: skip


class Version(msgspec.Struct):
    """The one field of a header that every version has."""

    format_version: int


class Header(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The JSON part of a program file; field for field what `Program` says about itself."""

    format_version: int
    name: str
    rows: int
    cols: int
    threads: int
    thread_names: tuple[tuple[str, ...], ...]
    buffers: tuple[Buffer, ...]
    semaphores: tuple[Semaphore, ...]
    tensors: tuple[Tensor, ...]
    sram_bytes: int
    memory_bytes: int
    lines: tuple[tuple[str, int], ...]
    marks: tuple[str, ...]
    chip: str
    flops: int
    facts: dict[str, str]
    shapes: dict[str, tuple[int, ...]]


def to_bytes(program: Program) -> bytes:
    """Return the file image of a program; the same program always gives the same bytes."""
    plain: dict[str, Any] = {name: getattr(program, name) for name in PLAIN}
    header = Header(
        format_version=FORMAT_VERSION, buffers=program.buffers, semaphores=program.semaphores, tensors=program.tensors,
        lines=tuple((at.file, at.line) for at in program.lines),
        shapes={name: getattr(program, name).shape for name in TABLES}, **plain,
    )  # fmt: skip
    text = msgspec.json.encode(header)
    body = b"".join(np.ascontiguousarray(getattr(program, n), dtype="<i8").tobytes() for n in TABLES)
    image = MAGIC + len(text).to_bytes(8, "little") + text + body
    return image + hashlib.sha256(image).digest()


def from_bytes(image: bytes, source: str = "program") -> Program:
    """Return the program of a file image; raises ProgramError (naming `source`) for anything else."""
    if len(image) < 48 or image[:8] != MAGIC:
        raise ProgramError(f"{source} is not an accel program file; it must start with {MAGIC.decode()!r}")
    if hashlib.sha256(image[:-32]).digest() != image[-32:]:
        raise ProgramError(f"{source} is damaged: its checksum does not match; save the program again")
    length = int.from_bytes(image[8:16], "little")
    if length > len(image) - 48:
        raise ProgramError(f"{source} is damaged: its header claims {length} bytes; save the program again")
    header = _header(image[16 : 16 + length], source)
    tables: dict[str, Any] = {}
    at = 16 + length
    for name, width in TABLES.items():
        shape = header.shapes.get(name, ())
        flat = width == 0
        if (
            len(shape) not in ((1,) if flat else (2, 3))
            or any(s < 0 or s > 2**40 for s in shape)
            or (width and shape[-1] != width)
        ):
            raise ProgramError(f"{source} has table {name!r} of shape {shape}; build the program again")
        count = int(np.prod(shape, dtype=object))
        if at + 8 * count > len(image) - 32:
            raise ProgramError(f"{source} ends inside table {name!r}; save the program again")
        tables[name] = np.frombuffer(image, "<i8", count, at).astype(np.int64).reshape(shape)
        at += 8 * count
    if at != len(image) - 32:
        raise ProgramError(f"{source} has {len(image) - 32 - at} bytes too many; save the program again")
    plain: dict[str, Any] = {name: getattr(header, name) for name in PLAIN}
    return Program(
        buffers=tuple(_located(b) for b in header.buffers), semaphores=tuple(_located(s) for s in header.semaphores),
        tensors=header.tensors, lines=tuple(Location(*at) for at in header.lines), **tables, **plain,
    )  # fmt: skip


def _header(content: bytes, source: str) -> Header:
    """Return the header; the version is read first, since another version's header may hold anything else."""
    try:
        text = content.decode("utf-8")
        version = msgspec.json.decode(text, type=Version).format_version
        if version != FORMAT_VERSION:
            raise ProgramError(
                f"{source} has format version {version}, this package reads {FORMAT_VERSION}; build it again"
            )
        return msgspec.json.decode(text, type=Header)
    except (UnicodeDecodeError, RecursionError):
        raise ProgramError(f"{source} has a header that is no JSON text; save the program again") from None
    except msgspec.MsgspecError as error:
        raise ProgramError(f"{source} has a header with {_fault(str(error))}; save the program again") from None


def _fault(error: str) -> str:
    """Return what is wrong with a header in words of the format, from the decoder's message."""
    what, _, path = error.partition(" - at ")
    place = f"at {path.strip('`$').lstrip('.')}" if path.strip("`$") else "as a whole"
    expected = re.match(r"Expected `([a-z]+)", what)
    if expected is not None:
        return f"something else than {KINDS.get(expected.group(1), expected.group(1))} {place}"
    missing = re.search(r"(missing required|unknown) field `(.*)`", what)
    if missing is not None:
        return f"{'no' if missing.group(1) != 'unknown' else 'an unknown'} field {missing.group(2)!r} {place}"
    return f"a mistake {place}"


def _located(item: Any) -> Any:
    fields = asdict(item)
    fields["line"] = Location(*item.line) if item.line is not None else None
    return type(item)(**fields)


def write(program: Program, path: str | os.PathLike[str]) -> None:
    """Write a program file; the file appears whole or not at all."""
    write_whole(path, to_bytes(program), "program file")


def read(path: str | os.PathLike[str]) -> Program:
    """Read a program file; nothing in it is executed."""
    image = read_whole(path, LARGEST_FILE, "program file")
    return from_bytes(image, str(path))
