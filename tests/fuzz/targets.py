"""What is fuzzed: program files, assembly, chip TOML and CSV; each ends in a valid object or in a clear error.

A target draws one damaged input from bytes and feeds it to the library. It raises Fault for anything else than an
AccelError that names its way out, or a result. Valid programs are also listed, assembled again, checked, timed and run,
unless they ask for more work than a test should do.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import accel
from accel.baselines.measured import read_rows
from accel.errors import AccelError, AssemblyError, HazardError, InternalError
from accel.hardware import ChipSpec
from accel.isa import container
from accel.isa import layout as w
from accel.isa.assembly import assemble
from accel.isa.disassembly import disassemble
from accel.isa.program import Program as Data
from accel.isa.table import BY_MNEMONIC
from accel.isa.work import most_instructions
from tests.fuzz import seeds
from tests.fuzz.choices import Choices

__all__ = ["TARGETS", "Fault"]

# Words of Python, NumPy and Numba that no message of ours has, and the words by which one shows its way out.
FOREIGN = re.compile(
    r"Traceback|numpy|ndarray|NoneType|object at 0x|could not broadcast|out of bounds|cannot reshape|unpack|numba|"
    r"not subscriptable|has no attribute|OverflowError|too large to convert|invalid literal|Expected `|msgspec|"
    r"recursion"
)
WAY_OUT = re.compile(r"; |, (?:more than|but)|use |give |needs |cannot|must|twice")
PIECES = (
    "", ",", "[", "]", "(", ")", '"', "-", "+", "*", "%", "@", "=", "|", ";", ":", "0", "9" * 30, "\x00", "\r", "\t",
    "é", "\u2028", "1e999", "nan", "'", "{", "}", "#", "\\", "..", "i0",
)  # fmt: skip
TABLES = tuple(container.TABLES)
MOST_ROWS, MOST_STEPS, MOST_BYTES, MOST_NODES = 20_000, 1 << 16, 1 << 22, 1024  # what is small enough to run here


class Fault(AssertionError):  # noqa: N818 - what a fuzzer finds, no error of a caller
    """The library did something else than refuse clearly or work."""


def outcome(call: Callable[[], Any]) -> Any:
    """Return what a call gives, None for a clear refusal; Fault for any other end."""
    try:
        return call()
    except InternalError as error:
        raise Fault(f"internal error: {error}") from error
    except AccelError as error:
        text = str(error)
        lines = text.splitlines()
        limit = 3 if isinstance(error, AssemblyError) else 1
        if FOREIGN.search(lines[0]) or not lines[0].strip():
            raise Fault(f"{type(error).__name__} speaks of the inside: {text[:400]!r}") from error
        if len(lines) > limit and not isinstance(error, HazardError):
            raise Fault(f"{type(error).__name__} takes {len(lines)} lines: {text[:400]!r}") from error
        if not WAY_OUT.search(text):
            raise Fault(f"{type(error).__name__} shows no way out: {text[:400]!r}") from error
        return None
    except Exception as error:
        raise Fault(f"{type(error).__name__}: {str(error)[:400]}") from error


# --- damage ---------------------------------------------------------------------------------------------------------
def damaged_json(c: Choices, data: Any, depth: int = 0) -> Any:
    """Return JSON data with one place changed: another value or type, a key too many or too few."""
    if isinstance(data, dict) and data and depth < 6 and c.chance(85):
        key = c.pick(sorted(data))
        changed = dict(data)
        if c.chance(6):
            del changed[key]
        elif c.chance(4):
            changed[key + "_"] = data[key]
        else:
            changed[key] = damaged_json(c, data[key], depth + 1)
        return changed
    if isinstance(data, list) and data and depth < 6 and c.chance(85):
        at = c.below(len(data))
        part = [damaged_json(c, data[at], depth + 1)] if c.chance(80) else [data[at]] * c.below(3)
        return data[:at] + part + data[at + 1 :]
    if isinstance(data, str) and c.chance(60):
        return damaged_text(c, data) if data else "x"
    if isinstance(data, int | float) and not isinstance(data, bool) and c.chance(75):
        return c.number(int(data)) if c.chance(80) else c.pick((0.5, -1.5, 1e308, 1e-308, 1e20, True, 1 << 70))
    return c.pick(
        (None, True, 0, -1, 1 << 64, 0.5, "", "x", [], {}, [0], {"x": 1}, "fp32", [[0, 0]], "\x00", "a" * 300)
    )


def damaged_text(c: Choices, text: str) -> str:
    """Return text with a few places changed: characters, numbers, words, lines."""
    for _ in range(1 + c.below(3)):
        way = c.below(8)
        if way <= 2:
            numbers = list(re.finditer(r"-?\d+", text))
            if numbers:
                found = c.pick(numbers)
                value = c.number(int(found.group()[:18]))
                text = f"{text[: found.start()]}{value}{text[found.end() :]}"
        elif way == 3:
            words = list(re.finditer(r"[A-Za-z_.][\w.]*", text))
            if words:
                one, other = c.pick(words), c.pick(words)
                text = text[: one.start()] + other.group() + text[one.end() :]
        elif way == 4:
            lines = text.split("\n")
            at, other = c.below(len(lines)), c.below(len(lines))
            part = c.pick(([], [lines[at]] * 2, [lines[other]], [lines[at][: c.below(len(lines[at]) + 1)]]))
            text = "\n".join(lines[:at] + part + lines[at + 1 :])
        else:
            at = c.below(len(text) + 1)
            text = text[:at] + c.pick(PIECES) + text[at + c.below(3) :]
    return text


def damaged_tables(c: Choices, tables: dict[str, Any], shapes: dict[str, Any]) -> None:
    """Change words of tables, or drop, double and swap their rows."""
    for _ in range(1 + c.below(4)):
        name = c.pick(TABLES)
        table = tables[name]
        if not table.size:
            continue
        if c.chance(90):
            at = c.below(table.size)
            table = table.copy()
            flat = table.reshape(-1)
            flat[at] = c.number(int(flat[at])) if c.chance(60) else flat[c.below(table.size)]
        else:
            at, other = c.below(len(table)), c.below(len(table))
            way = c.below(3)
            if way == 0:
                table = np.delete(table, at, axis=0)
            elif way == 1:
                table = np.insert(table, at, table[other], axis=0)
            else:
                table = table.copy()
                table[[at, other]] = table[[other, at]]
        tables[name] = table
        shapes[name] = list(table.shape)


def damaged_image(c: Choices) -> bytes:
    """Return a program file with changed words, header, chip or bytes; header and checksum are put right again."""
    image = c.pick(seeds.images())
    length = int.from_bytes(image[8:16], "little")
    header = json.loads(image[16 : 16 + length])
    tables, at = {}, 16 + length
    for name in TABLES:
        count = int(np.prod(header["shapes"][name]))
        tables[name] = np.frombuffer(image, "<i8", count, at).reshape(header["shapes"][name])
        at += 8 * count
    way = c.below(10)
    if way <= 5:
        damaged_tables(c, tables, header["shapes"])
    elif way <= 7:
        header = damaged_json(c, header)
    elif way == 8:
        header["chip"] = json.dumps(damaged_json(c, json.loads(header["chip"])))
    text = json.dumps(header).encode()
    body = b"".join(np.ascontiguousarray(tables[name], dtype="<i8").tobytes() for name in TABLES)
    changed = bytearray(image[:8] + len(text).to_bytes(8, "little") + text + body)
    if way == 9:
        for _ in range(1 + c.below(3)):
            changed[c.below(len(changed))] = c.below(256)
        if c.chance(20):
            del changed[c.below(len(changed)) :]
    return bytes(changed) + hashlib.sha256(bytes(changed)).digest()


# --- what a valid object must do --------------------------------------------------------------------------------------
def small(program: Data) -> bool:
    """Return whether a sound program asks for little enough to be run by a test."""
    rows, _ = most_instructions(program)
    views = program.extended_views
    matmul = BY_MNEMONIC["matmul"]
    steps = int(views[:, w.X_COUNT].max(initial=0))
    for row in program.code[program.code[:, w.W_OPCODE] == matmul.opcode].tolist():
        m, k, n = (views[row[matmul.word(name)], w.V_SHAPE : w.V_SHAPE + 4].astype(float) for name in ("a", "b", "dst"))
        steps = max(steps, int(m.prod() * n[2:].prod()), int(k.prod()))
    size = program.memory_bytes + program.sram_bytes * program.nodes
    return (
        rows <= MOST_ROWS and steps <= MOST_STEPS and rows * steps <= 1 << 24 and size <= MOST_BYTES
        and program.nodes <= MOST_NODES
    )  # fmt: skip


def exercise(program: accel.Program) -> bool:
    """List, assemble, check, time and run a program; return whether it was sound."""
    sound: list[None] = []
    outcome(lambda: (program.isa.require_sound(), sound.append(None)))
    if not sound:
        return False
    text = outcome(lambda: disassemble(program.isa))
    if text is not None:
        again = outcome(lambda: assemble(text))
        if again is None or any(
            not np.array_equal(getattr(program.isa, name), getattr(again, name)) for name in TABLES
        ):
            raise Fault("assembly gives another program back")
    if not small(program.isa):
        return True
    outcome(lambda: program.findings(schedules=1))
    outcome(program.time)
    outcome(lambda: program.time("bound"))
    inputs = {t.name: np.zeros(t.shape, np.float32) for t in program.isa.tensors if t.is_input}
    for schedule in ("natural", 3):
        outcome(lambda schedule=schedule: program.run(inputs, schedule=schedule))  # type: ignore[misc]
    outcome(lambda: program.sample_outputs(1))
    return True


# --- targets ----------------------------------------------------------------------------------------------------------
def program_file(data: bytes) -> bool:
    """Feed a damaged program file; return whether it was a sound program."""
    image = damaged_image(Choices(data))
    program = outcome(lambda: container.from_bytes(image, "fuzz.acc"))
    if program is None:
        return False
    if container.to_bytes(program)[-32:] != container.to_bytes(container.from_bytes(container.to_bytes(program)))[-32:]:
        raise Fault("a file does not hold what it was given")
    chip = outcome(lambda: ChipSpec.from_json(program.chip))
    return chip is not None and exercise(accel.Program(program, chip))


def assembly_text(data: bytes) -> bool:
    """Feed damaged assembly; return whether it was a sound program."""
    c = Choices(data)
    text = damaged_text(c, c.pick(seeds.texts()))
    program = outcome(lambda: accel.assemble(text, source="fuzz.asm"))
    return program is not None and exercise(program)


def chip_toml(data: bytes) -> bool:
    """Feed a damaged chip; a valid one must describe itself and price a program. Return whether it was valid."""
    c = Choices(data)
    text = damaged_text(c, c.pick(seeds.toml()))
    chip = outcome(lambda: ChipSpec.from_toml(text))
    if chip is None:
        return False
    if ChipSpec.from_toml(chip.to_toml()) != chip or ChipSpec.from_json(chip.to_json()) != chip:
        raise Fault("a chip does not come back from its own text")
    outcome(lambda: (chip.nodes, chip.sram_total_bytes, chip.memory_bytes_per_s, chip.digest(), repr(chip)))
    outcome(lambda: [chip.peak_flops(name) for name in chip.node.matrix.step_cycles])
    if chip.nodes <= MOST_NODES:
        outcome(lambda: accel.Program(seeds.programs()[1], chip).time())
    return True


def csv_rows(data: bytes) -> bool:
    """Feed damaged measurements; return whether they were read."""
    c = Choices(data)
    text = damaged_text(c, c.pick(seeds.tables()))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.csv"
        path.write_bytes(text.encode("utf-8", "surrogatepass") + (b"\xff" if c.chance(3) else b""))
        return outcome(lambda: read_rows(path)) is not None


TARGETS: dict[str, Callable[[bytes], bool]] = {
    "program": program_file, "assembly": assembly_text, "toml": chip_toml, "csv": csv_rows,
}  # fmt: skip
