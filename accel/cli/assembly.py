"""`accel asm`, `accel disasm`: text to program file and back, the same program bit for bit."""

from __future__ import annotations

from pathlib import Path

import click

from accel.cli.output import deliver, json_option, say
from accel.errors import InputError

__all__ = ["asm", "disasm"]


@click.command(short_help="Assemble text into a program file.")
@click.argument("file", metavar="FILE.asm")
@click.option("-o", "--output", metavar="FILE.acc", help="Where to write the program (default: FILE.acc beside it).")
@click.option("--chip", metavar="NAME|FILE.toml", help="Chip to build for, in place of the one that the text names.")
@json_option
def asm(file: str, output: str | None, chip: str | None, json_to: str | None) -> int:
    """Assemble FILE.asm into a program file that `accel run`, `check` and `disasm` take.

    \b
    accel asm mine.asm -o mine.acc && accel run mine.acc
    """
    from accel.cli.target import assembled

    program = assembled(file, chip)
    where = output if output is not None else str(Path(file).with_suffix(".acc"))
    if where == file:
        raise InputError(f"{file!r} would be overwritten; name the program file with -o")
    program.save(where)
    data = {
        "program": program.name, "chip": program.chip.name, "file": where, "instructions": program.isa.instructions,
        "nodes": program.isa.nodes, "roles": program.isa.roles, "sram_bytes": program.isa.sram_bytes,
    }  # fmt: skip
    deliver(json_to, lambda: data, lambda: say(
        f"{program.name} for {program.chip.name}: {program.isa.instructions:,} instructions in {where}"
    ))  # fmt: skip
    return 0


@click.command(short_help="Print a program file as assembly.")
@click.argument("file", metavar="FILE.acc")
@click.option("--role", type=click.IntRange(min=0), help="List one role, rows numbered, instead of the whole program.")
@click.option("-o", "--output", metavar="FILE.asm", help="Write the text to a file.")
@json_option
def disasm(file: str, role: int | None, output: str | None, json_to: str | None) -> int:
    """Print FILE.acc as assembly that `accel asm` turns back into the same file, byte for byte."""
    from accel.files import write_whole
    from accel.program import load

    program = load(file)
    text = program.asm(role)
    if output is not None:
        write_whole(output, text.encode(), "assembly file")
    data = {"program": program.name, "chip": program.chip.name, "roles": program.isa.roles, "role": role, "text": text}
    deliver(json_to, lambda: data, lambda: None if output is not None else say(text.rstrip("\n")))
    return 0
