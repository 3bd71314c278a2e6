"""`accel kernels`: the kernels of the library, the sizes and fields of their problems."""

from __future__ import annotations

from typing import Any

import click

from accel.cli.output import deliver, json_option

__all__ = ["kernels"]


@click.command(short_help="Kernels of the library, their sizes and options.")
@click.argument("name", required=False, metavar="[NAME]")
@json_option
def kernels(name: str | None, json_to: str | None) -> int:
    """List the library's kernels with the sizes of --shape and the fields of --param, or show one with examples."""
    from accel.kernels.catalog import library_kernel, names

    chosen = names() if name is None else (name,)
    rows = [_row(known, library_kernel(known)) for known in chosen]
    deliver(json_to, lambda: {"kernels": rows}, lambda: _show(rows, one=name is not None))
    return 0


def _row(name: str, kernel: Any) -> dict[str, Any]:
    from accel.kernels.catalog import CATALOG

    kind, preset = kernel.problem, CATALOG[name].preset
    optional = kind.__struct_fields__[len(kind.sizes()) :]
    defaults = dict(zip(optional, kind.__struct_defaults__, strict=True))
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in defaults.items()}
    examples = [example.label for example in kernel.examples]
    return {
        "name": name, "lesson": f"accel.kernels.{CATALOG[name].lesson}", "kind": kind.kind, "preset": dict(preset),
        "sizes": list(kind.sizes()), "options": {key: plain[key] for key in optional if key not in preset},
        "examples": examples,
    }  # fmt: skip


def _show(rows: list[dict[str, Any]], *, one: bool) -> None:
    from accel.report import tables

    cells = [
        (row["name"], ",".join(row["sizes"]), " ".join(f"{key}={value}" for key, value in row["options"].items()))
        for row in rows
    ]
    tables.show(tables.table(("kernel", "--shape", "options and their defaults "), cells))
    if one:
        facts = {"lesson": rows[0]["lesson"], "examples": "; ".join(rows[0]["examples"])}
        tables.show(tables.pairs(facts))
